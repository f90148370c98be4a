/**
 * Takes out of ClickHouse what must not be there: second copies of a row, and, when an operator wants it, rows that no
 * receipt knows. The first copy stays, by name: what ingest stamped before what a repair stamped anew, then what was stored
 * first. A merge would keep the last one, never merges those with another sort key or on two shards, and ClickHouse may
 * refuse it for minutes.
 *
 * What stays is written once more, a microsecond older, and then the others that were seen are deleted by name: copies that
 * are the same in everything have none to tell them apart by, and a merge of the server between the look and the delete
 * keeps the newest of some, which is this one or one that nobody has seen. Whoever calls compares the windows afterwards.
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
/** Rows are as large as their events; the server's own block of 256 MB would hold all of them at once. */
const BLOCK_BYTES = 16 * 2 ** 20
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
       SETTINGS insert_deduplicate = 0, max_partitions_per_insert_block = 0,
         min_insert_block_size_bytes = ${BLOCK_BYTES}${warehouse.variant === 'single' ? '' : ", insert_quorum = 'auto'"}`,
    )
  await reached('copied')
  await syncReplicas(warehouse, EVENTS)
  const copies = await copiesOf(warehouse, lane, first)
  const written = new Set(first.map((copy) => nameOf({ ...copy, at: String(BigInt(copy.at) - 1n) })))
  const isWritten = (copy: Named) => written.has(nameOf(copy))
  // Nothing is deleted of a place whose new copy is not seen: that it is the newest is what keeps it.
  const kept = new Set(copies.filter(isWritten).map(placeOf))
  const later = copies.filter((copy) => kept.has(placeOf(copy)) && !isWritten(copy))
  await hold()
  // By name, and not all but those that stay: what nobody has seen may be all that a merge has left. And not the question
  // again: each replica carries the mutation out by itself, and must come to the same.
  for (let i = 0; i < later.length; i += NAMED_MAX) {
    const some = later.slice(i, i + NAMED_MAX)
    for (const where of conditionsOf(lane, some))
      await mutate(
        deps,
        EVENTS,
        `ALTER TABLE ${localTarget(warehouse, EVENTS)} DELETE WHERE ${where}
           AND ${NAME} IN (${some.map(nameOf).join()}) SETTINGS mutations_sync = 2`,
      )
  }
}

function placeOf({ offset, sub }: Place): string {
  return `${offset}/${sub}`
}

function nameOf({ offset, sub, at, content }: Named): string {
  return `(${offset},${sub},${at},${content})`
}

/** The copy that stays, of each of `places` that has more than one. */
function firstOf(warehouse: Warehouse, lane: Lane, places: readonly Place[]): Promise<Named[]> {
  return named(warehouse, lane, places, (where) => {
    return `(SELECT _offset, _sub, min(${COPY}) AS copy FROM ${EVENTS.name} WHERE ${where}
      GROUP BY _offset, _sub HAVING count() > 1)`
  })
}

/** Every copy of each of `places`; those that are the same in everything once. */
function copiesOf(warehouse: Warehouse, lane: Lane, places: readonly Place[]): Promise<Named[]> {
  return named(warehouse, lane, places, (where) => {
    return `(SELECT DISTINCT _offset, _sub, ${COPY} AS copy FROM ${EVENTS.name} WHERE ${where})`
  })
}

async function named(
  warehouse: Warehouse,
  lane: Lane,
  places: readonly Place[],
  from: (where: string) => string,
): Promise<Named[]> {
  const copies: Named[] = []
  for (const where of conditionsOf(lane, places))
    copies.push(
      ...(await warehouse.query<Named>(
        `SELECT _offset AS offset, _sub AS sub, toString(copy.2) AS at, toString(copy.3) AS content FROM ${from(where)}`,
      )),
    )
  return copies
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
