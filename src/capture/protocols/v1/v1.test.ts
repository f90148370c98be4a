/** v1 from outside: what is stored, and what each event is answered with. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { EVERY_TOKEN, startTestCapture, type TestCapture } from '../../../../test/support/capture.ts'
import { partitionOf } from '../../../event/index.ts'
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
