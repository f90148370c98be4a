/**
 * What became of every raw offset of a batch, packed: runs of `(outcome code, row count)`. A batch in which all is
 * stored is four bytes, so receipts keep it for as long as they are kept, and audit, repair and a rebuilt dedup
 * index never have to guess. Layout: per run `varint length · u8 code · varint rows`.
 */
import { ByteReader, ByteWriter } from './bytes.ts'
import type { OutcomeCode } from './reasons.ts'

/** The outcome of one raw offset: its code, and how many rows it became in ClickHouse (0 unless stored). */
export type OffsetOutcome = { code: OutcomeCode; rows: number }

/** Of a batch's events: [hour of capture since 1970, team id (0 = none), SDK, outcome code, events]. */
export type ReceiptCount = [number, number, string, OutcomeCode, number]

/** Neighbouring offsets that became the same. */
export type OutcomeRun = OffsetOutcome & { length: number }

const writer = new ByteWriter(256)

/** `outcomes[i]` is that of the batch's i-th offset. */
export function encodeOutcomes(outcomes: readonly OffsetOutcome[]): Buffer {
  return encodeRuns(outcomes)
}

/** Neighbours that became the same are joined, so the runs of receipts in a row are packed as one. */
export function encodeRuns(runs: readonly (OffsetOutcome & { length?: number })[]): Buffer {
  writer.length = 0
  for (let start = 0; start < runs.length; ) {
    const { code, rows } = runs[start]!
    let length = 0
    let end = start
    for (; end < runs.length && runs[end]!.code === code && runs[end]!.rows === rows; end++)
      length += runs[end]!.length ?? 1
    writer.varint(length)
    writer.u8(code)
    writer.varint(rows)
    start = end
  }
  return writer.take()
}

/** Unpacks what `encodeOutcomes` packed, as runs: costs by the run, not by the offset. */
export function decodeRuns(bytes: Uint8Array): OutcomeRun[] {
  const reader = new ByteReader(bytes)
  const runs: OutcomeRun[] = []
  while (!reader.done) runs.push({ length: reader.varint(), code: reader.u8(), rows: reader.varint() })
  return runs
}

/** Unpacks what `encodeOutcomes` packed: one entry per offset. */
export function decodeOutcomes(bytes: Uint8Array): OffsetOutcome[] {
  return expandRuns(decodeRuns(bytes))
}

/** One entry per offset. */
export function expandRuns(runs: readonly OutcomeRun[]): OffsetOutcome[] {
  const outcomes: OffsetOutcome[] = []
  for (const { length, code, rows } of runs) {
    const outcome = { code, rows }
    for (let i = 0; i < length; i++) outcomes.push(outcome)
  }
  return outcomes
}
