/**
 * What a receipt must hold by itself, before anything is asked of ClickHouse: its counts are those of its outcomes.
 * Pure. Costs by the run of equal outcomes, and about 0.1 µs for each offset that is not stored.
 */
import {
  decodeRuns,
  describeOutcome,
  endedSubs,
  expandRuns,
  type OffsetOutcome,
  type OutcomeRun,
  STORED,
  sourceHash,
  storedSubs,
} from '../event/index.ts'
import type { Finding } from './findings.ts'
import type { Receipt, Sums } from './receipts.ts'

/** A receipt, or a part of one, with what its packed outcomes come to. */
export type CheckedReceipt = {
  from: number
  /** Exclusive. */
  to: number
  runs: readonly OutcomeRun[]
  stored: number
  duplicate: number
  dropped: number
  deadLettered: number
  /** Offsets that were given up: no table has them. */
  lost: number
  /** Its rows in `events`, as the receipt says it. */
  rows: Sums
  /** Its rows in `outcomes`: one for each other offset, and one for each refused row of a stored one. */
  rest: Sums
  /** False when the outcomes cannot be read or have another length: they say nothing of single offsets. */
  readable: boolean
  /** Its hash sum is of these very offsets, as ingest wrote it. */
  whole: boolean
  finding: Finding | undefined
}

/** Unpacks a receipt and compares its counts with its outcomes. */
export function checkReceipt(receipt: Receipt): CheckedReceipt {
  const { from, to } = receipt
  const says = (detail: string): Finding => ({ kind: 'receipt_inconsistent', from, to, detail })
  const given = {
    from,
    to,
    stored: receipt.stored,
    duplicate: receipt.duplicate,
    dropped: receipt.dropped,
    deadLettered: receipt.deadLettered,
    rows: { rows: receipt.storedRows, hashSum: receipt.hashSum },
    whole: true,
  }
  let found: Tally
  let runs: OutcomeRun[]
  try {
    runs = decodeRuns(receipt.outcomes)
    found = tally(from, runs)
  } catch (error) {
    const finding = says(`its outcomes cannot be read: ${(error as Error).message}`)
    return { ...given, runs: [], lost: 0, rest: { rows: 0, hashSum: 0n }, readable: false, finding }
  }
  const { lost, rest, offsets } = found
  const readable = offsets === to - from
  const told: Counts = { ...given, rows: receipt.storedRows }
  const finding = !readable
    ? says(`${offsets} outcomes for ${to - from} offsets`)
    : describe(found) !== describe(told)
      ? says(`its outcomes come to ${describe(found)}; it says ${describe(told)}`)
      : undefined
  return { ...given, runs, lost, rest, readable, finding }
}

/** The part of a receipt that lies in [from, to), its sums made of its outcomes. */
export function partOf(receipt: CheckedReceipt, from: number, to: number): CheckedReceipt {
  if (!receipt.readable || (from <= receipt.from && to >= receipt.to)) return receipt
  const start = Math.max(from, receipt.from)
  const end = Math.min(to, receipt.to)
  const runs = runsIn(receipt, start, end)
  const { rows, offsets: _, ...counts } = tally(start, runs)
  const hashSum = hashOf(start, runs)
  return {
    ...counts,
    from: start,
    to: end,
    runs,
    rows: { rows, hashSum },
    readable: true,
    whole: false,
    finding: undefined,
  }
}

/** One outcome per offset of [from, to). */
export function outcomesIn(receipt: CheckedReceipt, from: number, to: number): OffsetOutcome[] {
  return expandRuns(runsIn(receipt, from, to))
}

function runsIn({ from: first, runs }: CheckedReceipt, from: number, to: number): OutcomeRun[] {
  const part: OutcomeRun[] = []
  let at = first
  for (const run of runs) {
    const length = Math.min(to, at + run.length) - Math.max(from, at)
    if (length > 0) part.push({ ...run, length })
    at += run.length
    if (at >= to) break
  }
  return part
}

type Counts = { stored: number; duplicate: number; dropped: number; deadLettered: number; rows: number }
type Tally = Counts & { offsets: number; lost: number; rest: Sums }

/** Throws on a code that no version of ours wrote. */
function tally(from: number, runs: readonly OutcomeRun[]): Tally {
  const states = { stored: 0, duplicate: 0, dropped: 0, dead_lettered: 0, erased: 0, expired: 0, lost: 0 }
  let rows = 0
  let rest = 0
  let restHashSum = 0
  let offset = from
  for (const run of runs) {
    const { length, code } = run
    states[describeOutcome(code).state] += length
    if (code === STORED) rows += length * run.rows
    const ended = endedSubs(run)
    rest += length * ended.length
    if (ended.length > 0) restHashSum += hashOfRun(offset, length, ended)
    offset += length
  }
  const { stored, duplicate, dropped, dead_lettered: deadLettered, lost } = states
  return {
    stored,
    duplicate,
    dropped,
    deadLettered,
    lost,
    rows,
    rest: { rows: rest, hashSum: BigInt(restHashSum) },
    offsets: offset - from,
  }
}

/** Sum of the hashes of the stored places. */
function hashOf(from: number, runs: readonly OutcomeRun[]): bigint {
  let sum = 0
  let offset = from
  for (const run of runs) {
    sum += hashOfRun(offset, run.length, storedSubs(run))
    offset += run.length
  }
  return BigInt(sum)
}

function hashOfRun(from: number, length: number, subs: readonly number[]): number {
  let sum = 0
  for (let offset = from; offset < from + length; offset++)
    for (const sub of subs) sum += sourceHash({ offset, sub })
  return sum
}

function describe({ stored, duplicate, dropped, deadLettered, rows }: Counts): string {
  return `stored ${stored} (${rows} rows), duplicate ${duplicate}, dropped ${dropped}, dead-lettered ${deadLettered}`
}
