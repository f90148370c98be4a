/**
 * The raw record: the event exactly as the client sent it (value), and one packed, versioned header with what
 * capture found out. One header and not thirteen: each further Kafka header costs a microsecond per event.
 *
 * Layout, version 1 (little endian; text = LEB128 length + UTF-8):
 * ```
 * u8 version = 1 · u8 person processing · u8 time rule · u8 flags (1 sent_at, 2 replay_of, 4 cookieless)
 * 16 uuid · i64 timestamp · i64 now · [i64 sent_at]
 * text token · text distinct_id · text event · text ip · text user_agent · text sdk · text request_id
 * [16 log id · u16 partition · i64 offset · u16 sub]                      (replay_of)
 * ```
 */
import { ByteReader, ByteWriter } from './bytes.ts'
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

export type RawHeader = {
  token: string
  distinctId: string
  event: string
  /** Canonical lower-case. */
  uuid: string
  /** The event's corrected time, epoch ms. */
  timestampMs: number
  timeRule: TimeRule
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
  requestId: string
  /** Set when a dead letter comes back: the source whose claim it takes over. */
  replayOf: Source | undefined
}

const VERSION = 1
const writer = new ByteWriter(1024)

/** Packs `header`. Throws when its uuid or the replayed log id is not a UUID: capture has checked them. */
export function encodeRawHeader(header: RawHeader): Buffer {
  const w = writer
  w.length = 0
  w.u8(VERSION)
  w.u8(PERSON_PROCESSING.indexOf(header.personProcessing))
  w.u8(TIME_RULES.indexOf(header.timeRule))
  w.u8((header.sentAtMs === undefined ? 0 : 1) | (header.replayOf ? 2 : 0) | (header.cookieless ? 4 : 0))
  w.raw(requireUuid(header.uuid))
  w.i64(header.timestampMs)
  w.i64(header.nowMs)
  if (header.sentAtMs !== undefined) w.i64(header.sentAtMs)
  w.text(header.token)
  w.text(header.distinctId)
  w.text(header.event)
  w.text(header.ip)
  w.text(header.userAgent)
  w.text(header.sdk)
  w.text(header.requestId)
  if (header.replayOf) writeSource(w, header.replayOf)
  return w.take()
}

/** Unpacks a header. Throws RangeError or Error when the bytes are not one of ours. */
export function decodeRawHeader(bytes: Uint8Array): RawHeader {
  const r = new ByteReader(bytes)
  const version = r.u8()
  if (version !== VERSION) throw new Error(`raw header version ${version} is not known; known: ${VERSION}`)
  const personProcessing = PERSON_PROCESSING[r.u8()]
  const timeRule = TIME_RULES[r.u8()]
  const flags = r.u8()
  if (!personProcessing || !timeRule) throw new Error('raw header holds an unknown code')
  const uuid = uuidText(r.raw(16))
  const timestampMs = r.i64()
  const nowMs = r.i64()
  const sentAtMs = flags & 1 ? r.i64() : undefined
  const token = r.text()
  const distinctId = r.text()
  const event = r.text()
  const ip = r.text()
  const userAgent = r.text()
  const sdk = r.text()
  const requestId = r.text()
  const replayOf = flags & 2 ? readSource(r) : undefined
  const cookieless = (flags & 4) !== 0
  return {
    token,
    distinctId,
    event,
    uuid,
    timestampMs,
    timeRule,
    nowMs,
    sentAtMs,
    ip,
    userAgent,
    sdk,
    personProcessing,
    cookieless,
    requestId,
    replayOf,
  }
}

export function writeSource(w: ByteWriter, source: Source): void {
  w.raw(requireUuid(source.logId))
  w.u16(source.partition)
  w.i64(source.offset)
  w.u16(source.sub)
}

export function readSource(r: ByteReader): Source {
  return { logId: uuidText(r.raw(16)), partition: r.u16(), offset: r.i64(), sub: r.u16() }
}

function requireUuid(text: string): Uint8Array {
  const bytes = uuidBytes(text)
  if (!bytes) throw new Error(`"${text}" is not a UUID`)
  return bytes
}
