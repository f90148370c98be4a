/**
 * One Segment message → one event in the shape of v0. Pure: the same message gives the same event, whenever and by
 * whatever request it comes, so that a second send is recognised. What comes in: the message as a tree, which is used
 * up, and its ids as text; what goes out: the event, or why there is none.
 *
 * Must hold: nothing that a message says is lost but DROPPED_MEMBERS and nulls. What has no property of ours, or would
 * overwrite one that the message sets itself, stays under its own name: of `context` in `$context`, of the message in
 * `$segment`. Objects made here have no prototype where keys of the message become theirs (`__proto__` is a key).
 * Cost: one look at each member of the first two levels.
 */
import type { RejectReason } from '../../errors.ts'
import {
  addOwn,
  emptyObject,
  isAbsentOrObject,
  isEmptyObject,
  isObject,
  isPresent,
  type Json,
  type JsonObject,
  place,
} from './json.ts'
import { addContext, completePage } from './map-context.ts'
import {
  ANONYMOUS_IDENTIFY_EVENT,
  CALL_TYPES,
  CALLS,
  type CallType,
  DEFAULT_GROUP_TYPE,
  DROPPED_MEMBERS,
  SERVER_LIBRARIES,
} from './mapping-tables.ts'

/** Ids as text; empty when the message has none. */
export type MessageIds = {
  userId: string
  anonymousId: string
  previousId: string
  groupId: string
  contextGroupId: string
}

export type MappedEvent = {
  /** As sent for a track, so perhaps no name. */
  event: Json | undefined
  /** Empty when the message says nobody. */
  distinctId: string
  timestamp: Json | undefined
  /** The message holds a time that was corrected before it came here. */
  isTimeFinal: boolean
  properties: JsonObject
  set: JsonObject | undefined
}

/** Why a message is no event. */
export type Unmappable = { field: string; reason: RejectReason }

const TYPES: ReadonlySet<string> = new Set(CALL_TYPES)
const DROPPED: ReadonlySet<string> = new Set(DROPPED_MEMBERS)
/** Members that every call reads, whatever it does with them. */
const READ: ReadonlySet<string> = new Set([
  'type',
  'userId',
  'anonymousId',
  'properties',
  'messageId',
  'timestamp',
])

const PAGE_PROPERTIES = new Map<string, string>(
  CALLS.page.members.flatMap(([from, to]) =>
    from.startsWith('properties.') ? [[from.slice('properties.'.length), to] as const] : [],
  ),
)

export function isCallType(type: unknown): type is CallType {
  return typeof type === 'string' && TYPES.has(type)
}

export function isUnmappable(mapped: MappedEvent | Unmappable): mapped is Unmappable {
  return 'reason' in mapped
}

/** Uses up `message`. */
export function mapMessage(type: CallType, message: JsonObject, ids: MessageIds): MappedEvent | Unmappable {
  if (!isAbsentOrObject(message.properties)) return { field: 'properties', reason: 'invalid_properties' }
  const takesTraits = type === 'identify' || type === 'group'
  if (takesTraits && !isAbsentOrObject(message.traits)) return { field: 'traits', reason: 'invalid_traits' }
  if (type === 'group' && ids.groupId === '') return { field: 'groupId', reason: 'missing_group_id' }
  if (type === 'alias' && ids.previousId === '') return { field: 'previousId', reason: 'missing_previous_id' }

  const { userId, anonymousId } = ids
  const properties = propertiesOf(type, message)
  const left = emptyObject()
  const context = isObject(message.context) ? message.context : undefined
  const traits = takesTraits && isObject(message.traits) ? message.traits : undefined
  const groupType = groupTypeOf(context, type === 'group' ? traits : undefined)
  const hasTwoIds = userId !== '' && anonymousId !== '' && userId !== anonymousId

  let event: Json | undefined = CALLS[type].event
  let distinctId = userId || anonymousId
  let set: JsonObject | undefined
  switch (type) {
    case 'track':
      event = message.event
      break
    case 'identify':
      if (userId === '') event = ANONYMOUS_IDENTIFY_EVENT
      else if (hasTwoIds) force(properties, '$anon_distinct_id', anonymousId, left)
      set = traits
      break
    case 'page':
      put(properties, 'name', message.name, left, 'name')
      put(properties, 'category', message.category, left, 'category')
      break
    case 'screen':
      put(properties, '$screen_name', message.name, left, 'name')
      put(properties, 'category', message.category, left, 'category')
      break
    case 'group':
      force(properties, '$group_type', groupType, left)
      force(properties, '$group_key', ids.groupId, left)
      force(properties, '$group_set', traits ?? {}, left)
      distinctId ||= `$${groupType}_${ids.groupId}`
      break
    case 'alias':
      force(properties, 'alias', ids.previousId, left)
      break
  }
  if (hasTwoIds && type !== 'identify') put(properties, '$anonymous_id', anonymousId, left, 'anonymousId')
  put(properties, '$message_id', message.messageId, left, 'messageId')
  const isGroupUsed = addGroups(type, properties, context, groupType, ids)
  if (context !== undefined) {
    const ofContext = context.traits
    // What a group call says of the user has no effect with it, so it is only kept.
    if (type !== 'group' && isObject(ofContext)) {
      set = set === undefined ? ofContext : { ...ofContext, ...set }
      context.traits = null
    }
    addContext(properties, context)
  }
  const isFromServer = message.channel === 'server' || isServerLibrary(properties.$lib)
  if (isFromServer && !Object.hasOwn(properties, '$ip')) place(properties, '$geoip_disable', true)
  completePage(properties)
  addRest(type, message, isGroupUsed, properties, left)
  // What the message sets by our own name is meant so.
  if (set !== undefined && isObject(properties.$set)) set = { ...set, ...properties.$set }

  const { timestamp, originalTimestamp } = message
  return {
    event,
    distinctId,
    timestamp: timestamp ?? originalTimestamp,
    isTimeFinal: isPresent(timestamp) && isPresent(originalTimestamp),
    properties,
    set,
  }
}

