import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import fc from 'fast-check'
import type { HeadraceError, RawHeader } from '../event/index.ts'
import { scanBody } from './protocols/v0/scan-body.ts'
import {
  checkToken,
  isRejection,
  partitionKeyOf,
  type RequestFacts,
  readSentAt,
  sdkOfUserAgent,
  validateEvent,
} from './validate.ts'

setDefaultTimeout(60_000)

const NOW = Date.parse('2026-11-22T12:00:00Z')
const UUID = '0193a7c4-5b1e-7c3a-9d2f-1a2b3c4d5e6f'
const FACTS: RequestFacts = {
  token: 't',
  nowMs: NOW,
  sentAtMs: undefined,
  ip: '10.0.0.1',
  userAgent: 'posthog-php/3.0',
  userAgentSdk: 'posthog-php/3.0',
  requestId: 'r',
  clockTrustMs: 30_000,
  eventBytesMax: 100_000,
}

function judge(event: unknown, facts: Partial<RequestFacts> = {}) {
  const bytes = Buffer.from(typeof event === 'string' ? `[${event}]` : JSON.stringify([event]))
  return validateEvent(bytes, scanBody(bytes, 1).events[0]!, 0, { ...FACTS, ...facts })
}

function accept(event: unknown, facts: Partial<RequestFacts> = {}): RawHeader {
  const judged = judge(event, facts)
  if (isRejection(judged)) throw new Error(`${judged.field}: ${judged.message}`)
  return judged
}

const BASE = { event: 'e', distinct_id: 'd' }

const HEADERS: [string, unknown, Partial<RawHeader>][] = [
  ['root distinct_id wins', { ...BASE, properties: { distinct_id: 'other' } }, { distinctId: 'd' }],
  [
    'then $distinct_id',
    { event: 'e', $distinct_id: 'x', properties: { distinct_id: 'y' } },
    { distinctId: 'x' },
  ],
  ['then that of the properties', { event: 'e', properties: { distinct_id: 'y' } }, { distinctId: 'y' }],
  [
    'null counts as absent',
    { event: 'e', distinct_id: null, properties: { distinct_id: 'y' } },
    { distinctId: 'y' },
  ],
  ['a number is its digits', '{"event":"e","distinct_id":23}', { distinctId: '23' }],
  ['as they were written', '{"event":"e","distinct_id":1.50}', { distinctId: '1.50' }],
  ['a list is compact JSON', '{"event":"e","distinct_id":["a", "b"]}', { distinctId: '["a","b"]' }],
  ['false is an id', '{"event":"e","distinct_id":false}', { distinctId: 'false' }],
  ['uuid in capitals', { ...BASE, uuid: UUID.toUpperCase() }, { uuid: UUID }],
  ['uuid without hyphens', { ...BASE, uuid: UUID.replaceAll('-', '') }, { uuid: UUID }],
  ['uuid as a URN', { ...BASE, uuid: `urn:uuid:${UUID}` }, { uuid: UUID }],
  ['uuid in braces', { ...BASE, uuid: `{${UUID}}` }, { uuid: UUID }],
  [
    'person processing off',
    { ...BASE, properties: { $process_person_profile: false } },
    { personProcessing: 'off' },
  ],
  [
    'only false is off',
    { ...BASE, properties: { $process_person_profile: 'false' } },
    { personProcessing: 'on' },
  ],
  ['cookieless', { ...BASE, properties: { $cookieless_mode: true } }, { cookieless: true }],
  ['sdk of the event', { ...BASE, properties: { $lib: 'web', $lib_version: '1.2' } }, { sdk: 'web/1.2' }],
  ['sdk without a version', { ...BASE, properties: { $lib: 'web', $lib_version: 3 } }, { sdk: 'web' }],
  ['sdk of the user agent', BASE, { sdk: 'posthog-php/3.0' }],
  ['offset', { ...BASE, offset: 5000 }, { timestampMs: NOW - 5000, timeRule: 'offset' }],
  ['offset of null', { ...BASE, offset: null }, { timeRule: 'now' }],
  ['timestamp of null', { ...BASE, timestamp: null }, { timeRule: 'now' }],
  [
    'timestamp',
    { ...BASE, timestamp: '2026-11-22T11:59:00+00:00' },
    { timestampMs: NOW - 60_000, timeRule: 'client' },
  ],
  [
    'a time that cannot be read',
    { ...BASE, timestamp: 'soon' },
    { timestampMs: NOW, timeRule: 'unreadable' },
  ],
  ['$set of null', { ...BASE, $set: null, $set_once: {} }, { event: 'e' }],
  ['a long name is cut', { ...BASE, event: 'n'.repeat(201) }, { event: 'n'.repeat(200) }],
  ['but not in a character', { ...BASE, event: `${'n'.repeat(199)}😀` }, { event: 'n'.repeat(199) }],
]

