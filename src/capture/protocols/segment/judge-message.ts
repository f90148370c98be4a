/**
 * One scanned message → a raw header and the event's bytes, or why it is not stored. Size and depth are judged before a
 * tree is made; all else is judged on the event that the message means, by the rules that all protocols share.
 */
import { JsonSlice, messageUuid, type RawHeader } from '../../../event/index.ts'
import { EventCandidate } from '../../candidate.ts'
import { captureError, type Note, REJECT_REASONS, type Rejection, type RejectReason } from '../../errors.ts'
import { isRejection, noteChanges, type RequestFacts, sentIdText, validateEvent } from '../../validate.ts'
import type { Json, JsonObject } from './json.ts'
import { isCallType, isUnmappable, type MappedEvent, type MessageIds, mapMessage } from './map-message.ts'
import type { CallType } from './mapping-tables.ts'
import type { ScannedMessage, ScannedMessages } from './scan-messages.ts'

/** With the limits that are judged before a tree is made. */
export type MessageFacts = RequestFacts & { eventDepthMax: number; eventKeysMax: number }

export type JudgedMessage = { header: RawHeader; value: Buffer }

/** Members of a batch that count for each of its messages; what a message says itself wins. */
export type SharedMembers = {
  context: JsonObject | undefined
  contextGroupId: string
  integrations: JsonObject | undefined
  depth: number
}

const NOTHING_SHARED: SharedMembers = {
  context: undefined,
  contextGroupId: '',
  integrations: undefined,
  depth: 0,
}

/** Throws HR_CAPTURE_BODY_TOO_LARGE when the batch with these in each of its messages would be over `bytesMax`. */
export function sharedMembers(
  body: Buffer,
  scanned: ScannedMessages,
  bytesMax: number,
  depthMax: number,
): SharedMembers {
  const { context, integrations, messages, sharedDepth: depth } = scanned
  const bytes = objectBytes(context) + objectBytes(integrations)
  if (bytes === 0) return NOTHING_SHARED
  if (body.length + bytes * messages.length > bytesMax) {
    throw captureError(
      'HR_CAPTURE_BODY_TOO_LARGE',
      `the body would have over ${bytesMax} bytes, which is what is allowed, with the batch's \`context\` and \`integrations\` in each message`,
    )
  }
  // Each message is refused for its depth then.
  if (depth >= depthMax) return { ...NOTHING_SHARED, depth }
  const sharedContext = parseObject(body, context)
  const group = sharedContext?.groupId
  return {
    context: sharedContext,
    contextGroupId: typeof group === 'string' || typeof group === 'number' ? String(group) : '',
    integrations: parseObject(body, integrations),
    depth,
  }
}

/** `call` is that of the path; undefined where each message says its own. */
export function judgeMessage(
  body: Buffer,
  scanned: ScannedMessage,
  index: number,
  call: CallType | undefined,
  shared: SharedMembers,
  facts: MessageFacts,
  notes: Note[],
): JudgedMessage | Rejection {
  const no = (field: string, reason: RejectReason, message: string = REJECT_REASONS[reason]): Rejection => ({
    index,
    ...sentId(scanned),
    field,
    reason,
    message,
  })
  if (!scanned.isObject) return no('', 'not_an_object')
  const size = scanned.end - scanned.start
  if (size > facts.eventBytesMax) {
    return no('', 'event_too_large', `The message has ${size} bytes; ${facts.eventBytesMax} are allowed.`)
  }
  const depth = Math.max(scanned.depth, shared.depth === 0 ? 0 : shared.depth + 1)
  if (depth > facts.eventDepthMax) {
    return no(
      '',
      'event_too_deep',
      `The message nests ${depth} levels deep; ${facts.eventDepthMax} are allowed.`,
    )
  }
  if (scanned.keys > facts.eventKeysMax) {
    return no(
      '',
      'too_many_keys',
      `The message has ${scanned.keys} keys in all its objects; ${facts.eventKeysMax} are allowed.`,
    )
  }
  const type = call ?? scanned.type
  if (!isCallType(type)) return no('type', 'unknown_type')

  const message = JSON.parse(body.toString('utf8', scanned.start, scanned.end)) as JsonObject
  addShared(message, 'context', shared.context)
  addShared(message, 'integrations', shared.integrations)
  const mapped = mapMessage(type, message, idsOf(body, scanned, shared))
  if (isUnmappable(mapped)) return no(mapped.field, mapped.reason)
  if (mapped.distinctId === '') {
    return no('userId', 'missing_distinct_id', 'Neither `userId` nor `anonymousId` says who did it.')
  }

  const messageId = sentIdText(body, scanned.messageId)
  const uuid = messageId === '' ? undefined : messageUuid(facts.token, messageId)
  const timestamp = timeOf(mapped.timestamp)
  const value = Buffer.from(
    JSON.stringify({
      uuid,
      event: mapped.event,
      distinct_id: mapped.distinctId,
      timestamp,
      properties: mapped.properties,
      $set: mapped.set,
    }),
  )
  const candidate = candidateOf(mapped, uuid, timestamp, value.length, depth)
  const header = validateEvent(value, candidate, index, facts)
  if (isRejection(header)) return { ...header, ...sentId(scanned) }
  noteChanges(value, candidate, header, index, notes)
  return { header, value }
}

