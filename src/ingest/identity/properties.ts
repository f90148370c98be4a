/**
 * What `$set`, `$set_once` and `$unset` of one event do to the properties of a person (ingestion spec §7). Pure.
 * `$set` wins over `$set_once`, `$unset` over both; a change is a difference by deep equality; a change that
 * consists only of known, suppressed keys is shown on the event but not stored. By order of arrival; event-time.ts has
 * the other order.
 */
import { put } from '../../event/index.ts'
import { sanitiseJson, sanitiseText } from './sanitise.ts'
import type { IdentityEvent, Json, JsonObject } from './types.ts'

/** Events that never update a person. */
const NEVER_UPDATE = new Set(['$exception', '$$heatmap'])

/** Events that are about the person: everything they say is stored. */
const PERSON_EVENTS = new Set(['$identify', '$create_alias', '$merge_dangerously', '$set'])

export type Request = Pick<IdentityEvent, 'name' | 'set' | 'setOnce' | 'unset'>

export type PropertyChange = {
  puts: [key: string, value: Json][]
  removals: string[]
  /** In the order of event times: the new time of each key that the event speaks of with effect. */
  times?: [key: string, time: number | [once: number, floor: number]][]
  /** False: shown on this event only. */
  stored: boolean
}

/** Events that show what they set but change nothing. */
export function neverUpdates(event: Request): boolean {
  return NEVER_UPDATE.has(event.name)
}

/** The difference that `event` makes to `properties` in the order of arrival; undefined when none. */
export function changeOf(
  properties: JsonObject,
  event: Request,
  suppressed: ReadonlySet<string>,
): PropertyChange | undefined {
  const never = neverUpdates(event)
  const puts: [string, Json][] = []
  const unset = event.unset?.length && !never ? new Set(event.unset.map(sanitiseText)) : undefined
  if (event.set) collectSet(properties, event.set, unset, puts)
  if (event.setOnce && !never) collectSetOnce(properties, event.setOnce, event.set, unset, puts)
  const removals: string[] = []
  if (unset) for (const key of unset) if (Object.hasOwn(properties, key)) removals.push(key)
  if (puts.length === 0 && removals.length === 0) return undefined
  const change: PropertyChange = { puts, removals, stored: false }
  change.stored = !never && isWorthWriting(properties, event.name, change, suppressed)
  return change
}

function collectSet(
  properties: JsonObject,
  set: JsonObject,
  unset: Set<string> | undefined,
  puts: [string, Json][],
): void {
  for (const raw of Object.keys(set)) {
    let key = raw
    let known = Object.hasOwn(properties, key)
    // The common case, an equal primitive under a known key, needs no look at the characters.
    if (known && properties[key] === set[raw]) continue
    if (!known) {
      key = sanitiseText(raw)
      known = Object.hasOwn(properties, key)
    }
    if (unset?.has(key)) continue
    const value = sanitiseJson(set[raw]!)
    if (!known || !deepEqual(properties[key]!, value)) puts.push([key, value])
  }
}

function collectSetOnce(
  properties: JsonObject,
  setOnce: JsonObject,
  set: JsonObject | undefined,
  unset: Set<string> | undefined,
  puts: [string, Json][],
): void {
  for (const raw of Object.keys(setOnce)) {
    const held = Object.hasOwn(properties, raw) ? properties[raw] : undefined
    if (held !== undefined && held !== null) continue
    if (set && Object.hasOwn(set, raw)) continue
    const key = sanitiseText(raw)
    const value = sanitiseJson(setOnce[raw]!)
    const known = Object.hasOwn(properties, key)
    if (unset?.has(key) || puts.some(([taken]) => taken === key && key !== raw)) continue
    if (!known || (properties[key] === null && value !== null)) puts.push([key, value])
  }
}

/** Whether a change is stored: one known key that is not suppressed, or a new key, releases all of it. */
export function isWorthWriting(
  properties: JsonObject,
  name: string,
  { puts, removals, times }: PropertyChange,
  suppressed: ReadonlySet<string>,
): boolean {
  if (removals.length > 0 || PERSON_EVENTS.has(name)) return true
  const releases = ([key]: [string, unknown]) => !suppressed.has(key) || !Object.hasOwn(properties, key)
  return puts.some(releases) || (times?.some(releases) ?? false)
}

/** The values that stand under `keys` now. */
export function valuesUnder(properties: JsonObject, keys: readonly string[]): JsonObject {
  const values: JsonObject = {}
  for (const key of keys) if (Object.hasOwn(properties, key)) put(values, key, properties[key]!)
  return values
}

/** Applies `change` to `properties` in place. */
export function applyChange(properties: JsonObject, change: PropertyChange): void {
  for (const [key, value] of change.puts) put(properties, key, value)
  for (const key of change.removals) delete properties[key]
}

/** The properties of a person at its creation (ingestion spec §6). */
export function initialProperties(event: IdentityEvent): JsonObject {
  const properties: JsonObject = {}
  for (const [key, value] of Object.entries(event.setOnce ?? {})) {
    put(properties, sanitiseText(key), sanitiseJson(value))
  }
  for (const [key, value] of Object.entries(event.set ?? {})) {
    put(properties, sanitiseText(key), sanitiseJson(value))
  }
  for (const key of event.unset ?? []) delete properties[sanitiseText(key)]
  properties.$creator_event_uuid = event.uuid
  return properties
}

/** Of two persons that become one: everything of both, the survivor's value where both have one. */
export function mergedProperties(survivor: JsonObject, loser: JsonObject): JsonObject {
  const merged: JsonObject = {}
  for (const key of Object.keys(loser)) put(merged, key, loser[key]!)
  for (const key of Object.keys(survivor)) put(merged, key, survivor[key]!)
  return merged
}

/** Equality of JSON values; the order of keys does not matter. */
export function deepEqual(a: Json, b: Json): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false
    return a.every((item, i) => deepEqual(item, b[i]!))
  }
  const keys = Object.keys(a)
  if (keys.length !== Object.keys(b).length) return false
  return keys.every((key) => Object.hasOwn(b, key) && deepEqual(a[key]!, b[key]!))
}
