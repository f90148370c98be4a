/** v1 from outside: what is stored, and what each event is answered with. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { EVERY_TOKEN, startTestCapture, type TestCapture } from '../../../../test/support/capture.ts'
import { partitionOf } from '../../../event/index.ts'
import type { RejectReason } from '../../errors.ts'
import { envelope, event, NOW, REQUEST_ID, send, TIMESTAMP, uuid } from './v1.fixture.ts'

setDefaultTimeout(60_000)

let capture: TestCapture
beforeAll(async () => {
  capture = await startTestCapture({}, { clock: () => NOW })
})
afterAll(() => capture.stop())

const OK = { result: 'ok' } as const
const PERSONLESS = { result: 'warning', details: 'person_processing_disabled' } as const
const drop = (details: string) => ({ result: 'drop', details }) as const

describe('a batch that is taken', () => {
  test('each event is stored as v0 would say it, and answered by its uuid, in order', async () => {
    const raw = `{ "event":"caf\\u00e9", "uuid":"${uuid(1)}" ,"distinct_id": "d1","timestamp":"${TIMESTAMP}","session_id":"s\\"1","window_id":"w1","options":{"product_tour_id":"tour","unknown":7},"properties" : {"x":1.0, "x":2e0 } }`
    const body = `{"created_at":"${TIMESTAMP}","batch":[ ${raw},${JSON.stringify(event(2))}]}`
    const { response, answer, stored } = await send(capture, body)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/json')
    expect(Object.entries(answer.results)).toEqual([
      [uuid(1), OK],
      [uuid(2), OK],
    ])
    expect(answer.rejected).toBeUndefined()
    const first = stored.find(({ header }) => header.uuid === uuid(1))!
    expect(first.value).toBe(
      raw.replace(
        '2e0 }',
        '2e0 ,"$session_id":"s\\"1","$window_id":"w1","$product_tour_id":"tour","$lib":"posthog-node","$lib_version":"5.70.0"}',
      ),
    )
    expect(first.partition).toBe(partitionOf({ kind: 'distinctId', token: 'phc_test', distinctId: 'd1' }, 4))
    expect(first.header).toEqual({
      token: 'phc_test',
      distinctId: 'd1',
      event: 'café',
      uuid: uuid(1),
      timestampMs: Date.parse(TIMESTAMP),
      timeRule: 'client',
      clientTimeMs: undefined,
      nowMs: NOW,
      sentAtMs: NOW,
      ip: '127.0.0.1',
      userAgent: 'posthog-node/5.70.0',
      sdk: 'posthog-node/5.70.0',
      personProcessing: 'on',
      cookieless: false,
      disposition: 'event',
      requestId: REQUEST_ID,
      replayOf: undefined,
    })
  })

  test('the last of repeated members counts', async () => {
    const body = `{"batch":[7],"created_at":1,"created_at":"${TIMESTAMP}","batch":[{"event":"a","event":"b","uuid":"${uuid(1)}","distinct_id":"d","timestamp":"${TIMESTAMP}","options":{"process_person_profile":false},"options":{},"properties":{"$session_id":"old"},"session_id":"new","properties":{"p":1}}]}`
    const { answer, stored } = await send(capture, body)
    expect(answer.results).toEqual({ [uuid(1)]: OK })
    expect(stored.map(({ header }) => [header.event, header.personProcessing])).toEqual([['b', 'on']])
    expect(JSON.parse(stored[0]!.value).properties).toEqual({
      p: 1,
      $session_id: 'new',
      $lib: 'posthog-node',
      $lib_version: '5.70.0',
    })
  })

  const encodings: [string, string | undefined, (json: Buffer) => Uint8Array][] = [
    ['plain', undefined, (json) => json],
    ['identity', 'identity', (json) => json],
    ['gzip', 'gzip', gzipSync],
    ['deflate in zlib', 'deflate', deflateSync],
    ['deflate, raw', 'deflate', deflateRawSync],
    ['br', 'br', brotliCompressSync],
    ['zstd', 'ZSTD', zstdCompressSync],
  ]
  test.each(encodings)('%s', async (_, encoding, pack) => {
    const body = pack(Buffer.from(JSON.stringify(envelope([event(1)]))))
    const { answer } = await send(capture, body, { 'content-encoding': encoding })
    expect(answer.results).toEqual({ [uuid(1)]: OK })
  })

  const headers: [string, Record<string, string>][] = [
    ['a scheme in small letters', { authorization: 'bearer phc_test' }],
    ['a token with white space', { authorization: 'Bearer   phc_test ' }],
    ['a charset', { 'content-type': 'Application/JSON; charset=utf-8' }],
    ['a later attempt', { 'posthog-attempt': '12' }],
    ['a time with an offset', { 'posthog-request-timestamp': '2026-11-22T13:00:00.123456+01:00' }],
  ]
  test.each(headers)('%s', async (_, own) => {
    const { response, stored } = await send(capture, envelope([event(1)]), own)
    expect([response.status, stored[0]?.header.token]).toEqual([200, 'phc_test'])
  })

  const lanes: [string, unknown, string][] = [
    ['true', true, 'raw_events_historical'],
    ['a word', 'yes', 'raw_events_historical'],
    ['false', false, 'raw_events'],
    ['null', null, 'raw_events'],
  ]
  test.each(lanes)('historical_migration of %s', async (_, historical_migration, topic) => {
    const { stored } = await send(capture, envelope([event(1)], { historical_migration }))
    expect(stored.map((one) => one.topic as string)).toEqual([topic])
  })

  test('capture_internal hides the address', async () => {
    const proxied = await startTestCapture({ trustedProxies: 'loopback' })
    const own = { 'x-forwarded-for': '203.0.113.9' }
    await send(proxied, envelope([event(1)]), own)
    await send(proxied, envelope([event(2)], { capture_internal: 1 }), own)
    const ips = (await proxied.stored()).map(({ header }) => [header.uuid, header.ip])
    await proxied.stop()
    expect(ips.sort()).toEqual([
      [uuid(1), '203.0.113.9'],
      [uuid(2), '127.0.0.1'],
    ])
  })
})

describe('time', () => {
  const rows: [string, string, Record<string, unknown>, number, string][] = [
    ['a clock that is right', '2026-11-22T12:00:00Z', {}, Date.parse(TIMESTAMP), 'client'],
    ['30 s of transit are no skew', '2026-11-22T11:59:30Z', {}, Date.parse(TIMESTAMP), 'client'],
    ['an hour ahead', '2026-11-22T13:00:00Z', {}, Date.parse(TIMESTAMP) - 3_600_000, 'skewCorrected'],
    ['31 s behind', '2026-11-22T11:59:29Z', {}, Date.parse(TIMESTAMP) + 31_000, 'skewCorrected'],
    [
      'an hour ahead, and the option says so',
      '2026-11-22T13:00:00Z',
      { disable_skew_correction: 'on' },
      Date.parse(TIMESTAMP),
      'client',
    ],
  ]
  test.each(rows)('%s', async (_, sentAt, options, timestampMs, timeRule) => {
    const own = { 'posthog-request-timestamp': sentAt }
    const { stored } = await send(capture, envelope([event(1, { options })]), own)
    expect(stored.map(({ header }) => [header.timestampMs, header.timeRule as string])).toEqual([
      [timestampMs, timeRule],
    ])
  })

  test('more than 23 h in the future is now', async () => {
    const { answer, stored } = await send(
      capture,
      envelope([event(1, { timestamp: '2026-11-23T11:00:01Z' })]),
    )
    expect(answer.results).toEqual({ [uuid(1)]: OK })
    expect(stored.map(({ header }) => header.timestampMs)).toEqual([NOW])
  })
})

describe('options', () => {
  const rows: [string, unknown, Record<string, unknown>, object][] = [
    ['off', { process_person_profile: false }, {}, { personProcessing: 'off' }],
    ['off as a word', { process_person_profile: ' No ' }, {}, { personProcessing: 'off' }],
    ['off as a number', { process_person_profile: 0 }, {}, { personProcessing: 'off' }],
    ['on', { process_person_profile: 'y' }, {}, { personProcessing: 'on' }],
    ['blank is unset', { process_person_profile: '' }, {}, { personProcessing: 'on' }],
    ['null is unset', null, {}, { personProcessing: 'on' }],
    [
      'the property wins, in header and value',
      { process_person_profile: true },
      { $process_person_profile: false },
      { personProcessing: 'off' },
    ],
    ['cookieless', { cookieless_mode: '1' }, {}, { cookieless: true }],
    ['not cookieless', { cookieless_mode: 'off' }, {}, { cookieless: false }],
  ]
  test.each(rows)('%s', async (_, options, properties, header) => {
    const { answer, stored } = await send(capture, envelope([event(1, { options, properties })]))
    expect(answer.results).toEqual({ [uuid(1)]: OK })
    expect(stored.map((one) => one.header)).toMatchObject([header])
    const { $process_person_profile } = JSON.parse(stored[0]!.value).properties
    expect($process_person_profile === false).toBe(stored[0]!.header.personProcessing === 'off')
  })

  test('an event without a person is spread by its uuid, a cookieless one by the address', async () => {
    const { stored } = await send(
      capture,
      envelope([
        event(1, { options: { process_person_profile: false } }),
        event(2, { options: { cookieless_mode: true } }),
      ]),
    )
    const at = (n: number) => stored.find(({ header }) => header.uuid === uuid(n))!.partition
    expect(at(1)).toBe(partitionOf({ kind: 'personless', token: 'phc_test', uuid: uuid(1) }, 4))
    expect(at(2)).toBe(partitionOf({ kind: 'cookieless', token: 'phc_test', ip: '127.0.0.1' }, 4))
  })
})

describe('an event that is refused costs no other', () => {
  const long = 'x'.repeat(201)
  const rows: [string, unknown, RejectReason, string, string][] = [
    ['no object', 7, 'not_an_object', '', 'not_an_object'],
    ['no name', event(1, { event: undefined }), 'missing_event', 'event', 'missing_event_name'],
    ['an empty name', event(1, { event: '' }), 'missing_event', 'event', 'missing_event_name'],
    ['a name of a number', event(1, { event: 7 }), 'invalid_event', 'event', 'invalid_event'],
    [
      'a name of 201 characters',
      event(1, { event: long }),
      'event_name_too_long',
      'event',
      'event_name_too_long',
    ],
    [
      '$performance_event',
      event(1, { event: '$performance_event' }),
      'performance_event',
      'event',
      'dropped_performance_event',
    ],
    [
      'no distinct_id',
      event(1, { distinct_id: undefined }),
      'missing_distinct_id',
      'distinct_id',
      'missing_distinct_id',
    ],
    [
      'a distinct_id of null',
      event(1, { distinct_id: null }),
      'missing_distinct_id',
      'distinct_id',
      'missing_distinct_id',
    ],
    [
      'a blank distinct_id',
      event(1, { distinct_id: ' ' }),
      'missing_distinct_id',
      'distinct_id',
      'missing_distinct_id',
    ],
    [
      'a distinct_id of a number',
      event(1, { distinct_id: 7 }),
      'invalid_distinct_id',
      'distinct_id',
      'invalid_distinct_id',
    ],
    [
      'a distinct_id of 201 characters',
      event(1, { distinct_id: long }),
      'distinct_id_too_long',
      'distinct_id',
      'distinct_id_too_large',
    ],
    [
      'the cookieless placeholder alone',
      event(1, { distinct_id: '$posthog_cookieless' }),
      'cookieless_mode_required',
      'distinct_id',
      'cookieless_mode_required',
    ],
    [
      'no timestamp',
      event(1, { timestamp: undefined }),
      'invalid_timestamp',
      'timestamp',
      'invalid_event_timestamp',
    ],
    [
      'a timestamp of a number',
      event(1, { timestamp: NOW }),
      'invalid_timestamp',
      'timestamp',
      'invalid_event_timestamp',
    ],
    [
      'a timestamp of no time',
      event(1, { timestamp: 'soon' }),
      'invalid_timestamp',
      'timestamp',
      'invalid_event_timestamp',
    ],
    [
      'a session_id of a number',
      event(1, { session_id: 7 }),
      'invalid_session',
      'session_id',
      'invalid_session',
    ],
    ['a window_id of a list', event(1, { window_id: [] }), 'invalid_session', 'window_id', 'invalid_session'],
    ['options of a list', event(1, { options: [] }), 'invalid_options', 'options', 'invalid_options'],
    [
      'an option of a word that is none',
      event(1, { options: { cookieless_mode: 'maybe' } }),
      'invalid_options',
      'options.cookieless_mode',
      'invalid_options',
    ],
    [
      'an option of an object',
      event(1, { options: { disable_skew_correction: {} } }),
      'invalid_options',
      'options.disable_skew_correction',
      'invalid_options',
    ],
    [
      'another of a list',
      event(1, { options: { process_person_profile: [] } }),
      'invalid_options',
      'options.process_person_profile',
      'invalid_options',
    ],
    [
      'a product tour of a number',
      event(1, { options: { product_tour_id: 7 } }),
      'invalid_options',
      'options.product_tour_id',
      'invalid_options',
    ],
    [
      'properties of a list',
      event(1, { properties: [] }),
      'invalid_properties',
      'properties',
      'malformed_event_properties',
    ],
    [
      'properties of null',
      event(1, { properties: null }),
      'invalid_properties',
      'properties',
      'malformed_event_properties',
    ],
    ['$set of a number', event(1, { $set: 7 }), 'invalid_set', '$set', 'malformed_event_properties'],
    [
      'a cookieless property that is no boolean',
      event(1, { properties: { $cookieless_mode: 'x' } }),
      'invalid_cookieless_mode',
      'properties.$cookieless_mode',
      'invalid_options',
    ],
    ['a uuid that is none', event(1, { uuid: 'u-1' }), 'invalid_uuid', 'uuid', 'invalid_event_uuid'],
    ['a uuid of a number', event(1, { uuid: 1.5 }), 'invalid_uuid', 'uuid', 'invalid_event_uuid'],
  ]
  test.each(rows)('%s', async (_, bad, reason, field, details) => {
    const { response, answer, stored } = await send(capture, envelope([event(8), bad, event(9)]))
    expect(response.status).toBe(200)
    expect(stored.map(({ header }) => header.uuid).sort()).toEqual([uuid(8), uuid(9)])
    const key = (bad as { uuid?: unknown }).uuid
    expect(Object.entries(answer.results)).toEqual([
      [uuid(8), OK],
      ...(key === undefined ? [] : [[String(key), drop(details)] as [string, typeof OK]]),
      [uuid(9), OK],
    ])
    expect(answer.rejected).toMatchObject([{ index: 1, reason, field }])
    expect(answer.rejected![0]!.message).not.toBe('')
    expect(response.headers.get('retry-after')).toBeNull()
  })

  test('too large, also by what its options add; and at the limit it is taken', async () => {
    const small = await startTestCapture({ captureEventBytesMax: 1_024 }, { clock: () => NOW })
    const added = ',"$lib":"posthog-node","$lib_version":"5.70.0"'.length
    const sized = (n: number, bytes: number) => {
      const padding = bytes - JSON.stringify(event(n, { properties: { p: '' } })).length
      return event(n, { properties: { p: 'x'.repeat(padding) } })
    }
    const batch = [sized(1, 1_024 - added), sized(2, 1_025 - added), sized(3, 1_025)]
    const { answer, stored } = await send(small, envelope(batch))
    await small.stop()
    expect(answer.results).toEqual({
      [uuid(1)]: OK,
      [uuid(2)]: drop('event_too_big'),
      [uuid(3)]: drop('event_too_big'),
    })
    expect(stored.map(({ value }) => value.length)).toEqual([1_024])
  })

  test('too deep, and with too many keys', async () => {
    const small = await startTestCapture({ captureEventDepthMax: 8, captureEventKeysMax: 100 })
    const deep = event(1, { properties: { a: { b: { c: { d: { e: { f: { g: {} } } } } } } } })
    const wide = event(2, { properties: Object.fromEntries(Array.from({ length: 96 }, (_, i) => [i, i])) })
    const { answer } = await send(small, envelope([deep, wide, event(3)]))
    await small.stop()
    expect(answer.results).toEqual({
      [uuid(1)]: drop('event_too_deep'),
      [uuid(2)]: drop('too_many_keys'),
      [uuid(3)]: OK,
    })
  })

  test('when all are refused it is 200 as well, and nothing is stored', async () => {
    const { response, answer, stored } = await send(capture, envelope([event(1, { event: '' })]))
    expect([response.status, stored.length]).toEqual([200, 0])
    expect(answer.results).toEqual({ [uuid(1)]: drop('missing_event_name') })
  })

  test('at the limit of 200 characters name and id are taken', async () => {
    const { answer } = await send(
      capture,
      envelope([event(1, { event: '😀'.repeat(200), distinct_id: 'é'.repeat(200) })]),
    )
    expect(answer.results).toEqual({ [uuid(1)]: OK })
  })
})

describe('uuids', () => {
  const spellings: [string, string][] = [
    ['in capitals', uuid(0xabc).toUpperCase()],
    ['without hyphens', uuid(0xabc).replaceAll('-', '')],
    ['as a URN', `urn:uuid:${uuid(0xabc)}`],
    ['with white space', ` ${uuid(0xabc)}\n`],
  ]
  test.each(spellings)('%s: the result goes by the spelling of the client', async (_, spelling) => {
    const { answer, stored } = await send(capture, envelope([event(1, { uuid: spelling })]))
    expect(Object.entries(answer.results)).toEqual([[spelling, OK]])
    expect(stored.map(({ header }) => header.uuid)).toEqual([uuid(0xabc)])
  })

  test.each([
    ['missing', undefined],
    ['null', null],
    ['empty', ''],
    ['blank', ' '],
  ])('%s: one is minted, the same for the same bytes', async (_, sent) => {
    const body = envelope([event(1, { uuid: sent })])
    const first = await send(capture, body)
    const [minted] = Object.keys(first.answer.results)
    expect(first.answer.results).toEqual({ [minted!]: OK })
    expect(first.stored.map(({ header }) => header.uuid)).toEqual([minted!])
    expect((await send(capture, body)).answer).toEqual(first.answer)
  })

  test('a refused event that has none is told by its index', async () => {
    const { answer } = await send(capture, envelope([event(1, { uuid: null, event: '' }), event(2)]))
    expect(answer.results).toEqual({ [uuid(2)]: OK })
    expect(answer.rejected).toMatchObject([{ index: 0, reason: 'missing_event' }])
  })

  test('repeated: the first is kept, its result stands, and the second is told by its index', async () => {
    const { answer, stored } = await send(
      capture,
      envelope([event(1), event(2), event(1, { event: 'other' })]),
    )
    expect(Object.entries(answer.results)).toEqual([
      [uuid(1), OK],
      [uuid(2), OK],
    ])
    expect(answer.rejected).toMatchObject([
      { index: 2, uuid: uuid(1), field: 'uuid', reason: 'duplicate_uuid' },
    ])
    expect(stored.filter(({ header }) => header.uuid === uuid(1)).map(({ header }) => header.event)).toEqual([
      'e',
    ])
  })

  test('repeated in another spelling: both results are told', async () => {
    const other = uuid(0xabc).toUpperCase()
    const { answer } = await send(capture, envelope([event(0xabc), event(1, { uuid: other })]))
    expect(Object.entries(answer.results)).toEqual([
      [uuid(0xabc), OK],
      [other, drop('duplicate_event_uuid')],
    ])
  })

  test('repeated after one that is refused: the one that is stored stands', async () => {
    const { answer, stored } = await send(capture, envelope([event(1, { event: '' }), event(2), event(1)]))
    expect(Object.entries(answer.results)).toEqual([
      [uuid(1), OK],
      [uuid(2), OK],
    ])
    expect(answer.rejected).toMatchObject([{ index: 0, reason: 'missing_event' }])
    expect(stored.length).toBe(2)
  })

  test('a hostile one is a key like any other', async () => {
    for (const name of ['__proto__', 'constructor', '7', '"\\\u0000\n', 'x'.repeat(10_000)]) {
      const { answer } = await send(capture, envelope([event(1, { uuid: name }), event(2)]))
      expect(Object.getOwnPropertyDescriptor(answer.results, name)?.value).toEqual(drop('invalid_event_uuid'))
    }
  })
})

describe('distinct ids that are nobody', () => {
  const ids = [
    '0',
    '00000000-0000-0000-0000-000000000000',
    '[object Object]',
    'anonymous',
    'anonymous-user',
    'backend',
    'distinct_id',
    'distinctid',
    'email',
    'false',
    'guest',
    'id',
    'NaN',
    'none',
    'NOT_AUTHENTICATED',
    'null',
    'system',
    'true',
    'undefined',
    'User',
  ]
  test('are stored without a person, and told', async () => {
    const own = await startTestCapture({}, { clock: () => NOW })
    const batch = ids.map((distinct_id, n) => event(n, { distinct_id }))
    const { answer, stored } = await send(own, envelope(batch))
    expect(Object.entries(answer.results)).toEqual(ids.map((_, n) => [uuid(n), PERSONLESS]))
    expect(new Set(stored.map(({ header }) => header.personProcessing))).toEqual(new Set(['forcedOff']))
    // The partition is that of any event with this id.
    for (const { header, partition } of stored) {
      const { token, distinctId } = header
      expect(partition).toBe(partitionOf({ kind: 'distinctId', token, distinctId }, 4))
    }
    await own.capture.stop()
    const told = (await own.reports()).filter(({ type }) => type === 'events_changed')
    await own.stop()
    expect(told).toMatchObject([{ reason: 'illegal_distinct_id', count: ids.length }])
  })

  test('and an event that asks for no person itself keeps its word', async () => {
    const { answer, stored } = await send(
      capture,
      envelope([event(1, { distinct_id: 'null', options: { process_person_profile: false } })]),
    )
    expect(answer.results).toEqual({ [uuid(1)]: PERSONLESS })
    expect(stored.map(({ header }) => header.personProcessing)).toEqual(['off'])
  })

  test('ids that only contain such a word are those of somebody', async () => {
    const { answer } = await send(
      capture,
      envelope([event(1, { distinct_id: 'user1' }), event(2, { distinct_id: '00' })]),
    )
    expect(answer.results).toEqual({ [uuid(1)]: OK, [uuid(2)]: OK })
  })
})

describe('policies of the project', () => {
  const withPolicy = (policy: object) => {
    // One object for ever: what the project has used of its rate is counted by it.
    const project = { teamId: 1, settings: { policy } }
    return startTestCapture(
      {},
      { clock: () => NOW, projects: { ...EVERY_TOKEN, known: () => project, find: async () => project } },
    )
  }

  test('a restriction drops by name, and takes the person away', async () => {
    const own = await withPolicy({
      restrictions: [
        { action: 'drop', uuids: [uuid(1)] },
        { action: 'skip_person_processing', uuids: [uuid(2)] },
      ],
    })
    const { answer, stored } = await send(own, envelope([event(1), event(2), event(3)]))
    await own.stop()
    expect(answer.results).toEqual({
      [uuid(1)]: drop('event_restriction_drop'),
      [uuid(2)]: PERSONLESS,
      [uuid(3)]: OK,
    })
    expect(stored.length).toBe(2)
  })

  test('over quota is a drop with 200, in part and in whole', async () => {
    const own = await withPolicy({ events_per_month: 2 })
    const part = await send(own, envelope([event(1), event(2), event(3)]))
    const whole = await send(own, envelope([event(4)]))
    await own.stop()
    expect(part.answer).toMatchObject({
      results: { [uuid(1)]: OK, [uuid(2)]: OK, [uuid(3)]: drop('billing_limit_exceeded') },
      quota_limited: ['events'],
    })
    expect(whole.response.status).toBe(200)
    expect(whole.answer.results).toEqual({ [uuid(4)]: drop('billing_limit_exceeded') })
    expect(whole.stored.length).toBe(0)
  })

  test('over the rate as well', async () => {
    const own = await withPolicy({ events_per_second: 1, burst: 1 })
    const { answer } = await send(own, envelope([event(1), event(2)]))
    await own.stop()
    expect(answer.results).toEqual({ [uuid(1)]: OK, [uuid(2)]: drop('rate_limited') })
  })
})

test('all answers: the id of the request, the date, and the headers that a browser may read', async () => {
  const own = { origin: 'https://shop.example' }
  const { response } = await send(capture, envelope([event(1)]), own)
  expect(response.headers.get('posthog-request-id')).toBe(REQUEST_ID)
  const date = response.headers.get('date')!
  expect(new Date(date).toUTCString()).toBe(date)
  expect(Math.abs(Date.parse(date) - Date.now())).toBeLessThan(60_000)
  expect(response.headers.get('access-control-allow-origin')).toBe('https://shop.example')
  expect(response.headers.get('access-control-expose-headers')).toBe('Retry-After, PostHog-Request-Id')
})
