/** What keeps the embedded Postgres from starting. All are for a human to mend, so all stop the process. */
import { errorTable } from '../../event/index.ts'

export const POSTGRES_ERRORS = {
  HR_POSTGRES_MISSING: {
    class: 'fatal',
    meaning: 'The Postgres programs of this platform are not installed, or nobody may run them.',
  },
  HR_POSTGRES_IN_USE: {
    class: 'fatal',
    meaning: 'Another live process runs the embedded Postgres of this data folder.',
  },
  HR_POSTGRES_FOLDER: {
    class: 'fatal',
    meaning: 'The data folder of the embedded Postgres cannot be used: its owner, its version or its socket.',
  },
  HR_POSTGRES_START: {
    class: 'fatal',
    meaning: 'The embedded Postgres did not start; its own words follow.',
  },
} as const

export const postgresError = errorTable(POSTGRES_ERRORS)
