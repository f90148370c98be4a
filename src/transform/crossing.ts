/**
 * How an event crosses into the sandbox and back. In: an event, and for each of its properties a place in one text: the
 * sandbox takes from it what user code touches, and nothing else. Back: what was changed, by key. What must hold: the
 * user's code cannot tell this from an object that was there whole (prelude-event.js), and what it did not touch is the
 * very value that came in. Cost for 1.2 kB: a third of what it takes as JSON in both directions (docs/decisions/0034).
 *
 * The text: uuid, time, name, distinct_id, then the values. The table, in words of 32 bits: the shape; the ends of
 * time, name and distinct_id; then for each value where it ends. The low three bits of an end say what it is. Names of
 * properties do not cross: a shape is the list of them, told to the sandbox once.
 */
import { isSameJson, type Json, type JsonObject, put, without } from '../event/index.ts'
import type { TransformEvent } from './outcome.ts'

/** Events with more properties cross as JSON. */
const KEYS_MAX = 1_000
/** Before the values in the table. */
const TABLE_HEAD = 4
export const TABLE_WORDS = TABLE_HEAD + KEYS_MAX
/** In the place of a shape: the properties are one value, JSON. */
export const NO_SHAPE = -1
const SHAPES_MAX = 64
/** Bits of a word of the table beside the end of a value. */
const KIND_BITS = 3
/** With three bits for the kind a word has room for this many characters. */
const TEXT_CHARS_MAX = 2 ** (31 - KIND_BITS) - 1
const KINDS = { text: 0, json: 1, true: 2, false: 3, null: 4 } as const

type Shape = { readonly id: number; readonly keys: readonly string[] }

/** The shapes that a realm has been told. When there are too many all are forgotten: the next events tell theirs. */
export class Shapes {
  readonly #byNames = new Map<string, Shape>()
  #last: Shape | undefined

