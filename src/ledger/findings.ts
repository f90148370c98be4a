/**
 * What does not add up, and by which offsets. Pure: given what a receipt says and what ClickHouse holds of its
 * range, names every offset on which the two differ.
 */
import { LOST, type OffsetOutcome, STORED } from '../event/index.ts'

export const FINDING_KINDS = {
  receipt_missing: 'No receipt says what became of these offsets.',
  receipt_overlap: 'Two receipts say what became of these offsets.',
  receipt_inconsistent:
    'The receipt contradicts itself: its counts or its hash sum are not those of its outcomes.',
  row_missing: 'Stored by the receipt, but ClickHouse lacks rows of these offsets.',
  row_doubled: 'ClickHouse holds a row of these offsets more than once.',
  row_unexpected: 'ClickHouse holds rows of these offsets that the receipt does not know of.',
  outcome_missing: 'Not stored by the receipt, but table outcomes does not say so.',
  outcome_unexpected: 'Table outcomes names these offsets, but the receipt says that they are stored.',
} as const
export type FindingKind = keyof typeof FINDING_KINDS

/** Offsets [from, to) of one raw partition. */
export type Finding = { kind: FindingKind; from: number; to: number; detail: string }

/** One place as ClickHouse holds it. */
export type PresentPlace = { offset: number; sub: number; copies: number }

type PerOffset = { distinct: number; doubled: boolean }

function perOffset(present: readonly PresentPlace[]): Map<number, PerOffset> {
  const found = new Map<number, PerOffset>()
  for (const { offset, copies } of present) {
    const known = found.get(offset) ?? { distinct: 0, doubled: false }
    known.distinct++
    if (copies > 1) known.doubled = true
    found.set(offset, known)
  }
  return found
}

/** Rows of `events` against the outcomes of one receipt that begins at `from`. */
export function compareRows(
  from: number,
  outcomes: readonly OffsetOutcome[],
  present: readonly PresentPlace[],
): Finding[] {
  const found = perOffset(present)
  const findings: Finding[] = []
  outcomes.forEach(({ code, rows }, i) => {
    const offset = from + i
    const expected = code === STORED ? rows : 0
    const { distinct, doubled } = found.get(offset) ?? { distinct: 0, doubled: false }
    if (distinct < expected) add(findings, 'row_missing', offset, `${distinct} of ${expected} rows`)
    if (distinct > expected)
      add(findings, 'row_unexpected', offset, `${distinct} rows, ${expected} by the receipt`)
    if (doubled) add(findings, 'row_doubled', offset, 'a row is there more than once')
  })
  return findings
}

/** Rows of `outcomes` against the outcomes of one receipt. Copies of an outcome replace each other and are no finding. */
export function compareOutcomes(
  from: number,
  outcomes: readonly OffsetOutcome[],
  present: readonly PresentPlace[],
): Finding[] {
  const found = perOffset(present)
  const findings: Finding[] = []
  outcomes.forEach(({ code }, i) => {
    const offset = from + i
    const expected = code !== STORED && code !== LOST
    const there = found.has(offset)
    if (expected && !there) add(findings, 'outcome_missing', offset, 'no row in outcomes')
    if (!expected && there) add(findings, 'outcome_unexpected', offset, 'a row in outcomes')
  })
  return findings
}

/** Adds one offset; neighbours with the same to say become one finding. */
function add(findings: Finding[], kind: FindingKind, offset: number, detail: string): void {
  const last = findings.findLast((finding) => finding.kind === kind)
  if (last && last.to === offset && last.detail === detail) last.to = offset + 1
  else findings.push({ kind, from: offset, to: offset + 1, detail })
}

export function offsetsOf(findings: readonly Finding[]): number {
  let offsets = 0
  for (const { from, to } of findings) offsets += to - from
  return offsets
}
