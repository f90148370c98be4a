/**
 * Takes out of ClickHouse what must not be there: second copies of a row, and, when an operator wants it, rows that no
 * receipt knows. Of copies that differ in anything, or lie on several shards, the first one stays, by name: what ingest
 * stamped before what a repair stamped anew, then what was stored first. A merge would keep the last one, and never merges
 * those with another sort key or on two shards. Copies of the same content on one shard go by a merge of their months:
 * `ReplacingMergeTree` keeps one row for each sort key, and the source is part of it, so nothing else can go with them.
 *
 * Between the look at the copies and the delete the server may merge two of them and keep the one that was to go: whoever
 * calls compares the windows once more afterwards. Cost: a merge rewrites its whole month, a delete the parts it touches.
 */
import { EVENTS, HeadraceError, type Place, type Table } from '../event/index.ts'
import { localName, localTarget, type Warehouse } from '../warehouse/index.ts'
import type { Lane } from './lost-receipts.ts'
import type { InsertDeps } from './warehouse-insert.ts'
import { mergeOnce, mutate } from './warehouse-long.ts'
import { conditionsOf, countedRows, doubledPlaces, type Window } from './warehouse-places.ts'

/** Everything that ingest wrote. */
const CONTENT = `cityHash64(${EVENTS.columns.map(({ name }) => `\`${name}\``).join()})`
const STORED_AT = 'toUnixTimestamp64Micro(inserted_at)'
/** In the order in which copies are preferred. */
const COPY = `tuple(_restamped, ${STORED_AT}, ${CONTENT})`

/** Of one delete: its text is limited, and names each copy that stays. */
const DELETED_PLACES_MAX = 1_000
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

type Deps = Pick<InsertDeps, 'warehouse' | 'hold' | 'reached'>

/**
 * Deletes the copies that are not the first, and merges the months of those that are the same; gives what is there more than
 * once still. A merge that the server has under way keeps another one of the same parts from beginning, without an error:
 * it is asked for again.
 */
export async function removeCopies(
  deps: Deps,
  doubled: readonly Doubled[],
): Promise<(Doubled & { rows: number })[]> {
  const { warehouse, hold, reached } = deps
  let left = await leftOf(warehouse, doubled)
  for (let round = 0; round < MERGES_MAX && left.length > 0; round++) {
    if (round > 0) await Bun.sleep(MERGE_AGAIN_MS)
    for (const { lane, windows } of left) {
      for await (const places of doubledPlaces(warehouse, lane, windows))
        await deleteLaterCopies(deps, lane, places)
    }
    left = await leftOf(warehouse, left)
    const months = new Set<string>()
    for (const one of left) for (const month of await monthsOf(warehouse, one)) months.add(month)
    for (const month of months) {
      await hold()
      await mergeMonth(deps, month)
      await reached('merged')
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

/** Deletes of each place all copies but the first, where copies differ or lie on several shards. */
async function deleteLaterCopies(deps: Deps, lane: Lane, places: readonly Place[]): Promise<void> {
  const { warehouse, hold, reached } = deps
  const shard = warehouse.variant === 'sharded' ? '_shard_num' : '0'
  const first: (Place & { at: string; content: string })[] = []
  for (const where of conditionsOf(lane, places))
    first.push(
      ...(await warehouse.query<Place & { at: string; content: string }>(
        `SELECT _offset AS offset, _sub AS sub, toString(kept.2) AS at, toString(kept.3) AS content
         FROM (SELECT _offset, _sub, min(${COPY}) AS kept FROM ${EVENTS.name} WHERE ${where} GROUP BY _offset, _sub
           HAVING uniqExact(${CONTENT}) > 1 OR uniqExact(${shard}) > 1)`,
      )),
    )
  if (first.length === 0) return
  await hold()
  await reached('chosen')
  for (let i = 0; i < first.length; i += DELETED_PLACES_MAX) {
    const some = first.slice(i, i + DELETED_PLACES_MAX)
    const kept = some.map(({ offset, sub, at, content }) => `(${offset},${sub},${at},${content})`).join()
    // Numbers, and not the question again: each replica carries the mutation out by itself, and must come to the same.
    for (const where of conditionsOf(lane, some))
      await mutate(
        deps,
        EVENTS,
        `ALTER TABLE ${localTarget(warehouse, EVENTS)} DELETE WHERE ${where}
           AND (_offset, _sub, ${STORED_AT}, ${CONTENT}) NOT IN (${kept}) SETTINGS mutations_sync = 2`,
      )
  }
}

/**
 * Merges one month of `events` to its end. ClickHouse may have nothing to merge, or refuse for now: a merge is under way,
 * or parts differ in their projections, as those do that a deletion has emptied. Empty ones are dropped, and projections
 * made, so that the next round can merge.
 */
async function mergeMonth(deps: Deps, month: string): Promise<void> {
  const { warehouse } = deps
  const target = localTarget(warehouse, EVENTS)
  try {
    await mergeOnce(
      deps,
      EVENTS,
      `OPTIMIZE TABLE ${target} PARTITION ${month} FINAL SETTINGS alter_sync = 2, optimize_throw_if_noop = 1`,
    )
  } catch (error) {
    if (!saysOf(error, 'CANNOT_ASSIGN_OPTIMIZE')) throw error
    const local = localName(warehouse, EVENTS)
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
    await mutate(
      deps,
      EVENTS,
      `ALTER TABLE ${target} MATERIALIZE PROJECTION by_source IN PARTITION ${month} SETTINGS mutations_sync = 2`,
    )
  }
}

function saysOf(error: unknown, name: string): boolean {
  return error instanceof HeadraceError && error.message.includes(name)
}

export async function deletePlaces(
  deps: Deps,
  table: Table,
  lane: Lane,
  places: readonly Place[],
): Promise<void> {
  for (const where of conditionsOf(lane, places))
    await mutate(
      deps,
      table,
      `ALTER TABLE ${localTarget(deps.warehouse, table)} DELETE WHERE ${where} AND ${countedRows(table)} SETTINGS mutations_sync = 2`,
    )
}
