/**
 * Judges one event: what comes in is a candidate and what is known about its request, what goes out is a raw header
 * (the event is stored) or a rejection (it is not, and its neighbours are). Pure but for minted ids,
 * and for the count of derived ones in what is known.
 */
import { secretKeyKind } from '../catalog/index.ts'
import {
  boundDistinctId,
  canonicalUuid,
  correctTime,
  DISTINCT_ID_CHARS_MAX,
  derivedEventUuid,
  type JsonPick,
  JsonSlice,
  type PartitionKey,
  parseTimestamp,
  type RawHeader,
  type TimeRule,
  uuidV7,
} from '../event/index.ts'
import type { EventCandidate } from './candidate.ts'
import {
  captureError,
  NOTE_REASONS,
  type Note,
  type NoteReason,
  REJECT_REASONS,
  type Rejection,
  type RejectReason,
} from './errors.ts'
import {
  EVENT_DEPTH_MAX,
  EVENT_KEYS_MAX,
  EVENT_NAME_UNITS_MAX,
  SDK_UNITS_MAX,
  TOKEN_BYTES_MAX,
} from './limits.ts'

/** What all events of a request have in common. */
export type RequestFacts = {
  token: string
  /** When capture received the request, epoch ms. */
  nowMs: number
  sentAtMs: number | undefined
  ip: string
  userAgent: string
  /** `name/version` that the user agent tells, for events that do not say it themselves. */
  userAgentSdk: string
  requestId: string
  clockTrustMs: number
  eventBytesMax: number
  /** EVENT_DEPTH_MAX and EVENT_KEYS_MAX where they are not set. */
  eventDepthMax?: number
  eventKeysMax?: number
  /** How often each derived uuid came in the request so far; made when the first event without a uuid comes. */
  derived?: Map<string, number>
}

/** Stands for the address of events that come from the sender's own servers. */
export const INTERNAL_IP = '127.0.0.1'

/** Events that change persons or groups even when they ask for no person processing, so their order matters. */
const STATE_EVENTS: ReadonlySet<string> = new Set([
  '$identify',
  '$create_alias',
  '$merge_dangerously',
  '$groupidentify',
])

/** The header of the event at `index` of the request, whose body is `bytes`; or why it is not stored. */
export function validateEvent(
  bytes: Buffer,
  candidate: EventCandidate,
  index: number,
  facts: RequestFacts,
): RawHeader | Rejection {
  if (!candidate.isObject) return rejection(index, candidate, '', 'not_an_object')
  const size = candidate.end - candidate.start
  if (size > facts.eventBytesMax) {
    return rejection(
      index,
      candidate,
      '',
      'event_too_large',
      `The event has ${size} bytes; ${facts.eventBytesMax} are allowed.`,
    )
  }
  const { eventDepthMax = EVENT_DEPTH_MAX, eventKeysMax = EVENT_KEYS_MAX } = facts
  if (candidate.depth > eventDepthMax) {
    return rejection(
      index,
      candidate,
      '',
      'event_too_deep',
      `The event nests ${candidate.depth} levels deep; ${eventDepthMax} are allowed.`,
    )
  }
  if (candidate.keys > eventKeysMax) {
    return rejection(
      index,
      candidate,
      '',
      'too_many_keys',
      `The event has ${candidate.keys} keys in all its objects; ${eventKeysMax} are allowed.`,
    )
  }
  const { event } = candidate
  if (event === undefined || event === null || event === '')
    return rejection(index, candidate, 'event', 'missing_event')
  if (typeof event !== 'string') return rejection(index, candidate, 'event', 'invalid_event')
  if (candidate.properties === 'other') return rejection(index, candidate, 'properties', 'invalid_properties')
  if (candidate.set === 'other') return rejection(index, candidate, '$set', 'invalid_set')
  if (candidate.setOnce === 'other') return rejection(index, candidate, '$set_once', 'invalid_set')
  if (candidate.ownCookielessMode !== undefined && typeof candidate.ownCookielessMode !== 'boolean') {
    return rejection(index, candidate, 'properties.$cookieless_mode', 'invalid_cookieless_mode')
  }

  const distinctId = distinctIdOf(bytes, candidate)
  if (distinctId === '') return rejection(index, candidate, 'distinct_id', 'missing_distinct_id')

  const timestamp = candidate.timestamp ?? undefined
  if (timestamp !== undefined && typeof timestamp !== 'string')
    return rejection(index, candidate, 'timestamp', 'invalid_timestamp')
  const offsetMs = offsetOf(bytes, candidate.offset)
  if (offsetMs === 'invalid') return rejection(index, candidate, 'offset', 'invalid_offset')
  // What speaks for the whole request was written when it was sent; an event of its own may have waited since.
  const sentAtMs = facts.sentAtMs ?? readSentAt(candidate.sentAt, null)
  const { timestampMs, timeRule, clientTimeMs } = correctTime(
    {
      timestamp,
      offsetMs,
      sentAtMs,
      ignoreSentAt: candidate.ownIgnoreSentAt === true,
    },
    facts.nowMs,
    facts.clockTrustMs,
  )

  let uuid: string | undefined
  if (candidate.uuid === undefined || candidate.uuid === null || candidate.uuid === '') {
    // Without an id of its own an event is known again by its bytes, if its own time makes them unlike others.
    // Before 1900 it is no time but the zero of a language, which all events of such a client share.
    const hasOwnTime = timestamp !== undefined && timeRule !== 'unreadable' && timeRule !== 'outOfRange'
    uuid = hasOwnTime
      ? derivedUuid(facts, bytes.subarray(candidate.start, candidate.end))
      : uuidV7(timestampMs)
  } else {
    uuid = typeof candidate.uuid === 'string' ? readUuid(candidate.uuid) : undefined
    if (uuid === undefined) return rejection(index, candidate, 'uuid', 'invalid_uuid')
  }

  return {
    token: facts.token,
    distinctId,
    event: cutName(event),
    uuid,
    timestampMs,
    timeRule,
    clientTimeMs,
    nowMs: facts.nowMs,
    sentAtMs,
    ip: candidate.ownCaptureInternal ? INTERNAL_IP : facts.ip,
    userAgent: facts.userAgent,
    sdk: sdkOf(candidate, facts),
    personProcessing: candidate.ownProcessPersonProfile === false ? 'off' : 'on',
    cookieless: candidate.ownCookielessMode === true,
    disposition: 'event',
    requestId: facts.requestId,
    replayOf: undefined,
  }
}

