import { describe, expect, test } from 'bun:test'
import { AddressRules } from './address.ts'

const PUBLIC = [
  '93.184.216.34',
  '1.1.1.1',
  '172.32.0.1',
  '2606:2800:220:1::1',
  '::ffff:93.184.216.34',
  '64:ff9b::5db8:d822',
]

/** Address, and why it must not be connected to. */
const REFUSED: [string, string][] = [
  ['127.0.0.1', 'loopback'],
  ['127.255.255.254', 'loopback'],
  ['0.0.0.0', 'this machine'],
  ['0.1.2.3', 'this network'],
  ['10.0.0.1', 'private'],
  ['172.16.0.1', 'private'],
  ['172.31.255.255', 'private'],
  ['192.168.1.1', 'private'],
  ['100.64.0.1', 'carrier-grade NAT'],
  ['169.254.169.254', 'metadata of clouds'],
  ['169.254.0.1', 'link-local'],
  ['192.0.0.1', 'protocol assignments'],
  ['192.0.2.1', 'documentation'],
  ['198.18.0.1', 'benchmarks'],
  ['198.51.100.1', 'documentation'],
  ['203.0.113.1', 'documentation'],
  ['192.88.99.1', '6to4 relay'],
  ['224.0.0.1', 'multicast'],
  ['240.0.0.1', 'reserved'],
  ['255.255.255.255', 'broadcast'],
  ['::', 'unspecified'],
  ['::1', 'loopback'],
  ['::ffff:127.0.0.1', 'IPv4-mapped loopback'],
  ['::ffff:7f00:1', 'the same in hex'],
  ['::ffff:a9fe:a9fe', 'IPv4-mapped metadata'],
  ['::127.0.0.1', 'IPv4-compatible'],
  ['64:ff9b::7f00:1', 'NAT64 of loopback'],
  ['64:ff9b::a9fe:a9fe', 'NAT64 of metadata'],
  ['64:ff9b:1::1', 'local NAT64'],
  ['2002:7f00:1::', '6to4 of loopback'],
  ['2002:5db8:d822::1', '6to4, a tunnel'],
  ['2001:0:5db8:d822::1', 'Teredo, a tunnel'],
  ['2001:db8::1', 'documentation'],
  ['fe80::1', 'link-local'],
  ['fe80::1%eth0', 'link-local with a zone'],
  ['fec0::1', 'site-local'],
  ['fc00::1', 'unique local'],
  ['fd00:ec2::254', 'metadata of clouds'],
  ['ff02::1', 'multicast'],
  ['100::1', 'discard'],
  ['4000::1', 'not given out'],
  ['', 'no address'],
  ['example.com', 'a name'],
]

describe('addresses', () => {
  const rules = new AddressRules()
  test.each(PUBLIC)('%s is public', (address) => {
    expect(rules.allows(address)).toBe(true)
  })
  test.each(REFUSED)('%s is refused: %s', (address) => {
    expect(rules.allows(address)).toBe(false)
  })

  // What a URL makes of other spellings is what we judge.
  test.each([
    'http://2130706433/',
    'http://0x7f000001/',
    'http://0177.0.0.1/',
    'http://127.1/',
    'http://[::ffff:7f00:1]/',
    'http://[0:0:0:0:0:ffff:127.0.0.1]/',
    'http://①②⑦.⓪.⓪.①/',
  ])('%s names loopback', (url) => {
    expect(rules.allows(new URL(url).hostname.replace(/^\[|\]$/g, ''))).toBe(false)
  })

  test('those on the list are allowed, in whatever form they come', () => {
    const allowing = AddressRules.read('10.1.0.0/16, 127.0.0.1,fd00::/8')
    for (const fine of ['10.1.2.3', '127.0.0.1', '::ffff:127.0.0.1', 'fd12::1', '1.1.1.1'])
      expect(allowing.allows(fine)).toBe(true)
    for (const wrong of ['10.2.0.1', '127.0.0.2', 'fc00::1']) expect(allowing.allows(wrong)).toBe(false)
  })

  test('a list that is none is refused', () => {
    expect(() => AddressRules.read('localhost')).toThrow('"localhost" is not an address or a network')
  })
})
