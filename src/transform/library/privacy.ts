/** Built-ins that take out of an event what says who it is about. */
import ipaddr from 'ipaddr.js'
import { isObject, type Json, without } from '../../event/index.ts'
import type { TransformEvent } from '../outcome.ts'
import { builtIn, NAMES } from './built-in.ts'
import { eachPlace } from './names.ts'
import { changeIn, changeValues, namesOf } from './places.ts'

export const anonymiseIp = builtIn<{ ipv4Bits: number; ipv6Bits: number }>({
  does: 'Cuts addresses (`$ip`, `$initial_ip`) to their network. What is no address goes.',
  properties: {
    ipv4Bits: { type: 'integer', minimum: 0, maximum: 32, default: 24, description: 'Bits that stay.' },
    ipv6Bits: { type: 'integer', minimum: 0, maximum: 128, default: 48, description: 'Bits that stay.' },
  },
  make({ ipv4Bits, ipv6Bits }) {
    const names = namesOf(['$ip', '$initial_ip'])
    const cut = (value: Json) =>
      typeof value === 'string' ? networkOf(value, ipv4Bits, ipv6Bits) : undefined
    return (event) => changeValues(event, names, cut)
  },
})

function networkOf(text: string, ipv4Bits: number, ipv6Bits: number): string | undefined {
  let address: ipaddr.IPv4 | ipaddr.IPv6
  try {
    address = ipaddr.process(text)
  } catch {
    return undefined
  }
  const bytes = address.toByteArray()
  let bits = address.kind() === 'ipv4' ? ipv4Bits : ipv6Bits
  for (let i = 0; i < bytes.length; i++, bits -= 8) {
    if (bits <= 0) bytes[i] = 0
    else if (bits < 8) bytes[i] = bytes[i]! & (0xff << (8 - bits))
  }
  return ipaddr.fromByteArray(bytes).toString()
}

/** Besides distinct_id itself, where the ids of an event's person stand. */
const ID_PROPERTIES = ['distinct_id', '$distinct_id', '$user_id', '$anon_distinct_id', 'alias']

export const hash = builtIn<{ properties: string[]; distinctId: boolean }>({
  does: "Replaces values by their HMAC-SHA256 under the project's key: equal values stay equal, and nobody can try them out.",
  properties: {
    properties: { ...NAMES, minItems: 0, default: [], description: 'Which; also in `$set` and `$set_once`.' },
    distinctId: {
      type: 'boolean',
      default: false,
      description:
        'Also `distinct_id`, and the properties that name it. All events of a project should do so, or none.',
    },
  },
  make({ properties, distinctId }, helpers) {
    const names = namesOf(distinctId ? [...new Set([...properties, ...ID_PROPERTIES])] : properties)
    const hashed = (value: Json): Json => {
      if (value === null || value === '') return value
      return helpers.hash(typeof value === 'object' ? JSON.stringify(value) : String(value))
    }
    return (event) => {
      const changed = changeValues(event, names, hashed)
      return distinctId ? { ...changed, distinctId: helpers.hash(changed.distinctId) } : changed
    }
  },
})

const MASK = '***'

export const mask = builtIn<{ properties: string[]; show: 'nothing' | 'end' | 'domain' }>({
  does: 'Replaces values by `***`.',
  properties: {
    properties: { ...NAMES, description: 'Which; also in `$set` and `$set_once`.' },
    show: {
      enum: ['nothing', 'end', 'domain'],
      default: 'nothing',
      description:
        '`end` leaves the last four characters of what has at least twelve, `domain` what follows the `@` of an e-mail address.',
    },
  },
  required: ['properties'],
  make({ properties, show }) {
    const names = namesOf(properties)
    const masked = (value: Json): Json => {
      if (value === null) return value
      const text = typeof value === 'object' ? '' : String(value)
      if (show === 'end' && text.length >= 12) return MASK + lastFour(text)
      if (show === 'domain') {
        const at = text.lastIndexOf('@')
        if (at > 0) return MASK + text.slice(at)
      }
      return MASK
    }
    return (event) => changeValues(event, names, masked)
  },
})

function lastFour(text: string): string {
  return text.slice(-4).toWellFormed()
}

export const removeProperties = builtIn<{ properties: string[] }>({
  does: 'Takes properties away.',
  properties: { properties: { ...NAMES, description: 'Which; also in `$set` and `$set_once`.' } },
  required: ['properties'],
  make({ properties }) {
    const paths = namesOf(properties).filter(({ rest }) => rest !== undefined)
    const gone = () => undefined
    return (event) =>
      eachPlace(event, (object) => {
        // All at once: each alone would copy what is left.
        const there = properties.filter((name) => Object.hasOwn(object, name))
        const left = there.length === 0 ? object : without(object, there)
        if (paths.length === 0) return left
        return changeIn(
          left,
          paths.filter(({ whole }) => !there.includes(whole)),
          gone,
        )
      })
  },
})

export const keepProperties = builtIn<{ properties: string[]; system: boolean }>({
  does: 'Takes all properties away but those named.',
  properties: {
    properties: { ...NAMES, minItems: 0, description: 'Which stay; also in `$set` and `$set_once`.' },
    system: { type: 'boolean', default: true, description: 'Also those that begin with `$` stay.' },
  },
  required: ['properties'],
  make({ properties, system }) {
    const kept = new Set(properties)
    const stays = (key: string) => kept.has(key) || (system && key.startsWith('$'))
    return (event) => keepOnly(event, stays)
  },
})

function keepOnly(event: TransformEvent, stays: (key: string) => boolean): TransformEvent {
  const { properties } = event
  let copy = properties
  for (const key of Object.keys(properties)) {
    const value = properties[key]!
    const isPerson = key === '$set' || key === '$set_once'
    if (isPerson && isObject(value)) {
      const goes = Object.keys(value).filter((inner) => !stays(inner))
      if (goes.length === 0) continue
      if (copy === properties) copy = { ...properties }
      const said = { ...value }
      for (const inner of goes) delete said[inner]
      copy[key] = said
      continue
    }
    if (isPerson || stays(key)) continue
    if (copy === properties) copy = { ...properties }
    delete copy[key]
  }
  return copy === properties ? event : { ...event, properties: copy }
}
