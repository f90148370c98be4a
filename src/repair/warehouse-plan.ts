/**
 * What is wrong with the rows of a stretch of raw offsets: pure, from what the receipts say and what ClickHouse has.
 * Three tables are judged by receipts: each offset that is stored has its rows in `events`; every other one but a lost
 * one has a row in `outcomes`; a dead letter has one in `dead_letters`, too; and so has each row that ClickHouse refused
 * of an event with several. Copies count in `events` only: the other two replace a row by its copy, and readers expect it.
 */
import {
  codeOfRow,
  DEAD_LETTERS,
  describeOutcome,
  EVENTS,
  endedSubs,
  type OffsetOutcome,
  OUTCOMES,
  type OutcomeCode,
  type Place,
  type RowTopic,
  STORED,
  storedSubs,
  type Table,
  TOPICS,
} from '../event/index.ts'
import type { PresentPlace } from '../warehouse/index.ts'

export type RowKind = {
  readonly table: Table
  readonly topic: RowTopic
  /** Numbers of the rows that an offset has in this table. */
  subs(outcome: OffsetOutcome): readonly number[]
  readonly copiesCount: boolean
}

export const EVENT_ROWS: RowKind = {
  table: EVENTS,
  topic: TOPICS.events,
  subs: storedSubs,
  copiesCount: true,
}

export const OUTCOME_ROWS: RowKind = {
  table: OUTCOMES,
  topic: TOPICS.outcomes,
  subs: endedSubs,
  copiesCount: false,
}

export const LETTER_ROWS: RowKind = {
  table: DEAD_LETTERS,
  topic: TOPICS.deadLetters,
  subs: (outcome) => endedSubs(outcome).filter((sub) => isDeadLetter(codeOfRow(outcome, sub))),
  copiesCount: false,
}

/** In this order: what readers of events see first. */
export const ROW_KINDS: readonly RowKind[] = [EVENT_ROWS, OUTCOME_ROWS, LETTER_ROWS]

export function isDeadLetter(code: OutcomeCode): boolean {
  return code !== STORED && describeOutcome(code).state === 'dead_lettered'
}

export type Difference = { missing: Place[]; doubled: Place[]; unexpected: Place[] }

/** `outcomes[i]` is that of offset `from + i`; `present` lies within them. */
export function differenceOf(
  kind: RowKind,
  from: number,
  outcomes: readonly OffsetOutcome[],
  present: readonly PresentPlace[],
): Difference {
  const byOffset = Map.groupBy(present, ({ offset }) => offset)
  const difference: Difference = { missing: [], doubled: [], unexpected: [] }
  outcomes.forEach((outcome, i) => {
    const offset = from + i
    const expected = kind.subs(outcome)
    const there = byOffset.get(offset) ?? []
    if (expected.length === 0 && there.length === 0) return
    const subs = new Set(there.map(({ sub }) => sub))
    for (const sub of expected) if (!subs.has(sub)) difference.missing.push({ offset, sub })
    for (const sub of subs) if (!expected.includes(sub)) difference.unexpected.push({ offset, sub })
    if (!kind.copiesCount) return
    for (const { sub, copies } of there) if (copies > 1) difference.doubled.push({ offset, sub })
  })
  return difference
}

/** Places in runs [from offset, to offset, sub], as attempts keep them. */
export type PlaceRuns = [number, number, number][]

export function runsOf(places: readonly Place[]): PlaceRuns {
  const runs: PlaceRuns = []
  for (const { offset, sub } of places) {
    const last = runs.at(-1)
    if (last && last[1] === offset && last[2] === sub) last[1] = offset + 1
    else runs.push([offset, offset + 1, sub])
  }
  return runs
}

export function placesOf(runs: PlaceRuns): Place[] {
  return runs.flatMap(([from, to, sub]) =>
    Array.from({ length: to - from }, (_, i) => ({ offset: from + i, sub })),
  )
}