  /** `told` is called with a shape that the realm does not know yet. */
  of(keys: readonly string[], told: (shape: Shape) => void): Shape {
    if (this.#last && isSame(this.#last.keys, keys)) return this.#last
    const names = JSON.stringify(keys)
    let shape = this.#byNames.get(names)
    if (!shape) {
      if (this.#byNames.size >= SHAPES_MAX) this.#byNames.clear()
      shape = { id: this.#byNames.size, keys }
      told(shape)
      this.#byNames.set(names, shape)
    }
    this.#last = shape
    return shape
  }
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
  if (one.length !== other.length) return false
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false
  return true
}

/** How a realm is told a shape. */
export function shapeLine({ id, keys }: Shape): string {
  return JSON.stringify([id, keys])
}

/**
 * The text of `event`; `table` is filled in, `shapeOf` says which shape its properties have. With `asJson` the
 * properties cross as one value: what looks at all of them is faster with that.
 */
export function layOut(
  event: TransformEvent,
  table: Int32Array,
  shapeOf: (keys: readonly string[]) => Shape,
  asJson: boolean,
): string {
  const { properties } = event
  const keys = Object.keys(properties)
  // Half characters and NUL do not cross in a text, but in JSON they do, escaped.
  const name = crossable(event.event)
  const distinctId = crossable(event.distinctId)
  const time = event.uuid + timeText(event.timestampMs)
  const head = time + name + distinctId
  table[1] = time.length << KIND_BITS
  table[2] = (time.length + name.length) << KIND_BITS
  table[3] = head.length << KIND_BITS
  if (!asJson && keys.length <= KEYS_MAX) {
    table[0] = shapeOf(keys).id
    const text = layOutValues(head, keys, properties, table)
    if (text.length <= TEXT_CHARS_MAX && text.isWellFormed() && !text.includes('\0')) return text
  }
  table[0] = NO_SHAPE
  return head + JSON.stringify(properties)
}

/** Where the words of one event stand in a table of several: it is the same table, from `at` on and from `start` on in the text. */
export function moveInto(
  words: Int32Array,
  at: number,
  table: Int32Array,
  count: number,
  start: number,
): void {
  words[at] = table[0]!
  for (let i = 1; i < count; i++) words[at + i] = table[i]! + (start << KIND_BITS)
}

/** How many words of `table` say something. */
export function wordsOf({ properties }: TransformEvent, table: Int32Array): number {
  return table[0] === NO_SHAPE ? TABLE_HEAD : TABLE_HEAD + Object.keys(properties).length
}

function crossable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\ufffd')
}

function layOutValues(
  head: string,
  keys: readonly string[],
  properties: JsonObject,
  table: Int32Array,
): string {
  let text = head
  for (let i = 0; i < keys.length; i++) {
    const value = properties[keys[i]!]!
    let kind: number = KINDS.json
    if (typeof value === 'string') {
      kind = KINDS.text
      text += value
    } else if (value === null) kind = KINDS.null
    else if (value === true) kind = KINDS.true
    else if (value === false) kind = KINDS.false
    else if (typeof value === 'number') text += Number.isFinite(value) ? value : 'null'
    else text += JSON.stringify(value)
    table[TABLE_HEAD + i] = (text.length << KIND_BITS) | kind
  }
  return text
}

/** Events of one batch are near in time, but seldom of one millisecond. */
function timeText(ms: number): string {
  return new Date(ms).toISOString()
}

export const UNIT = '\u001f'
const RECORD = '\u001e'

/** What the sandbox answers of an event that goes on: records of four fields each. */
export function readEvents(from: TransformEvent, text: string): TransformEvent[] {
  // Neither separator can stand in JSON.
  return text.split(RECORD).map((record) => readEvent(from, record))
}

/** Name and id as JSON, nothing for the same as before; then `=`, or the properties, or what changes in them. */
function readEvent(from: TransformEvent, record: string): TransformEvent {
  if (record === SAME) return from
  const [name, distinctId, kind, gone, written] = record.split(UNIT) as [
    string,
    string,
    string,
    string,
    string,
  ]
  const values = parse(written) as JsonObject
  const properties = kind === 'F' ? sameOr(from.properties, values) : patched(from.properties, gone, values)
  if (properties === from.properties && name === '' && distinctId === '') return from
  return {
    uuid: from.uuid,
    event: name === '' ? from.event : (parse(name) as string),
    distinctId: distinctId === '' ? from.distinctId : (parse(distinctId) as string),
    timestampMs: from.timestampMs,
    properties,
  }
}

/** `given` when nothing differs, so that who looks whether it was changed need not look inside. */
function sameOr(given: JsonObject, written: JsonObject): JsonObject {
  const keys = Object.keys(written)
  if (keys.length !== Object.keys(given).length) return written
  for (const key of keys)
    if (!Object.hasOwn(given, key) || !isSameJson(given[key]!, written[key]!)) return written
  return given
}

const SAME = `${UNIT}${UNIT}P${UNIT}${UNIT}{}`

function patched(given: JsonObject, gone: string, written: JsonObject): JsonObject {
  let properties = given
  if (gone !== '') {
    const keys = Object.keys(given)
    properties = without(
      given,
      gone.split(',').map((place) => keys[Number(place)]!),
    )
  }
  for (const key of Object.keys(written)) {
    const value = written[key]!
    // What was only read comes back, too, when something in it might have been changed.
    if (Object.hasOwn(given, key) && isSameJson(given[key]!, value)) continue
    if (properties === given) properties = { ...given }
    put(properties, key, value)
  }
  return properties
}

const DIGIT_9 = 0x39

/** Whether an answer without JSON arrived as it was sent: it says how many entries it has, and how long they are. */
export function isWholePlain(text: string): boolean {
  const comma = text.indexOf(',')
  const start = text.indexOf(UNIT)
  if (Number(text.slice(comma + 1, start)) !== text.length - start) return false
  let entries = 0
  for (let at = start; at >= 0; at = text.indexOf(UNIT, at + 1)) entries++
  return entries === Number(text.slice(1, comma))
}

/** The event, and the names of those properties that are another than before, or gone. */
export type PlainChange = { readonly event: TransformEvent; readonly changed: readonly string[] }

/** Reads an answer without JSON (prelude-event.js): what was written, entry by entry. */
export function readPlain(from: TransformEvent, text: string): PlainChange {
  const given = from.properties
  const keys = Object.keys(given)
  const gone: string[] = []
  const changed: string[] = []
  let properties = given
  for (const entry of text.slice(text.indexOf(UNIT) + 1).split(UNIT)) {
    // A new property that was taken away again.
    if (entry === '') continue
    const { key, kind, raw } = entryOf(entry, keys)
    if (kind === 'g') {
      gone.push(key)
      continue
    }
    const value =
      kind === 's' ? raw : kind === 'n' ? Number(raw) : kind === 't' ? true : kind === 'f' ? false : null
    if (given[key] === value && Object.hasOwn(given, key)) continue
    if (properties === given) properties = { ...given }
    put(properties, key, value)
    changed.push(key)
  }
  if (gone.length > 0) properties = without(properties, gone)
  if (properties === given) return { event: from, changed }
  const { uuid, event, distinctId, timestampMs } = from
  changed.push(...gone)
  return { event: { uuid, event, distinctId, timestampMs, properties }, changed }
}

function entryOf(entry: string, keys: readonly string[]): { key: string; kind: string; raw: string } {
  if (entry.startsWith('+')) {
    const start = entry.indexOf(':') + 1
    const end = start + Number(entry.slice(1, start - 1))
    return { key: entry.slice(start, end), kind: entry[end]!, raw: entry.slice(end + 1) }
  }
  let end = 1
  while (entry.charCodeAt(end) <= DIGIT_9) end++
  return { key: keys[Number(entry.slice(0, end))]!, kind: entry[end]!, raw: entry.slice(end + 1) }
}
/** NUL and half characters, which no database takes and QuickJS escapes, become U+FFFD, as those that clients send. */
function parse(json: string): Json {
  if (!json.includes('\\u')) return JSON.parse(json) as Json
  return JSON.parse(json.replace(ESCAPES, (found) => (UNFIT.test(found) ? '\\ufffd' : found))) as Json
}

const ESCAPES = /\\(?:u[0-9a-f]{4}|[^u])/g
const UNFIT = /^\\u(?:0000|d[89a-f])/
