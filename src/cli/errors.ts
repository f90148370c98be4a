/** What only the command line can say. */
import { errorTable } from '../event/index.ts'

export const CLI_ERRORS = {
  HR_CLI_QUERY_REFUSED: {
    class: 'rejected',
    meaning: 'ClickHouse refuses the query of `headrace sql`; its own words follow.',
  },
  HR_CLI_WAREHOUSE_UNREACHABLE: {
    class: 'retriable',
    meaning: 'ClickHouse does not answer `headrace sql`.',
  },
  HR_CLI_TOPICS_WRONG: {
    class: 'fatal',
    meaning: 'Topics exist with settings that only a human may change; `headrace kafka plan` shows them.',
  },
  HR_CLI_ARGUMENT: {
    class: 'rejected',
    meaning: 'An argument of a verb is not of the allowed form.',
  },
} as const

export const cliError = errorTable(CLI_ERRORS)
