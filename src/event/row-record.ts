/**
 * The header of a record that holds one row for ClickHouse (topics `events`, `persons`, …). The value is the row in
 * RowBinary, ready to insert: the loader never parses it, it only needs what stands here.
 *
 * For `events` the header carries the row's source and `prev`, the place emitted before it from the same raw
 * partition, which is what lets readers drop copies and notice gaps without Kafka transactions.
 *
 * Layout, version 1: `u8 version · u8 flags (1 prev, 2 restamped) · i64 timestamp · u32 team · source · [i64 prev offset · u16 prev sub]`.
 */
import { type ByteRange, ByteReader, ByteWriter, viewOf } from './bytes.ts'
import { readSource, writeSource } from './raw-record.ts'
import type { Place, Source } from './source.ts'

export type RowHeader = {
  source: Source
  /** The place emitted before this one from the same raw partition of the same log id; undefined for the first. */
  prev: Place | undefined
  teamId: number
  /**
   * Epoch ms. Topic `events`: of the row, so it says in which month ClickHouse keeps it. The others: of the event that the
   * row is about (0 of state), and it says nothing of the month: their tables are kept by the time of capture, or as a whole.
   */
  timestampMs: number
  /** The person on the row was read anew on a replay after a crash. */
  restamped: boolean
}

const VERSION = 1
/** Headers are cut off a shared slab of this size. */
const SLAB_BYTES = 65_536
const writer = new ByteWriter(SLAB_BYTES)

/** The packed `header` as a view. Throws as `packRowHeader`. */
export function encodeRowHeader(header: RowHeader): Buffer {
  return viewOf(packRowHeader(header))
}

/** Packs `header`; the bytes share their memory with those of other headers. Throws when its log id is not a UUID. */
export function packRowHeader(header: RowHeader): ByteRange {
  const w = writer
  // One that failed half-way left its bytes behind.
  w.discard()
  w.u8(VERSION)
  w.u8((header.prev ? 1 : 0) | (header.restamped ? 2 : 0))
  w.i64(header.timestampMs)
  w.u32(header.teamId)
  writeSource(w, header.source)
  if (header.prev) {
    w.i64(header.prev.offset)
    w.u16(header.prev.sub)
  }
  return w.cut()
}

/** Throws when the bytes are not one of our headers. */
export function decodeRowHeader(bytes: Uint8Array): RowHeader {
  const r = new ByteReader(bytes)
  const version = r.u8()
  if (version !== VERSION) throw new Error(`row header version ${version} is not known; known: ${VERSION}`)
  const flags = r.u8()
  const timestampMs = r.i64()
  const teamId = r.u32()
  const source = readSource(r)
  const prev = flags & 1 ? { offset: r.i64(), sub: r.u16() } : undefined
  return { source, prev, teamId, timestampMs, restamped: (flags & 2) !== 0 }
}
