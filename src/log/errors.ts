/** Everything that can go wrong with the log, on either implementation. */
import { errorTable } from '../event/index.ts'

export const LOG_ERRORS = {
  HR_LOG_RECORD_TOO_LARGE: {
    class: 'rejected',
    status: 413,
    meaning: 'A record is larger than its topic allows; refused before sending.',
  },
  HR_LOG_UNAVAILABLE: {
    class: 'retriable',
    status: 503,
    meaning: 'The log cannot be reached or did not answer.',
  },
  HR_LOG_DEADLINE: {
    class: 'retriable',
    status: 503,
    meaning: 'A send was not durable within its deadline; its producer was retired.',
  },
  HR_LOG_DISK_FULL: {
    class: 'retriable',
    status: 503,
    meaning: 'The disk is above its watermark; new records are refused until space is free.',
  },
  HR_LOG_OUT_OF_RANGE: {
    class: 'fatal',
    meaning: 'The offset asked for is not in the log: retention passed it, or the log went back in time.',
  },
  HR_LOG_CORRUPT: {
    class: 'fatal',
    meaning: 'A record fails its checksum; it is reported with its position and never served.',
  },
  HR_LOG_NOT_OWNER: {
    class: 'rejected',
    meaning: 'A commit for a partition that this member does not own any more.',
  },
  HR_LOG_NOT_WRITER: {
    class: 'fatal',
    meaning: 'Another live process writes this partition of the embedded log.',
  },
  HR_LOG_SYNC_FAILED: {
    class: 'fatal',
    meaning: 'fdatasync failed: what is on disk is no longer known, so the process stops.',
  },
  HR_LOG_NO_TOPIC: {
    class: 'fatal',
    meaning: 'The topic does not exist; create it with `headrace kafka apply`.',
  },
  HR_LOG_WRONG_TOPIC: {
    class: 'fatal',
    meaning: 'The topic exists with other settings than the deployment needs.',
  },
  HR_LOG_SETTING: {
    class: 'fatal',
    meaning: 'A setting of the log is wrong; the message names it and what is allowed.',
  },
  HR_LOG_CLOSED: { class: 'fatal', meaning: 'The log was used after it was closed.' },
} as const

export const logError = errorTable(LOG_ERRORS)
