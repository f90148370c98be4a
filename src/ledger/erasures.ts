/**
 * Rows that deletions and retention took out of ClickHouse, as they recorded it before they did: the audit expects
 * that much less. A record is of a short range, a number of rows and the sum of their hashes, so it cannot be divided:
 * audited ranges end where none is cut through. While a deletion is under way each of its rows may be there or not.
 *
 *   recordErasures ──rows are taken out──▶ finishErasures: who is cut off in between takes the same rows out again
 */
import { guardState, type Sql, type Transaction } from '../catalog/index.ts'
import { comparePlaces, type Place, sourceHash } from '../event/index.ts'
import { decodePlaces, encodePlaces } from './erased-places.ts'
import type { Lane, Sums } from './receipts.ts'

export type Erasure = {
  state: 'erased' | 'expired'
  table: string
  from: number
  /** Exclusive. */
  to: number
  rows: number
  hashSum: bigint
  /** False while it is under way. */
  done: boolean
  recordedMs: number
}

/** No record reaches over a multiple of this (0010_ledger.sql). */
export const ERASURE_CELL_OFFSETS = 10_000
/** A deletion that takes longer has stopped. */
const UNDER_WAY_MS_MAX = 24 * 3_600_000

/** What is recorded of the raw partition and touches [from, to). */
export async function readErasures(
  sql: Sql,
  { logId, partition }: Lane,
  from: number,
  to: number,
): Promise<Erasures> {
  const rows = await guardState(
    'read erasures',
    () => sql<
      (Omit<Erasure, 'hashSum'> & { hash_sum: string })[]
    >`SELECT state, table_name AS table, from_offset AS from, to_offset AS to, rows, hash_sum::text AS hash_sum,
        erased_at IS NOT NULL AS done, (extract(epoch FROM recorded_at) * 1000)::float8 AS "recordedMs"
      FROM erasures WHERE log_id = ${logId} AND partition = ${partition}
        AND from_offset >= ${from - ERASURE_CELL_OFFSETS} AND from_offset < ${to} AND to_offset > ${from}
      ORDER BY from_offset`,
  )
  return new Erasures(rows.map(({ hash_sum, ...row }) => ({ ...row, hashSum: BigInt(hash_sum) })))
}

/** What is to be expected less of one group of records that lie over each other. */
export type ErasedGroup = Sums & { from: number; to: number; underWay: Sums & { stopped: boolean } }

export class Erasures {
  /** In order of `from`. */
  constructor(private readonly all: readonly Erasure[]) {}

  /** Whether nothing was recorded or carried out since `before` was read of the same range. */
  isAs(before: Erasures): boolean {
    const done = (erasures: readonly Erasure[]) => erasures.filter((one) => one.done).length
    return this.all.length === before.all.length && done(this.all) === done(before.all)
  }

  /** Whether a record reaches over the cut in front of `offset`. */
  cutBy(offset: number): boolean {
    return this.all.some(({ from, to }) => from < offset && to > offset)
  }

  /** Rows by end state, of one table. */
  count(table: string, state: Erasure['state'], from: number, to: number): number {
    let rows = 0
    for (const one of this.within(table, from, to)) if (one.state === state) rows += one.rows
    return rows
  }

  /** The records within [from, to), those that lie over each other as one. */
  groups(table: string, from: number, to: number, nowMs = Date.now()): ErasedGroup[] {
    const groups: ErasedGroup[] = []
    for (const one of this.within(table, from, to)) {
      let group = groups.at(-1)
      if (!group || group.to <= one.from) {
        group = { ...emptySums(), from: one.from, to: one.to, underWay: { ...emptySums(), stopped: false } }
        groups.push(group)
      }
      group.to = Math.max(group.to, one.to)
      const sums = one.done ? group : group.underWay
      sums.rows += one.rows
      sums.hashSum += one.hashSum
      if (!one.done && nowMs - one.recordedMs > UNDER_WAY_MS_MAX) group.underWay.stopped = true
    }
    return groups
  }

  private within(table: string, from: number, to: number): Erasure[] {
    return this.all.filter((one) => one.table === table && one.from >= from && one.to <= to)
  }
}

function emptySums(): Sums {
  return { rows: 0, hashSum: 0n }
}

/** Who takes rows out, and why. */
export type ErasureRun = { id: string; state: Erasure['state'] }

/**
 * Records places of one table and raw partition that are about to go, in the caller's transaction; gives how many. What
 * is on record already (a ClickHouse that was restored shows it again) is not recorded a second time.
 */
export async function recordErasures(
  tx: Transaction,
  run: ErasureRun,
  table: string,
  { logId, partition }: Lane,
  places: readonly Place[],
): Promise<number> {
  let recorded = 0
  const cells = Map.groupBy(places, ({ offset }) => Math.floor(offset / ERASURE_CELL_OFFSETS))
  for (const [cell, inCell] of cells) {
    const start = cell * ERASURE_CELL_OFFSETS
    const known = await placesOnRecord(tx, { logId, partition }, table, start, start + ERASURE_CELL_OFFSETS)
    const added = inCell.filter((place) => !known.has(keyOf(place))).sort(comparePlaces)
    if (added.length === 0) continue
    const from = added[0]!.offset
    const hashSum = added.reduce((sum, place) => sum + sourceHash(place), 0)
    await tx`
      INSERT INTO erasures (run_id, state, table_name, log_id, partition, from_offset, to_offset, rows, hash_sum, places)
      VALUES (${run.id}, ${run.state}, ${table}, ${logId}, ${partition}, ${from}, ${added.at(-1)!.offset + 1},
        ${added.length}, ${hashSum}, ${encodePlaces(from, added)})`
    recorded += added.length
  }
  return recorded
}

/** What the run recorded is gone now. */
export async function finishErasures(tx: Transaction, runId: string): Promise<void> {
  await tx`UPDATE erasures SET erased_at = now() WHERE run_id = ${runId} AND erased_at IS NULL`
}

/** `offset/sub` of every place of the table in [from, to) that is recorded as taken out, or about to be. */
export async function placesErased(
  sql: Sql,
  lane: Lane,
  table: string,
  from: number,
  to: number,
): Promise<Set<string>> {
  return guardState('read erasures', () => placesOnRecord(sql, lane, table, from, to))
}

async function placesOnRecord(
  sql: Sql | Transaction,
  { logId, partition }: Lane,
  table: string,
  from: number,
  to: number,
): Promise<Set<string>> {
  const rows = await sql<{ from: number; places: Uint8Array }[]>`
    SELECT from_offset AS from, places FROM erasures
    WHERE log_id = ${logId} AND partition = ${partition} AND table_name = ${table} AND places IS NOT NULL
      AND from_offset >= ${from - ERASURE_CELL_OFFSETS} AND from_offset < ${to} AND to_offset > ${from}`
  const keys = new Set<string>()
  for (const row of rows) {
    for (const place of decodePlaces(row.from, row.places))
      if (place.offset >= from && place.offset < to) keys.add(keyOf(place))
  }
  return keys
}

function keyOf({ offset, sub }: Place): string {
  return `${offset}/${sub}`
}
