/**
 * What does not add up, and by which offsets. Pure: given what receipts say, what deletions took and what ClickHouse
 * holds of a short range, names every offset on which they differ.
 */
import { endedSubs, type OffsetOutcome, type Place, sourceHash, storedSubs } from '../event/index.ts'
import type { PresentPlace } from '../warehouse/index.ts'
import type { ErasedGroup } from './erasures.ts'

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
  erasure_differs: 'What is gone of these offsets is not what a deletion recorded that it took.',
  erasure_stopped: 'A deletion recorded a day ago that it takes rows of these offsets, and has not finished.',
} as const
export type FindingKind = keyof typeof FINDING_KINDS

/** Offsets [from, to) of one raw partition. */
export type Finding = { kind: FindingKind; from: number; to: number; detail: string }

/** What receipts say of the offsets from `from` on; undefined where one cannot be read. */
export type Expected = { from: number; outcomes: readonly (OffsetOutcome | undefined)[] }

type PerOffset = { subs: Set<number>; doubled: boolean }

function perOffset(present: readonly PresentPlace[]): Map<number, PerOffset> {
  const found = new Map<number, PerOffset>()
  for (const { offset, sub, copies } of present) {
    const known = found.get(offset) ?? { subs: new Set(), doubled: false }
    known.subs.add(sub)
    if (copies > 1) known.doubled = true
    found.set(offset, known)
  }
  return found
}

const NONE: PerOffset = { subs: new Set(), doubled: false }

/** Rows of `events` against the outcomes of a range, `erased` being what is gone on purpose. */
export function compareRows(
  { from, outcomes }: Expected,
  present: readonly PresentPlace[],
  erased: readonly ErasedGroup[],
): Finding[] {
  const found = perOffset(present)
  const findings: Finding[] = []
  const absent: Place[] = []
  outcomes.forEach((outcome, i) => {
    if (!outcome) return
    const offset = from + i
    const expected = storedSubs(outcome)
    const { subs, doubled } = found.get(offset) ?? NONE
    for (const sub of expected) if (!subs.has(sub)) absent.push({ offset, sub })
    const strange = [...subs].filter((sub) => !expected.includes(sub))
    if (strange.length > 0) {
      const detail = `${strange.length} of ${subs.size} rows are not of the ${expected.length} by the receipt`
      add(findings, 'row_unexpected', offset, detail)
    }
    if (doubled) add(findings, 'row_doubled', offset, 'a row is there more than once')
  })
  for (const { offset } of notErased(absent, erased, findings)) {
    const expected = outcomes[offset - from]!.rows
    const { subs } = found.get(offset) ?? NONE
    add(findings, 'row_missing', offset, `${subs.size} of ${expected} rows`)
  }
  return findings
}

/** Rows of `outcomes` against the outcomes of a range. Copies of an outcome replace each other and are no finding. */
export function compareOutcomes(
  { from, outcomes }: Expected,
  present: readonly PresentPlace[],
  erased: readonly ErasedGroup[],
): Finding[] {
  const found = perOffset(present)
  const findings: Finding[] = []
  const absent: Place[] = []
  outcomes.forEach((outcome, i) => {
    if (!outcome) return
    const offset = from + i
    const expected = endedSubs(outcome)
    const { subs } = found.get(offset) ?? NONE
    for (const sub of expected) if (!subs.has(sub)) absent.push({ offset, sub })
    if ([...subs].some((sub) => !expected.includes(sub)))
      add(findings, 'outcome_unexpected', offset, 'a row in outcomes')
  })
  for (const { offset } of notErased(absent, erased, findings))
    add(findings, 'outcome_missing', offset, 'no row in outcomes')
  return findings
}

/**
 * The absent places that no deletion explains. Of a group of records that lie over each other only a number and a hash
 * sum are known: a single place too many is the one whose hash is the difference.
 */
function notErased(
  absent: readonly Place[],
  groups: readonly ErasedGroup[],
  findings: Finding[],
): readonly Place[] {
  let left = [...absent]
  for (const group of groups) {
    const { from, to, rows, hashSum, underWay } = group
    const inside = left.filter(({ offset }) => offset >= from && offset < to)
    left = left.filter(({ offset }) => offset < from || offset >= to)
    const differs = inside.reduce((sum, place) => sum + BigInt(sourceHash(place)), 0n) - hashSum
    const tooMany = inside.length - rows
    if (underWay.stopped)
      findings.push({ kind: 'erasure_stopped', from, to, detail: `${underWay.rows} rows are to go` })
    const explained =
      underWay.rows > 0 ? tooMany >= 0 && tooMany <= underWay.rows : tooMany === 0 && differs === 0n
    if (explained) continue
    const lost =
      tooMany === 1 && underWay.rows === 0
        ? inside.filter((place) => BigInt(sourceHash(place)) === differs)
        : []
    if (lost.length === 1) left.push(lost[0]!)
    else {
      const recorded = underWay.rows > 0 ? `${rows} to ${rows + underWay.rows}` : String(rows)
      const detail = `${inside.length} rows are gone, ${recorded} by the records of deletions`
      findings.push({ kind: 'erasure_differs', from, to, detail })
    }
  }
  return left.sort((a, b) => a.offset - b.offset)
}

/** Adds one offset; neighbours with the same to say become one finding. */
function add(findings: Finding[], kind: FindingKind, offset: number, detail: string): void {
  const last = findings.findLast((finding) => finding.kind === kind)
  if (last && last.to >= offset && last.detail === detail) last.to = offset + 1
  else findings.push({ kind, from: offset, to: offset + 1, detail })
}

/** Findings of several kinds may be of the same offset, which is unaccounted for once. */
export function united(findings: readonly Finding[]): { from: number; to: number }[] {
  const ranges: { from: number; to: number }[] = []
  for (const { from, to } of [...findings].sort((a, b) => a.from - b.from)) {
    const last = ranges.at(-1)
    if (last && from <= last.to) last.to = Math.max(last.to, to)
    else ranges.push({ from, to })
  }
  return ranges
}

/** How many different offsets. */
export function offsetsOf(findings: readonly Finding[]): number {
  return united(findings).reduce((offsets, { from, to }) => offsets + to - from, 0)
}