/** The message's own properties; those of a page get our names. */
function propertiesOf(type: CallType, message: JsonObject): JsonObject {
  const own = message.properties
  if (!isObject(own)) return {}
  if (type !== 'page') return own
  const properties = emptyObject()
  for (const key of Object.keys(own)) {
    const to = PAGE_PROPERTIES.get(key)
    // A page that has both names means two things.
    properties[to === undefined || Object.hasOwn(own, to) ? key : to] = own[key]!
  }
  return properties
}

function groupTypeOf(context: JsonObject | undefined, traits: JsonObject | undefined): string {
  const ofContext = context?.groupType
  if (typeof ofContext === 'string' && ofContext !== '') return ofContext
  const ofTraits = traits?.groupType
  return typeof ofTraits === 'string' && ofTraits !== '' ? ofTraits : DEFAULT_GROUP_TYPE
}

/**
 * The group that a call belongs to: of its context, else its own. True when the message's own `groupId` is in the event
 * now; what was used of `context` is cleared there.
 */
function addGroups(
  type: CallType,
  properties: JsonObject,
  context: JsonObject | undefined,
  groupType: string,
  ids: MessageIds,
): boolean {
  const isGroupCall = type === 'group'
  const key = ids.contextGroupId || (isGroupCall ? '' : ids.groupId)
  const isPlaced = key !== '' && placeGroup(properties, groupType, key)
  if (context !== undefined) {
    if (isPlaced && ids.contextGroupId !== '') context.groupId = null
    if (context.groupType === groupType && (isPlaced || isGroupCall)) context.groupType = null
  }
  return isGroupCall || (isPlaced && (ids.contextGroupId === '' || ids.groupId === key))
}

function placeGroup(properties: JsonObject, type: string, key: string): boolean {
  const own = properties.$groups
  if (isObject(own)) {
    if (Object.hasOwn(own, type)) return own[type] === key
    Object.defineProperty(own, type, { value: key, enumerable: true })
    return true
  }
  const groups = emptyObject()
  groups[type] = key
  return place(properties, '$groups', groups)
}

/** Members of the message that nothing above took. */
function addRest(
  type: CallType,
  message: JsonObject,
  isGroupUsed: boolean,
  properties: JsonObject,
  left: JsonObject,
): void {
  for (const key of Object.keys(message)) {
    if (READ.has(key) || DROPPED.has(key)) continue
    const value = message[key]!
    if (value === null || isEmptyObject(value) || isTaken(key, type, message, isGroupUsed)) continue
    left[key] = value
  }
  if (!isEmptyObject(left)) addOwn(properties, '$segment', left)
}

function isTaken(key: string, type: CallType, message: JsonObject, isGroupUsed: boolean): boolean {
  switch (key) {
    case 'event':
      return type === 'track'
    case 'traits':
      return type === 'identify' || type === 'group'
    case 'name':
    case 'category':
      return type === 'page' || type === 'screen'
    case 'previousId':
      return type === 'alias'
    case 'groupId':
      return isGroupUsed
    case 'context':
      return isObject(message.context)
    case 'originalTimestamp':
      return !isPresent(message.timestamp)
    default:
      return false
  }
}

function put(
  properties: JsonObject,
  name: string,
  value: Json | undefined,
  left: JsonObject,
  leftName: string,
): void {
  if (value !== undefined && value !== null && !place(properties, name, value)) left[leftName] = value
}

/** Sets what the call itself says; a property that the message calls so is only kept. */
function force(properties: JsonObject, name: string, value: Json, left: JsonObject): void {
  const own = properties[name]
  if (own !== undefined && own !== value) left[name] = own
  properties[name] = value
}

function isServerLibrary(library: Json | undefined): boolean {
  return typeof library === 'string' && SERVER_LIBRARIES.has(library)
}
