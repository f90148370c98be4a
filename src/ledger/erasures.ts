/**
 * Rows that deletions and retention took out of ClickHouse, as they recorded it before they did: the audit expects
 * that much less. A record is of a short range, a number of rows and the sum of their hashes, so it cannot be divided:
 * audited ranges end where none is cut through. While a deletion is under way each of its rows may be there or not.
 */
import { guardState, type Sql } from '../catalog/index.ts'
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
