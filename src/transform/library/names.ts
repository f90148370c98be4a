/** Built-ins that change what events and properties are called. */
import { isObject, type JsonObject } from '../../event/index.ts'
import { remembered } from '../agents.ts'
import type { TransformEvent } from '../outcome.ts'
import { builtIn, NAME_TO_NAME } from './built-in.ts'
import { PERSON_PLACES, withProperties, withValue } from './places.ts'

export const renameEvents = builtIn<{ names: Record<string, string> }>({
  does: 'Gives events another name.',
  properties: { names: { ...NAME_TO_NAME, description: 'Old name to new name.' } },
  required: ['names'],
  make({ names }) {
    const byName = new Map(Object.entries(names))
    return (event) => {
      const name = byName.get(event.event)
      return name === undefined || name === event.event ? event : { ...event, event: name }
    }
  },
})

export const renameProperties = builtIn<{ names: Record<string, string>; overwrite: boolean }>({
  does: 'Gives properties another name.',
  properties: {
    names: { ...NAME_TO_NAME, description: 'Old name to new name; also in `$set` and `$set_once`.' },
    overwrite: {
      type: 'boolean',
      default: false,
      description: 'What happens to a property that has the new name already: it is replaced, or both stay.',
    },
  },
  required: ['names'],
  make({ names, overwrite }) {
    const pairs = Object.entries(names).filter(([from, to]) => from !== to)
    return (event) => eachPlace(event, (object) => renamed(object, pairs, overwrite))
  },
})

/** All are read before any is written, so that two can change places. */
function renamed(object: JsonObject, pairs: readonly [string, string][], overwrite: boolean): JsonObject {
  const found = pairs.filter(([from]) => Object.hasOwn(object, from))
  if (found.length === 0) return object
  const leaving = new Set(found.map(([from]) => from))
  let copy = object
  for (const [from, to] of found) {
    const isTaken = Object.hasOwn(object, to) && !leaving.has(to)
    if (isTaken && !overwrite) leaving.delete(from)
  }
  for (const from of leaving) copy = withValue(copy, object, from, undefined)
  for (const [from, to] of found) if (leaving.has(from)) copy = withValue(copy, object, to, object[from]!)
  return copy
}

/** The event with its properties, `$set` and `$set_once` changed. */
export function eachPlace(event: TransformEvent, change: (object: JsonObject) => JsonObject): TransformEvent {
  let properties = change(event.properties)
  for (const place of PERSON_PLACES) {
    const said = properties[place]
    if (!isObject(said)) continue
    const changed = change(said)
    if (changed !== said) properties = withValue(properties, event.properties, place, changed)
  }
  return withProperties(event, properties)
}

const STYLES = ['snake_case', 'camelCase', 'PascalCase', 'kebab-case', 'lower case'] as const

export const nameStyle = builtIn<{ style: (typeof STYLES)[number]; events: boolean; properties: boolean }>({
  does: 'Writes names of events, and if wanted of properties, in one style. Names that begin with `$` stay.',
  properties: {
    style: { enum: STYLES, default: 'snake_case' },
    events: { type: 'boolean', default: true },
    properties: { type: 'boolean', default: false, description: 'Of two that become one, the first stays.' },
  },
  make({ style, events, properties }) {
    const styled = remembered((name) => inStyle(name, style))
    return (event) => {
      const name = events ? styled(event.event) : event.event
      const changed = name === event.event ? event : { ...event, event: name }
      return properties ? eachPlace(changed, (object) => withNames(object, styled)) : changed
    }
  },
})

function withNames(object: JsonObject, styled: (name: string) => string): JsonObject {
  let copy = object
  for (const key of Object.keys(object)) {
    const name = styled(key)
    if (name === key || Object.hasOwn(copy, name)) continue
    copy = withValue(copy, object, name, object[key]!)
    delete copy[key]
  }
  return copy
}

/** A word ends where a letter or digit does, before a capital after a small one, and before the last of capitals. */
const WORDS = /\p{Lu}+(?![\p{Ll}])|\p{Lu}?[\p{Ll}\p{Lo}\p{M}]+|\p{N}+/gu
const NAME_UNITS_MAX = 400

export function inStyle(name: string, style: (typeof STYLES)[number]): string {
  if (name.startsWith('$') || name.length > NAME_UNITS_MAX) return name
  const words = name.match(WORDS)?.map((word) => word.toLowerCase())
  if (!words) return name
  const capital = (word: string) => {
    const first = String.fromCodePoint(word.codePointAt(0)!)
    return first.toUpperCase() + word.slice(first.length)
  }
  switch (style) {
    case 'snake_case':
      return words.join('_')
    case 'kebab-case':
      return words.join('-')
    case 'lower case':
      return words.join(' ')
    case 'PascalCase':
      return words.map(capital).join('')
    case 'camelCase':
      return words[0]! + words.slice(1).map(capital).join('')
  }
}
