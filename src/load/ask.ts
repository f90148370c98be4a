/**
 * The questions of load to ClickHouse. In: SQL that is ours and the same for ever. Out: its rows. So whatever ClickHouse
 * has against it is a matter of the server (a schema changed by hand, a limit, an error that nobody has listed): load
 * waits for an answer, as it does for a ClickHouse that is away, and the other tables go on.
 */
import { HeadraceError, isRetriable, type Table } from '../event/index.ts'
import { type QueryParameters, syncReplicas, type Warehouse } from '../warehouse/index.ts'
import { loadError } from './errors.ts'

/** Throws retriable errors only, but for what is no answer of ClickHouse. */
export async function ask<T>(warehouse: Warehouse, sql: string, params: QueryParameters): Promise<T[]> {
  try {
    return await warehouse.query<T>(sql, params)
  } catch (error) {
    throw noAnswer(error)
  }
}

/**
 * Brings all replicas to where the cluster is, before something that is not there is called missing. Throws retriable
 * errors only: a replica that does not answer may have it.
 */
export async function catchUp(warehouse: Warehouse, table: Table): Promise<void> {
  try {
    await syncReplicas(warehouse, table)
  } catch (error) {
    throw noAnswer(error)
  }
}

function noAnswer(error: unknown): unknown {
  if (!(error instanceof HeadraceError) || isRetriable(error)) return error
  return loadError('HR_LOAD_NO_ANSWER', error.message, error)
}

/** ClickHouse is at fault and may mend: wait. */
export function isWarehouseDown(error: unknown): boolean {
  if (!(error instanceof HeadraceError) || !isRetriable(error)) return false
  return error.code.startsWith('HR_WAREHOUSE_') || error.code === 'HR_LOAD_NO_ANSWER'
}