function idsOf(body: Buffer, scanned: ScannedMessage, shared: SharedMembers): MessageIds {
  return {
    userId: sentIdText(body, scanned.userId),
    anonymousId: sentIdText(body, scanned.anonymousId),
    previousId: sentIdText(body, scanned.previousId),
    groupId: sentIdText(body, scanned.groupId),
    contextGroupId: sentIdText(body, scanned.contextGroupId) || shared.contextGroupId,
  }
}

/** Numbers are times too; what is neither text nor a number is kept, so that it is refused. */
function timeOf(timestamp: Json | undefined): Json | undefined {
  return typeof timestamp === 'number' ? String(timestamp) : (timestamp ?? undefined)
}

/** The members that `validateEvent` looks at. A value that it refuses whatever it is becomes a boolean. */
function candidateOf(
  mapped: MappedEvent,
  uuid: string | undefined,
  timestamp: Json | undefined,
  bytes: number,
  depth: number,
): EventCandidate {
  const { event, properties } = mapped
  const candidate = new EventCandidate(0, bytes)
  candidate.depth = depth
  candidate.event = typeof event === 'string' ? event : event == null ? undefined : true
  candidate.distinctId = mapped.distinctId
  candidate.uuid = uuid
  candidate.timestamp = timestamp === undefined || typeof timestamp === 'string' ? timestamp : true
  candidate.properties = 'object'
  candidate.set = mapped.set === undefined ? 'absent' : 'object'
  if (properties.$process_person_profile === false) candidate.ownProcessPersonProfile = false
  const cookieless = properties.$cookieless_mode
  if (cookieless !== undefined)
    candidate.ownCookielessMode = typeof cookieless === 'boolean' ? cookieless : ''
  candidate.ownIgnoreSentAt = mapped.isTimeFinal || properties.$ignore_sent_at === true
  if (typeof properties.$lib === 'string') candidate.ownLib = properties.$lib
  if (typeof properties.$lib_version === 'string') candidate.ownLibVersion = properties.$lib_version
  return candidate
}

/** The message as it was sent, for samples of what was refused. */
export function sentCandidate({
  start,
  end,
  userId,
  anonymousId,
  messageId,
}: ScannedMessage): EventCandidate {
  const candidate = new EventCandidate(start, end)
  candidate.distinctId = userId ?? anonymousId
  candidate.uuid = messageId
  return candidate
}

/** The id by which the sender knows the message. */
function sentId({ messageId }: ScannedMessage): { uuid?: string } {
  return typeof messageId === 'string' && messageId !== ''
    ? { uuid: messageId.slice(0, SENT_ID_UNITS_MAX) }
    : {}
}

const SENT_ID_UNITS_MAX = 64

function addShared(
  message: JsonObject,
  name: 'context' | 'integrations',
  shared: JsonObject | undefined,
): void {
  if (shared === undefined) return
  const own = message[name]
  if (own === undefined || own === null) message[name] = { ...shared }
  else if (typeof own === 'object' && !Array.isArray(own)) message[name] = { ...shared, ...own }
}

function objectBytes(value: ScannedMessages['context']): number {
  return value instanceof JsonSlice && value.kind === 'object' ? value.end - value.start : 0
}

function parseObject(body: Buffer, value: ScannedMessages['context']): JsonObject | undefined {
  if (!(value instanceof JsonSlice) || value.kind !== 'object') return undefined
  return JSON.parse(body.toString('utf8', value.start, value.end)) as JsonObject
}
