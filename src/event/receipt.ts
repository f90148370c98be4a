/**
 * What became of every raw offset of a batch, packed: runs of `(outcome code, row count)`. A batch in which all is
 * stored is four bytes, so receipts keep it for as long as they are kept, and audit, repair and a rebuilt dedup
 * index never have to guess. Layout: per run `varint length · u8 code · varint rows`.
 */
import { ByteReader, ByteWriter } from './bytes.ts'
import type { OutcomeCode } from './reasons.ts'

/** The outcome of one raw offset: its code, and how many rows it became in ClickHouse (0 unless stored). */
export type OffsetOutcome = { code: OutcomeCode; rows: number }

const writer = new ByteWriter(256)

/** `outcomes[i]` is that of the batch's i-th offset. */
export function encodeOutcomes(outcomes: readonly OffsetOutcome[]): Buffer {
  writer.length = 0
  for (let start = 0; start < outcomes.length; ) {
    const { code, rows } = outcomes[start]!
    let end = start + 1
    while (end < outcomes.length && outcomes[end]!.code === code && outcomes[end]!.rows === rows) end++
    writer.varint(end - start)
    writer.u8(code)
    writer.varint(rows)
    start = end
  }
  return writer.take()
}

/** Unpacks what `encodeOutcomes` packed: one entry per offset. */
export function decodeOutcomes(bytes: Uint8Array): OffsetOutcome[] {
  const reader = new ByteReader(bytes)
  const outcomes: OffsetOutcome[] = []
  while (!reader.done) {
    const length = reader.varint()
    const outcome = { code: reader.u8(), rows: reader.varint() }
    for (let i = 0; i < length; i++) outcomes.push(outcome)
  }
  return outcomes
}