/** Adds to `notes` in what the event of `header` is stored otherwise than it was sent; nothing for nearly all. */
export function noteChanges(
  bytes: Buffer,
  candidate: EventCandidate,
  header: RawHeader,
  index: number,
  notes: Note[],
): void {
  if (header.distinctId.length >= DISTINCT_ID_CHARS_MAX) {
    const sent =
      sentIdText(bytes, candidate.distinctId) ||
      sentIdText(bytes, candidate.dollarDistinctId) ||
      sentIdText(bytes, candidate.ownDistinctId)
    if (isLonger(sent, DISTINCT_ID_CHARS_MAX)) notes.push(noteOn(index, 'distinct_id', 'distinct_id_cut'))
  }
  const { event } = candidate
  if (typeof event === 'string' && event.length > header.event.length) {
    notes.push(noteOn(index, 'event', 'event_name_cut'))
  }
  const reason = NOTED_TIMES[header.timeRule]
  if (reason !== undefined) notes.push(noteOn(index, 'timestamp', reason))
}

const NOTED_TIMES: { readonly [rule in TimeRule]?: NoteReason } = {
  unreadable: 'timestamp_unreadable',
  futureClamped: 'timestamp_in_future',
  outOfRange: 'timestamp_out_of_range',
}

export function noteOn(index: number, field: string, reason: NoteReason): Note {
  return { index, field, reason, message: NOTE_REASONS[reason] }
}

/** True for the second of the two things that `validateEvent` returns. */
export function isRejection(judged: RawHeader | Rejection): judged is Rejection {
  return 'reason' in judged
}

export function rejection(
  index: number,
  candidate: EventCandidate,
  field: string,
  reason: RejectReason,
  message: string = REJECT_REASONS[reason],
): Rejection {
  const uuid = typeof candidate.uuid === 'string' ? { uuid: candidate.uuid.slice(0, 64) } : {}
  return { index, ...uuid, field, reason, message }
}

/** What decides the partition of the event: never more than captured bytes (architecture: records). */
export function partitionKeyOf(header: RawHeader): PartitionKey {
  const { token, distinctId, uuid, ip } = header
  if (header.cookieless) return { kind: 'cookieless', token, ip }
  if (header.personProcessing === 'off' && !STATE_EVENTS.has(header.event)) {
    return { kind: 'personless', token, uuid }
  }
  return { kind: 'distinctId', token, distinctId }
}

/**
 * A token as sent, trimmed (keys are often pasted with a line break). Throws HR_CAPTURE_INVALID_TOKEN; whether a
 * project has it is not asked here.
 */
export function checkToken(sent: string): string {
  const token = sent.trim()
  const no = (why: string) => captureError('HR_CAPTURE_INVALID_TOKEN', `the project token ${why}`)
  if (token === '') throw no('is empty')
  for (let i = 0; i < token.length; i++) {
    const unit = token.charCodeAt(i)
    if (unit === 0) throw no('holds a NUL character')
    if (unit > 127) throw no('is not ASCII')
  }
  if (token.length > TOKEN_BYTES_MAX) throw no(`is longer than ${TOKEN_BYTES_MAX} characters`)
  const secret = secretKeyKind(token)
  if (secret) {
    throw no(
      `is ${secret.kind} (it begins with ${secret.prefix}), which is secret: withdraw it if others could see it, and send the project token, which begins with phc_`,
    )
  }
  return token
}

