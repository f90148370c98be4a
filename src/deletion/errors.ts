/** What a deletion refuses, or waits for, each with one sentence. */
import { errorTable } from '../event/index.ts'

export const DELETION_ERRORS = {
  HR_DELETION_BUSY: {
    class: 'retriable',
    meaning: 'Another deletion, a squash or a repair of rows is at work; one is at a time.',
  },
  HR_DELETION_REFUSED: {
    class: 'rejected',
    meaning: 'The project is one that the deployment itself needs, or the distinct id is empty.',
  },
  HR_DELETION_CHANGED: {
    class: 'retriable',
    meaning: 'Somebody else changed the order of the deletion meanwhile, or put rows back; give it again.',
  },
} as const

export const deletionError = errorTable(DELETION_ERRORS)
