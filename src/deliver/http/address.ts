/**
 * Which addresses a destination may connect to. In: an address as a resolver or a URL gives it. Out: whether it is on the
 * public internet, or on the list of those that are allowed all the same. Forms that carry an IPv4 address inside an IPv6
 * one (mapped, NAT64) are judged by what they carry; tunnels (6to4, Teredo) are refused. Pure.
 */
import ipaddr from 'ipaddr.js'
import { deliverError } from '../errors.ts'

type Network = [ipaddr.IPv4 | ipaddr.IPv6, number]

/** IPv6 addresses that are given out for the internet; all else is special or not in use. */
const GLOBAL_UNICAST = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number]
const NAT64 = ipaddr.parseCIDR('64:ff9b::/96') as [ipaddr.IPv6, number]

export class AddressRules {
  constructor(private readonly allowed: readonly Network[] = []) {}

  /** `text`: addresses and networks, separated by commas. Throws HR_DESTINATION_INVALID. */
  static read(text: string): AddressRules {
    const parts = text.split(',').map((part) => part.trim())
    return new AddressRules(parts.filter((part) => part !== '').map(readNetwork))
  }

  /** False for what is not an address, too. */
  allows(text: string): boolean {
    // A zone names an interface of this machine.
    if (text.includes('%') || !ipaddr.isValid(text)) return false
    let address: ipaddr.IPv4 | ipaddr.IPv6
    try {
      address = carried(ipaddr.parse(text))
    } catch {
      return false
    }
    if (this.allowed.some((network) => contains(network, address))) return true
    if (address.range() !== 'unicast') return false
    return address.kind() === 'ipv4' || (address as ipaddr.IPv6).match(GLOBAL_UNICAST)
  }
}

/** The IPv4 address that an IPv6 one stands for; the address itself when it stands for itself. */
function carried(address: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv4 | ipaddr.IPv6 {
  if (address.kind() === 'ipv4') return address
  const six = address as ipaddr.IPv6
  if (six.isIPv4MappedAddress()) return six.toIPv4Address()
  if (six.match(NAT64)) return new ipaddr.IPv4(six.toByteArray().slice(12))
  return six
}

function contains([base, bits]: Network, address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  return base.kind() === address.kind() && address.match(base as ipaddr.IPv4 & ipaddr.IPv6, bits)
}

function readNetwork(text: string): Network {
  try {
    if (text.includes('/')) return ipaddr.parseCIDR(text)
    const address = ipaddr.parse(text)
    return [address, address.kind() === 'ipv4' ? 32 : 128]
  } catch (cause) {
    throw deliverError(
      'HR_DESTINATION_INVALID',
      `"${text}" is not an address or a network such as 10.0.0.0/8`,
      cause,
    )
  }
}
