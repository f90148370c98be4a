/** Built-ins that change what values are: their types, their nesting, their times, and what a person keeps of the first. */
import { isObject, type Json, type JsonObject } from '../../event/index.ts'
import { Refusal, type TransformEvent } from '../outcome.ts'
import { builtIn, NAMES } from './built-in.ts'
import { changeValues, findValue, namesOf, withProperties, withValue } from './places.ts'

const TYPES = ['string', 'number', 'integer', 'boolean', 'datetime'] as const
type Type = (typeof TYPES)[number]

export const propertyTypes = builtIn<{
  types: Record<string, Type>
  otherwise: 'keep' | 'remove' | 'fail'
}>({
  does: 'Gives properties their types: `"12"` becomes 12, `"true"` true, a date in any spelling one in ISO 8601. What cannot be converted without loss is kept, removed, or fails the event.',
  properties: {
    types: {
      type: 'object',
      additionalProperties: { enum: TYPES },
      minProperties: 1,
      maxProperties: 1_000,
      description: 'Name to type; also in `$set` and `$set_once`.',
    },
    otherwise: { enum: ['keep', 'remove', 'fail'], default: 'keep' },
  },
  required: ['types'],
  make({ types, otherwise }) {
    const wanted = Object.entries(types).map(([text, type]) => ({
      names: namesOf([text]),
      convert: (value: Json) => {
        if (value === null) return value
        const converted = CONVERSIONS[type](value)
        if (converted !== undefined) return converted
        if (otherwise === 'fail') throw new Refusal(`property ${text} is no ${type}`)
        return otherwise === 'keep' ? value : undefined
      },
    }))
    return (event) => {
      let changed = event
      for (const { names, convert } of wanted) changed = changeValues(changed, names, convert)
      return changed
    }
  },
})

/** Undefined for what cannot be. */
const CONVERSIONS: Readonly<Record<Type, (value: Json) => Json | undefined>> = {
  string: (value) => (typeof value === 'object' ? undefined : String(value)),
  number: numberOf,
  integer(value) {
    const number = numberOf(value)
    return Number.isSafeInteger(number) ? number : undefined
  },
  boolean(value) {
    if (typeof value === 'boolean') return value
    if (value === 1 || value === 'true' || value === '1') return true
    if (value === 0 || value === 'false' || value === '0') return false
    return undefined
  },
  datetime: (value) => isoOf(value),
}

const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/

function numberOf(value: Json): number | undefined {
  if (typeof value === 'number') return value
  if (typeof value === 'boolean') return Number(value)
  if (typeof value !== 'string' || value.length > 40) return undefined
  const text = value.trim()
  if (!DECIMAL.test(text)) return undefined
  const number = Number(text)
  // A number that is too exact would be another one.
  return Number.isFinite(number) && (!Number.isInteger(number) || Number.isSafeInteger(number))
    ? number
    : undefined
}

/** Above this a number is in milliseconds: in seconds it would be the year 5138. */
const SECONDS_MAX = 1e11
const ISO_LIKE = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?\s?(?:Z|[+-]\d{2}:?\d{2})?$/i

/** ISO 8601 in UTC of a date; one without a zone is in UTC. */
function isoOf(value: Json): string | undefined {
  let ms: number
  if (typeof value === 'number') ms = Math.abs(value) < SECONDS_MAX ? value * 1000 : value
  else if (typeof value !== 'string' || value.length > 40) return undefined
  else if (/^\d{9,13}(?:\.\d+)?$/.test(value)) return isoOf(Number(value))
  else if (ISO_LIKE.test(value)) {
    const text = value.trim().replace(' ', 'T').replace(/\s/, '')
    const hasZone = /(?:Z|[+-]\d{2}:?\d{2})$/i.test(text.slice(10))
    ms = Date.parse(text.length > 10 && !hasZone ? `${text}Z` : text)
  } else if (/(?:GMT|UTC|Z|[+-]\d{4})$/.test(value)) ms = Date.parse(value)
  else return undefined
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : undefined
}

