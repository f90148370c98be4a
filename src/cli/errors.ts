/** What only the command line can say. */
import { errorTable } from '../event/index.ts'

export const CLI_ERRORS = {
  HR_CLI_QUERY_REFUSED: {
    class: 'rejected',
    meaning: 'ClickHouse refuses the query of `headrace sql`; its own words follow.',
  },
  HR_CLI_UNREACHABLE: {
    class: 'retriable',
    meaning: 'A server that the verb needs does not answer.',
  },
  HR_CLI_ARGUMENT: {
    class: 'rejected',
    meaning: 'An argument of a verb, or a file that a setting names, is not what is allowed.',
  },
} as const

export const cliError = errorTable(CLI_ERRORS)
