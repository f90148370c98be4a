/**
 * Brings an event into the one shape that is stored (ingestion spec §4.1, §4.4, §4.6): `$set` and `$set_once` from
 * both places they may stand in, the flag for person processing, `$ip`, the name's length, the clicked elements.
 * Works on a copy: one object spread per event.
 */
import { type Outcome, pass } from '../../event/index.ts'
import type { Draft, ParsedEvent } from '../draft.ts'
import type { Json, JsonObject } from '../identity/types.ts'
import { isObject, own } from '../json.ts'

/** UTF-16 units. */
const NAME_LENGTH_MAX = 200

export function normalise(event: ParsedEvent, teamId: number): Outcome<Draft> {
  const { header, body } = event
  const properties: JsonObject = { ...event.properties }
  const personless = header.personProcessing !== 'on'
  // A $groupidentify speaks of a group: what it says of a person is left out.
  const aboutPerson = !personless && header.event !== '$groupidentify'

  const set = aboutPerson ? merged(own(properties, '$set'), own(body, '$set')) : undefined
  const setOnce = aboutPerson ? merged(own(properties, '$set_once'), own(body, '$set_once')) : undefined
  const unset = aboutPerson ? unsetKeys(own(properties, '$unset') ?? own(body, '$unset')) : undefined
  replace(properties, '$set', set)
  replace(properties, '$set_once', setOnce)
  if (!aboutPerson) delete properties.$unset

  if (personless) properties.$process_person_profile = false
  else delete properties.$process_person_profile
  if (!Object.hasOwn(properties, '$ip') && header.ip !== '') properties.$ip = header.ip

  const chain = own(properties, '$elements_chain')
  const elementsChain = typeof chain === 'string' ? chain : ''
  if (elementsChain !== '') {
    delete properties.$elements_chain
    delete properties.$elements
  }
  return pass({
    header,
    teamId,
    name: header.event.length > NAME_LENGTH_MAX ? header.event.slice(0, NAME_LENGTH_MAX) : header.event,
    properties,
    set,
    setOnce,
    unset,
    personProcessing: header.personProcessing,
    elementsChain,
  })
}

/** The event's own level wins over the one in `properties`; what is not an object counts as absent. */
function merged(inProperties: Json | undefined, atTop: Json | undefined): JsonObject | undefined {
  const inner = isObject(inProperties) ? inProperties : undefined
  const outer = isObject(atTop) ? atTop : undefined
  if (inner && outer) return { ...inner, ...outer }
  return outer ?? inner
}

function replace(properties: JsonObject, key: string, value: JsonObject | undefined): void {
  if (value === undefined) delete properties[key]
  else properties[key] = value
}

/** A list of keys, or an object whose keys count; anything else in it is ignored. */
function unsetKeys(value: Json | undefined): string[] | undefined {
  if (Array.isArray(value)) return value.filter((key) => typeof key === 'string')
  return isObject(value) ? Object.keys(value) : undefined
}