/** Root first, then properties; null and the empty string count as absent. Empty when there is none. */
function distinctIdOf(bytes: Buffer, candidate: EventCandidate): string {
  return (
    idText(bytes, candidate.distinctId) ||
    idText(bytes, candidate.dollarDistinctId) ||
    idText(bytes, candidate.ownDistinctId)
  )
}

/**
 * Strings as they are; numbers as they are written, because two large ones may be the same number to JavaScript and
 * are two people; everything else as compact JSON.
 */
function idText(bytes: Buffer, value: JsonPick | undefined): string {
  return boundDistinctId(sentIdText(bytes, value))
}

/** The same, whole. */
export function sentIdText(bytes: Buffer, value: JsonPick | undefined): string {
  if (typeof value === 'string') return value
  if (value === undefined || value === null) return ''
  if (!(value instanceof JsonSlice)) return String(value)
  const text = bytes.toString('utf8', value.start, value.end)
  return value.kind === 'number' ? text : JSON.stringify(JSON.parse(text))
}

/** True when `text` has more than `charsMax` characters (code points). */
export function isLonger(text: string, charsMax: number): boolean {
  if (text.length <= charsMax) return false
  return text.length > 2 * charsMax || Array.from(text).length > charsMax
}

function offsetOf(bytes: Buffer, value: JsonPick | undefined): number | undefined | 'invalid' {
  if (value === undefined || value === null) return undefined
  if (!(value instanceof JsonSlice) || value.kind !== 'number') return 'invalid'
  const offsetMs = Number(bytes.toString('latin1', value.start, value.end))
  return Number.isInteger(offsetMs) ? offsetMs : 'invalid'
}

/**
 * By token and bytes, and for one that has the bytes of an event before it also by how many: a client that sends both
 * in one request means two, and a retry of the request counts them in the same order.
 */
function derivedUuid(facts: RequestFacts, event: Uint8Array): string {
  const uuid = derivedEventUuid(facts.token, event)
  facts.derived ??= new Map()
  const before = facts.derived.get(uuid) ?? 0
  facts.derived.set(uuid, before + 1)
  return before === 0 ? uuid : derivedEventUuid(facts.token, Buffer.from(`${uuid}:${before}`))
}

/** Canonical, bare, braced or as a URN. */
function readUuid(text: string): string | undefined {
  return canonicalUuid(text) ?? canonicalUuid(text.trim().replace(/^urn:uuid:|^\{|\}$/gi, ''))
}

/** The name without splitting a surrogate pair. */
function cutName(name: string): string {
  if (name.length <= EVENT_NAME_UNITS_MAX) return name
  const last = name.charCodeAt(EVENT_NAME_UNITS_MAX - 1)
  const splits = last >= 0xd800 && last <= 0xdbff
  return name.slice(0, splits ? EVENT_NAME_UNITS_MAX - 1 : EVENT_NAME_UNITS_MAX)
}

/** The last name and version, and both as one text: making it for each event takes a tenth of judging and packing it. */
const lastSdk = { lib: '', version: '', sdk: '' }

function sdkOf(candidate: EventCandidate, facts: RequestFacts): string {
  const { ownLib, ownLibVersion } = candidate
  if (typeof ownLib !== 'string' || ownLib === '') return facts.userAgentSdk
  if (typeof ownLibVersion !== 'string') return ownLib.slice(0, SDK_UNITS_MAX)
  if (ownLib !== lastSdk.lib || ownLibVersion !== lastSdk.version) {
    lastSdk.lib = ownLib
    lastSdk.version = ownLibVersion
    lastSdk.sdk = `${ownLib.slice(0, SDK_UNITS_MAX)}/${ownLibVersion.slice(0, SDK_UNITS_MAX)}`
  }
  return lastSdk.sdk
}

const SDK_USER_AGENT = /^posthog-[\w.-]{1,56}\/[\w.+-]{1,64}/

/** `name/version` when a user agent is that of an SDK, else empty. */
export function sdkOfUserAgent(userAgent: string): string {
  return SDK_USER_AGENT.exec(userAgent)?.[0] ?? ''
}

/** `sent_at` of a batch (a time as text), else of the query (`_` or `sent_at`, whole ms since 2021 at least). */
export function readSentAt(ofBatch: JsonPick | undefined, ofQuery: string | null): number | undefined {
  const fromBatch = typeof ofBatch === 'string' ? parseTimestamp(ofBatch) : undefined
  if (fromBatch !== undefined && fromBatch >= CLOCK_MS_MIN) return fromBatch
  if (ofQuery === null || !/^\d{13,15}$/.test(ofQuery)) return undefined
  const ms = Number(ofQuery)
  return ms >= SENT_AT_MS_MIN ? ms : undefined
}

/** No clock is so wrong: it is the zero time of a language, against which all times would be in the future. */
const CLOCK_MS_MIN = Date.UTC(1900, 0, 1)
/** Before this a number in the query is not in milliseconds. */
const SENT_AT_MS_MIN = Date.UTC(2021, 0, 1)
