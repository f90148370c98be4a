/** Everything that can go wrong with the warehouse, embedded or by URL. */
import { errorTable } from '../event/index.ts'

export const WAREHOUSE_ERRORS = {
  HR_WAREHOUSE_UNAVAILABLE: {
    class: 'retriable',
    status: 503,
    meaning: 'ClickHouse cannot be reached, did not answer, or cannot work now.',
  },
  HR_WAREHOUSE_READ_ONLY: {
    class: 'retriable',
    status: 503,
    meaning:
      'ClickHouse, or the table on this replica, is read-only; data is kept until it takes rows again.',
  },
  HR_WAREHOUSE_TOO_MANY_PARTS: {
    class: 'retriable',
    status: 503,
    meaning: 'ClickHouse has more parts than it merges in time, and takes no rows until it has merged them.',
  },
  HR_WAREHOUSE_OUT_OF_MEMORY: {
    class: 'retriable',
    status: 503,
    meaning: 'ClickHouse has no memory for a statement; data is kept, and inserted in smaller pieces.',
  },
  HR_WAREHOUSE_DISK_FULL: {
    class: 'retriable',
    status: 503,
    meaning: 'The disk of ClickHouse is full; data is kept until there is room.',
  },
  HR_WAREHOUSE_DENIED: {
    class: 'retriable',
    status: 503,
    meaning: 'ClickHouse refuses the user, the password or a right; data is kept until that is mended.',
  },
  HR_WAREHOUSE_SCHEMA_BEHIND: {
    class: 'retriable',
    status: 503,
    meaning: 'A table or column is missing in ClickHouse: the migrations have not run there yet.',
  },
  HR_WAREHOUSE_REFUSED: {
    class: 'rejected',
    status: 422,
    meaning: 'ClickHouse refuses the rows: they do not parse, do not fit a column or break a constraint.',
  },
  HR_WAREHOUSE_TOO_MANY_MONTHS: {
    class: 'rejected',
    status: 422,
    meaning: 'One insert touches more month partitions than ClickHouse takes at once; split it.',
  },
  HR_WAREHOUSE_TOO_LARGE: {
    class: 'rejected',
    status: 413,
    meaning: 'One insert holds more rows or bytes than fit one block; split it.',
  },
  HR_WAREHOUSE_QUERY_REFUSED: {
    class: 'rejected',
    status: 400,
    meaning: 'ClickHouse refuses a query: it does not parse, names what does not exist, or passes a limit.',
  },
  HR_WAREHOUSE_UNEXPECTED: {
    class: 'fatal',
    meaning:
      'ClickHouse answered an insert with an error that is neither about the world nor about the rows.',
  },
  HR_WAREHOUSE_PROPERTY: {
    class: 'rejected',
    status: 400,
    meaning: 'A property cannot have a column under this name or type, or its column cannot be filled.',
  },
  HR_WAREHOUSE_MUTATION: {
    class: 'retriable',
    meaning: 'Mutations of ClickHouse end and leave rows that they should have changed or removed.',
  },
  HR_WAREHOUSE_WAITS: {
    class: 'retriable',
    meaning: 'A mutation of ClickHouse has come no further for ten minutes; it goes on by itself.',
  },
  HR_WAREHOUSE_BAD_MIGRATION: {
    class: 'fatal',
    meaning: 'A migration file was changed after it was applied, or cannot be rendered for the variant.',
  },
  HR_WAREHOUSE_TOO_OLD: {
    class: 'fatal',
    meaning:
      'The version of ClickHouse is older than 24.8: it does not remember insert tokens by month, and would store rows twice.',
  },
  HR_WAREHOUSE_FOLDER_IN_USE: {
    class: 'fatal',
    meaning: 'Another live process has the data folder of the embedded warehouse open.',
  },
  HR_WAREHOUSE_ADDRESS: {
    class: 'fatal',
    meaning: 'The embedded warehouse cannot listen on its address, mostly because another process does.',
  },
  HR_WAREHOUSE_ENGINE: {
    class: 'fatal',
    meaning: 'The embedded engine could not be started.',
  },
} as const

export const warehouseError = errorTable(WAREHOUSE_ERRORS)
