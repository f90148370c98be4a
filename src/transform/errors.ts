/** Errors of this room. What is wrong with one event is no error but an outcome (outcome.ts). */
import { type ErrorSpec, errorTable } from '../event/index.ts'

export const TRANSFORM_ERRORS = {
  HR_TRANSFORM_COMPILE: {
    class: 'rejected',
    meaning:
      'A transformation is not TypeScript that can run: a syntax error, an import, no default export, an async function. The message says line and column.',
  },
  HR_TRANSFORM_START: {
    class: 'rejected',
    meaning:
      'What a transformation does outside of its function failed, or took more than its limits: the message says what.',
  },
} as const satisfies Record<string, ErrorSpec>

export const transformError = errorTable(TRANSFORM_ERRORS)
