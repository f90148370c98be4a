/** Everything that can go wrong between a row topic and ClickHouse, apart from the log, Postgres and ClickHouse. */
import { errorTable } from '../event/index.ts'

export const LOAD_ERRORS = {
  HR_LOAD_FENCE: {
    class: 'retriable',
    meaning: 'The load fence is not where this owner left it: another owner loads the partition.',
  },
  HR_LOAD_LOCK_LOST: {
    class: 'retriable',
    meaning:
      'The lock on a load intent fell while its rows were being inserted; whoever holds it next settles it.',
  },
  HR_LOAD_BUSY: {
    class: 'retriable',
    meaning: 'Another loader settles an intent that touches this partition.',
  },
  HR_LOAD_NO_ANSWER: {
    class: 'retriable',
    meaning:
      'ClickHouse refuses the question which rows it has. Rows wait, since they might be stored twice; load asks again.',
  },
  HR_LOAD_GAP: {
    class: 'fatal',
    meaning:
      'Records are missing in front of the load progress: retention passed them, the topic was made anew, or the log lost them. The partition stops; `headrace repair` mends it.',
  },
  HR_LOAD_STATE_BEHIND: {
    class: 'fatal',
    meaning:
      'ClickHouse holds rows that this state has not loaded: Postgres was restored to an earlier state. The partition stops, since its rows would be loaded twice; `headrace repair rewind` mends it.',
  },
  HR_LOAD_NO_TOPIC: {
    class: 'fatal',
    meaning: 'A row topic does not exist; the boot of `headrace up` or `headrace kafka apply` makes it.',
  },
  HR_LOAD_UNREADABLE: {
    class: 'fatal',
    meaning: 'A record of a row topic does not carry a header of ours. The partition stops.',
  },
  HR_LOAD_BYTES_DIFFER: {
    class: 'fatal',
    meaning:
      'The log gives other bytes for an intent than those it was written for. The intent goes to repair and the partition stops.',
  },
} as const

export const loadError = errorTable(LOAD_ERRORS)
