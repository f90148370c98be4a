/** Built-ins for addresses of pages. They work on the text: what they do not touch stays as it was sent. */
import type { Json } from '../../event/index.ts'
import { builtIn, NAMES } from './built-in.ts'
import { changeValues, namesOf } from './places.ts'

const URL_PROPERTIES = [
  '$current_url',
  '$referrer',
  '$initial_current_url',
  '$initial_referrer',
  '$session_entry_url',
  '$session_entry_referrer',
  '$prev_pageview_pathname',
  '$pathname',
  '$initial_pathname',
]
const WHICH = { ...NAMES, default: URL_PROPERTIES, description: 'Which; also in `$set` and `$set_once`.' }

export const normaliseUrls = builtIn<{
  properties: string[]
  query: 'keep' | 'remove'
  fragment: 'keep' | 'remove'
}>({
  does: 'Replaces the parts of a path that are ids (UUIDs, numbers of three digits and more, long hexadecimal) by `:id`, so that addresses of one kind are one.',
  properties: {
    properties: WHICH,
    query: { enum: ['keep', 'remove'], default: 'keep', description: 'What follows the `?`.' },
    fragment: { enum: ['keep', 'remove'], default: 'keep', description: 'What follows the `#`.' },
  },
  make({ properties, query, fragment }) {
    const names = namesOf(properties)
    const normalised = (value: Json): Json => {
      if (typeof value !== 'string') return value
      const { path, query: asked, fragment: inPage } = partsOf(value)
      const result = withoutIds(path) + (query === 'keep' ? asked : '') + (fragment === 'keep' ? inPage : '')
      return result === value ? value : result
    }
    return (event) => changeValues(event, names, normalised)
  },
})

/** Each with its `?` or `#`. */
function partsOf(url: string): { path: string; query: string; fragment: string } {
  const hash = url.indexOf('#')
  const beforeHash = hash < 0 ? url : url.slice(0, hash)
  const mark = beforeHash.indexOf('?')
  return {
    path: mark < 0 ? beforeHash : beforeHash.slice(0, mark),
    query: mark < 0 ? '' : beforeHash.slice(mark),
    fragment: hash < 0 ? '' : url.slice(hash),
  }
}

function withoutIds(path: string): string {
  // The host may be a number, and has its port.
  const scheme = path.indexOf('://')
  const from = scheme < 0 ? path.indexOf('/') : path.indexOf('/', scheme + 3)
  if (from < 0) return path
  let result = path.slice(0, from)
  let isChanged = false
  for (let at = from; at < path.length; ) {
    const next = path.indexOf('/', at + 1)
    const end = next < 0 ? path.length : next
    const segment = path.slice(at + 1, end)
    const isId = looksLikeId(segment)
    isChanged ||= isId
    result += isId ? '/:id' : path.slice(at, end)
    at = end
  }
  return isChanged ? result : path
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
const NUMBER = /^\d{3,}$/
const HEX = /^(?=.*\d)[0-9a-f]{16,}$/i

function looksLikeId(segment: string): boolean {
  return NUMBER.test(segment) || (segment.length >= 16 && (UUID.test(segment) || HEX.test(segment)))
}

export const maskUrlParameters = builtIn<{ parameters: string[]; properties: string[] }>({
  does: 'Replaces the values of named parameters in addresses by `***`, in the query and in a fragment that has one.',
  properties: {
    parameters: { ...NAMES, description: 'Names, as in the address; upper and lower case are one.' },
    properties: WHICH,
  },
  required: ['parameters'],
  make({ parameters, properties }) {
    const names = namesOf(properties)
    const masked = new Set(parameters.map((name) => name.toLowerCase()))
    const withMasks = (value: Json): Json => {
      if (typeof value !== 'string' || !value.includes('=')) return value
      const result = maskIn(value, masked)
      return result === value ? value : result
    }
    return (event) => changeValues(event, names, withMasks)
  },
})

/** A parameter begins behind `?`, `&`, `;` or `#`, and ends before the next of them. */
function maskIn(url: string, masked: ReadonlySet<string>): string {
  let result = ''
  let copied = 0
  let start = -1
  for (let i = 0; i <= url.length; i++) {
    const code = i < url.length ? url.charCodeAt(i) : AMPERSAND
    if (code !== AMPERSAND && code !== QUESTION && code !== HASH && code !== SEMICOLON) continue
    if (start >= 0) {
      const equals = url.indexOf('=', start)
      if (equals >= 0 && equals < i && masked.has(plainName(url.slice(start, equals)))) {
        result += `${url.slice(copied, equals + 1)}***`
        copied = i
      }
    }
    if (start >= 0 || code === QUESTION || code === HASH) start = i + 1
  }
  return copied === 0 ? url : result + url.slice(copied)
}

const AMPERSAND = 0x26
const QUESTION = 0x3f
const HASH = 0x23
const SEMICOLON = 0x3b

function plainName(name: string): string {
  if (name.includes('%') || name.includes('+'))
    try {
      return decodeURIComponent(name.replaceAll('+', ' ')).toLowerCase()
    } catch {
      // Not percent-encoding after all: it is taken as it stands.
    }
  return name.toLowerCase()
}
