/**
 * One raw partition against ClickHouse, table by table and stretch by stretch: sums first, places where they differ.
 * Missing rows are made and inserted, rows that nobody knows are deleted when that is wanted, copies are noted for a
 * merge of their months. A dry run does everything but the writes, so that it shows exactly what would be done.
 * Memory: a page of receipts, the places of one window, one group of rows.
 */
import { guardState } from '../catalog/index.ts'
import {
  decodeOutcomes,
  describeOutcome,
  EVENTS,
  type OffsetOutcome,
  type Place,
  sourceHash,
} from '../event/index.ts'
import type { Unmakeable } from '../ingest/index.ts'
import { presentSources } from '../warehouse/index.ts'
import { giveUpRows, namelessRows, rangesOf } from './lost-rows.ts'
import { deletePlaces } from './warehouse-copies.ts'
import { type InsertDeps, insertMade } from './warehouse-insert.ts'
import type { Keeps } from './warehouse-kept.ts'
import { type MadeRow, makeRows } from './warehouse-make.ts'
import { presentCopies } from './warehouse-places.ts'
import { differenceOf, ROW_KINDS, type RowKind } from './warehouse-plan.ts'
import type { LaneRange } from './warehouse-warnings.ts'

/** What was found in one table, in rows. */
export type TableRepair = {
  table: string
  missing: number
  /** Of the missing ones: made from a row topic, made from raw records, expired by retention, refused, gone. */
  fromLog: number
  fromRaw: number
  expired: number
  refused: number
  gone: number
  doubled: number
  unexpected: number
}

/** Rows that cannot be brought in: offsets [from, to). */
export type LeftOver = { table: string; from: number; to: number; why: string }

export type LaneRepair = LaneRange & {
  tables: TableRepair[]
  leftOver: LeftOver[]
  /** False when rows of other tables than `events` were on their way: these were not compared. */
  othersCompared: boolean
}

export type LaneOptions = {
  apply: boolean
  deleteUnexpected: boolean
  acceptLoss: boolean
  /** Tables other than `events` are loaded; they are compared below `othersThrough`. */
  othersCompared: boolean
  othersThrough: number
  keeps: ReadonlyMap<string, Keeps>
  progress(offsets: number): void
}

const PAGE_RECEIPTS = 500
/** One sum each. */
const STRETCH_OFFSETS = 500_000
const WINDOW_OFFSETS = 10_000

type Receipt = { from: number; to: number; outcomes: Uint8Array }
type Stretch = { from: number; outcomes: OffsetOutcome[] }

export class LaneRun {
  readonly result: LaneRepair
  /** Places of `events` that are there more than once. */
  readonly doubled: Place[] = []

  constructor(
    private readonly deps: InsertDeps,
    private readonly range: LaneRange,
    private readonly options: LaneOptions,
  ) {
    const tables = ROW_KINDS.map(({ table }) => emptyRepair(table.name))
    this.result = { ...range, tables, leftOver: [], othersCompared: options.othersCompared }
  }

  async run(): Promise<LaneRepair> {
    for await (const stretch of this.stretches()) {
      for (const kind of ROW_KINDS) await this.compare(kind, this.comparable(kind, stretch))
      this.options.progress(stretch.outcomes.length)
    }
    return this.result
  }

  private comparable(kind: RowKind, { from, outcomes }: Stretch): Stretch {
    if (kind.table === EVENTS) return { from, outcomes }
    return { from, outcomes: outcomes.slice(0, Math.max(0, this.options.othersThrough - from)) }
  }

  /** Neighbouring offsets with their outcomes. What no receipt, or two, speak of is for the audit to name. */
  private async *stretches(): AsyncGenerator<Stretch> {
    const { from, to } = this.range
    let stretch: Stretch = { from, outcomes: [] }
    for await (const receipt of this.receipts()) {
      const outcomes = readable(receipt)
      const end = stretch.from + stretch.outcomes.length
      const begin = Math.max(receipt.from, from)
      const fits = outcomes !== undefined && begin === end
      if (!fits || stretch.outcomes.length >= STRETCH_OFFSETS) {
        if (stretch.outcomes.length > 0) yield stretch
        stretch = { from: outcomes ? Math.max(begin, end) : receipt.to, outcomes: [] }
      }
      if (outcomes === undefined) continue
      const next = stretch.from + stretch.outcomes.length
      const until = Math.min(receipt.to, to)
      for (let offset = next; offset < until; offset++)
        stretch.outcomes.push(outcomes[offset - receipt.from]!)
    }
    if (stretch.outcomes.length > 0) yield stretch
  }

  private async *receipts(): AsyncGenerator<Receipt> {
    const { logId, partition, from, to } = this.range
    for (let after = -1; ; ) {
      const page = await guardState(
        'read receipts',
        () => this.deps.sql<Receipt[]>`
          SELECT from_offset AS from, to_offset AS to, outcomes FROM receipt
          WHERE log_id = ${logId} AND partition = ${partition} AND from_offset > ${after}
            AND to_offset > ${from} AND from_offset < ${to} ORDER BY from_offset LIMIT ${PAGE_RECEIPTS}`,
      )
      yield* page
      if (page.length < PAGE_RECEIPTS) return
      after = page.at(-1)!.from
    }
  }

