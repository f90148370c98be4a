/**
 * Takes out of ClickHouse what must not be there: second copies of a row, and, when an operator wants it, rows that no
 * receipt knows. The first copy stays, by name: what ingest stamped before what a repair stamped anew, then what was stored
 * first. A merge would keep the last one, never merges those with another sort key or on two shards, and ClickHouse may
 * refuse it for minutes.
 *
 * What stays is written once more, a microsecond older, and then everything else of its place is deleted: copies that are
 * the same in everything have no name to tell them apart by, and a merge of the server between the look and the delete keeps
 * the newest of some, which is this one. Whoever calls compares the windows afterwards.
 * Cost: a delete rewrites the parts that it touches.
 */
import { EVENTS, type Place, type Table } from '../event/index.ts'
import { localName, localTarget, syncReplicas, type Warehouse } from '../warehouse/index.ts'
import type { Lane } from './lost-receipts.ts'
import type { InsertDeps } from './warehouse-insert.ts'
import { insertSelect, mutate } from './warehouse-long.ts'
import { conditionsOf, countedRows, doubledPlaces, type Window } from './warehouse-places.ts'

const COLUMNS = EVENTS.columns.map(({ name }) => `\`${name}\``).join()
/** Everything that ingest wrote. */
const CONTENT = `cityHash64(${COLUMNS})`
const STORED_AT = 'toUnixTimestamp64Micro(inserted_at)'
/** In the order in which copies are preferred. */
const COPY = `tuple(_restamped, ${STORED_AT}, ${CONTENT})`

/** Tells one copy from others that differ in anything. */
const NAME = `(_offset, _sub, ${STORED_AT}, ${CONTENT})`

/** Of one statement: its text is limited, and names each copy that stays. */
const NAMED_MAX = 1_000
/** What is there still after as many was written anew each time by somebody else. */
const ROUNDS_MAX = 3

/** Windows of one raw partition in which rows are there more than once. */
export type Doubled = { lane: Lane; windows: Window[] }

type Deps = Pick<InsertDeps, 'warehouse' | 'hold' | 'reached'>
type Named = Place & { at: string; content: string }

/** Deletes all copies but the first; gives what is there more than once still. */
export async function removeCopies(
  deps: Deps,
  doubled: readonly Doubled[],
): Promise<(Doubled & { rows: number })[]> {
  let left = await leftOf(deps.warehouse, doubled)
  for (let round = 0; round < ROUNDS_MAX && left.length > 0; round++) {
    for (const { lane, windows } of left) {
      for await (const places of doubledPlaces(deps.warehouse, lane, windows))
        for (let i = 0; i < places.length; i += NAMED_MAX)
          await keepFirst(deps, lane, places.slice(i, i + NAMED_MAX))
    }
    left = await leftOf(deps.warehouse, left)
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

async function keepFirst(deps: Deps, lane: Lane, places: readonly Place[]): Promise<void> {
  const { warehouse, hold, reached } = deps
  const first = await firstOf(warehouse, lane, places)
  if (first.length === 0) return
  await hold()
  await reached('chosen')
  for (const where of conditionsOf(lane, first))
    await insertSelect(
      deps,
      `INSERT INTO ${localName(warehouse, EVENTS)} (${COLUMNS}, inserted_at)
       SELECT ${COLUMNS}, inserted_at - toIntervalMicrosecond(1) FROM ${EVENTS.name}
       WHERE ${where} AND ${NAME} IN (${first.map(nameOf).join()}) LIMIT 1 BY _offset, _sub
       SETTINGS insert_deduplicate = 0${warehouse.variant === 'single' ? '' : ", insert_quorum = 'auto'"}`,
    )
  await reached('copied')
  // Nothing is deleted of a place whose new copy is not seen: that it is the newest is what keeps it.
  await syncReplicas(warehouse, EVENTS)
  const written = new Set(first.map((copy) => nameOf({ ...copy, at: String(BigInt(copy.at) - 1n) })))
  const kept = (await firstOf(warehouse, lane, first)).filter((copy) => written.has(nameOf(copy)))
  if (kept.length === 0) return
  await hold()
  // Numbers, and not the question again: each replica carries the mutation out by itself, and must come to the same.
  for (const where of conditionsOf(lane, kept))
    await mutate(
      deps,
      EVENTS,
      `ALTER TABLE ${localTarget(warehouse, EVENTS)} DELETE WHERE ${where}
         AND ${NAME} NOT IN (${kept.map(nameOf).join()}) SETTINGS mutations_sync = 2`,
    )
}

function nameOf({ offset, sub, at, content }: Named): string {
  return `(${offset},${sub},${at},${content})`
}

/** The copy that stays, of each of `places` that has more than one. */
async function firstOf(warehouse: Warehouse, lane: Lane, places: readonly Place[]): Promise<Named[]> {
  const first: Named[] = []
  for (const where of conditionsOf(lane, places))
    first.push(
      ...(await warehouse.query<Named>(
        `SELECT _offset AS offset, _sub AS sub, toString(kept.2) AS at, toString(kept.3) AS content
         FROM (SELECT _offset, _sub, min(${COPY}) AS kept FROM ${EVENTS.name} WHERE ${where} GROUP BY _offset, _sub
           HAVING count() > 1)`,
      )),
    )
  return first
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
