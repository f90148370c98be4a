/** What a deletion refuses, or waits for, each with one sentence. */
import { errorTable } from '../event/index.ts'

export const DELETION_ERRORS = {
  HR_DELETION_BUSY: {
    class: 'retriable',
    meaning: 'Another deletion, a squash or a repair of rows is at work; one is at a time.',
  },
  HR_DELETION_WAITS: {
    class: 'retriable',
    meaning:
      'The deletion must wait: ingest or load have not come as far as what was captured before it, a dead letter of the person is being sent again, or ClickHouse lacks rows that a repair must bring back first. Give the same order again and it goes on.',
  },
  HR_DELETION_CHANGED: {
    class: 'retriable',
    meaning: 'Somebody else changed the order of the deletion meanwhile; give it again.',
  },
} as const

export const deletionError = errorTable(DELETION_ERRORS)