describe('an accepted event', () => {
  test.each(HEADERS)('%s', (_, event, expected) => {
    expect(accept(event)).toMatchObject(expected)
  })

  test('skew is corrected against sent_at, unless the event says to ignore it', () => {
    const event = { ...BASE, timestamp: new Date(NOW + 3_590_000).toISOString() }
    const facts = { sentAtMs: NOW + 3_600_000 }
    expect(accept(event, facts)).toMatchObject({ timestampMs: NOW - 10_000, timeRule: 'skewCorrected' })
    const ignoring = { ...event, properties: { $ignore_sent_at: true } }
    expect(accept(ignoring, facts)).toMatchObject({ timestampMs: NOW + 3_590_000, timeRule: 'client' })
  })

  test('a minted uuid carries the time of the event', () => {
    const { uuid } = accept({ ...BASE, offset: 86_400_000 })
    expect(Number.parseInt(uuid.replaceAll('-', '').slice(0, 12), 16)).toBe(NOW - 86_400_000)
    expect(uuid[14]).toBe('7')
  })

  test('a derived uuid depends on token and bytes only', () => {
    const event = { ...BASE, timestamp: '2026-11-22T11:59:00Z' }
    const { uuid } = accept(event)
    expect(accept(event, { nowMs: NOW + 5000, requestId: 'other' }).uuid).toBe(uuid)
    expect(accept(event, { token: 'u' }).uuid).not.toBe(uuid)
    expect(accept({ ...event, properties: { a: 1 } }).uuid).not.toBe(uuid)
  })

  test('events of the same bytes in one request are as many events, and the same ones in a retry of it', () => {
    const event = { ...BASE, timestamp: '2026-11-22T11:59:00Z' }
    const bytes = Buffer.from(JSON.stringify([event, event, { ...event, event: 'f' }, event]))
    const send = (token = 't') => {
      const facts = { ...FACTS, token }
      const { events } = scanBody(bytes, 4)
      return events.map((candidate, index) => {
        const judged = validateEvent(bytes, candidate, index, facts)
        return isRejection(judged) ? judged.message : judged.uuid
      })
    }
    const uuids = send()
    expect(uuids[0]).toBe(accept(event).uuid)
    expect(uuids[2]).toBe(accept({ ...event, event: 'f' }).uuid)
    expect(send()).toEqual(uuids)
    expect(new Set([...uuids, ...send('u')]).size).toBe(8)
  })

  test('nothing is counted while events have uuids', () => {
    const facts = { ...FACTS }
    const bytes = Buffer.from(JSON.stringify([{ ...BASE, uuid: UUID, timestamp: '2026-11-22T11:59:00Z' }]))
    validateEvent(bytes, scanBody(bytes, 1).events[0]!, 0, facts)
    expect(facts).toEqual(FACTS)
  })

  test('the zero time of a language makes no event another send of the one before', () => {
    const event = { ...BASE, timestamp: '0001-01-01T00:00:00Z' }
    expect(accept(event).uuid).not.toBe(accept(event).uuid)
  })

  test('a long distinct_id is cut so that two stay two', () => {
    const ids = ['a', 'b'].map((tail) => accept({ ...BASE, distinct_id: 'x'.repeat(200) + tail }).distinctId)
    expect(ids[0]).not.toBe(ids[1]!)
    expect(ids.map((id) => id.length)).toEqual([200, 200])
  })
})