export const parseTimestamps = builtIn<{ properties: string[]; parts: boolean }>({
  does: 'Writes dates in ISO 8601 and UTC, from ISO 8601, RFC 2822, seconds or milliseconds since 1970. What is none stays.',
  properties: {
    properties: { ...NAMES, minItems: 0, default: [], description: 'Which; also in `$set` and `$set_once`.' },
    parts: {
      type: 'boolean',
      default: false,
      description:
        "Adds what the event's own time says, in UTC: `year`, `month`, `day`, `hour`, `minute`, `day_of_week` (Monday is 1).",
    },
  },
  make({ properties, parts }) {
    const names = namesOf(properties)
    const parsed = (value: Json) => isoOf(value) ?? value
    return (event) => {
      const changed = names.length > 0 ? changeValues(event, names, parsed) : event
      return parts ? withParts(changed) : changed
    }
  },
})

function withParts(event: TransformEvent): TransformEvent {
  const time = new Date(event.timestampMs)
  return {
    ...event,
    properties: {
      ...event.properties,
      year: time.getUTCFullYear(),
      month: time.getUTCMonth() + 1,
      day: time.getUTCDate(),
      hour: time.getUTCHours(),
      minute: time.getUTCMinutes(),
      day_of_week: time.getUTCDay() || 7,
    },
  }
}

export const flatten = builtIn<{ separator: string; levels: number }>({
  does: 'Makes properties of what is nested in objects: `{"cart": {"total": 5}}` becomes `cart__total`. Lists stay, and so do names that begin with `$`.',
  properties: {
    separator: { type: 'string', minLength: 1, maxLength: 10, default: '__' },
    levels: {
      type: 'integer',
      minimum: 1,
      maximum: 10,
      default: 5,
      description: 'What is deeper stays an object.',
    },
  },
  make({ separator, levels }) {
    return (event) => {
      const { properties } = event
      let copy = properties
      for (const key of Object.keys(properties)) {
        const value = properties[key]!
        if (key.startsWith('$') || !isObject(value)) continue
        copy = withValue(copy, properties, key, undefined)
        flattenInto(copy, value, key, separator, levels)
      }
      return withProperties(event, copy)
    }
  },
})

/** A property that is there already stays. */
function flattenInto(
  into: JsonObject,
  object: JsonObject,
  prefix: string,
  separator: string,
  levels: number,
): void {
  for (const key of Object.keys(object)) {
    const value = object[key]!
    const name = prefix + separator + key
    if (isObject(value) && levels > 1) flattenInto(into, value, name, separator, levels - 1)
    else if (!Object.hasOwn(into, name)) into[name] = value
  }
}

const CAMPAIGN = [
  'utm_source',
  'utm_medium',
  'utm_campaign',
  'utm_term',
  'utm_content',
  'gclid',
  'fbclid',
  'msclkid',
]

export const firstTouch = builtIn<{ properties: string[]; prefix: string }>({
  does: 'Keeps on the person what a property was when it was first seen (`$set_once`), under its name with a prefix.',
  properties: {
    properties: { ...NAMES, default: [...CAMPAIGN, '$referring_domain', '$pathname'] },
    prefix: { type: 'string', maxLength: 50, default: 'first_' },
  },
  make({ properties, prefix }) {
    const wanted = namesOf(properties).map((name) => ({
      name,
      as: prefix + name.whole.replace(/^\$/, ''),
    }))
    return (event) => {
      const { properties: all } = event
      const said = isObject(all.$set_once) ? all.$set_once : undefined
      let once: JsonObject | undefined
      for (const { name, as } of wanted) {
        const value = findValue(all, name)
        if (value === undefined || value === null || value === '' || (said && Object.hasOwn(said, as)))
          continue
        once ??= { ...said }
        once[as] = value
      }
      return once ? { ...event, properties: { ...all, $set_once: once } } : event
    }
  },
})
