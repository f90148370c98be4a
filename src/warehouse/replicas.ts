/**
 * What a cluster knows as a whole. A replica that lags lacks rows that others have: whoever acts on what is missing first
 * brings every replica to where the cluster was when it asked. Nothing to do on a single node.
 */
import type { Table } from '../event/index.ts'
import { SHARDED_TABLES, type Warehouse } from './client.ts'
import { insertTarget } from './ddl.ts'

type Named = Pick<Table, 'name'>

/** The table that holds the rows of a node, and where a statement about it must run. */
export function localTarget(warehouse: Warehouse, table: Named): string {
  const local = localName(warehouse, table)
  return `${local}${onCluster(warehouse)}`
}

/** Behind the name of what a statement is about. */
export function onCluster({ variant }: Warehouse): string {
  return variant === 'single' ? '' : ` ON CLUSTER '{cluster}'`
}

/** The rows of a table as each node holds them, for a question to all. */
export function everyCopy(warehouse: Warehouse, table: Named): string {
  const local = localName(warehouse, table)
  return warehouse.variant === 'single'
    ? local
    : `clusterAllReplicas('{cluster}', currentDatabase(), '${local}')`
}

/** The months that a table has rows of, as ClickHouse names its partition directories, in order. */
export async function monthsOf(warehouse: Warehouse, table: Named): Promise<string[]> {
  const rows = await warehouse.query<{ month: string }>(
    `SELECT DISTINCT partition_id AS month FROM ${systemTable(warehouse, 'parts')}
     WHERE active AND database = currentDatabase() AND table = {table:String} ORDER BY month`,
    { table: localName(warehouse, table) },
  )
  return rows.map(({ month }) => month)
}

export function localName({ variant }: Warehouse, { name }: Named): string {
  return insertTarget(name, variant, SHARDED_TABLES.has(name))
}

/** A table of `system`, of all nodes. */
export function systemTable({ variant }: Warehouse, name: string): string {
  return variant === 'single' ? `system.${name}` : `clusterAllReplicas('{cluster}', system.${name})`
}

/**
 * Resolves when every replica has every row of `table` that any of them had when this was called. Throws a retriable error
 * when one does not answer or does not come so far: what it alone has would look missing.
 */
export async function syncReplicas(warehouse: Warehouse, table: Named): Promise<void> {
  if (warehouse.variant === 'single') return
  await warehouse.command(
    `SYSTEM SYNC REPLICA ON CLUSTER '{cluster}' ${localName(warehouse, table)} LIGHTWEIGHT`,
  )
}
