/**
 * How large the properties of a person or a group may become. They are on every event of theirs and in a record of
 * their own, both of which the log refuses beyond 4 MiB: without a limit a few large `$set` would make all later
 * events of the person dead letters, and its state row one that cannot be sent at all.
 *
 * In: an object after a change. Out: the same object within the limit, and which keys were left out: of what the
 * change brought, the largest first. Sizes are bytes of compact JSON. Cost: nothing measurable below the limit.
 */
import type { Warning } from '../../event/index.ts'
import { put, sanitiseText } from './sanitise.ts'
import type { IdentityEvent, JsonObject } from './types.ts'
import type { WorkingPerson } from './workspace.ts'

export const PERSON_PROPERTIES_BYTES_MAX = 524_288
/** An event carries up to five groups beside its person and itself, and must fit into a record with all of them. */
export const GROUP_PROPERTIES_BYTES_MAX = 262_144

/** Named in a warning: enough to find the cause. */
const KEYS_TOLD_MAX = 10
const KEY_UNITS_TOLD_MAX = 100

/**
 * Brings `properties` within `bytesMax`, in place. `latest` are the keys that the change has set, and `before` holds
 * what stood there; they are taken back first. Then, when it was too large already, the largest of the rest go.
 * Returns the keys that were left out.
 */
export function keepWithin(
  bytesMax: number,
  properties: JsonObject,
  latest: readonly string[],
  before: JsonObject = {},
): string[] {
  let bytes = Buffer.byteLength(JSON.stringify(properties))
  const leftOut: string[] = []
  for (const key of largestFirst(properties, latest)) {
    if (bytes <= bytesMax) return leftOut
    bytes -= entryBytes(properties, key)
    if (Object.hasOwn(before, key)) {
      put(properties, key, before[key]!)
      bytes += entryBytes(properties, key)
    } else delete properties[key]
    leftOut.push(key)
  }
  for (const key of largestFirst(properties, Object.keys(properties))) {
    if (bytes <= bytesMax) break
    bytes -= entryBytes(properties, key)
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
  return text.length <= GROUP_PROPERTIES_BYTES_MAX ? text : JSON.stringify(JSON.parse(text))
}

function largestFirst(properties: JsonObject, keys: readonly string[]): string[] {
  const sized = keys
    .filter((key) => Object.hasOwn(properties, key))
    .map((key) => ({ key, bytes: entryBytes(properties, key) }))
  // By key among equals, so that a fold that runs again decides the same.
  return sized.sort((a, b) => b.bytes - a.bytes || (a.key < b.key ? -1 : 1)).map(({ key }) => key)
}

/** The member with its colon and comma. */
function entryBytes(properties: JsonObject, key: string): number {
  return Buffer.byteLength(JSON.stringify(key)) + Buffer.byteLength(JSON.stringify(properties[key])) + 2
}

/** To be called after `event` made the properties of `person` grow; see `keepWithin`. */
export function limitPerson(
  person: WorkingPerson,
  event: IdentityEvent,
  warnings: Warning[],
  latest: readonly string[] = [],
  before: JsonObject = {},
): void {
  if (!isOver(PERSON_PROPERTIES_BYTES_MAX, person.json)) return
  const leftOut = keepWithin(PERSON_PROPERTIES_BYTES_MAX, person.properties, latest, before)
  person.propertiesTouched(event.nowMs)
  const whose = { personId: person.uuid }
  warnings.push(
    tooLargeWarning('person_properties_too_large', event, PERSON_PROPERTIES_BYTES_MAX, leftOut, whose),
  )
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
