/** What ClickHouse has of a stretch of raw offsets, on whatever replica. Reads only. */
import { DEAD_LETTERS, EVENTS, type Place, type Table } from '../event/index.ts'
import { presentCopies, syncReplicas, type Warehouse } from '../warehouse/index.ts'
import type { Lane } from './lost-receipts.ts'

/** Places of one query: the text of a query is limited. */
const PLACES_MAX = 2_000

/** Offsets [from, to). */
export type Window = { from: number; to: number }

/**
 * The rows of a table that receipts count, as a condition. The letter of a person or a group that ClickHouse refused is not
 * one of them: its place is that of the first offset of its batch, whose event has an end state of its own.
 */
export function countedRows(table: Table): string {
  return table === DEAD_LETTERS ? "NOT startsWith(step, 'load:')" : '1'
}

/**
 * Places of `events` within `windows` that are there more than once, as many at a time as one question takes. Asked anew each
 * time, so that a deployment that has everything twice needs no more memory than one that has a row twice.
 */
export async function* doubledPlaces(
  warehouse: Warehouse,
  { logId, partition }: Lane,
  windows: readonly Window[],
): AsyncGenerator<Place[]> {
  let some: Place[] = []
  for (const { from, to } of windows) {
    const found = await warehouse.query<Place>(
      `SELECT _offset AS offset, _sub AS sub FROM ${EVENTS.name}
       WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
       GROUP BY _offset, _sub HAVING count() > 1 ORDER BY _offset, _sub`,
      { logId, partition, from, to },
    )
    some = some.concat(found)
    for (; some.length >= PLACES_MAX; some = some.slice(PLACES_MAX)) yield some.slice(0, PLACES_MAX)
  }
  if (some.length > 0) yield some
}

/** Those of `places` that ClickHouse lacks. */
export async function stillMissing<P extends Place>(
  warehouse: Warehouse,
  table: Table,
  lane: Lane,
  places: readonly P[],
): Promise<P[]> {
  if (places.length === 0) return []
  await syncReplicas(warehouse, table)
  const offsets = places.map(({ offset }) => offset)
  const from = offsets.reduce((a, b) => Math.min(a, b))
  const to = offsets.reduce((a, b) => Math.max(a, b)) + 1
  const { logId, partition } = lane
  const present = await presentCopies(warehouse, { logId, partition, from, to }, table, countedRows(table))
  const there = new Set(present.map(({ offset, sub }) => `${offset}/${sub}`))
  return places.filter(({ offset, sub }) => !there.has(`${offset}/${sub}`))
}

/** The rows of some places as a condition; numbers only, so that it can stand in the text of a query. */
export function* conditionsOf({ logId, partition }: Lane, places: readonly Place[]): Generator<string> {
  for (let i = 0; i < places.length; i += PLACES_MAX) {
    const some = places.slice(i, i + PLACES_MAX)
    const list = some.map(({ offset, sub }) => `(${offset},${sub})`).join()
    yield `_log_id = toUUID('${logId}') AND _partition = ${partition} AND (_offset, _sub) IN (${list})`
  }
}
