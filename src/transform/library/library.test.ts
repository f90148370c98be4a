/** Each built-in, row by row: its options, an event, and what becomes of it. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JsonObject } from '../../event/index.ts'
import { runChain } from '../chain.ts'
import { writeGeoip } from '../geoip.fixture.ts'
import { openGeoip } from '../geoip.ts'
import { hmacSha256 } from '../helpers.ts'
import type { TransformEvent } from '../outcome.ts'
import { openSet, parseSet } from '../set.ts'
import { LIBRARY } from './index.ts'
import { inStyle } from './names.ts'

const UUID = '01890000-0000-7000-8000-000000000001'
const CHROME =
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36'
const IPHONE =
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1'
const GOOGLEBOT = 'Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)'
const hashed = hmacSha256('key')
const SCHEMA = {
  signed_up: {
    type: 'object',
    properties: {
      plan: { enum: ['free', 'paid'] },
      email: { type: 'string', format: 'email' },
      code: { type: 'string', pattern: '^(a+)+$' },
    },
    required: ['plan'],
  },
}

type Given = Partial<Omit<TransformEvent, 'properties'>> & { properties?: JsonObject }
type Became = Given | 'same' | 'dropped' | { failed: string }
type Case = [use: string, rule: string, options: JsonObject, given: Given, became: Became]

const CASES: Case[] = [
  [
    'geoip',
    'adds what is known',
    { person: false },
    { properties: { $ip: '203.0.113.7' } },
    {
      properties: {
        $ip: '203.0.113.7',
        $geoip_city_name: 'Delft',
        $geoip_country_code: 'NL',
        $geoip_country_name: 'Netherlands',
        $geoip_latitude: 52.01,
        $geoip_accuracy_radius: 20,
      },
    },
  ],
  ['geoip', 'leaves what is known nowhere', {}, { properties: { $ip: '198.51.100.1' } }, 'same'],
  ['geoip', 'leaves what is no address', {}, { properties: { $ip: 'here' } }, 'same'],
  ['geoip', 'is told not to', {}, { properties: { $ip: '203.0.113.7', $geoip_disable: true } }, 'same'],
  [
    'user-agent',
    'reads a browser',
    {},
    { properties: { $raw_user_agent: CHROME } },
    {
      properties: {
        $raw_user_agent: CHROME,
        $browser: 'Chrome',
        $browser_version: 142,
        $os: 'Windows',
        $os_version: 'NT 10.0',
        $device_type: 'Desktop',
      },
    },
  ],
  [
    'user-agent',
    'keeps what the SDK said',
    {},
    { properties: { $user_agent: IPHONE, $browser: 'Mobile Safari' } },
    {
      properties: {
        $user_agent: IPHONE,
        $browser: 'Mobile Safari',
        $browser_version: 18,
        $os: 'iOS',
        $os_version: '18.1',
        $device_type: 'Mobile',
      },
    },
  ],
  ['user-agent', 'without a name', {}, { properties: { $browser: 'x' } }, 'same'],
  [
    'bots',
    'flags',
    {},
    { properties: { $raw_user_agent: GOOGLEBOT } },
    { properties: { $raw_user_agent: GOOGLEBOT, $is_bot: true } },
  ],
  ['bots', 'drops', { action: 'drop' }, { properties: { $raw_user_agent: GOOGLEBOT } }, 'dropped'],
  ['bots', 'leaves people', { action: 'drop' }, { properties: { $raw_user_agent: CHROME } }, 'same'],
  [
    'bots',
    'knows texts of its own',
    { action: 'drop', agents: ['windows nt'] },
    { properties: { $user_agent: CHROME } },
    'dropped',
  ],
  [
    'bots',
    'knows networks',
    { action: 'drop', addresses: ['203.0.113.0/24', '2001:db8::/32'] },
    { properties: { $ip: '203.0.113.200' } },
    'dropped',
  ],
  [
    'bots',
    'knows networks of IPv6',
    { action: 'drop', addresses: ['203.0.113.0/24', '2001:db8::/32'] },
    { properties: { $ip: '2001:db8::1' } },
    'dropped',
  ],
  [
    'anonymise-ip',
    'cuts IPv4',
    {},
    { properties: { $ip: '203.0.113.77' } },
    { properties: { $ip: '203.0.113.0' } },
  ],
  [
    'anonymise-ip',
    'cuts within a byte',
    { ipv4Bits: 20 },
    { properties: { $ip: '203.0.255.77' } },
    { properties: { $ip: '203.0.240.0' } },
  ],
  [
    'anonymise-ip',
    'cuts IPv6, also the person’s',
    {},
    { properties: { $set: { $ip: '2001:db8:1:2::3' } } },
    { properties: { $set: { $ip: '2001:db8:1::' } } },
  ],
  [
    'anonymise-ip',
    'takes away what is no address',
    {},
    { properties: { $ip: 'x', a: 1 } },
    { properties: { a: 1 } },
  ],
  ['anonymise-ip', 'without an address', {}, { properties: { a: 1 } }, 'same'],
  [
    'hash',
    'hashes values, also the person’s',
    { properties: ['email', 'user.phone'] },
    { properties: { email: 'a@b.c', user: { phone: 5, x: 1 }, $set: { email: 'a@b.c' } } },
    {
      properties: {
        email: hashed('a@b.c'),
        user: { phone: hashed('5'), x: 1 },
        $set: { email: hashed('a@b.c') },
      },
    },
  ],
  [
    'hash',
    'hashes ids wherever they stand',
    { distinctId: true },
    { event: '$identify', distinctId: 'd', properties: { $anon_distinct_id: 'a', distinct_id: 'd' } },
    {
      event: '$identify',
      distinctId: hashed('d'),
      properties: { $anon_distinct_id: hashed('a'), distinct_id: hashed('d') },
    },
  ],
  ['hash', 'nothing to hash', { properties: ['email'] }, { properties: { other: 1, email: null } }, 'same'],
  [
    'mask',
    'masks',
    { properties: ['a', 'b'] },
    { properties: { a: 'text', b: { deep: 1 }, c: 1 } },
    { properties: { a: '***', b: '***', c: 1 } },
  ],
  [
    'mask',
    'shows the end of what is long',
    { properties: ['card', 'pin'], show: 'end' },
    { properties: { card: '4111111111111111', pin: '12345678' } },
    { properties: { card: '***1111', pin: '***' } },
  ],
  [
    'mask',
    'shows the domain',
    { properties: ['mail', 'x'], show: 'domain' },
    { properties: { mail: 'me@example.com', x: '@y' } },
    { properties: { mail: '***@example.com', x: '***' } },
  ],
  [
    'normalise-urls',
    'replaces ids in paths',
    {},
    {
      properties: {
        $current_url: 'https://1234.example:8080/a/123/b/12/01890000-0000-7000-8000-000000000001?q=12345#f',
      },
    },
    { properties: { $current_url: 'https://1234.example:8080/a/:id/b/12/:id?q=12345#f' } },
  ],
  [
    'normalise-urls',
    'removes query and fragment',
    { query: 'remove', fragment: 'remove' },
    { properties: { $referrer: 'https://e.com/?a=1#b', $pathname: '/x/0123456789abcdef/' } },
    { properties: { $referrer: 'https://e.com/', $pathname: '/x/:id/' } },
  ],
  [
    'normalise-urls',
    'leaves others',
    {},
    { properties: { $current_url: 'https://e.com/deadbeefdeadbeef/about', url: '/123' } },
    'same',
  ],
  [
    'mask-url-parameters',
    'masks in query and fragment',
    { parameters: ['token', 'E-mail'] },
    { properties: { $current_url: 'https://e.com/?a=1&Token=secret&e%2Dmail=x#/p?token=y&b' } },
    { properties: { $current_url: 'https://e.com/?a=1&Token=***&e%2Dmail=***#/p?token=***&b' } },
  ],
  [
    'mask-url-parameters',
    'leaves others',
    { parameters: ['token'] },
    { properties: { $current_url: 'https://e.com/token=1?tokens=2&x=%zz=3' } },
    'same',
  ],
  [
    'remove-properties',
    'removes, also the person’s',
    { properties: ['a', 'b.c', 'x.y'] },
    { properties: { a: 1, b: { c: 1, d: 2 }, 'x.y': 3, $set: { a: 1 } } },
    { properties: { b: { d: 2 }, $set: {} } },
  ],
  ['remove-properties', 'nothing to remove', { properties: ['toString'] }, { properties: { a: 1 } }, 'same'],
  ['keep-properties', 'all are kept', { properties: ['a'] }, { properties: { a: 1, $b: 2 } }, 'same'],
  [
    'keep-properties',
    'keeps',
    { properties: ['a'] },
    { properties: { a: 1, b: 2, $c: 3, $set: { a: 1, b: 2 } } },
    { properties: { a: 1, $c: 3, $set: { a: 1 } } },
  ],
  [
    'keep-properties',
    'keeps nothing of the system',
    { properties: ['a'], system: false },
    { properties: { a: 1, $c: 3 } },
    { properties: { a: 1 } },
  ],
  [
    'rename-properties',
    'renames, and two change places',
    { names: { a: 'b', b: 'a', x: 'y' } },
    { properties: { a: 1, b: 2, x: 3 } },
    { properties: { b: 1, a: 2, y: 3 } },
  ],
  ['rename-properties', 'what is there stays', { names: { a: 'b' } }, { properties: { a: 1, b: 2 } }, 'same'],
  [
    'rename-properties',
    'what is there is replaced',
    { names: { a: 'b' }, overwrite: true },
    { properties: { a: 1, b: 2 } },
    { properties: { b: 1 } },
  ],
  [
    'property-types',
    'converts',
    { types: { n: 'number', i: 'integer', b: 'boolean', s: 'string', d: 'datetime' } },
    { properties: { n: ' 1.5 ', i: '12', b: 'true', s: 5, d: 1_700_000_000 } },
    { properties: { n: 1.5, i: 12, b: true, s: '5', d: '2023-11-14T22:13:20.000Z' } },
  ],
  [
    'property-types',
    'keeps what would lose',
    { types: { n: 'number', i: 'integer' } },
    { properties: { n: '12345678901234567890', i: 1.5 } },
    'same',
  ],
  [
    'property-types',
    'removes',
    { types: { n: 'number' }, otherwise: 'remove' },
    { properties: { n: 'x', m: 1 } },
    { properties: { m: 1 } },
  ],
  [
    'property-types',
    'fails',
    { types: { n: 'number' }, otherwise: 'fail' },
    { properties: { n: [] } },
    { failed: 'property n is no number' },
  ],
  ['filter', 'drops by name', { conditions: [{ event: ['a', 'b'] }] }, { event: 'b' }, 'dropped'],
  ['filter', 'leaves others', { conditions: [{ event: 'a' }] }, { event: 'b' }, 'same'],
  [
    'filter',
    'by property',
    { conditions: [{ property: 'x.y', operator: 'above', value: 5 }] },
    { properties: { x: { y: 6 } } },
    'dropped',
  ],
  [
    'filter',
    'by one of several values',
    { conditions: [{ property: 'x', operator: 'is', value: ['a', 'b'] }] },
    { properties: { x: 'b' } },
    'dropped',
  ],
  [
    'filter',
    'by the end of a text',
    { conditions: [{ property: 'x', operator: 'ends_with', value: '@us.com' }] },
    { properties: { x: 'me@us.com' } },
    'dropped',
  ],
  [
    'filter',
    'keeps only those',
    { action: 'keep', when: 'all', conditions: [{ event: 'a' }, { property: 'x' }] },
    { event: 'a', properties: {} },
    'dropped',
  ],
  [
    'filter',
    'keeps those',
    { action: 'keep', when: 'all', conditions: [{ event: 'a' }, { property: 'x' }] },
    { event: 'a', properties: { x: 0 } },
    'same',
  ],
  [
    'sample',
    'keeps a person and notes the weight',
    { share: 0.5 },
    { distinctId: 'a', properties: { $sample_weight: 2 } },
    { distinctId: 'a', properties: { $sample_weight: 4 } },
  ],
  ['sample', 'drops another', { share: 0.5 }, { distinctId: 'b' }, 'dropped'],
  ['sample', 'keeps what joins persons', { share: 0.000001 }, { event: '$identify' }, 'same'],
  ['sample', 'only some events', { share: 0.000001, events: ['x'] }, { event: 'y' }, 'same'],
  [
    'flatten',
    'flattens',
    {},
    { properties: { cart: { total: 5, items: [1], deep: { x: 1 } }, $set: { a: { b: 1 } } } },
    { properties: { $set: { a: { b: 1 } }, cart__total: 5, cart__items: [1], cart__deep__x: 1 } },
  ],
  [
    'flatten',
    'to a depth',
    { levels: 1, separator: '.' },
    { properties: { a: { b: { c: 1 } } } },
    { properties: { 'a.b': { c: 1 } } },
  ],
  ['flatten', 'what is flat', {}, { properties: { a: 1 } }, 'same'],
  [
    'parse-timestamps',
    'reads',
    { properties: ['a', 'b', 'c', 'd', 'e'] },
    {
      properties: {
        a: '2026-01-02',
        b: '2026-01-02 03:04:05',
        c: '2026-01-02T03:04:05+02:00',
        d: 'Fri, 02 Jan 2026 03:04:05 GMT',
        e: 1_767_323_045_123,
      },
    },
    {
      properties: {
        a: '2026-01-02T00:00:00.000Z',
        b: '2026-01-02T03:04:05.000Z',
        c: '2026-01-02T01:04:05.000Z',
        d: '2026-01-02T03:04:05.000Z',
        e: '2026-01-02T03:04:05.123Z',
      },
    },
  ],
  [
    'parse-timestamps',
    'leaves what is none',
    { properties: ['a', 'b'] },
    { properties: { a: 'tomorrow', b: '2026-13-45' } },
    'same',
  ],
  [
    'parse-timestamps',
    'adds parts',
    { parts: true },
    { timestampMs: Date.UTC(2026, 10, 22, 9, 5) },
    {
      timestampMs: Date.UTC(2026, 10, 22, 9, 5),
      properties: { year: 2026, month: 11, day: 22, hour: 9, minute: 5, day_of_week: 7 },
    },
  ],
  [
    'first-touch',
    'keeps the first',
    {},
    { properties: { utm_source: 'x', $set_once: { first_utm_medium: 'y' }, utm_medium: 'z' } },
    {
      properties: {
        utm_source: 'x',
        utm_medium: 'z',
        $set_once: { first_utm_medium: 'y', first_utm_source: 'x' },
      },
    },
  ],
  ['first-touch', 'nothing to keep', { properties: ['a'] }, { properties: { a: '', b: 1 } }, 'same'],
  ['name-style', 'names of events', {}, { event: 'Order Completed' }, { event: 'order_completed' }],
  [
    'name-style',
    'names of properties',
    { properties: true, events: false, style: 'camelCase' },
    { event: 'A B', properties: { 'Total Price': 1, $x_y: 2, a: 3 } },
    { event: 'A B', properties: { $x_y: 2, a: 3, totalPrice: 1 } },
  ],
  ['name-style', 'names of the system', {}, { event: '$pageview' }, 'same'],
  ['rename-events', 'renames', { names: { old: 'new' } }, { event: 'old' }, { event: 'new' }],
  ['rename-events', 'leaves others', { names: { old: 'new' } }, { event: 'toString' }, 'same'],
  [
    'schema',
    'an event that keeps it',
    { events: SCHEMA },
    { event: 'signed_up', properties: { plan: 'free', code: `${'a'.repeat(50_000)}` } },
    'same',
  ],
  [
    'schema',
    'a pattern that would hang others',
    { events: SCHEMA, mode: 'reject' },
    { event: 'signed_up', properties: { plan: 'free', code: `${'a'.repeat(50)}b` } },
    'dropped',
  ],
  [
    'schema',
    'stamps',
    { events: SCHEMA, mode: 'stamp' },
    { event: 'signed_up', properties: { email: 'x' } },
    {
      event: 'signed_up',
      properties: {
        email: 'x',
        $schema_violations: ["it must have required property 'plan'", 'email must match format "email"'],
      },
    },
  ],
  [
    'schema',
    'quarantines',
    { events: SCHEMA, mode: 'quarantine' },
    { event: 'signed_up', properties: { plan: 'x' } },
    { failed: 'plan must be equal to one of the allowed values' },
  ],
  ['schema', 'drops', { events: SCHEMA, mode: 'reject' }, { event: 'signed_up', properties: {} }, 'dropped'],
  [
    'schema',
    'events without one',
    { events: SCHEMA, mode: 'reject', others: 'violate' },
    { event: 'other' },
    'dropped',
  ],
  [
    'schema',
    'events of the system',
    { events: SCHEMA, mode: 'reject', others: 'violate' },
    { event: '$pageview' },
    'same',
  ],
]

let folder: string
let place: (ip: string) => JsonObject | null
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'headrace-geoip-'))
  writeGeoip(join(folder, 'test.mmdb'), [203, 0, 113, 0], 24, {
    city: { names: { en: 'Delft' } },
    country: { iso_code: 'NL', names: { en: 'Netherlands' } },
    location: { latitude: 52.01, accuracy_radius: 20 },
  })
  place = openGeoip(join(folder, 'test.mmdb')) as typeof place
})
afterAll(() => rmSync(folder, { recursive: true }))

function eventOf(given: Given): TransformEvent {
  return { uuid: UUID, event: 'e', distinctId: 'd', timestampMs: 1, properties: {}, ...given }
}

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const inner of Object.values(value)) frozen(inner)
  return Object.freeze(value)
}

async function run(use: string, options: JsonObject, given: Given) {
  const set = parseSet({ steps: [{ name: 'it', use, options }] })
  const { steps } = await openSet(set, { key: 'key', geoip: place })
  const event = frozen(eventOf(structuredClone(given)))
  const [outcome] = await runChain(steps, [event])
  return { event, outcome: outcome! }
}

describe('built-ins', () => {
  for (const [use, rule, options, given, became] of CASES)
    test(`${use}: ${rule}`, async () => {
      const { event, outcome } = await run(use, options, given)
      if (became === 'dropped') expect(outcome.kind).toBe('dropped')
      else if (typeof became === 'object' && 'failed' in became)
        expect(outcome).toMatchObject({
          kind: 'quarantined',
          step: 'it',
          failure: { kind: 'refused', message: became.failed },
        })
      else if (outcome.kind !== 'kept') throw new Error(JSON.stringify(outcome))
      else if (became === 'same') expect(outcome.events[0]!.event).toBe(event)
      else expect(outcome.events[0]!.event).toEqual(eventOf(became as Given))
    })

  test('each has a row that changes something and one that does not', () => {
    for (const use of Object.keys(LIBRARY)) {
      const rows = CASES.filter(([name]) => name === use).map((row) => row[4])
      expect([use, rows.includes('same'), rows.some((row) => row !== 'same')]).toEqual([
        use,
        use !== 'mask',
        true,
      ])
    }
  })

  test('a property that is called __proto__ is one like others', async () => {
    const properties = JSON.parse('{"__proto__": {"a": 1}, "b": 2}') as JsonObject
    const { outcome } = await run('mask', { properties: ['__proto__.a'] }, {})
    expect(outcome.kind).toBe('kept')
    const set = parseSet({ steps: [{ name: 'it', use: 'mask', options: { properties: ['__proto__.a'] } }] })
    const { steps } = await openSet(set, { key: 'key', geoip: place })
    const [masked] = await runChain(steps, [eventOf({ properties })])
    expect(JSON.stringify(masked)).toContain('"__proto__":{"a":"***"}')
  })

  test('a location of the person', async () => {
    const { outcome } = await run('geoip', {}, { properties: { $ip: '203.0.113.9', $set: { a: 1 } } })
    const properties = outcome.kind === 'kept' ? outcome.events[0]!.event.properties : {}
    expect(properties.$set).toMatchObject({ a: 1, $geoip_country_code: 'NL' })
    expect(properties.$set_once).toMatchObject({ $initial_geoip_country_code: 'NL' })
  })

  test('sampling keeps about its share, and of a smaller share only persons of the larger', async () => {
    const kept = async (share: number) => {
      const { steps } = await openSet(
        parseSet({ steps: [{ name: 'it', use: 'sample', options: { share } }] }),
        { key: 'key', geoip: place },
      )
      const events = Array.from({ length: 10_000 }, (_, i) => eventOf({ distinctId: `person-${i}` }))
      const outcomes = await runChain(steps, events)
      return new Set(outcomes.flatMap((one, i) => (one.kind === 'kept' ? [i] : [])))
    }
    const [tenth, half] = [await kept(0.1), await kept(0.5)]
    expect(tenth.size).toBeWithin(900, 1_100)
    expect(half.size).toBeWithin(4_800, 5_200)
    expect([...tenth].every((i) => half.has(i))).toBe(true)
  })
})

describe('styles of names', () => {
  const NAMES: [string, Parameters<typeof inStyle>[1], string][] = [
    ['Order Completed', 'snake_case', 'order_completed'],
    ['orderCompleted', 'kebab-case', 'order-completed'],
    ['HTTPRequest2xx', 'snake_case', 'http_request_2_xx'],
    ['order_completed', 'PascalCase', 'OrderCompleted'],
    ['Über uns öffnen', 'camelCase', 'überUnsÖffnen'],
    ['заказ оформлен', 'lower case', 'заказ оформлен'],
    ['!!!', 'snake_case', '!!!'],
    ['購入 完了', 'snake_case', '購入_完了'],
  ]
  for (const [name, style, expected] of NAMES)
    test(`${name}: ${style}`, () => expect(inStyle(name, style)).toBe(expected))
})

describe('a set that cannot be', () => {
  const step = { name: 'a', use: 'mask', options: { properties: ['x'] } }
  const REFUSED: [rule: string, set: unknown, says: RegExp][] = [
    ['no object', 5, /must be object/],
    ['an unknown built-in', { steps: [{ name: 'a', use: 'nothing' }] }, /steps.0.use must be equal to one/],
    [
      'an unknown option',
      { steps: [{ ...step, options: { properties: ['x'], shown: 1 } }] },
      /transformation a \(mask\).*shown/,
    ],
    ['a missing option', { steps: [{ name: 'a', use: 'mask' }] }, /required property 'properties'/],
    ['two of one name', { steps: [step, step] }, /two transformations are called a/],
    ['both', { steps: [{ ...step, source: 'x' }] }, /steps.0/],
    ['neither', { steps: [{ name: 'a' }] }, /steps.0/],
    ['options of code', { steps: [{ name: 'a', source: 'x', options: {} }] }, /takes no options/],
    [
      'a network that is none',
      { steps: [{ name: 'a', use: 'bots', options: { addresses: ['x/y'] } }] },
      /bots/,
    ],
    [
      'a schema that is none',
      { steps: [{ name: 'a', use: 'schema', options: { events: { e: { type: 'nothing' } } } }] },
      /schema/,
    ],
    [
      'a pattern that is none',
      {
        steps: [
          {
            name: 'a',
            use: 'schema',
            options: {
              events: { e: { type: 'object', properties: { a: { type: 'string', pattern: '(' } } } },
            },
          },
        ],
      },
      /schema/,
    ],
    ['too many', { steps: Array.from({ length: 21 }, (_, i) => ({ ...step, name: `n${i}` })) }, /20/],
  ]
  for (const [rule, set, says] of REFUSED)
    test(rule, () =>
      expect(() => parseSet(set)).toThrow(
        expect.objectContaining({ code: 'HR_TRANSFORM_SET', message: expect.stringMatching(says) }),
      ),
    )
})
