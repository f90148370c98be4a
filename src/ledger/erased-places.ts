/**
 * The places of one record of an erasure, packed: runs `varint offsets since the run before · varint length · varint
 * sub`. So a repair knows of each missing row whether it was taken on purpose, where a count and a hash sum cannot
 * tell of two which one. Costs about three bytes for a single row, and less where neighbours go together.
 */
import { ByteReader, ByteWriter, type Place } from '../event/index.ts'

const writer = new ByteWriter(1_024)

/** `places` in order, all at `from` or above. */
export function encodePlaces(from: number, places: readonly Place[]): Buffer {
  writer.length = 0
  let before = from
  for (let start = 0; start < places.length; ) {
    const { offset, sub } = places[start]!
    let end = start + 1
    while (places[end]?.sub === sub && places[end]!.offset === offset + end - start) end++
    writer.varint(offset - before)
    writer.varint(end - start)
    writer.varint(sub)
    // The next run may begin at the same offset, with its next row.
    before = offset
    start = end
  }
  return writer.take()
}

export function decodePlaces(from: number, bytes: Uint8Array): Place[] {
  const reader = new ByteReader(bytes)
  const places: Place[] = []
  let offset = from
  while (!reader.done) {
    offset += reader.varint()
    const length = reader.varint()
    const sub = reader.varint()
    for (let i = 0; i < length; i++) places.push({ offset: offset + i, sub })
  }
  return places
}
