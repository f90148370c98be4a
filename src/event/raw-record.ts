/**
 * The raw record: the event exactly as the client sent it (value), and one packed, versioned header with what
 * capture found out. One header and not thirteen: each further Kafka header costs a microsecond per event.
 *
 * Layout, version 2 (little endian; text = LEB128 length + UTF-8); version 1 had the first three flags only:
 * ```
 * u8 version = 2 · u8 person processing · u8 time rule
 * u8 flags (1 sent_at, 2 replay_of, 4 cookieless, 8 client time, 16 dead letter, 32 report)
 * 16 uuid · i64 timestamp · i64 now · [i64 sent_at] · [i64 client time]
 * text token · text distinct_id · text event · text ip · text user_agent · text sdk · text request_id
 * [16 log id · u16 partition · i64 offset · u16 sub]                      (replay_of)
 * ```
 */
import { type ByteRange, ByteReader, ByteWriter, viewOf } from './bytes.ts'
import type { Source } from './source.ts'
import { uuidBytes, uuidText } from './uuid.ts'

/** `on`: as usual · `off`: the event says `$process_person_profile: false` · `forcedOff`: a policy says so. */
export const PERSON_PROCESSING = ['on', 'off', 'forcedOff'] as const
export type PersonProcessing = (typeof PERSON_PROCESSING)[number]

/** How capture came to the event's time (capture spec §3.4). */
export const TIME_RULES = [
  'client',
  'skewCorrected',
  'offset',
  'now',
  'unreadable',
  'futureClamped',
  'outOfRange',
] as const
export type TimeRule = (typeof TIME_RULES)[number]

/**
 * What ingest is to do with the record. `event`: the usual way · `deadLetter`: a restriction of the project sends it to
 * the dead letters · `report`: no event at all but what capture has to tell the project's owner (see `CaptureReport`).
 */
export const DISPOSITIONS = ['event', 'deadLetter', 'report'] as const
export type Disposition = (typeof DISPOSITIONS)[number]

export type RawHeader = {
  token: string
  distinctId: string
  event: string
  /** Canonical lower-case. */
  uuid: string
  /** The event's corrected time, epoch ms. */
  timestampMs: number
  timeRule: TimeRule
  /** The time that the client gave, epoch ms, where `timestampMs` is another one; undefined when they are equal or it gave none. */
  clientTimeMs: number | undefined
  /** When capture received it, epoch ms. */
  nowMs: number
  /** The client's clock when it sent, epoch ms, if it said so. */
  sentAtMs: number | undefined
  ip: string
  userAgent: string
  /** `name/version` of the SDK, or empty. */
  sdk: string
  personProcessing: PersonProcessing
  cookieless: boolean
  disposition: Disposition
  requestId: string
  /** Set when a dead letter comes back: the source whose claim it takes over. */
  replayOf: Source | undefined
}

const VERSION = 2
const SENT_AT = 1
const REPLAY_OF = 2
const COOKIELESS = 4
const CLIENT_TIME = 8
const DEAD_LETTER = 16
const REPORT = 32
/** Headers are cut off a shared slab of this size: one allocation for some hundred of them. */
const SLAB_BYTES = 65_536
const writer = new ByteWriter(SLAB_BYTES)
/** The packed texts that the events of a request have in common, where they were packed last. */
const common = { ip: '', userAgent: '', sdk: '', requestId: '', packed: undefined as ByteRange | undefined }

/** The packed `header` as a view. Throws as `packRawHeader`. */
export function encodeRawHeader(header: RawHeader): Uint8Array {
  return viewOf(packRawHeader(header))
}

/**
 * Packs `header`. The bytes share their memory with those of other headers. Throws when its uuid or the replayed log id
 * is not a UUID: capture has checked them. Cost: about 0.35 µs.
 */
export function packRawHeader(header: RawHeader): ByteRange {
  const w = writer
  // One that failed half-way left its bytes behind, which are overwritten now.
  if (w.discard()) common.packed = undefined
  w.u8(VERSION)
  w.u8(PERSON_PROCESSING.indexOf(header.personProcessing))
  w.u8(TIME_RULES.indexOf(header.timeRule))
  w.u8(flagsOf(header))
  if (!w.uuid(header.uuid)) throw notUuid(header.uuid)
  w.i64(header.timestampMs)
  w.i64(header.nowMs)
  if (header.sentAtMs !== undefined) w.i64(header.sentAtMs)
  if (header.clientTimeMs !== undefined) w.i64(header.clientTimeMs)
  w.text(header.token)
  w.text(header.distinctId)
  w.text(header.event)
  packCommon(header)
  if (header.replayOf) writeSource(w, header.replayOf)
  return w.cut()
}

