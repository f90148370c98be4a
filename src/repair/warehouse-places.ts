/** What ClickHouse has of a stretch of raw offsets, and which partition directories it lies in. Reads only. */
import type { Place, Table } from '../event/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { Lane } from './lost-receipts.ts'
import type { PresentPlace } from './warehouse-plan.ts'

/** Places of one query: the text of a query is limited. */
const PLACES_MAX = 2_000

/** Distinct places within offsets [from, to), and how many copies there are of each. */
export function presentCopies(
  warehouse: Warehouse,
  table: Table,
  { logId, partition }: Lane,
  from: number,
  to: number,
): Promise<PresentPlace[]> {
  return warehouse.query<PresentPlace>(
    `SELECT _offset AS offset, _sub AS sub, count() AS copies FROM ${table.name}
     WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
     GROUP BY _offset, _sub ORDER BY _offset, _sub`,
    { logId, partition, from, to },
  )
}

/** Those of `places` that ClickHouse lacks. */
export async function stillMissing<P extends Place>(
  warehouse: Warehouse,
  table: Table,
  lane: Lane,
  places: readonly P[],
): Promise<P[]> {
  if (places.length === 0) return []
  const offsets = places.map(({ offset }) => offset)
  const from = offsets.reduce((a, b) => Math.min(a, b))
  const to = offsets.reduce((a, b) => Math.max(a, b)) + 1
  const present = await presentCopies(warehouse, table, lane, from, to)
  const there = new Set(present.map(({ offset, sub }) => `${offset}/${sub}`))
  return places.filter(({ offset, sub }) => !there.has(`${offset}/${sub}`))
}

/** The rows of some places as a condition; numbers only, so that it can stand in the text of a query. */
export function* conditionsOf(
  { logId, partition }: Lane,
  places: readonly Place[],
): Generator<{ where: string; places: readonly Place[] }> {
  for (let i = 0; i < places.length; i += PLACES_MAX) {
    const some = places.slice(i, i + PLACES_MAX)
    const list = some.map(({ offset, sub }) => `(${offset},${sub})`).join()
    yield {
      where: `_log_id = toUUID('${logId}') AND _partition = ${partition} AND (_offset, _sub) IN (${list})`,
      places: some,
    }
  }
}
