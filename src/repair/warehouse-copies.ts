/**
 * Takes out of ClickHouse what must not be there: second copies of a row, and, when an operator wants it, rows that no
 * receipt knows. Copies go by a merge of their months: `ReplacingMergeTree` keeps one row for each sort key, and the
 * source is part of it, so nothing else can go with them. Copies with another sort key (a stamp of a cookieless visitor
 * that was made anew) never merge: all but the first are deleted by that key. Cost: a merge rewrites its whole month.
 */
import { EVENTS, type Place, type Table } from '../event/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { Lane } from './lost-receipts.ts'
import { conditionsOf, presentCopies } from './warehouse-places.ts'

const OTHER_KEY = 'tuple(team_id, toDate(timestamp), event, distinct_id, uuid)'
/** Everything in the sort key but the source, of the copy that stays: what ingest stamped at first, else the oldest. */
const FIRST_KEY = `argMin(${OTHER_KEY}, (_restamped, inserted_at))`

export type Doubled = { lane: Lane; places: Place[] }

/** Months of `events` in which these places have rows, as ClickHouse names its partition directories. */
export async function monthsOf(warehouse: Warehouse, { lane, places }: Doubled): Promise<Set<string>> {
  const months = new Set<string>()
  for (const { where } of conditionsOf(lane, places)) {
    const rows = await warehouse.query<{ month: string }>(
      `SELECT DISTINCT toString(toYYYYMM(timestamp)) AS month FROM ${EVENTS.name} WHERE ${where}`,
    )
    for (const { month } of rows) months.add(month)
  }
  return months
}

/** Merges one month of `events` to its end. */
export async function mergeMonth(warehouse: Warehouse, month: string): Promise<void> {
  await warehouse.command(
    `OPTIMIZE TABLE ${target(warehouse, EVENTS)} PARTITION ${month} FINAL SETTINGS alter_sync = 2`,
  )
}

/** Those of the places that are there more than once still. */
export async function stillDoubled(warehouse: Warehouse, { lane, places }: Doubled): Promise<Place[]> {
  if (places.length === 0) return []
  const from = places.reduce((least, { offset }) => Math.min(least, offset), places[0]!.offset)
  const to = places.reduce((most, { offset }) => Math.max(most, offset), 0) + 1
  const present = await presentCopies(warehouse, EVENTS, lane, from, to)
  const doubled = new Set(
    present.filter(({ copies }) => copies > 1).map(({ offset, sub }) => `${offset}/${sub}`),
  )
  return places.filter(({ offset, sub }) => doubled.has(`${offset}/${sub}`))
}

/** Deletes copies that differ in their sort key from the one that stays. */
export async function deleteOtherKeys(warehouse: Warehouse, { lane, places }: Doubled): Promise<void> {
  for (const { where } of conditionsOf(lane, places)) {
    await warehouse.command(
      `ALTER TABLE ${target(warehouse, EVENTS)} DELETE WHERE ${where} AND (_offset, _sub, ${OTHER_KEY}) NOT IN (
         SELECT _offset, _sub, ${FIRST_KEY} FROM ${EVENTS.name} WHERE ${where} GROUP BY _offset, _sub)
       SETTINGS mutations_sync = 2`,
    )
  }
}

export async function deletePlaces(
  warehouse: Warehouse,
  table: Table,
  lane: Lane,
  places: readonly Place[],
): Promise<void> {
  for (const { where } of conditionsOf(lane, places))
    await warehouse.command(
      `ALTER TABLE ${target(warehouse, table)} DELETE WHERE ${where} SETTINGS mutations_sync = 2`,
    )
}

function target({ variant }: Warehouse, table: Table): string {
  return variant === 'sharded' ? `${table.name}_local ON CLUSTER '{cluster}'` : table.name
}
