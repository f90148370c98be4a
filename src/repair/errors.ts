/** What `headrace repair` refuses, each with one sentence that says what to do instead. */
import { errorTable } from '../event/index.ts'

export const REPAIR_ERRORS = {
  HR_REPAIR_LOG_WENT_BACK: {
    class: 'rejected',
    meaning:
      'The raw log ends before what was read of it, or holds other records there. New records get offsets that others had, so their rows would be taken for copies and never be stored: no position mends that. docs/runbooks/ingest-halted.md has the steps.',
  },
  HR_REPAIR_GAP_FIRST: {
    class: 'rejected',
    meaning:
      'The raw log has a gap as well, mostly because the backup is older than what it keeps: `headrace repair gap` comes before `headrace repair rewind`. It keeps what rows say of the missing offsets; what they did to persons and groups cannot be made again.',
  },
  HR_REPAIR_OUTPUT_GONE: {
    class: 'rejected',
    meaning:
      'The topic `events` begins, or has a gap, in front of rows that ClickHouse does not have: nobody can tell what else is missing. Restore a newer backup of Postgres.',
  },
  HR_REPAIR_PROJECT_MISSING: {
    class: 'rejected',
    meaning:
      'Events were stored for a project that the restored Postgres does not know. Make it again, with the same team id and token, before the repair.',
  },
  HR_REPAIR_GROUP_TYPES: {
    class: 'rejected',
    meaning:
      'Rows use an index of a group type that the restored Postgres has given to another type: what is stored cannot be brought in line with it.',
  },
  HR_REPAIR_INTENT_OPEN: {
    class: 'retriable',
    meaning: 'An insert is still open in front of the load progress; the role load settles it.',
  },
  HR_REPAIR_ROW_REFUSED: {
    class: 'rejected',
    meaning: 'ClickHouse refuses a row that lies between rows it has, and no dead letter says so.',
  },
  HR_REPAIR_BUSY: {
    class: 'retriable',
    meaning: 'Another process repairs rows, or a deletion or squash changes them; one does at a time.',
  },
  HR_REPAIR_WAITS: {
    class: 'retriable',
    meaning:
      'What was captured before has not come to its end: ingest or load are behind, or ClickHouse lacks rows that `headrace repair rows` must bring back. Give the same command again and it goes on.',
  },
  HR_REPAIR_RETENTION: {
    class: 'rejected',
    meaning:
      'The table has a retention (TTL) that needs more than the times of a row, so nobody can tell which missing rows it has taken. Nothing is brought back; take the TTL off while rows are repaired, or bring it to the form `toDateTime(timestamp) + toIntervalDay(n)`.',
  },
  HR_REPAIR_MOVED: {
    class: 'retriable',
    meaning: 'What was to be repaired changed meanwhile; look again.',
  },
} as const

export const repairError = errorTable(REPAIR_ERRORS)
