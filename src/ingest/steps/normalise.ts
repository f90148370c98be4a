/**
 * Brings an event into the one shape that is stored (ingestion spec §4.1 to §4.6): what it says of its person, from the
 * two places where that may stand and from its device and campaign; where and when it was sent; the name's length; the
 * clicked elements. docs/guides/ingestion.md has the rules, and where they differ from upstream's.
 * Works on a copy, made by one object spread: key by key it takes six times as long.
 */
import { type Outcome, pass, type RawHeader } from '../../event/index.ts'
import type { Draft, ParsedEvent } from '../draft.ts'
import type { Json, JsonObject } from '../identity/types.ts'
import { cut, isObject, own } from '../json.ts'
import { elementsChain } from './elements-chain.ts'
import { fillInOs, liftPersonProperties } from './person-properties.ts'

/** UTF-16 units. */
const NAME_UNITS_MAX = 200
/** What SDKs keep with events for their own use, by the kilobyte. */
export const BLOAT_PROPERTIES = [
  'ph_product_tours',
  '$product_tours_activated',
  '$override_feature_flag_payloads',
] as const
/** Not about what a person did. */
export const NEVER_LIFTED_EVENTS: ReadonlySet<string> = new Set(['$snapshot', '$performance_event'])

export function normalise(event: ParsedEvent): Outcome<Draft> {
  const { header, project, personProcessing } = event
  const { anonymizeIps } = project.options
  const properties: JsonObject = { ...event.properties }
  const personless = personProcessing !== 'on'

  if (!anonymizeIps && header.ip !== '' && properties.$ip === undefined) properties.$ip = header.ip
  fillInSentAt(properties, header)
  fillInOs(properties)
  for (const name of BLOAT_PROPERTIES) remove(properties, name)

  // A $groupidentify speaks of a group: what it says of a person is left out.
  const aboutPerson = !personless && header.event !== '$groupidentify'
  const { sent, set, setOnce, unset } = aboutPerson
    ? personUpdate(event, properties, anonymizeIps)
    : NO_UPDATE
  replace(properties, '$set', sent.set)
  replace(properties, '$set_once', sent.setOnce)
  replace(properties, '$unset', unset)
  if (anonymizeIps) remove(properties, '$ip')

  if (personless) properties.$process_person_profile = false
  else remove(properties, '$process_person_profile')
  const chain = takeElements(properties)
  return pass({
    header,
    project,
    teamId: project.teamId,
    name: cut(header.event, NAME_UNITS_MAX),
    properties,
    set,
    setOnce,
    unset,
    personProcessing,
    elementsChain: chain,
  })
}

type PersonUpdate = Pick<Draft, 'set' | 'setOnce' | 'unset'> & {
  /** As the client has it: all that the row shows, because what is lifted stands in the event's properties already. */
  sent: Pick<Draft, 'set' | 'setOnce'>
}
const NOTHING = { set: undefined, setOnce: undefined }
const NO_UPDATE: PersonUpdate = { ...NOTHING, sent: NOTHING, unset: undefined }

/** What the event says of its person; `properties` are its own, filled in. */
function personUpdate(
  { header, body }: ParsedEvent,
  properties: JsonObject,
  anonymizeIps: boolean,
): PersonUpdate {
  const sentSet = merged(properties.$set, own(body, '$set'))
  const sentOnce = merged(properties.$set_once, own(body, '$set_once'))
  if (anonymizeIps) {
    remove(sentSet, '$ip')
    remove(sentOnce, '$ip')
    remove(sentOnce, '$initial_ip')
  }
  const set = { ...sentSet }
  const setOnce = { ...sentOnce }
  if (!NEVER_LIFTED_EVENTS.has(header.event)) liftPersonProperties(properties, set, setOnce)
  return {
    sent: { set: orNone(sentSet), setOnce: orNone(sentOnce) },
    set: orNone(set),
    setOnce: orNone(setOnce),
    unset: unsetKeys(properties.$unset, own(body, '$unset')),
  }
}

/** A new object. The event's own level wins over the one in `properties`; what is not an object counts as absent. */
function merged(inProperties: Json | undefined, atTop: Json | undefined): JsonObject {
  return { ...(isObject(inProperties) ? inProperties : undefined), ...(isObject(atTop) ? atTop : undefined) }
}

function orNone(object: JsonObject): JsonObject | undefined {
  for (const _ in object) return object
  return undefined
}

/** Each a list of keys, or an object whose keys count; anything else in it is ignored. Undefined when both are absent. */
function unsetKeys(inProperties: Json | undefined, atTop: Json | undefined): string[] | undefined {
  const inner = keysOf(inProperties)
  const outer = keysOf(atTop)
  return inner && outer ? [...new Set([...inner, ...outer])] : (inner ?? outer)
}

function keysOf(value: Json | undefined): string[] | undefined {
  if (Array.isArray(value)) return value.filter((key) => typeof key === 'string')
  return isObject(value) ? Object.keys(value) : undefined
}

function replace(properties: JsonObject, key: string, value: JsonObject | string[] | undefined): void {
  if (value === undefined) remove(properties, key)
  else properties[key] = value
}

/** A delete costs the object its fast form even where there is nothing to delete. */
function remove(object: JsonObject, key: string): void {
  if (object[key] !== undefined) delete object[key]
}

/** Takes the clicked elements out of `properties` and gives them as one text; what cannot be read stays where it is. */
function takeElements(properties: JsonObject): string {
  const { $elements_chain: chain, $elements: elements } = properties
  if (typeof chain === 'string' && chain !== '') {
    remove(properties, '$elements_chain')
    remove(properties, '$elements')
    return chain
  }
  if (!Array.isArray(elements)) return ''
  const built = elementsChain(elements)
  if (built !== '' || elements.length === 0) remove(properties, '$elements')
  return built
}

/** Beyond this a Date has no text. */
const DATE_MS_MAX = 8.64e15

/** The events of a request were sent at once: nearly always the text is that of the event before. */
let lastSentAtMs = Number.NaN
let lastSentAt = ''

function fillInSentAt(properties: JsonObject, { sentAtMs }: RawHeader): void {
  if (sentAtMs === undefined || properties.$sent_at !== undefined || Math.abs(sentAtMs) > DATE_MS_MAX) return
  if (sentAtMs !== lastSentAtMs) {
    lastSentAt = new Date(sentAtMs).toISOString()
    lastSentAtMs = sentAtMs
  }
  properties.$sent_at = lastSentAt
}
