/** Why rows of a table wait, in one sentence: each class of failure has its own, so that who reads it knows what to mend. Pure. */
import type { HeadraceError } from '../event/index.ts'

export type Why = { code: string; sentence: string }

const WHAT: Readonly<Record<string, string>> = {
  HR_WAREHOUSE_UNAVAILABLE: 'ClickHouse does not take rows',
  HR_WAREHOUSE_READ_ONLY: 'ClickHouse is read-only and does not take rows',
  HR_WAREHOUSE_TOO_MANY_PARTS: 'ClickHouse has too many parts and must merge some before it takes rows',
  HR_WAREHOUSE_OUT_OF_MEMORY: 'ClickHouse has no memory to take rows',
  HR_WAREHOUSE_DISK_FULL: 'the disk of ClickHouse is full',
  HR_WAREHOUSE_DENIED: 'ClickHouse does not let the user of load write',
  HR_WAREHOUSE_SCHEMA_BEHIND: 'the schema of ClickHouse is behind this version; its migrations must run',
  HR_LOAD_NO_ANSWER: 'ClickHouse does not say which rows it has',
  HR_LOG_NOT_WRITER: 'a refused row cannot be written to the dead letters',
}

export function whyOf({ code, message }: HeadraceError): Why {
  return { code, sentence: `${WHAT[code] ?? 'ClickHouse does not take rows'}: ${message}` }
}