function packCommon({ ip, userAgent, sdk, requestId }: RawHeader): void {
  if (
    common.packed !== undefined &&
    common.requestId === requestId &&
    common.sdk === sdk &&
    common.userAgent === userAgent &&
    common.ip === ip
  ) {
    writer.range(common.packed)
    return
  }
  const from = writer.uncut
  writer.text(ip)
  writer.text(userAgent)
  writer.text(sdk)
  writer.text(requestId)
  common.packed = writer.since(from)
  common.ip = ip
  common.userAgent = userAgent
  common.sdk = sdk
  common.requestId = requestId
}

function flagsOf(header: RawHeader): number {
  let flags = 0
  if (header.sentAtMs !== undefined) flags |= SENT_AT
  if (header.replayOf) flags |= REPLAY_OF
  if (header.cookieless) flags |= COOKIELESS
  if (header.clientTimeMs !== undefined) flags |= CLIENT_TIME
  if (header.disposition === 'deadLetter') flags |= DEAD_LETTER
  else if (header.disposition === 'report') flags |= REPORT
  return flags
}

/** Unpacks a header. Throws RangeError or Error when the bytes are not one of ours. */
export function decodeRawHeader(bytes: Uint8Array): RawHeader {
  const r = new ByteReader(bytes)
  const version = r.u8()
  if (version < 1 || version > VERSION)
    throw new Error(`raw header version ${version} is not known; known: 1 to ${VERSION}`)
  const personProcessing = PERSON_PROCESSING[r.u8()]
  const timeRule = TIME_RULES[r.u8()]
  const flags = r.u8()
  if (!personProcessing || !timeRule) throw new Error('raw header holds an unknown code')
  const uuid = r.uuid()
  const timestampMs = r.i64()
  const nowMs = r.i64()
  const sentAtMs = flags & SENT_AT ? r.i64() : undefined
  const clientTimeMs = flags & CLIENT_TIME ? r.i64() : undefined
  const token = r.text()
  const distinctId = r.text()
  const event = r.text()
  const ip = r.text()
  const userAgent = r.text()
  const sdk = r.text()
  const requestId = r.text()
  const replayOf = flags & REPLAY_OF ? readSource(r) : undefined
  const cookieless = (flags & COOKIELESS) !== 0
  const disposition = flags & DEAD_LETTER ? 'deadLetter' : flags & REPORT ? 'report' : 'event'
  return {
    token,
    distinctId,
    event,
    uuid,
    timestampMs,
    timeRule,
    clientTimeMs,
    nowMs,
    sentAtMs,
    ip,
    userAgent,
    sdk,
    personProcessing,
    cookieless,
    disposition,
    requestId,
    replayOf,
  }
}

/** The log id that was written or read last: nearly all sources are of the same one. */
const last: { logId: string; bytes: Uint8Array } = { logId: '', bytes: new Uint8Array(16) }

export function writeSource(w: ByteWriter, source: Source): void {
  if (source.logId !== last.logId) remember(requireUuid(source.logId), source.logId)
  w.raw(last.bytes)
  w.u16(source.partition)
  w.i64(source.offset)
  w.u16(source.sub)
}

export function readSource(r: ByteReader): Source {
  if (last.logId === '' || !r.takes(last.bytes)) {
    const bytes = Uint8Array.from(r.raw(16))
    remember(bytes, uuidText(bytes))
  }
  return { logId: last.logId, partition: r.u16(), offset: r.i64(), sub: r.u16() }
}

function remember(bytes: Uint8Array, logId: string): void {
  last.bytes = bytes
  last.logId = logId
}

function requireUuid(text: string): Uint8Array {
  const bytes = uuidBytes(text)
  if (!bytes) throw notUuid(text)
  return bytes
}

function notUuid(text: string): Error {
  return new Error(`"${text}" is not a UUID`)
}
