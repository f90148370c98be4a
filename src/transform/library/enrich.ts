/** Built-ins that add to an event what its address and its browser's name say. */
import Bowser from 'bowser'
import ipaddr from 'ipaddr.js'
import { isObject, type JsonObject } from '../../event/index.ts'
import { isBotName, remembered } from '../agents.ts'
import type { TransformEvent } from '../outcome.ts'
import { builtIn } from './built-in.ts'

export const geoip = builtIn<{ person: boolean }>({
  does: 'Adds where `$ip` is, as `$geoip_country_code` and the like. An event with `$geoip_disable` is left as it is.',
  properties: {
    person: {
      type: 'boolean',
      default: true,
      description: 'Also to the person: `$set`, and as `$initial_geoip_…` `$set_once`.',
    },
  },
  make({ person }, helpers) {
    return (event) => {
      const { $ip: ip, $geoip_disable: disable } = event.properties
      if (typeof ip !== 'string' || ip === '' || disable === true) return event
      const place = helpers.geoip(ip)
      return isObject(place) ? withPlace(event, place, person) : event
    }
  },
})

/** Names as they stand on an event, made once. */
const placeNames = remembered((field: string) => ({
  own: `$geoip_${field}`,
  initial: `$initial_geoip_${field}`,
}))

function withPlace(event: TransformEvent, place: JsonObject, person: boolean): TransformEvent {
  const properties = { ...event.properties }
  const { $set: said, $set_once: saidOnce } = properties
  const set: JsonObject = isObject(said) ? { ...said } : {}
  const once: JsonObject = isObject(saidOnce) ? { ...saidOnce } : {}
  for (const field in place) {
    const { own, initial } = placeNames(field)
    const value = place[field]!
    properties[own] = value
    if (!person) continue
    set[own] = value
    if (!Object.hasOwn(once, initial)) once[initial] = value
  }
  if (person) {
    properties.$set = set
    properties.$set_once = once
  }
  return { ...event, properties }
}

type Browser = { readonly [property: string]: string | number }

export const userAgent = builtIn<{ overwrite: boolean }>({
  does: 'Reads `$raw_user_agent` (or `$user_agent`) and adds `$browser`, `$browser_version`, `$os`, `$os_version` and `$device_type`.',
  properties: {
    overwrite: { type: 'boolean', default: false, description: 'Also those that are there already.' },
  },
  make({ overwrite }) {
    const browserOf = remembered(readBrowser)
    return (event) => {
      const name = agentOf(event)
      if (name === '') return event
      const found = browserOf(name)
      let properties = event.properties
      for (const key in found) {
        if ((!overwrite && properties[key] !== undefined) || properties[key] === found[key]) continue
        if (properties === event.properties) properties = { ...properties }
        properties[key] = found[key]!
      }
      return properties === event.properties ? event : { ...event, properties }
    }
  },
})

function agentOf({ properties }: TransformEvent): string {
  const { $raw_user_agent: raw, $user_agent: plain } = properties
  return typeof raw === 'string' ? raw : typeof plain === 'string' ? plain : ''
}

const AGENT_UNITS_MAX = 1_000
/** As SDKs call them. */
const SYSTEMS: Readonly<Record<string, string>> = { macOS: 'Mac OS X', 'Chrome OS': 'Chrome OS' }
const DEVICES: Readonly<Record<string, string>> = {
  desktop: 'Desktop',
  mobile: 'Mobile',
  tablet: 'Tablet',
  tv: 'TV',
}

function readBrowser(name: string): Browser {
  const { browser, os, platform } = Bowser.parse(name.slice(0, AGENT_UNITS_MAX))
  const found: Record<string, string | number> = {}
  if (browser.name) found.$browser = browser.name
  const major = Number.parseInt(browser.version ?? '', 10)
  if (Number.isFinite(major)) found.$browser_version = major
  if (os.name) found.$os = SYSTEMS[os.name] ?? os.name
  if (os.version) found.$os_version = os.version
  const device = DEVICES[platform.type ?? '']
  if (device) found.$device_type = device
  return found
}

export const bots = builtIn<{ action: 'flag' | 'drop'; agents: string[]; addresses: string[] }>({
  does: 'Finds events of bots, by the name of their browser (`$raw_user_agent`, `$user_agent`) and by address, and marks them with `$is_bot` or drops them.',
  properties: {
    action: { enum: ['flag', 'drop'], default: 'flag' },
    agents: {
      type: 'array',
      items: { type: 'string', minLength: 1, maxLength: 200 },
      maxItems: 1_000,
      default: [],
      description: 'Also bots: what contains one of these texts, in upper or lower case.',
    },
    addresses: {
      type: 'array',
      items: {
        type: 'string',
        maxLength: 50,
        description: 'An address, or a network such as `203.0.113.0/24`.',
      },
      maxItems: 10_000,
      default: [],
      description: 'Addresses and networks of bots.',
    },
  },
  make({ action, agents, addresses }) {
    const parts = agents.map((text) => text.toLowerCase())
    const networks = addresses.map(networkOf)
    const isAgent = remembered((name: string) => {
      const lower = name.toLowerCase()
      return isBotName(name) || parts.some((part) => lower.includes(part))
    })
    const isAddress = remembered((ip: string) => isIn(ip, networks))
    return (event) => {
      const { $ip: ip, $is_bot: marked } = event.properties
      const name = agentOf(event)
      const isBot =
        (name !== '' && isAgent(name)) || (networks.length > 0 && typeof ip === 'string' && isAddress(ip))
      if (!isBot || (action === 'flag' && marked === true)) return event
      return action === 'drop' ? null : { ...event, properties: { ...event.properties, $is_bot: true } }
    }
  },
})

type Network = { address: ipaddr.IPv4 | ipaddr.IPv6; bits: number }

function networkOf(text: string): Network {
  if (text.includes('/')) {
    const [address, bits] = ipaddr.parseCIDR(text)
    return { address, bits }
  }
  const address = ipaddr.process(text)
  return { address, bits: address.kind() === 'ipv4' ? 32 : 128 }
}

function isIn(ip: string, networks: readonly Network[]): boolean {
  if (!ipaddr.isValid(ip)) return false
  const address = ipaddr.process(ip)
  return networks.some(
    (network) => network.address.kind() === address.kind() && address.match(network.address, network.bits),
  )
}