  private async compare(kind: RowKind, { from, outcomes }: Stretch): Promise<void> {
    if (outcomes.length === 0) return
    const { logId, partition } = this.range
    const to = from + outcomes.length
    const [present] = await presentSources(this.deps.warehouse, [{ logId, partition, from, to }], kind.table)
    const expected = sumsOf(kind, from, outcomes)
    const rows = kind.copiesCount ? present!.rows : present!.sources
    if (rows === expected.rows && present!.sources === expected.rows && present!.hashSum === expected.hashSum)
      return
    for (let at = 0; at < outcomes.length; at += WINDOW_OFFSETS)
      await this.mend(kind, from + at, outcomes.slice(at, at + WINDOW_OFFSETS))
  }

  private async mend(kind: RowKind, from: number, outcomes: readonly OffsetOutcome[]): Promise<void> {
    const { warehouse } = this.deps
    const present = await presentCopies(warehouse, kind.table, this.range, from, from + outcomes.length)
    const { missing, doubled, unexpected } = differenceOf(kind, from, outcomes, present)
    const counts = this.tableOf(kind)
    counts.missing += missing.length
    counts.doubled += doubled.length
    counts.unexpected += unexpected.length
    this.doubled.push(...doubled)
    if (this.options.apply && this.options.deleteUnexpected && unexpected.length > 0) {
      await this.deps.hold()
      await deletePlaces(warehouse, kind.table, this.range, unexpected)
      await this.deps.reached('deleted')
    }
    if (missing.length > 0) await this.bringIn(kind, missing)
  }

  private async bringIn(kind: RowKind, missing: readonly Place[]): Promise<void> {
    const counts = this.tableOf(kind)
    const made = makeRows(this.deps, this.range, kind, missing)
    for (let next = await made.next(); ; next = await made.next()) {
      if (next.done) return this.giveUp(kind, next.value)
      const { table, rows, from } = next.value
      const kept = await this.kept(table.name, rows)
      if (table === kind.table) {
        counts[from === 'log' ? 'fromLog' : 'fromRaw'] += kept.length
        counts.expired += rows.length - kept.length
      }
      if (!this.options.apply) continue
      for (const { offset, why } of await insertMade(this.deps, table, this.range, kept)) {
        counts.refused++
        this.leave(table.name, offset, `ClickHouse refuses it: ${why}`)
      }
    }
  }

  private async kept(table: string, rows: readonly MadeRow[]): Promise<MadeRow[]> {
    const keeps = this.options.keeps.get(table)
    if (!keeps) return [...rows]
    const kept = await keeps(this.range, rows)
    return rows.filter((_, i) => kept[i])
  }

  private async giveUp(kind: RowKind, gone: ReadonlyMap<Place, Unmakeable>): Promise<void> {
    if (gone.size === 0) return
    this.tableOf(kind).gone += gone.size
    const places = [...gone.keys()]
    const { apply, acceptLoss } = this.options
    if (!apply || !acceptLoss) {
      for (const [why, some] of Map.groupBy(places, (place) => gone.get(place)!))
        for (const [from, to] of rangesOf([...new Set(some.map(({ offset }) => offset))]))
          this.result.leftOver.push({ table: kind.table.name, from, to, why: UNMAKEABLE[why] })
      return
    }
    await this.deps.hold()
    if (kind.table === EVENTS) await giveUpRows(this.deps.sql, this.range, places)
    else {
      const rows = await namelessRows(this.deps.sql, this.range, kind, places)
      await insertMade(this.deps, kind.table, this.range, rows)
    }
    await this.deps.reached('given_up')
  }

  private leave(table: string, offset: number, why: string): void {
    this.result.leftOver.push({ table, from: offset, to: offset + 1, why })
  }

  private tableOf({ table }: RowKind): TableRepair {
    return this.result.tables.find((one) => one.table === table.name)!
  }
}

export const UNMAKEABLE: Readonly<Record<Unmakeable, string>> = {
  no_receipt: 'no receipt says what became of it',
  not_in_the_log: 'no log holds it any more',
  other_bytes: 'the raw log holds other bytes than when it was processed',
  unreadable_today: 'its event cannot be read today: is its project gone?',
}

function emptyRepair(table: string): TableRepair {
  const none = { missing: 0, fromLog: 0, fromRaw: 0, expired: 0, refused: 0, gone: 0 }
  return { table, ...none, doubled: 0, unexpected: 0 }
}

/** Undefined when it cannot be read, or says something of another number of offsets. */
function readable({ from, to, outcomes }: Receipt): OffsetOutcome[] | undefined {
  try {
    const decoded = decodeOutcomes(outcomes)
    for (const code of new Set(decoded.map((outcome) => outcome.code))) describeOutcome(code)
    return decoded.length === to - from ? decoded : undefined
  } catch {
    return undefined
  }
}

function sumsOf(
  kind: RowKind,
  from: number,
  outcomes: readonly OffsetOutcome[],
): { rows: number; hashSum: bigint } {
  let rows = 0
  let hashSum = 0
  outcomes.forEach((outcome, i) => {
    const subs = kind.subs(outcome)
    for (const sub of subs) hashSum += sourceHash({ offset: from + i, sub })
    rows += subs.length
  })
  return { rows, hashSum: BigInt(hashSum) }
}
