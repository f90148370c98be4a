/**
 * One raw partition against ClickHouse, table by table and stretch by stretch: sums first, places where they differ.
 * Missing rows are made and inserted, rows that nobody knows are deleted when that is wanted, copies are noted for a
 * merge of their months. A dry run does everything but the writes, so that it shows exactly what would be done.
 * Offsets that it could not compare are left over, as rows are that it could not bring in.
 * Memory: a page of receipts, the places of one window, one group of rows, two numbers for each window with copies.
 */
import { fromCovering, guardState } from '../catalog/index.ts'
import {
  ByteReader,
  decodeOutcomes,
  describeOutcome,
  EVENTS,
  type OffsetOutcome,
  type Place,
  sourceHash,
} from '../event/index.ts'
import type { Unmakeable } from '../ingest/index.ts'
import { placesErased } from '../ledger/index.ts'
import { presentCopies, presentSources } from '../warehouse/index.ts'
import { giveUpRows, namelessRows, rangesOf } from './lost-rows.ts'
import { deletePlaces } from './warehouse-copies.ts'
import { type InsertDeps, insertMade } from './warehouse-insert.ts'
import type { Keeps } from './warehouse-kept.ts'
import { type MadeRow, makeRows } from './warehouse-make.ts'
import { countedRows, type Window } from './warehouse-places.ts'
import { differenceOf, ROW_KINDS, type RowKind } from './warehouse-plan.ts'
import { bringBackOverrides } from './warehouse-state.ts'
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

/** Rows that cannot be brought in, or, of table `receipt`, offsets that were not compared: [from, to). */
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
  /** Tests only. Default 500. */
  pageReceipts?: number
}

const PAGE_RECEIPTS = 500
/** One sum each. */
const STRETCH_OFFSETS = 500_000
const WINDOW_OFFSETS = 10_000
/** Instead of a table: what was not compared. */
const RECEIPT = 'receipt'
const TWO_RECEIPTS = 'two receipts speak of it'

type Receipt = { from: number; to: number; outcomes: Uint8Array }
type Decided = { from: number; to: number; outcomes: OffsetOutcome[] }
type Stretch = { from: number; outcomes: OffsetOutcome[] }

export class LaneRun {
  readonly result: LaneRepair
  /** Where rows of `events` are there more than once. */
  readonly doubled: Window[] = []

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

  /** Neighbouring offsets with their outcomes. */
  private async *stretches(): AsyncGenerator<Stretch> {
    let stretch: Stretch = { from: this.range.from, outcomes: [] }
    for await (const { from, to, outcomes } of this.decided()) {
      const fits = from === stretch.from + stretch.outcomes.length
      if (!fits || stretch.outcomes.length >= STRETCH_OFFSETS) {
        if (stretch.outcomes.length > 0) yield stretch
        stretch = { from, outcomes: [] }
      }
      for (let i = 0; i < to - from; i++) stretch.outcomes.push(outcomes[i]!)
    }
    if (stretch.outcomes.length > 0) yield stretch
  }

  /** What receipts say of the range, each offset once. What none says, or two, is left over: the audit names it, too. */
  private async *decided(): AsyncGenerator<Decided> {
    let next = this.range.from
    for await (const page of this.receipts()) {
      // Of one moment, so that two that overlap are no merged one and what it was merged of.
      let end = 0
      for (const receipt of page) {
        if (receipt.from < end) this.leave(RECEIPT, receipt.from, Math.min(receipt.to, end), TWO_RECEIPTS)
        end = Math.max(end, receipt.to)
        const from = Math.max(receipt.from, next)
        const to = Math.min(receipt.to, this.range.to)
        if (from > next) this.leave(RECEIPT, next, from, UNMAKEABLE.no_receipt)
        next = Math.max(next, to)
        if (from >= to) continue
        const outcomes = readable(receipt)?.slice(from - receipt.from, to - receipt.from)
        if (outcomes) yield { from, to, outcomes }
        else this.leave(RECEIPT, from, to, 'its receipt cannot be read')
      }
    }
    if (next < this.range.to) this.leave(RECEIPT, next, this.range.to, UNMAKEABLE.no_receipt)
  }

  /**
   * In order of offset. Old ones are merged meanwhile, into one that begins in front of what was read: a page begins with
   * the one that covers the end of the page before.
   */
  private async *receipts(): AsyncGenerator<Receipt[]> {
    const { logId, partition, from, to } = this.range
    for (let next = from; next < to; ) {
      const page = await guardState(
        'read receipts',
        () => this.deps.sql<Receipt[]>`
          SELECT from_offset AS from, to_offset AS to, outcomes FROM receipt
          WHERE log_id = ${logId} AND partition = ${partition} AND to_offset > ${next} AND from_offset < ${to}
            AND ${fromCovering(this.deps.sql, logId, partition, next)}
          ORDER BY from_offset LIMIT ${this.options.pageReceipts ?? PAGE_RECEIPTS}`,
      )
      if (page.length === 0) return
      yield page
      next = page.reduce((end, receipt) => Math.max(end, receipt.to), next)
    }
  }

