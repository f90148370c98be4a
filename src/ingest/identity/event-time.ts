/**
 * Properties by the time of their events (`propertyOrder: 'eventTime'`): the stored values are those that the same
 * events would give in the order of their timestamps, in whatever order they arrive. (But a `$set_once` that found
 * something is forgotten: an `$unset`, or a `$set` to null, that arrives later does not bring it back.) Pure. Each key of a person is a
 * register; what it holds is in the properties, how it came there in its KeyTime:
 *
 *   n               `$set` wrote it at n, or `$unset` removed it at n (then the key is absent)
 *   [once, floor]   `$set_once` wrote it at `once`, after it was removed at `floor` (0: never)
 *   none            it is not known when: any event is newer
 *
 *   $set at t        takes hold when t ≥ n or t ≥ floor: where a `$set` stands, a `$set_once` changes nothing
 *   $set_once at t   takes hold when nothing stands there and t > n, or when t lies between floor and once
 *   $unset at t      removes when t ≥ n or t ≥ once; between floor and once it only raises the floor
 *
 * Nothing stands under a key that is absent or null. Of equal times the later arrival counts. A merge joins the registers
 * of both persons by the same rules, the survivor's first among equals.
 */

import { put } from '../../event/index.ts'
import { deepEqual, type PropertyChange, type Request } from './properties.ts'
import { sanitiseJson, sanitiseText } from './sanitise.ts'
import type { IdentityEvent, Json, JsonObject } from './types.ts'

type KeyTime = number | [once: number, floor: number]
export type KeyTimes = Map<string, KeyTime>

/** Removed keys whose time is remembered, per person: the newest. Else `$unset` of made-up keys would pile up. */
export const REMOVED_KEYS_MAX = 256

export function parseTimes(text: string | undefined): KeyTimes {
  return new Map(text ? Object.entries(JSON.parse(text) as Record<string, KeyTime>) : [])
}

/** As JSON; `{}` when nothing is known. Forgets the oldest removals beyond REMOVED_KEYS_MAX. */
export function timesJson(times: KeyTimes, properties: JsonObject): string {
  if (times.size > REMOVED_KEYS_MAX) {
    const removed = [...times].filter(([key]) => !Object.hasOwn(properties, key))
    removed.sort(([, a], [, b]) => lastOf(b) - lastOf(a))
    for (const [key] of removed.slice(REMOVED_KEYS_MAX)) times.delete(key)
  }
  return JSON.stringify(Object.fromEntries(times))
}

/** Below it an event is too old to change what stands. */
function lastOf(time: KeyTime): number {
  return typeof time === 'number' ? time : time[1]
}

/** The times of a person that `event` creates: of what initialProperties takes from it. */
export function initialTimes(event: IdentityEvent, properties: JsonObject): KeyTimes {
  const times: KeyTimes = new Map()
  const at = timeOf(event)
  for (const raw of Object.keys(event.setOnce ?? {})) times.set(sanitiseText(raw), [at, 0])
  for (const raw of Object.keys(event.set ?? {})) times.set(sanitiseText(raw), at)
  for (const raw of event.unset ?? []) times.set(sanitiseText(raw), at)
  // Written by the step itself, whatever the event said.
  if (Object.hasOwn(properties, '$creator_event_uuid')) times.delete('$creator_event_uuid')
  return times
}

/** Times are whole and not negative: 0 stands for "never". */
function timeOf(event: Pick<IdentityEvent, 'timestampMs'>): number {
  return Math.max(1, Math.round(event.timestampMs))
}

type Draft = { properties: JsonObject; times: KeyTimes; at: number; change: PropertyChange }

/**
 * The difference that an event makes to `properties` and `times`; undefined when none. A value that is confirmed by a
 * newer event changes its time only. `times` of the result is what to set, undefined for a time that is to go.
 */
export function timedChangeOf(
  properties: JsonObject,
  times: KeyTimes,
  event: Request & Pick<IdentityEvent, 'timestampMs'>,
): PropertyChange | undefined {
  const change: PropertyChange = { puts: [], removals: [], times: [], stored: true }
  const draft: Draft = { properties, times, at: timeOf(event), change }
  const unset = new Set(event.unset?.map(sanitiseText))
  const set = new Set<string>()
  for (const raw of Object.keys(event.set ?? {})) {
    const key = sanitiseText(raw)
    set.add(key)
    if (!unset.has(key)) timedSet(draft, key, sanitiseJson(event.set![raw]!))
  }
  for (const raw of Object.keys(event.setOnce ?? {})) {
    const key = sanitiseText(raw)
    if (unset.has(key) || set.has(key)) continue
    // The same key twice: two spellings that became one.
    set.add(key)
    timedSetOnce(draft, key, sanitiseJson(event.setOnce![raw]!))
  }
  for (const key of unset) timedUnset(draft, key)
  const { puts, removals, times: confirmed } = change
  return puts.length + removals.length + confirmed!.length === 0 ? undefined : change
}

