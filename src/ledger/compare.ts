/**
 * Compares a run of receipts with one table of ClickHouse: first as a whole, by sums; where those differ it halves the
 * run until single receipts are at fault, and asks for those place by place. In: neighbouring receipts that no erasure
 * record reaches out of. Out: findings, and what was expected and present.
 * Cost: one query that agrees; else two more for each halving, and one for each 5,000 offsets at fault.
 */
import { EVENTS, type OffsetOutcome, OUTCOMES, type Table } from '../event/index.ts'
import { type PresentPlace, type PresentSources, presentCopies, type Warehouse } from '../warehouse/index.ts'
import { type CheckedReceipt, outcomesIn } from './check-receipt.ts'
import type { ErasedGroup, Erasures } from './erasures.ts'
import { compareOutcomes, compareRows, type Expected, type Finding } from './findings.ts'
import { presentSums } from './present.ts'
import type { Lane, Sums } from './receipts.ts'

/** One of the two comparisons: rows of `events`, or the rest in `outcomes`. */
export type Comparison = {
  table: Table
  sums(receipt: CheckedReceipt): Sums
  /** Whether copies that a merge will remove are a finding. */
  copiesCount: boolean
  compare(expected: Expected, present: readonly PresentPlace[], erased: readonly ErasedGroup[]): Finding[]
}

export const ROWS: Comparison = {
  table: EVENTS,
  sums: ({ rows }) => rows,
  copiesCount: true,
  compare: compareRows,
}

export const REST: Comparison = {
  table: OUTCOMES,
  sums: ({ rest }) => rest,
  copiesCount: false,
  compare: compareOutcomes,
}

/** Offsets that are asked for place by place at once. */
const PLACES_OFFSETS = 5_000

export class Search {
  /** True when it stopped looking: there are more findings. */
  cut = false

  constructor(
    private readonly warehouse: Warehouse,
    private readonly lane: Lane,
    readonly findings: Finding[],
    private readonly findingsMax: number,
  ) {}

  /** Rows that should be there, and rows and distinct places that are. */
  async compare(
    receipts: readonly CheckedReceipt[],
    by: Comparison,
    erasures: Erasures,
  ): Promise<{ expected: number; present: PresentSources }> {
    const from = receipts[0]!.from
    const to = receipts.at(-1)!.to
    const erased = erasures.groups(by.table.name, from, to)
    const expected = sumsOf(receipts, by)
    for (const group of erased) subtract(expected, group)
    const present = await presentSums(this.warehouse, { ...this.lane, from, to }, by.table)
    const copies = by.copiesCount ? present.rows : present.sources
    const agrees =
      present.sources === expected.rows && copies === expected.rows && present.hashSum === expected.hashSum
    if (!agrees || erased.some(({ underWay }) => underWay.stopped))
      await this.narrow(receipts, by, erasures, present)
    return { expected: expected.rows, present }
  }

  private async narrow(
    receipts: readonly CheckedReceipt[],
    by: Comparison,
    erasures: Erasures,
    present: PresentSources,
  ): Promise<void> {
    if (this.findings.length >= this.findingsMax) {
      this.cut = true
      return
    }
    const middle = middleOf(receipts, erasures)
    if (middle === undefined) return this.comparePlaces(receipts, by, erasures, present)
    await this.compare(receipts.slice(0, middle), by, erasures)
    await this.compare(receipts.slice(middle), by, erasures)
  }

  private async comparePlaces(
    receipts: readonly CheckedReceipt[],
    by: Comparison,
    erasures: Erasures,
    present: PresentSources,
  ): Promise<void> {
    const before = this.findings.length
    const end = receipts.at(-1)!.to
    for (let from = receipts[0]!.from; from < end; ) {
      let to = Math.min(from + PLACES_OFFSETS, end)
      while (to < end && erasures.cutBy(to)) to++
      const places = await presentCopies(this.warehouse, { ...this.lane, from, to }, by.table)
      const expected = { from, outcomes: outcomesOf(receipts, from, to) }
      this.findings.push(...by.compare(expected, places, erasures.groups(by.table.name, from, to)))
      from = to
    }
    const [receipt] = receipts
    const { from, to, readable, whole, finding } = receipt!
    const underWay = erasures.groups(by.table.name, from, end).some((group) => group.underWay.rows > 0)
    if (this.findings.length > before || receipts.length > 1 || finding || !readable || !whole || underWay)
      return
    // ClickHouse agrees with every outcome, so it is the receipt's sums that are wrong.
    const detail = `its hash sum is ${by.sums(receipt!).hashSum}, that of its rows ${present.hashSum}`
    this.findings.push({ kind: 'receipt_inconsistent', from, to, detail })
  }
}

function sumsOf(receipts: readonly CheckedReceipt[], by: Comparison): Sums {
  const sums = { rows: 0, hashSum: 0n }
  for (const receipt of receipts) {
    const { rows, hashSum } = by.sums(receipt)
    sums.rows += rows
    sums.hashSum += hashSum
  }
  return sums
}

function subtract(from: Sums, { rows, hashSum, underWay }: ErasedGroup): void {
  from.rows -= rows + underWay.rows
  from.hashSum -= hashSum + underWay.hashSum
}

/** Where to halve, as near to the middle as erasure records allow; undefined when it is one piece. */
function middleOf(receipts: readonly CheckedReceipt[], erasures: Erasures): number | undefined {
  const half = receipts.length >> 1
  for (let away = 0; away < half || half + away < receipts.length; away++) {
    for (const at of [half - away, half + away]) {
      if (at > 0 && at < receipts.length && !erasures.cutBy(receipts[at]!.from)) return at
    }
  }
  return undefined
}

function outcomesOf(
  receipts: readonly CheckedReceipt[],
  from: number,
  to: number,
): (OffsetOutcome | undefined)[] {
  return receipts.flatMap((receipt) => {
    const start = Math.max(from, receipt.from)
    const end = Math.min(to, receipt.to)
    if (start >= end) return []
    return receipt.readable ? outcomesIn(receipt, start, end) : Array(end - start).fill(undefined)
  })
}
