/** What a squash refuses, each with one sentence. */
import { errorTable } from '../event/index.ts'

export const SQUASH_ERRORS = {
  HR_SQUASH_BUSY: {
    class: 'retriable',
    meaning: 'Another squash, a deletion or a repair of rows is at work; one is at a time.',
  },
  HR_SQUASH_CHANGED: {
    class: 'retriable',
    meaning: 'The squash is not where it was left, because somebody else went on with it; run it again.',
  },
} as const

export const squashError = errorTable(SQUASH_ERRORS)
