/** Errors of this room. */
import { type ErrorSpec, errorTable } from '../event/index.ts'

export const PLATFORM_ERRORS = {
  HR_PLATFORM_NO_LOCK: {
    class: 'fatal',
    meaning:
      'The C library could not be opened, so folders cannot be locked against a second process. Run on Linux (glibc or musl) or macOS.',
  },
} as const satisfies Record<string, ErrorSpec>

export const platformError = errorTable(PLATFORM_ERRORS)
