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
  HR_TRANSFORM_SET: {
    class: 'rejected',
    meaning:
      'A set of transformations cannot be: an unknown built-in, wrong options, two steps of one name. The message says all that is wrong.',
  },
  HR_TRANSFORM_SANDBOX: {
    class: 'retriable',
    meaning:
      'The sandbox of a transformation that was cut cannot be built again: mostly there is no memory for it. The batch is tried again.',
  },
  HR_TRANSFORM_GEOIP: {
    class: 'fatal',
    meaning:
      'The file that HEADRACE_GEOIP_DATABASE names is not there, or is no database of the MaxMind format.',
  },
} as const satisfies Record<string, ErrorSpec>

export const transformError = errorTable(TRANSFORM_ERRORS)
