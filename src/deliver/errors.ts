/** What can go wrong between topic `events` and a destination, apart from the log, Postgres and the receiver itself. */
import { errorTable } from '../event/index.ts'

export const DELIVER_ERRORS = {
  HR_DELIVER_FENCE: {
    class: 'retriable',
    meaning:
      'A delivery cursor is not where this process left it: another one delivers the partition. It starts anew from Postgres.',
  },
  HR_DELIVER_GAP: {
    class: 'fatal',
    meaning:
      'Records are missing in front of a delivery cursor: retention passed them, the topic was made anew, or the log lost them. The partition, or the one destination, stops there.',
  },
  HR_DELIVER_UNREADABLE: {
    class: 'fatal',
    meaning: 'A record of topic `events` does not carry a header of ours. The partition stops.',
  },
  HR_DELIVER_NO_TOPIC: {
    class: 'fatal',
    meaning:
      'Topic `events` or `deliveries` does not exist; `headrace up` or `headrace kafka apply` makes it.',
  },
  HR_DESTINATION_INVALID: {
    class: 'rejected',
    status: 400,
    meaning:
      'A destination is described with something that is not allowed; the sentence names it and what is.',
  },
  HR_DESTINATION_NOT_FOUND: {
    class: 'rejected',
    status: 404,
    meaning: 'No destination has this name or id.',
  },
  HR_DESTINATION_EXISTS: {
    class: 'rejected',
    status: 409,
    meaning: 'Another destination of the project has this name.',
  },
  HR_SECRET_KEY: {
    class: 'fatal',
    meaning:
      'The secrets of a destination cannot be opened with the key of this process; give every process the same HEADRACE_SECRET_KEY.',
  },
} as const

export const deliverError = errorTable(DELIVER_ERRORS)
