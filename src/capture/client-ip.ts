/**
 * Who sent a request: the peer of the connection, or, when that is a proxy which the operator trusts, who the proxy
 * says it was. What comes in: the peer's address and the request's headers; what goes out: one address in its shortest
 * spelling, IPv4 without its IPv6 clothes, no port, no brackets, no zone.
 *
 * Must hold: an address that anybody could have written is never taken. The chain is walked from its right end, which
 * the nearest proxy wrote, over trusted addresses only; the first other one is the client; what cannot be read ends the
 * walk at the last good one. With nobody trusted, the default, no header is looked at.
 * Cost: one look in a map per request for a peer that was seen before.
 */
import ipaddr from 'ipaddr.js'

type Address = ipaddr.IPv4 | ipaddr.IPv6
type Network = [Address, number]

const WORDS: Record<string, readonly string[]> = {
  loopback: ['127.0.0.0/8', '::1/128'],
  private: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'],
}
/** Proxies in a chain; behind more of them nobody is believed. */
const HOPS_MAX = 32
/** Peers whose judgement is remembered: proxies are few, and clients without one come and go. */
const PEERS_REMEMBERED_MAX = 10_000

/** The networks of `HEADRACE_TRUSTED_PROXIES`; throws an Error that names the part that is none. */
export function parseTrustedProxies(list: string): Network[] {
  return list
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .flatMap((part) => (WORDS[part.toLowerCase()] ?? [part]).map(parseNetwork))
}

function parseNetwork(text: string): Network {
  const [address = '', bits, ...more] = text.split('/')
  const parsed = parseAddress(address)
  const width = parsed?.kind() === 'ipv4' ? 32 : 128
  // `::ffff:10.0.0.0/104` counts the bits of the longer spelling.
  const mapped = width === 32 && address.includes(':') ? 96 : 0
  const prefix = bits === undefined ? width : Number(bits) - mapped
  const isPrefix = bits === undefined || (/^\d{1,3}$/.test(bits) && prefix >= 0 && prefix <= width)
  if (!parsed || more.length > 0 || !isPrefix) {
    throw new Error(`"${text}" is neither an IP address, nor a network such as 10.0.0.0/8, nor a known word`)
  }
  return [parsed, prefix]
}

/** Without port, brackets and zone; undefined when `text` is no address. IPv4 in IPv6 comes out as IPv4. */
function parseAddress(text: string): Address | undefined {
  let host = text
  if (host.startsWith('[')) {
    const end = host.indexOf(']')
    if (end < 0 || !/^(:\d{1,5})?$/.test(host.slice(end + 1))) return undefined
    host = host.slice(1, end)
  } else if (host.indexOf(':') === host.lastIndexOf(':')) {
    const port = /:\d{1,5}$/.exec(host)
    if (port) host = host.slice(0, port.index)
  }
  const zone = host.indexOf('%')
  if (zone > 0) host = host.slice(0, zone)
  // Four whole decimal parts only: the library would also read `10.1` and `0x7f.1`.
  if (!host.includes(':') && !/^\d{1,3}(\.\d{1,3}){3}$/.test(host)) return undefined
  if (!ipaddr.isValid(host)) return undefined
  return ipaddr.process(host)
}

/** The addresses of the chain as their headers say them, from the client's end to ours. */
function chainOf(headers: Headers): string[] {
  // Several lines of a header come joined by commas, in their order.
  const forwardedFor = headers.get('x-forwarded-for')
  if (forwardedFor !== null) return forwardedFor.split(',').map((part) => part.trim())
  const forwarded = headers.get('forwarded')
  if (forwarded !== null) return splitOutsideQuotes(forwarded, ',').map(forParameter)
  const realIp = headers.get('x-real-ip')
  return realIp === null ? [] : [realIp.trim()]
}

/** The `for` of one element of a `Forwarded` header (RFC 7239); empty when it has none. One pass, whoever wrote it. */
function forParameter(element: string): string {
  for (const pair of splitOutsideQuotes(element, ';')) {
    const equals = pair.indexOf('=')
    if (equals < 0 || pair.slice(0, equals).trim().toLowerCase() !== 'for') continue
    const value = pair.slice(equals + 1).trim()
    const isQuoted = value.length > 1 && value.startsWith('"') && value.endsWith('"')
    return isQuoted ? value.slice(1, -1) : value
  }
  return ''
}

function splitOutsideQuotes(text: string, separator: string): string[] {
  const parts: string[] = []
  let from = 0
  let quoted = false
  for (let at = 0; at < text.length; at++) {
    const char = text[at]
    if (char === '"') quoted = !quoted
    else if (char === '\\' && quoted) at++
    else if (char === separator && !quoted) {
      parts.push(text.slice(from, at))
      from = at + 1
    }
  }
  parts.push(text.slice(from))
  return parts
}

/** The client behind `peer`; empty when `peer` is, because the connection is gone or is no TCP connection. */
export function clientIp(peer: string, headers: Headers, trusted: readonly Network[]): string {
  const address = parseAddress(peer)
  if (!address) return ''
  return isTrusted(address, trusted) ? walk(address, headers, trusted) : address.toString()
}

function walk(peer: Address, headers: Headers, trusted: readonly Network[]): string {
  const chain = chainOf(headers)
  let last = peer
  for (let at = chain.length - 1, hops = 0; at >= 0 && hops < HOPS_MAX; at--, hops++) {
    const address = parseAddress(chain[at]!)
    if (!address) break
    last = address
    if (!isTrusted(address, trusted)) break
  }
  return last.toString()
}

function isTrusted(address: Address, trusted: readonly Network[]): boolean {
  for (const [network, bits] of trusted) {
    if (network.kind() === address.kind() && address.match(network, bits)) return true
  }
  return false
}

/** `clientIp` for one list of proxies, with the judgement of each peer kept. */
export class ClientIps {
  private readonly trusted: readonly Network[]
  /** Peer as the socket says it → its own address, or undefined when its word counts. */
  private readonly peers = new Map<string, string | undefined>()

  constructor(trustedProxies: string) {
    this.trusted = parseTrustedProxies(trustedProxies)
  }

  of(peer: string, headers: Headers): string {
    let own = this.peers.get(peer)
    if (own === undefined && !this.peers.has(peer)) own = this.remember(peer)
    return own ?? clientIp(peer, headers, this.trusted)
  }

  private remember(peer: string): string | undefined {
    const address = parseAddress(peer)
    const own = !address ? '' : isTrusted(address, this.trusted) ? undefined : address.toString()
    if (this.peers.size >= PEERS_REMEMBERED_MAX) this.peers.clear()
    this.peers.set(peer, own)
    return own
  }
}