function valueAt({ properties }: Draft, key: string): Json | undefined {
  return Object.hasOwn(properties, key) ? properties[key] : undefined
}

function timedSet(draft: Draft, key: string, value: Json): void {
  const { times, at, change } = draft
  const time = times.get(key) ?? 0
  if (at < lastOf(time)) return
  const held = valueAt(draft, key)
  // A null leaves nothing, so the `$set_once` after it finds nothing, as after a removal.
  if (value === null && held !== null && typeof time !== 'number' && at < time[0]) {
    change.times!.push([key, [time[0], at]])
    return
  }
  if (held === undefined || !deepEqual(held, value)) change.puts.push([key, value])
  if (time !== at) change.times!.push([key, at])
}

function timedSetOnce(draft: Draft, key: string, value: Json): void {
  const { times, at, change } = draft
  const held = valueAt(draft, key)
  const time = times.get(key) ?? 0
  const floor = lastOf(time)
  const vacant = held === undefined || (held === null && value !== null)
  if (at < floor) return
  if (!vacant && (typeof time === 'number' || at >= time[0] || value === null)) return
  if (held === undefined || !deepEqual(held, value)) change.puts.push([key, value])
  change.times!.push([key, [at, floor]])
}

function timedUnset(draft: Draft, key: string): void {
  const { times, at, change } = draft
  const time = times.get(key) ?? 0
  if (at < lastOf(time)) return
  if (typeof time !== 'number' && at < time[0]) {
    change.times!.push([key, [time[0], at]])
    return
  }
  if (Object.hasOwn(draft.properties, key)) change.removals.push(key)
  if (time !== at) change.times!.push([key, at])
}

export type Timed = { properties: JsonObject; times: KeyTimes }

/** Of two persons that become one: per key what the newer of both says, the survivor's among equals. */
export function mergedByTime(survivor: Timed, loser: Timed): Timed {
  const merged: Timed = { properties: {}, times: new Map() }
  const keys = new Set([
    ...Object.keys(loser.properties),
    ...Object.keys(survivor.properties),
    ...loser.times.keys(),
    ...survivor.times.keys(),
  ])
  for (const key of keys) {
    const of = (side: Timed) => ({
      value: Object.hasOwn(side.properties, key) ? side.properties[key]! : undefined,
      time: side.times.get(key),
    })
    const { value, time } = joined(of(survivor), of(loser))
    if (value !== undefined) put(merged.properties, key, value)
    if (time !== undefined) merged.times.set(key, time)
  }
  return merged
}

type Register = { value: Json | undefined; time: KeyTime | undefined }

function joined(ours: Register, theirs: Register): Register {
  // What is not there and never was, as far as is known.
  if (theirs.value === undefined && theirs.time === undefined) return ours
  if (ours.value === undefined && ours.time === undefined) return theirs
  const [a, b] = [ours.time ?? 0, theirs.time ?? 0]
  if (typeof a === 'number' && typeof b === 'number') return b > a ? theirs : ours
  if (typeof a === 'number') return onceJoined(theirs, b as [number, number], ours, a)
  if (typeof b === 'number') return onceJoined(ours, a, theirs, b)
  const floor = Math.max(a[1], b[1])
  const valid = [ours, theirs].filter((one) => onceOf(one) >= floor)
  const telling = valid.filter((one) => one.value !== null)
  const candidates = telling.length > 0 ? telling : valid
  const oldest = candidates.reduce((x, y) => (onceOf(y) < onceOf(x) ? y : x), candidates[0] ?? ours)
  return { value: oldest.value, time: [onceOf(oldest), floor] }
}

/** A value by `$set_once` and one by `$set` or `$unset`: the latter, but where it left nothing before the former came. */
function onceJoined(once: Register, [at, floor]: [number, number], other: Register, time: number): Register {
  const stands = other.value !== undefined && other.value !== null
  if (stands) return time >= floor ? other : once
  return at >= time ? { value: once.value, time: [at, Math.max(floor, time)] } : other
}

function onceOf({ time }: Register): number {
  return (time as [number, number])[0]
}
