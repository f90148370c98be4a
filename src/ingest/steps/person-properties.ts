/**
 * Which properties of an event are properties of its person, too (ingestion spec §4.3): what the device and the campaign
 * were. The value goes into `$set`, and under `$initial_<name without its first $>` into `$set_once`, where neither
 * names it already. docs/guides/ingestion.md lists them.
 *
 * Left out, because they say nothing of a person or too much: null, objects and arrays, texts of more than
 * `LIFTED_UNITS_MAX` (each lifted value is stored three times, two of them with every later event of the person), and
 * the operating system of an event that says `$is_server`.
 * Cost: 1 µs for a page view of 35 properties, half of them lifted.
 */
import type { Json, JsonObject } from '../identity/types.ts'

export const DEVICE_PROPERTIES = [
  '$app_build',
  '$app_name',
  '$app_namespace',
  '$app_version',
  '$browser',
  '$browser_version',
  '$device_type',
  '$current_url',
  '$pathname',
  '$os',
  '$os_version',
  '$referring_domain',
  '$referrer',
  '$screen_height',
  '$screen_width',
  '$viewport_height',
  '$viewport_width',
  '$raw_user_agent',
] as const

export const CAMPAIGN_PROPERTIES = [
  'utm_source',
  'utm_medium',
  'utm_campaign',
  'utm_content',
  'utm_name',
  'utm_term',
  'gclid',
  'gad_source',
  'gclsrc',
  'dclid',
  'gbraid',
  'wbraid',
  'fbclid',
  'msclkid',
  'twclid',
  'li_fat_id',
  'mc_cid',
  'igshid',
  'ttclid',
  'rdt_cid',
  'irclid',
  '_kx',
  'epik',
  'qclid',
  'sccid',
] as const

/** UTF-16 units. Longer than any address that a browser takes without trouble. */
export const LIFTED_UNITS_MAX = 8_192
const OF_THE_SERVER: ReadonlySet<string> = new Set(['$os', '$os_version'])

const LIFTED: readonly string[] = [...DEVICE_PROPERTIES, ...CAMPAIGN_PROPERTIES]
const INITIAL = LIFTED.map((name) => `$initial_${name.replace('$', '')}`)

/** Adds to `set` and `setOnce`, which are the caller's own, what `properties` say of the person. */
export function liftPersonProperties(properties: JsonObject, set: JsonObject, setOnce: JsonObject): void {
  const isServer = properties.$is_server === true
  if (!isServer) aliasOs(set, setOnce)
  // By index over two lists, and a plain read: none of these names is on the prototype of objects. With a Map and
  // hasOwn it takes twice as long.
  for (let i = 0; i < LIFTED.length; i++) {
    const name = LIFTED[i]!
    const value = properties[name]
    if (value === undefined || !saysSomething(value)) continue
    if (isServer && OF_THE_SERVER.has(name)) continue
    const initial = INITIAL[i]!
    if (set[name] === undefined) set[name] = value
    if (setOnce[initial] === undefined) setOnce[initial] = value
  }
}

function saysSomething(value: Json): boolean {
  if (typeof value === 'string') return value.length <= LIFTED_UNITS_MAX
  return typeof value !== 'object'
}

/** `$os_name` is how some SDKs spell `$os`: an event of a device without the latter gets it. */
export function fillInOs(properties: JsonObject): void {
  const { $os, $os_name: name, $is_server } = properties
  if (name === undefined || $is_server === true || ($os !== undefined && $os !== null)) return
  if (saysSomething(name)) properties.$os = name
}

/** A person has `$os` only, whichever way an SDK spelled it. */
function aliasOs(set: JsonObject, setOnce: JsonObject): void {
  rename(set, '$os_name', '$os')
  rename(setOnce, '$initial_os_name', '$initial_os')
}

function rename(object: JsonObject, from: string, to: string): void {
  const value = object[from]
  if (value === undefined) return
  if (object[to] === undefined) object[to] = value
  delete object[from]
}