  private async compare(kind: RowKind, { from, outcomes }: Stretch): Promise<void> {
    if (outcomes.length === 0) return
    const { logId, partition } = this.range
    const to = from + outcomes.length
    const { table } = kind
    const counted = countedRows(table)
    const [present] = await presentSources(
      this.deps.warehouse,
      [{ logId, partition, from, to }],
      table,
      counted,
    )
    // Every place that a receipt knows, but for those that were taken out on purpose.
    const erased = await placesErased(this.deps.sql, this.range, table.name, from, to)
    const expected = sumsOf(kind, from, outcomes, erased)
    const rows = kind.copiesCount ? present!.rows : present!.sources
    if (rows === expected.rows && present!.sources === expected.rows && present!.hashSum === expected.hashSum)
      return
    for (let at = 0; at < outcomes.length; at += WINDOW_OFFSETS)
      await this.mend(kind, from + at, outcomes.slice(at, at + WINDOW_OFFSETS), erased)
  }

  private async mend(
    kind: RowKind,
    from: number,
    outcomes: readonly OffsetOutcome[],
    erased: ReadonlySet<string>,
  ): Promise<void> {
    const { warehouse } = this.deps
    const { logId, partition } = this.range
    const to = from + outcomes.length
    const present = await presentCopies(
      warehouse,
      { logId, partition, from, to },
      kind.table,
      countedRows(kind.table),
    )
    const difference = differenceOf(kind, from, outcomes, present)
    const { doubled, unexpected } = difference
    const missing = difference.missing.filter(({ offset, sub }) => !erased.has(`${offset}/${sub}`))
    const counts = this.tableOf(kind)
    counts.missing += missing.length
    counts.doubled += doubled.length
    counts.unexpected += unexpected.length
    if (doubled.length > 0) this.doubled.push({ from, to })
    if (this.options.apply && this.options.deleteUnexpected && unexpected.length > 0) {
      await this.deps.hold()
      await deletePlaces(this.deps, kind.table, this.range, unexpected)
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
      if (table === EVENTS && from === 'log') await bringBackOverrides(this.deps, idsOf(kept))
      for (const { offset, why } of await insertMade(this.deps, table, this.range, kept)) {
        counts.refused++
        this.leave(table.name, offset, offset + 1, refusedBy(why))
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
    const { apply, acceptLoss } = this.options
    for (const [why, places] of Map.groupBy(gone.keys(), (place) => gone.get(place)!)) {
      // Of any other one the raw record may be there: somebody can bring it back.
      if (apply && acceptLoss && why === 'not_in_the_log') await this.giveUpPlaces(kind, places)
      else
        for (const { from, to } of rangesOf([...new Set(places.map(({ offset }) => offset))]))
          this.leave(kind.table.name, from, to, UNMAKEABLE[why])
    }
  }

  private async giveUpPlaces(kind: RowKind, places: readonly Place[]): Promise<void> {
    const { table } = kind
    await this.deps.hold()
    if (table === EVENTS) await giveUpRows(this.deps.sql, this.range, places)
    else {
      const rows = await namelessRows(this.deps.sql, this.range, kind, places)
      for (const { offset, why } of await insertMade(this.deps, table, this.range, rows))
        this.leave(table.name, offset, offset + 1, refusedBy(why))
    }
    await this.deps.reached('given_up')
  }

  private leave(table: string, from: number, to: number, why: string): void {
    this.result.leftOver.push({ table, from, to, why })
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

export function refusedBy(why: string): string {
  return `ClickHouse refuses it: ${why}`
}

function emptyRepair(table: string): TableRepair {
  const none = { missing: 0, fromLog: 0, fromRaw: 0, expired: 0, refused: 0, gone: 0 }
  return { table, ...none, doubled: 0, unexpected: 0 }
}

/** Whose events these rows are. */
function idsOf(rows: readonly MadeRow[]): { team: number; id: string }[] {
  const ids = new Map<string, { team: number; id: string }>()
  for (const { row } of rows) {
    const { team_id: team, distinct_id: id } = EVENTS.decode(new ByteReader(row))
    ids.set(`${team}/${id}`, { team, id })
  }
  return [...ids.values()]
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
  erased: ReadonlySet<string>,
): { rows: number; hashSum: bigint } {
  let rows = 0
  let hashSum = 0
  outcomes.forEach((outcome, i) => {
    for (const sub of kind.subs(outcome)) {
      if (erased.size > 0 && erased.has(`${from + i}/${sub}`)) continue
      hashSum += sourceHash({ offset: from + i, sub })
      rows++
    }
  })
  return { rows, hashSum: BigInt(hashSum) }
}
