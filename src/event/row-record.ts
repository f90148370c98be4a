/**
 * The header of a record that holds one row for ClickHouse (topics `events`, `persons`, …). The value is the row in
 * RowBinary, ready to insert: the loader never parses it, it only needs what stands here.
 *
 * For `events` the header carries the row's source and `prev`, the place emitted before it from the same raw
 * partition, which is what lets readers drop copies and notice gaps without Kafka transactions.
 *
 * Layout, version 1: `u8 version · u8 flags (1 prev, 2 restamped) · i64 timestamp · u32 team · source · [i64 prev offset · u16 prev sub]`.
 */
import { ByteWriter } from './bytes.ts'
import { writeSource } from './raw-record.ts'
import type { Place, Source } from './source.ts'
import { uuidText } from './uuid.ts'

export type RowHeader = {
  source: Source
  /** The place emitted before this one from the same raw partition of the same log id; undefined for the first. */
  prev: Place | undefined
  teamId: number
  /** The event's time, epoch ms; decides ClickHouse's month. */
  timestampMs: number
  /** The person on the row was read anew on a replay after a crash. */
  restamped: boolean
}

const VERSION = 1
const writer = new ByteWriter(256)

export function encodeRowHeader(header: RowHeader): Buffer {
  const w = writer
  w.length = 0
  w.u8(VERSION)
  w.u8((header.prev ? 1 : 0) | (header.restamped ? 2 : 0))
  w.i64(header.timestampMs)
  w.u32(header.teamId)
  writeSource(w, header.source)
  if (header.prev) {
    w.i64(header.prev.offset)
    w.u16(header.prev.sub)
  }
  return w.take()
}

/** Where the fields stand. */
const AT = {
  flags: 1,
  timestamp: 2,
  team: 10,
  logId: 14,
  partition: 30,
  offset: 32,
  sub: 40,
  prevOffset: 42,
  prevSub: 50,
}
const BYTES = 42
const BYTES_WITH_PREV = 52

/**
 * Throws when the bytes are not one of our headers. Reads byte by byte, without a view: every reader of rows calls this
 * for each of them, and a reader with its view and the text of the log id is 1.3 of 1.6 µs.
 */
export function decodeRowHeader(bytes: Uint8Array): RowHeader {
  const version = bytes[0]
  if (version !== VERSION) throw new Error(`row header version ${version} is not known; known: ${VERSION}`)
  const flags = bytes[AT.flags]!
  const hasPrev = (flags & 1) !== 0
  if (bytes.length < (hasPrev ? BYTES_WITH_PREV : BYTES))
    throw new RangeError(`a row header of ${bytes.length} bytes is cut off`)
  return {
    source: {
      logId: logIdAt(bytes, AT.logId),
      partition: u16(bytes, AT.partition),
      offset: i64(bytes, AT.offset),
      sub: u16(bytes, AT.sub),
    },
    prev: hasPrev ? { offset: i64(bytes, AT.prevOffset), sub: u16(bytes, AT.prevSub) } : undefined,
    teamId: u32(bytes, AT.team),
    timestampMs: i64(bytes, AT.timestamp),
    restamped: (flags & 2) !== 0,
  }
}

function u16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8)
}

function u32(bytes: Uint8Array, at: number): number {
  return (u16(bytes, at) | (u16(bytes, at + 2) << 16)) >>> 0
}

function i64(bytes: Uint8Array, at: number): number {
  return u32(bytes, at) + (u32(bytes, at + 4) | 0) * 2 ** 32
}

const lastLogId = new Uint8Array(16)
let lastLogIdText = uuidText(lastLogId)

/** Nearly all rows are of the same raw log as the one before. */
function logIdAt(bytes: Uint8Array, at: number): string {
  for (let i = 0; i < 16; i++) {
    if (bytes[at + i] === lastLogId[i]) continue
    lastLogId.set(bytes.subarray(at, at + 16))
    lastLogIdText = uuidText(lastLogId)
    break
  }
  return lastLogIdText
}
