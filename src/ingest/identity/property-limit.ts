/**
 * How large the properties of a person or a group may become. They are on every event of theirs and in a record of
 * their own, both of which the log refuses beyond 4 MiB: without a limit a few large `$set` would make all later
 * events of the person dead letters, and its state row one that cannot be sent at all.
 *
 * In: an object after a change. Out: the same object within its limit, and which keys were left out. Of what the change
 * brought keys are taken back in alphabetical order, protected ones last, until the rest fits: what was stored before
 * stays. Only what was over the limit already (stored by something else) is cut itself, in the same order, down to a
 * target below the limit. Sizes are bytes of compact JSON. Cost: nothing measurable below the limit.
 */
import { put, type Warning } from '../../event/index.ts'
import type { KeyTimes } from './event-time.ts'
import { PROTECTED_KEYS } from './protected-keys.ts'
import { sanitiseText } from './sanitise.ts'
import type { IdentityEvent, Json, JsonObject } from './types.ts'
import type { WorkingPerson } from './workspace.ts'

/** Over `limit` something goes; what was stored over it is cut to `target`. */
export type SizeLimit = { limit: number; target: number }

/** Upstream's numbers (ingestion spec §8.4), which leave room in a record. */
export const PERSON_BYTES_MAX: SizeLimit = { limit: 655_360, target: 524_288 }
/** Ours: an event carries up to five groups beside its person and itself, and must fit into 4 MiB with all of them. */
export const GROUP_BYTES_MAX: SizeLimit = { limit: 262_144, target: 262_144 }
/** Beyond this text from Postgres is spelled anew. */
const LONG_UNITS = 262_144

/** Named in a warning: enough to find the cause. */
const KEYS_TOLD_MAX = 10
const KEY_UNITS_TOLD_MAX = 100

/**
 * Brings `properties` within `max`, in place; see the module comment. `latest` are the keys that the change has set, and
 * `before` holds what stood there. Returns the keys that were left out.
 */
export function keepWithin(
  max: SizeLimit,
  properties: JsonObject,
  latest: readonly string[],
  before: JsonObject = {},
): string[] {
  let bytes = Buffer.byteLength(JSON.stringify(properties))
  const leftOut: string[] = []
  for (const key of inOrder(properties, latest)) {
    if (bytes <= max.limit) return leftOut
    const now = memberBytes(key, properties[key]!)
    const then = Object.hasOwn(before, key) ? memberBytes(key, before[key]!) : 0
    // Taking it back would make it worse.
    if (then >= now) continue
    if (then === 0) delete properties[key]
    else put(properties, key, before[key]!)
    bytes -= now - then
    leftOut.push(key)
  }
  if (bytes <= max.limit) return leftOut
  for (const key of inOrder(properties, Object.keys(properties))) {
    if (bytes <= max.target) break
    bytes -= memberBytes(key, properties[key]!)
    delete properties[key]
    leftOut.push(key)
  }
  return leftOut
}

/** Whether JSON text is over the limit; counts bytes only when the number of units does not tell. */
export function isOver(bytesMax: number, json: string): boolean {
  return json.length > bytesMax || (json.length * 3 > bytesMax && Buffer.byteLength(json) > bytesMax)
}

/**
 * The text of properties as Postgres spells it, which can be many times longer than the JSON that was stored: it
 * writes numbers out (1e300 with 300 zeros) and puts blanks between members. Long ones are spelled anew.
 */
export function compactJson(text: string): string {
  return text.length <= LONG_UNITS ? text : JSON.stringify(JSON.parse(text))
}

/** Alphabetical by UTF-16 units, so that a fold that runs again decides the same; protected keys after all others. */
function inOrder(properties: JsonObject, keys: readonly string[]): string[] {
  const there = keys.filter((key) => Object.hasOwn(properties, key)).sort()
  return [
    ...there.filter((key) => !PROTECTED_KEYS.has(key)),
    ...there.filter((key) => PROTECTED_KEYS.has(key)),
  ]
}

/** With its colon and comma. */
function memberBytes(key: string, value: Json): number {
  return Buffer.byteLength(JSON.stringify(key)) + Buffer.byteLength(JSON.stringify(value)) + 2
}

/** What an event changed about a person, so that it can be taken back in part. */
export type Undo = { latest: readonly string[]; before: JsonObject; times?: KeyTimes }

/** To be called after `event` made the properties of `person` grow; see `keepWithin`. */
export function limitPerson(
  person: WorkingPerson,
  event: IdentityEvent,
  warnings: Warning[],
  { latest, before, times }: Undo = { latest: [], before: {} },
): void {
  if (!isOver(PERSON_BYTES_MAX.limit, person.json)) return
  const leftOut = keepWithin(PERSON_BYTES_MAX, person.properties, latest, before)
  person.forgetTimes(leftOut, times)
  person.propertiesTouched(event.nowMs)
  const whose = { personId: person.uuid }
  warnings.push(tooLargeWarning('person_properties_too_large', event, PERSON_BYTES_MAX.limit, leftOut, whose))
}

/** Tells the project's owner what was left out. */
export function tooLargeWarning(
  type: 'person_properties_too_large' | 'group_properties_too_large',
  event: IdentityEvent,
  bytesMax: number,
  leftOut: readonly string[],
  whose: Record<string, unknown>,
): Warning {
  return {
    type,
    details: {
      eventUuid: event.uuid,
      distinctId: event.distinctId,
      ...whose,
      bytesMax,
      leftOut: leftOut.length,
      keys: leftOut.slice(0, KEYS_TOLD_MAX).map((key) => sanitiseText(key.slice(0, KEY_UNITS_TOLD_MAX))),
    },
  }
}
