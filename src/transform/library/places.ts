/**
 * Where a named property stands: in the event's properties, and in what the event says of its person (`$set`,
 * `$set_once`): who hashes an e-mail address must not leave it there. In: an event and names. Out: the event with some
 * values changed; copies only what changes, along its path.
 *
 * A name with dots means the property of this very name, or, where there is none, a path into objects.
 */
import { isObject, type Json, type JsonObject, put, without } from '../../event/index.ts'
import type { TransformEvent } from '../outcome.ts'

export const PERSON_PLACES = ['$set', '$set_once'] as const

export type Name = { readonly whole: string; readonly head: string; readonly rest: Name | undefined }

export function namesOf(texts: readonly string[]): Name[] {
  return texts.map(nameOf)
}

function nameOf(whole: string): Name {
  const dot = whole.indexOf('.')
  // A dot at either end is part of a name.
  if (dot <= 0 || dot === whole.length - 1) return { whole, head: whole, rest: undefined }
  return { whole, head: whole.slice(0, dot), rest: nameOf(whole.slice(dot + 1)) }
}

/** The new value; undefined takes the property away; the same one leaves it. */
export type ChangeValue = (value: Json) => Json | undefined

export function changeValues(
  event: TransformEvent,
  names: readonly Name[],
  change: ChangeValue,
): TransformEvent {
  let properties = changeIn(event.properties, names, change)
  for (const place of PERSON_PLACES) {
    const said = properties[place]
    if (!isObject(said)) continue
    const changed = changeIn(said, names, change)
    if (changed !== said) properties = withValue(properties, event.properties, place, changed)
  }
  return withProperties(event, properties)
}

export function withProperties(event: TransformEvent, properties: JsonObject): TransformEvent {
  return properties === event.properties ? event : { ...event, properties }
}

export function changeIn(object: JsonObject, names: readonly Name[], change: ChangeValue): JsonObject {
  let changed = object
  for (let i = 0; i < names.length; i++) changed = changeOne(changed, object, names[i]!, change)
  return changed
}

/** `original` is what must stay as it is; `object` may be a copy of it already. */
function changeOne(object: JsonObject, original: JsonObject, name: Name, change: ChangeValue): JsonObject {
  if (Object.hasOwn(object, name.whole)) {
    const value = object[name.whole]!
    const changed = change(value)
    return changed === value ? object : withValue(object, original, name.whole, changed)
  }
  if (!name.rest || !Object.hasOwn(object, name.head)) return object
  const inner = object[name.head]!
  if (!isObject(inner)) return object
  const changed = changeOne(inner, inner, name.rest, change)
  return changed === inner ? object : withValue(object, original, name.head, changed)
}

/** Copies `object` if it still is `original`. */
export function withValue(
  object: JsonObject,
  original: JsonObject,
  key: string,
  value: Json | undefined,
): JsonObject {
  if (value === undefined) return without(object, [key])
  const copy = object === original ? { ...object } : object
  put(copy, key, value)
  return copy
}

/** The value of a name; undefined when there is none. */
export function findValue(object: JsonObject, name: Name): Json | undefined {
  if (Object.hasOwn(object, name.whole)) return object[name.whole]
  if (!name.rest || !Object.hasOwn(object, name.head)) return undefined
  const inner = object[name.head]
  return isObject(inner) ? findValue(inner, name.rest) : undefined
}
