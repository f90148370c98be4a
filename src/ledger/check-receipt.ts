/**
 * What receipts must hold by themselves, before anything is asked of ClickHouse: they tile the raw partition, and
 * their counts are those of their outcomes. Pure; about 10 ns per offset, and a hash for each that is not stored.
 */
import {
  decodeOutcomes,
  describeOutcome,
  LOST,
  type OffsetOutcome,
  STORED,
  sourceHash,
} from '../event/index.ts'
import type { Finding } from './findings.ts'
import type { LaneProgress, Receipt } from './progress.ts'

/** Receipts must lie side by side, from the beginning to the fence, or as far as they were read. */
export function checkTiling(
  lane: Pick<LaneProgress, 'receipts' | 'receiptsThrough'>,
  since: number,
): Finding[] {
  const findings: Finding[] = []
  let expected = since
  for (const { from, to } of lane.receipts) {
    if (from > expected) findings.push(missing(expected, from))
    if (from < expected) {
      findings.push({ kind: 'receipt_overlap', from, to: Math.min(to, expected), detail: 'two receipts' })
    }
    expected = Math.max(expected, to)
  }
  if (expected < lane.receiptsThrough) findings.push(missing(expected, lane.receiptsThrough))
  return findings
}

function missing(from: number, to: number): Finding {
  return { kind: 'receipt_missing', from, to, detail: 'no receipt, though ingest went past' }
}

/** A receipt with what its packed outcomes come to. */
export type CheckedReceipt = {
  receipt: Receipt
  outcomes: OffsetOutcome[]
  /** Offsets that were given up: no table has them. */
  lost: number
  /** Offsets whose end state is in `outcomes`, and the sum of their hashes. */
  rest: number
  restHashSum: bigint
  finding: Finding | undefined
}

/** Unpacks a receipt and compares its counts with its outcomes. */
export function checkReceipt(receipt: Receipt): CheckedReceipt {
  const says = (detail: string): Finding => ({
    kind: 'receipt_inconsistent',
    from: receipt.from,
    to: receipt.to,
    detail,
  })
  let outcomes: OffsetOutcome[]
  const counts = { stored: 0, duplicate: 0, dropped: 0, dead_lettered: 0, erased: 0, expired: 0, lost: 0 }
  let rows = 0
  let rest = 0
  let restHashSum = 0
  try {
    outcomes = decodeOutcomes(receipt.outcomes)
    outcomes.forEach(({ code, rows: ofOffset }, i) => {
      if (code === STORED) {
        counts.stored++
        rows += ofOffset
        return
      }
      counts[describeOutcome(code).state]++
      if (code === LOST) return
      rest++
      restHashSum += sourceHash({ offset: receipt.from + i, sub: 0 })
    })
  } catch (error) {
    const finding = says(`its outcomes cannot be read: ${(error as Error).message}`)
    return { receipt, outcomes: [], lost: 0, rest: 0, restHashSum: 0n, finding }
  }
  const finding =
    outcomes.length !== receipt.to - receipt.from
      ? says(`${outcomes.length} outcomes for ${receipt.to - receipt.from} offsets`)
      : counts.stored !== receipt.stored ||
          counts.duplicate !== receipt.duplicate ||
          counts.dropped !== receipt.dropped ||
          counts.dead_lettered !== receipt.deadLettered ||
          rows !== receipt.storedRows
        ? says(
            `its outcomes come to ${describe(counts.stored, counts.duplicate, counts.dropped, counts.dead_lettered, rows)}; it says ${describe(receipt.stored, receipt.duplicate, receipt.dropped, receipt.deadLettered, receipt.storedRows)}`,
          )
        : undefined
  return { receipt, outcomes, lost: counts.lost, rest, restHashSum: BigInt(restHashSum), finding }
}

function describe(stored: number, duplicate: number, dropped: number, dead: number, rows: number): string {
  return `stored ${stored} (${rows} rows), duplicate ${duplicate}, dropped ${dropped}, dead-lettered ${dead}`
}
