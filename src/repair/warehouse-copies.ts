/**
 * Takes out of ClickHouse what must not be there: second copies of a row, and, when an operator wants it, rows that no
 * receipt knows. Copies go by a merge of their months: `ReplacingMergeTree` keeps one row for each sort key, and the
 * source is part of it, so nothing else can go with them. Copies with another sort key (a stamp of a cookieless visitor
 * that was made anew) never merge: all but the first are deleted by that key. Cost: a merge rewrites its whole month.
 */
import { EVENTS, HeadraceError, type Place, type Table } from '../event/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { Lane } from './lost-receipts.ts'
import type { InsertDeps } from './warehouse-insert.ts'
import { conditionsOf, countedRows, doubledPlaces, type Window } from './warehouse-places.ts'

const OTHER_KEY = 'tuple(team_id, toDate(timestamp), event, distinct_id, uuid)'
/** Everything in the sort key but the source, of the copy that stays: what ingest stamped at first, else the oldest. */
const FIRST_KEY = `argMin(${OTHER_KEY}, (_restamped, inserted_at))`

const MERGES_MAX = 10
const MERGE_AGAIN_MS = 500

/** Windows of one raw partition in which rows are there more than once. */
export type Doubled = { lane: Lane; windows: Window[] }

/** Months of `events` in which doubled rows lie, as ClickHouse names its partition directories. */
export async function monthsOf(warehouse: Warehouse, { lane, windows }: Doubled): Promise<Set<string>> {
  const months = new Set<string>()
  for await (const places of doubledPlaces(warehouse, lane, windows)) {
    for (const where of conditionsOf(lane, places)) {
      const rows = await warehouse.query<{ month: string }>(
        `SELECT DISTINCT toString(toYYYYMM(timestamp)) AS month FROM ${EVENTS.name} WHERE ${where}`,
      )
      for (const { month } of rows) months.add(month)
    }
  }
  return months
}

/**
 * Merges the months and deletes what a merge leaves; gives what is there more than once still. A merge that the server
 * has under way keeps another one of the same parts from beginning, without an error: it is asked for again.
 */
export async function removeCopies(
  { warehouse, hold, reached }: Pick<InsertDeps, 'warehouse' | 'hold' | 'reached'>,
  months: readonly string[],
  doubled: readonly Doubled[],
): Promise<(Doubled & { rows: number })[]> {
  let left = await leftOf(warehouse, doubled)
  for (let round = 0; round < MERGES_MAX && left.length > 0; round++) {
    if (round > 0) await Bun.sleep(MERGE_AGAIN_MS)
    for (const month of months) {
      await hold()
      await mergeMonth(warehouse, month)
      await reached('merged')
    }
    for (const { lane, windows } of left) {
      for await (const places of doubledPlaces(warehouse, lane, windows)) {
        await hold()
        await deleteOtherKeys(warehouse, lane, places)
      }
    }
    left = await leftOf(warehouse, left)
  }
  return left
}

async function leftOf(
  warehouse: Warehouse,
  doubled: readonly Doubled[],
): Promise<(Doubled & { rows: number })[]> {
  const left: (Doubled & { rows: number })[] = []
  for (const { lane, windows } of doubled) {
    const some = { lane, windows: [] as Window[], rows: 0 }
    for (const window of windows) {
      let rows = 0
      for await (const places of doubledPlaces(warehouse, lane, [window])) rows += places.length
      if (rows > 0) some.windows.push(window)
      some.rows += rows
    }
    if (some.rows > 0) left.push(some)
  }
  return left
}

/**
 * Merges one month of `events` to its end. ClickHouse may have nothing to merge, or refuse for now: a merge is under way,
 * or parts differ in their projections, as those do that a deletion has emptied. Empty ones are dropped, and projections
 * made, so that the next round can merge.
 */
async function mergeMonth(warehouse: Warehouse, month: string): Promise<void> {
  const table = target(warehouse, EVENTS)
  try {
    await warehouse.command(
      `OPTIMIZE TABLE ${table} PARTITION ${month} FINAL SETTINGS alter_sync = 2, optimize_throw_if_noop = 1`,
    )
  } catch (error) {
    if (!saysOf(error, 'CANNOT_ASSIGN_OPTIMIZE')) throw error
    const local = warehouse.variant === 'sharded' ? `${EVENTS.name}_local` : EVENTS.name
    const empty = await warehouse.query<{ name: string }>(
      `SELECT name FROM system.parts WHERE database = currentDatabase() AND table = {local:String}
         AND partition = {month:String} AND active AND rows = 0`,
      { local, month },
    )
    for (const { name } of empty) {
      await warehouse.command(`ALTER TABLE ${local} DROP PART '${name}'`).catch((error: unknown) => {
        // The server cleans up, too.
        if (!saysOf(error, 'NO_SUCH_DATA_PART')) throw error
      })
    }
    await warehouse.command(
      `ALTER TABLE ${table} MATERIALIZE PROJECTION by_source IN PARTITION ${month} SETTINGS mutations_sync = 2`,
    )
  }
}

function saysOf(error: unknown, name: string): boolean {
  return error instanceof HeadraceError && error.message.includes(name)
}

/** Deletes copies that differ in their sort key from the one that stays. */
async function deleteOtherKeys(warehouse: Warehouse, lane: Lane, places: readonly Place[]): Promise<void> {
  for (const where of conditionsOf(lane, places)) {
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
  for (const where of conditionsOf(lane, places))
    await warehouse.command(
      `ALTER TABLE ${target(warehouse, table)} DELETE WHERE ${where} AND ${countedRows(table)} SETTINGS mutations_sync = 2`,
    )
}

function target({ variant }: Warehouse, table: Table): string {
  return variant === 'sharded' ? `${table.name}_local ON CLUSTER '{cluster}'` : table.name
}
