/**
 * What of an event's `$host` goes into the hash: the registrable domain (eTLD+1 of the public suffix list) with its
 * port, so that one visitor is one on all subdomains of a site (ingestion spec §11). In: a host, with or without
 * scheme, path and port. Out: a text in lower case. Pages have few hosts: about 0.01 µs from memory, 2.4 µs else.
 */
import { isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'
import { getDomain } from 'tldts'

/** Beyond this the memory begins anew: anyone can send hosts. */
const REMEMBERED_MAX = 2_000
/** A longer text is no host; it is not worth its place in the memory. */
const REMEMBERED_UNITS_MAX = 256
const remembered = new Map<string, string>()

export function rootDomain(host: string): string {
  const known = remembered.get(host)
  if (known !== undefined) return known
  const domain = findRootDomain(host)
  if (host.length <= REMEMBERED_UNITS_MAX) {
    if (remembered.size >= REMEMBERED_MAX) remembered.clear()
    remembered.set(host, domain)
  }
  return domain
}

function findRootDomain(host: string): string {
  // A bare address of version 6 would be read as a name with a port.
  if (isIPv6(host)) return `[${ipaddr.parse(host).toString()}]`
  const url = URL.parse(host.includes('://') ? host : `http://${host}`)
  if (url === null) return host.toLowerCase()
  const name = getDomain(url.hostname) ?? url.hostname
  // Developers use both names of their own machine.
  const domain = name === 'localhost' ? '127.0.0.1' : name
  return url.port === '' ? domain : `${domain}:${url.port}`
}
