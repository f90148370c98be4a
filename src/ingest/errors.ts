/** What stops a partition of ingest: each with one sentence, a metric and a runbook. */
import { errorTable } from '../event/index.ts'

export const INGEST_PIPELINE_ERRORS = {
  HR_INGEST_GAP: {
    class: 'fatal',
    meaning:
      'The raw log does not continue where this partition stands: retention passed unread records, the topic was recreated, or the log lost records that were read (it ends before them, or holds others in their places). Mend it with `headrace repair`.',
  },
  HR_INGEST_STATE_BEHIND: {
    class: 'fatal',
    meaning:
      'Rows were produced of raw offsets that Postgres has not decided: it was restored to an earlier state, or a standby took over that lacked the newest batches. Mend it with `headrace repair rewind`.',
  },
  HR_INGEST_CHANGED: {
    class: 'fatal',
    meaning: 'A replay reads other bytes than the receipt was made of, or a receipt is missing.',
  },
} as const

export const ingestError = errorTable(INGEST_PIPELINE_ERRORS)