describe('what decides the partition', () => {
  const off = { $process_person_profile: false }
  const rows: [string, unknown, string][] = [
    ['an event of a person', BASE, 'distinctId'],
    ['a personless event', { ...BASE, properties: off }, 'personless'],
    [
      '$identify, though it asks for no person',
      { ...BASE, event: '$identify', properties: off },
      'distinctId',
    ],
    ['$create_alias', { ...BASE, event: '$create_alias', properties: off }, 'distinctId'],
    ['$merge_dangerously', { ...BASE, event: '$merge_dangerously', properties: off }, 'distinctId'],
    ['$groupidentify', { ...BASE, event: '$groupidentify', properties: off }, 'distinctId'],
    ['cookieless', { ...BASE, properties: { ...off, $cookieless_mode: true } }, 'cookieless'],
  ]
  test.each(rows)('%s', (_, event, kind) => {
    expect(partitionKeyOf(accept(event)).kind as string).toBe(kind)
  })
})

test('picks the same values as JSON.parse, however the event is written', () => {
  const value = fc.oneof(
    fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }),
    fc.integer(),
    fc.boolean(),
  )
  const own = fc.dictionary(
    fc.constantFrom('distinct_id', 'token', '$lib', '$process_person_profile', 'a', 'b'),
    fc.oneof(value, fc.constant(null), fc.array(value, { maxLength: 3 })),
  )
  const event = fc.record(
    { event: fc.constant('e'), distinct_id: value, properties: own },
    { requiredKeys: ['event'] },
  )
  fc.assert(
    fc.property(event, fc.constantFrom(0, 2, '\t'), (built, space) => {
      const judged = judge(JSON.stringify(built, null, space))
      const id = built.distinct_id ?? built.properties?.distinct_id ?? ''
      const text = typeof id === 'object' ? JSON.stringify(id) : String(id)
      if (isRejection(judged)) expect([judged.reason, text]).toEqual(['missing_distinct_id', ''])
      else {
        expect(judged.distinctId).toBe(text.replaceAll('\0', '\ufffd').toWellFormed())
        expect(judged.personProcessing === 'off').toBe(built.properties?.$process_person_profile === false)
      }
    }),
    { numRuns: 1000 },
  )
})

describe('tokens', () => {
  test('are trimmed', () => expect(checkToken(' phc_a\n')).toBe('phc_a'))

  test.each([
    ['phx_secret', 'a personal API key'],
    ['phs_secret', 'a secret project key'],
    ['sk_live_secret', 'a secret key'],
  ])('the secret %s is refused by name, and not repeated', (token, name) => {
    expect(() => checkToken(token)).toThrow(new RegExp(`^(?!.*${token}).*${name}`))
  })

  test.each(['', ' ', 'x'.repeat(65), 'clé', 'a\0', 'phx_secret'])('%j is refused', (token) => {
    try {
      checkToken(token)
      throw new Error('taken')
    } catch (error) {
      expect((error as HeadraceError).code).toBe('HR_CAPTURE_INVALID_TOKEN')
    }
  })
})

test.each([
  ['2026-11-22T12:00:00Z', null, NOW],
  ['soon', String(NOW), NOW],
  ['1970-01-01T00:00:00Z', String(NOW), 0],
  ['0001-01-01T00:00:00Z', String(NOW), NOW],
  ['0001-01-01T00:00:00Z', null, undefined],
  [undefined, String(NOW), NOW],
  [undefined, String(NOW / 1000), undefined],
  [undefined, 'x', undefined],
  [undefined, null, undefined],
] as const)('sent_at %p, query %p', (ofBatch, ofQuery, expected) => {
  expect(readSentAt(ofBatch, ofQuery)).toBe(expected as never)
})

test('the sdk is that of each event, whatever the one before it was sent by', () => {
  const sdks: [string, string | number][] = [
    ['web', '1.2'],
    ['web', '1.2'],
    ['web', '1.3'],
    ['js', '1.3'],
    ['js', 3],
    ['js', '1.3'],
    ['', '1.3'],
    ['web', '1.2'],
  ]
  const seen = sdks.map(
    ([lib, version]) => accept({ ...BASE, properties: { $lib: lib, $lib_version: version } }).sdk,
  )
  expect(seen).toEqual([
    'web/1.2',
    'web/1.2',
    'web/1.3',
    'js/1.3',
    'js',
    'js/1.3',
    'posthog-php/3.0',
    'web/1.2',
  ])
})

test.each([
  ['posthog-python/7.42.0', 'posthog-python/7.42.0'],
  ['posthog-node/5.70.0 (x)', 'posthog-node/5.70.0'],
  ['Mozilla/5.0', ''],
  ['', ''],
])('user agent %p', (userAgent, sdk) => {
  expect(sdkOfUserAgent(userAgent)).toBe(sdk)
})
