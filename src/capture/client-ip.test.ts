import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { ClientIps, clientIp, parseTrustedProxies } from './client-ip.ts'

const OURS = '10.0.0.0/8, 2001:db8:aaaa::/48, 192.0.2.1'
const CLIENT = '203.0.113.7'

type Row = [rule: string, trusted: string, peer: string, headers: Record<string, string>, client: string]

const ROWS: Row[] = [
  ['nobody is trusted by default', '', '10.0.0.1', { 'x-forwarded-for': CLIENT }, '10.0.0.1'],
  [
    'a peer that is not trusted is the client',
    OURS,
    '198.51.100.1',
    { 'x-forwarded-for': CLIENT },
    '198.51.100.1',
  ],
  ['a trusted peer without headers is the client', OURS, '10.0.0.1', {}, '10.0.0.1'],
  ['the client of one proxy', OURS, '10.0.0.1', { 'x-forwarded-for': CLIENT }, CLIENT],
  ['a single address is trusted', OURS, '192.0.2.1', { 'x-forwarded-for': CLIENT }, CLIENT],
  ['its neighbour is not', OURS, '192.0.2.2', { 'x-forwarded-for': CLIENT }, '192.0.2.2'],
  [
    'what the client wrote itself is left of it',
    OURS,
    '10.0.0.1',
    { 'x-forwarded-for': `1.2.3.4, ${CLIENT}` },
    CLIENT,
  ],
  [
    'trusted hops are skipped',
    OURS,
    '10.0.0.1',
    { 'x-forwarded-for': `1.2.3.4, ${CLIENT}, 10.1.1.1,10.2.2.2` },
    CLIENT,
  ],
  [
    'all hops are trusted: the leftmost',
    OURS,
    '10.0.0.1',
    { 'x-forwarded-for': '10.9.9.9, 10.1.1.1' },
    '10.9.9.9',
  ],
  [
    'garbage ends the walk',
    OURS,
    '10.0.0.1',
    { 'x-forwarded-for': `${CLIENT}, unknown, 10.1.1.1` },
    '10.1.1.1',
  ],
  ['garbage at once', OURS, '10.0.0.1', { 'x-forwarded-for': `${CLIENT}, <script>` }, '10.0.0.1'],
  ['an empty header', OURS, '10.0.0.1', { 'x-forwarded-for': '' }, '10.0.0.1'],
  ['an empty part', OURS, '10.0.0.1', { 'x-forwarded-for': `${CLIENT},` }, '10.0.0.1'],
  ['a port is no part of it', OURS, '10.0.0.1', { 'x-forwarded-for': `${CLIENT}:443` }, CLIENT],
  [
    'IPv6 with brackets and port',
    OURS,
    '10.0.0.1',
    { 'x-forwarded-for': '[2001:DB8::0001]:443' },
    '2001:db8::1',
  ],
  ['IPv6 with brackets', OURS, '10.0.0.1', { 'x-forwarded-for': '[2001:db8::1]' }, '2001:db8::1'],
  ['IPv6 bare', OURS, '10.0.0.1', { 'x-forwarded-for': '2001:db8::1' }, '2001:db8::1'],
  ['IPv6 with a zone', OURS, '10.0.0.1', { 'x-forwarded-for': 'fe80::1%eth0' }, 'fe80::1'],
  ['IPv4 in IPv6', OURS, '10.0.0.1', { 'x-forwarded-for': `::ffff:${CLIENT}` }, CLIENT],
  ['IPv4 in IPv6 as a peer', OURS, '::ffff:10.0.0.1', { 'x-forwarded-for': CLIENT }, CLIENT],
  [
    'IPv4 in IPv6 as a peer that is not trusted',
    OURS,
    '::ffff:192.0.2.9',
    { 'x-forwarded-for': CLIENT },
    '192.0.2.9',
  ],
  ['an IPv6 proxy', OURS, '2001:db8:aaaa::5', { 'x-forwarded-for': CLIENT }, CLIENT],
  ['a bracket that does not end', OURS, '10.0.0.1', { 'x-forwarded-for': '[2001:db8::1' }, '10.0.0.1'],
  [
    'short and hexadecimal spellings are garbage',
    OURS,
    '10.0.0.1',
    { 'x-forwarded-for': '0x7f.1' },
    '10.0.0.1',
  ],
  ['a part over 255 is garbage', OURS, '10.0.0.1', { 'x-forwarded-for': '203.0.113.256' }, '10.0.0.1'],
  ['a number is garbage', OURS, '10.0.0.1', { 'x-forwarded-for': '3405803783' }, '10.0.0.1'],
  ['Forwarded', OURS, '10.0.0.1', { forwarded: `for=1.2.3.4, for=${CLIENT};proto=http;by=10.0.0.1` }, CLIENT],
  [
    'Forwarded, quoted IPv6 with a port',
    OURS,
    '10.0.0.1',
    { forwarded: 'For="[2001:db8::1]:4711"' },
    '2001:db8::1',
  ],
  ['Forwarded, a quoted comma', OURS, '10.0.0.1', { forwarded: `for=${CLIENT};host="a,b;c"` }, CLIENT],
  ['Forwarded, hidden', OURS, '10.0.0.1', { forwarded: `for=${CLIENT}, for=_hidden` }, '10.0.0.1'],
  ['Forwarded without for', OURS, '10.0.0.1', { forwarded: 'proto=http' }, '10.0.0.1'],
  ['X-Real-IP', OURS, '10.0.0.1', { 'x-real-ip': CLIENT }, CLIENT],
  [
    'X-Forwarded-For before Forwarded before X-Real-IP',
    OURS,
    '10.0.0.1',
    { 'x-forwarded-for': CLIENT, forwarded: 'for=1.1.1.1', 'x-real-ip': '2.2.2.2' },
    CLIENT,
  ],
  [
    'Forwarded before X-Real-IP',
    OURS,
    '10.0.0.1',
    { forwarded: `for=${CLIENT}`, 'x-real-ip': '2.2.2.2' },
    CLIENT,
  ],
  ['the word loopback', 'loopback', '127.0.0.1', { 'x-forwarded-for': CLIENT }, CLIENT],
  ['the word loopback, IPv6', 'Loopback', '::1', { 'x-forwarded-for': CLIENT }, CLIENT],
  [
    'the word private',
    'private',
    '172.31.0.1',
    { 'x-forwarded-for': `${CLIENT}, 192.168.1.1, fd00::1` },
    CLIENT,
  ],
  ['the word private is not loopback', 'private', '127.0.0.1', { 'x-forwarded-for': CLIENT }, '127.0.0.1'],
  ['both words', ' private , loopback ', '::1', { 'x-forwarded-for': `${CLIENT}, 10.0.0.1` }, CLIENT],
  ['everybody', '0.0.0.0/0', '10.0.0.1', { 'x-forwarded-for': `1.2.3.4, ${CLIENT}` }, '1.2.3.4'],
  [
    'a network in its longer spelling',
    '::ffff:10.0.0.0/104',
    '10.0.0.1',
    { 'x-forwarded-for': CLIENT },
    CLIENT,
  ],
  ['no peer', OURS, '', { 'x-forwarded-for': CLIENT }, ''],
]

