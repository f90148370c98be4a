/**
 * What a cluster knows as a whole. A replica that lags lacks rows that others have: whoever acts on what is missing first
 * brings every replica to where the cluster was when it asked. Nothing to do on a single node.
 */
import type { Table } from '../event/index.ts'
import { SHARDED_TABLES, type Warehouse } from './client.ts'
import { insertTarget } from './ddl.ts'

/** The table that holds the rows of a node, and where a statement about it must run. */
export function localTarget(warehouse: Warehouse, table: Table): string {
  const local = localName(warehouse, table)
  return warehouse.variant === 'single' ? local : `${local} ON CLUSTER '{cluster}'`
}

export function localName({ variant }: Warehouse, { name }: Table): string {
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
export async function syncReplicas(warehouse: Warehouse, table: Table): Promise<void> {
  if (warehouse.variant === 'single') return
  await warehouse.command(
    `SYSTEM SYNC REPLICA ON CLUSTER '{cluster}' ${localName(warehouse, table)} LIGHTWEIGHT`,
  )
}