describe('the client', () => {
  test.each(ROWS)('%s', (_, trusted, peer, headers, client) => {
    expect(clientIp(peer, new Headers(headers), parseTrustedProxies(trusted))).toBe(client)
    const remembering = new ClientIps(trusted)
    for (let i = 0; i < 2; i++) expect(remembering.of(peer, new Headers(headers))).toBe(client)
  })

  test('several lines of X-Forwarded-For are one list, in their order', () => {
    const headers = new Headers()
    headers.append('x-forwarded-for', '1.2.3.4')
    headers.append('x-forwarded-for', CLIENT)
    headers.append('x-forwarded-for', '10.1.1.1')
    expect(new ClientIps(OURS).of('10.0.0.1', headers)).toBe(CLIENT)
  })

  test('a chain without end is not walked', () => {
    const headers = new Headers({
      'x-forwarded-for': [CLIENT, ...Array<string>(1000).fill('10.1.1.1')].join(','),
    })
    expect(new ClientIps(OURS).of('10.0.0.1', headers)).toBe('10.1.1.1')
  })

  // A pattern that looks for the end at each of the spaces is at it for many seconds.
  test('a long Forwarded is read in one pass', () => {
    const headers = new Headers({ forwarded: `for=a${' '.repeat(60_000)}b` })
    expect(new ClientIps(OURS).of('10.0.0.1', headers)).toBe('10.0.0.1')
  })

  test('a remembered proxy is asked again for each request', () => {
    const ips = new ClientIps(OURS)
    for (const client of ['203.0.113.1', '203.0.113.2']) {
      expect(ips.of('10.0.0.1', new Headers({ 'x-forwarded-for': client }))).toBe(client)
    }
  })

  test('whatever a client writes to the left, the answer is the same', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary-ascii' }), (written) => {
        const clean = written.replace(/[\0\r\n]/g, '')
        const headers = new Headers({ 'x-forwarded-for': `${clean}, ${CLIENT}` })
        expect(clientIp('10.0.0.1', headers, parseTrustedProxies(OURS))).toBe(CLIENT)
      }),
    )
  })

  test('no header makes it throw, and what comes out is an address', () => {
    const name = fc.constantFrom('x-forwarded-for', 'forwarded', 'x-real-ip')
    const piece = fc.oneof(
      fc.constantFrom('for=', '"', '[', ']', ':', ',', ';', '10.0.0.1', '::', '%', '\\'),
      fc.string(),
    )
    fc.assert(
      fc.property(name, fc.array(piece), (header, pieces) => {
        const value = pieces.join('').replace(/[^\x20-\x7e]/g, '')
        const client = clientIp('10.0.0.1', new Headers({ [header]: value }), parseTrustedProxies(OURS))
        expect(clientIp(client, new Headers(), [])).toBe(client)
        expect(client).not.toBe('')
      }),
    )
  })
})

describe('a list of proxies', () => {
  const wrong = [
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    'proxy.example',
    '300.1.1.1',
    '::1/129',
    '10.0.0.0/-1',
    'a,b',
  ]
  test.each(wrong)('with %s is refused', (list) => {
    expect(() => parseTrustedProxies(list)).toThrow('is neither')
  })
})
