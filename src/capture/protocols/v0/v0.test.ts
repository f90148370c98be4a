import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { gzipSync } from 'node:zlib'
import { type StoredEvent, startTestCapture, type TestCapture } from '../../../../test/support/capture.ts'
import type { NoteReason, Rejection, RejectReason } from '../../errors.ts'

setDefaultTimeout(60_000)

const NOW = Date.parse('2026-11-22T12:00:00Z')
const UUID = '0193a7c4-5b1e-7c3a-9d2f-1a2b3c4d5e6f'
const V0_PATHS = ['/batch', '/e', '/i/v0/e', '/capture', '/track', '/engage', '/i/v0/ai/batch'].flatMap(
  (path) => [path, `${path}/`],
)
const EVENT = { event: 'e', distinct_id: 'd' }
let capture: TestCapture

beforeAll(async () => {
  capture = await startTestCapture({}, { clock: () => NOW })
})
afterAll(() => capture.stop())

type Answer = { status?: string; code?: string; rejected?: Rejection[]; rejected_count?: number }
type Sent = { response: Response; answer: Answer; stored: StoredEvent[] }

/** What `body` is answered with, and what it stored beyond what was there before. */
async function send(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Sent> {
  const place = (event: StoredEvent) => `${event.topic}/${event.partition}/${event.offset}`
  const before = new Set((await capture.stored()).map(place))
  const response = await capture.post(path, body, headers)
  const answer = response.status === 204 ? {} : ((await response.json()) as Answer)
  const stored = (await capture.stored()).filter((event) => !before.has(place(event)))
  return { response, answer, stored }
}

describe('engage', () => {
  const rows: [string, unknown, Record<string, unknown>][] = [
    [
      'an object with $set',
      { $token: 'phc_test', $distinct_id: 'd1', $set: { plan: 'pro' } },
      { $set: { plan: 'pro' } },
    ],
    [
      'ids and token in the properties',
      { properties: { token: 'phc_test', distinct_id: 'd1' }, $set_once: { a: 1 } },
      { $set_once: { a: 1 } },
    ],
    ['a name of null', { token: 'phc_test', distinct_id: 'd1', event: null, $set: {} }, { $set: {} }],
    ['a list of them', [{ $token: 'phc_test', $distinct_id: 'd1', $set: { b: 2 } }], { $set: { b: 2 } }],
    [
      'a batch of them',
      { api_key: 'phc_test', batch: [{ distinct_id: 'd1', $set: { c: 3 } }] },
      { $set: { c: 3 } },
    ],
  ]
  test.each(rows)('%s becomes $identify, in header and value', async (_, body, expected) => {
    for (const path of ['/engage', '/engage/']) {
      const { response, answer, stored } = await send(path, body)
      expect([response.status, answer]).toEqual([200, { status: 'Ok' }])
      expect(stored.map(({ header }) => [header.event, header.distinctId])).toEqual([['$identify', 'd1']])
      expect(JSON.parse(stored[0]!.value)).toMatchObject({ ...expected, event: '$identify' })
    }
  })

  test('an event with a name keeps its bytes', async () => {
    const { stored } = await send('/engage/', { token: 'phc_test', ...EVENT })
    expect(stored.map(({ value }) => value)).toEqual([JSON.stringify({ token: 'phc_test', ...EVENT })])
  })

  test('the log keeps the bytes of the client, and the name behind them', async () => {
    const raw = '{ "$token":"phc_test", "$distinct_id" : 23, "$set":{"x":1.0, "é":"\\u00e9"} }'
    const { stored } = await send('/engage/', raw)
    expect(stored.map(({ value }) => value)).toEqual([`${raw.slice(0, -1)},"event":"$identify"}`])
    expect(stored[0]!.header.distinctId).toBe('23')
  })

  test('on other paths an object without a name is refused with what it lacks', async () => {
    for (const path of ['/capture/', '/track/', '/e/', '/batch/', '/i/v0/e/']) {
      const { response, answer } = await send(path, { $token: 'phc_test', $distinct_id: 'd', $set: {} })
      expect([response.status, answer.code]).toEqual([400, 'HR_CAPTURE_WRONG_SHAPE'])
    }
  })
})

test.each(V0_PATHS)('%s takes events', async (path) => {
  const { answer, stored } = await send(path, { token: 'phc_test', ...EVENT })
  expect([answer, stored.length]).toEqual([{ status: 'Ok' }, 1])
})

describe('GET', () => {
  const json = JSON.stringify({ token: 'phc_test', ...EVENT })
  const rows: [string, string][] = [
    ['base64', Buffer.from(json).toString('base64')],
    ['URL-safe base64', Buffer.from(json).toString('base64url')],
    ['JSON', json],
    ['gzip', gzipSync(json).toString('base64')],
  ]
  test.each(rows)('takes a `data` of %s on every path', async (_, data) => {
    const own = await startTestCapture()
    for (const path of V0_PATHS) {
      const response = await fetch(`${own.url}${path}?ip=1&data=${encodeURIComponent(data)}&ver=1.0`)
      expect([path, response.status, await response.text()]).toEqual([path, 200, '{"status":"Ok"}'])
    }
    expect((await own.stored()).length).toBe(V0_PATHS.length)
    await own.stop()
  })

  test('a beacon of GET gets 204, one without `data` is refused', async () => {
    const beacon = await fetch(`${capture.url}/e/?beacon=1&data=${encodeURIComponent(json)}`)
    expect(beacon.status).toBe(204)
    for (const query of ['', '?data=', '?beacon=1']) {
      const response = await fetch(`${capture.url}/e/${query}`)
      expect([response.status, ((await response.json()) as Answer).code]).toEqual([400, 'HR_CAPTURE_NO_BODY'])
    }
  })
})

describe('tokens', () => {
  const of = (token: string | undefined, event: string) => ({ ...EVENT, event, ...(token ? { token } : {}) })
  test('a list is of the first token in it; what names another is refused alone', async () => {
    const list = [of(undefined, 'a'), of('phc_one', 'b'), of('phc_two', 'c'), of(' phc_one\n', 'd')]
    const { response, answer, stored } = await send('/e/', list)
    expect(response.status).toBe(200)
    expect(answer.rejected).toEqual([
      { index: 2, field: 'token', reason: 'other_token', message: expect.any(String) },
    ])
    expect(new Set(stored.map(({ header }) => `${header.token} ${header.event}`))).toEqual(
      new Set(['phc_one a', 'phc_one b', 'phc_one d']),
    )
  })

  const fields: [string, Record<string, unknown>][] = [
    ['api_key', { api_key: 'phc_two' }],
    ['token', { token: 'phc_two' }],
    ['$token', { $token: 'phc_two' }],
    ['properties.token', { properties: { token: 'phc_two' } }],
  ]
  test.each(fields)('the refusal names the field %s', async (field, own) => {
    const { answer } = await send('/e/', [of('phc_one', 'a'), { ...EVENT, ...own }])
    expect(answer.rejected).toMatchObject([{ index: 1, field, reason: 'other_token' }])
  })

  test('a batch without a token is of the first that its events name', async () => {
    const { answer, stored } = await send('/batch/', { batch: [of('phc_one', 'a'), of('phc_two', 'b')] })
    expect(answer.rejected).toMatchObject([{ index: 1, reason: 'other_token' }])
    expect(stored.map(({ header }) => header.token)).toEqual(['phc_one'])
  })

  test('the token of a batch counts for all of it, whatever its events were sent with once', async () => {
    const batch = [of('phc_old', 'a'), { ...EVENT, properties: { token: 'phc_other' } }]
    const { answer, stored } = await send('/batch/', { api_key: 'phc_new', batch })
    expect(answer).toEqual({ status: 'Ok' })
    expect(stored.map(({ header }) => header.token)).toEqual(['phc_new', 'phc_new'])
  })

  test('two aliases of one field together are tolerated', async () => {
    const event = {
      ...EVENT,
      token: 'phc_test',
      api_key: 'phc_test',
      $token: 'phc_test',
      $distinct_id: 'x',
    }
    const { answer, stored } = await send('/capture/', event)
    expect(answer).toEqual({ status: 'Ok' })
    expect(stored.map(({ header }) => header.distinctId)).toEqual(['d'])
  })
})

describe('$performance_event', () => {
  const performance = { event: '$performance_event', distinct_id: 'd', uuid: UUID }
  test('is not kept, by name, and its neighbours are', async () => {
    const { response, answer, stored } = await send('/batch/', {
      api_key: 'phc_test',
      batch: [performance, EVENT],
    })
    expect(response.status).toBe(200)
    expect(answer).toMatchObject({
      status: 'Ok',
      rejected: [{ index: 0, uuid: UUID, reason: 'performance_event' }],
    })
    expect(stored.map(({ header }) => header.event)).toEqual(['e'])
  })

  test('alone is no fault of the sender', async () => {
    const { response, answer, stored } = await send('/batch/', { api_key: 'phc_test', batch: [performance] })
    expect([response.status, answer.status, answer.rejected_count, stored.length]).toEqual([200, 'Ok', 1, 0])
  })

  test('does not hide the fault of another', async () => {
    const body = { api_key: 'phc_test', batch: [performance, { event: 'e' }] }
    const { response, answer } = await send('/batch/', body)
    expect([response.status, answer.code]).toEqual([400, 'HR_CAPTURE_NOTHING_STORED'])
    expect(answer.rejected?.map(({ reason }) => reason)).toEqual(['performance_event', 'missing_distinct_id'])
  })
})

test('each bad event is named by index, uuid, field and reason, and costs no other', async () => {
  const bad: [unknown, string, RejectReason][] = [
    [7, '', 'not_an_object'],
    [{ distinct_id: 'd' }, 'event', 'missing_event'],
    [{ ...EVENT, event: 7 }, 'event', 'invalid_event'],
    [{ event: 'e' }, 'distinct_id', 'missing_distinct_id'],
    [{ ...EVENT, uuid: 'u' }, 'uuid', 'invalid_uuid'],
    [{ ...EVENT, timestamp: 7 }, 'timestamp', 'invalid_timestamp'],
    [{ ...EVENT, offset: 'x' }, 'offset', 'invalid_offset'],
    [{ ...EVENT, properties: [] }, 'properties', 'invalid_properties'],
    [{ ...EVENT, $set: 7 }, '$set', 'invalid_set'],
    [
      { ...EVENT, properties: { $cookieless_mode: 'yes' } },
      'properties.$cookieless_mode',
      'invalid_cookieless_mode',
    ],
  ]
  const batch = bad.flatMap(([event], i) => [event, { ...EVENT, event: `good ${i}` }])
  const { response, answer, stored } = await send('/batch/', { api_key: 'phc_test', batch })
  expect([response.status, answer.status, answer.rejected_count]).toEqual([200, 'Ok', bad.length])
  expect(answer.rejected?.map(({ index, field, reason }) => [index, field, reason])).toEqual(
    bad.map(([, field, reason], i) => [2 * i, field, reason]),
  )
  expect(stored.length).toBe(bad.length)
})

describe('time of sending', () => {
  const timestamp = '2026-11-22T13:00:00.000Z'
  const sentAt = '2026-11-22T13:00:10.000Z'
  const event = { ...EVENT, token: 'phc_test', timestamp }
  const corrected = NOW - 10_000
  const rows: [string, string, unknown, number][] = [
    ['of a batch', '/batch/', { api_key: 't', sent_at: sentAt, batch: [event] }, corrected],
    ['of a single event', '/capture/', { ...event, sent_at: sentAt }, corrected],
    ['of an event in a list', '/e/', [{ ...event, sent_at: sentAt }], corrected],
    [
      'of the batch, before that of the event',
      '/batch/',
      { api_key: 't', sent_at: sentAt, batch: [{ ...event, sent_at: timestamp }] },
      corrected,
    ],
    [
      'of the query, before that of the event',
      `/e/?_=${Date.parse(sentAt)}`,
      [{ ...event, sent_at: timestamp }],
      corrected,
    ],
    ['that cannot be read', '/capture/', { ...event, sent_at: 'soon' }, Date.parse(timestamp)],
    ['nowhere', '/capture/', event, Date.parse(timestamp)],
  ]
  test.each(rows)('%s', async (_, path, body, timestampMs) => {
    const { stored } = await send(path, body)
    expect(stored.map(({ header }) => header.timestampMs)).toEqual([timestampMs])
  })
})

test('capture_internal hides the address, whatever its value', async () => {
  const properties = (value: unknown) => ({ ...EVENT, properties: { capture_internal: value } })
  const ips = async (settings: object, body: unknown) => {
    const proxied = await startTestCapture({ trustedProxies: 'loopback', ...settings })
    try {
      await proxied.post('/batch/', body, { 'x-forwarded-for': '203.0.113.9' })
      return (await proxied.stored()).map(({ header }) => header.ip).sort()
    } finally {
      await proxied.stop()
    }
  }
  const batch = [EVENT, properties(true), properties(null)]
  expect(await ips({}, { api_key: 'phc_test', batch })).toEqual(['127.0.0.1', '127.0.0.1', '203.0.113.9'])
})

describe('what is stored otherwise than it was sent is told to the owner', () => {
  const notes: [NoteReason, unknown, string][] = [
    ['distinct_id_cut', { ...EVENT, distinct_id: 'x'.repeat(201) }, 'distinct_id'],
    ['distinct_id_cut', { event: 'e', properties: { distinct_id: '😀'.repeat(201) } }, 'distinct_id'],
    ['distinct_id_cut', { ...EVENT, distinct_id: ['x'.repeat(200)] }, 'distinct_id'],
    ['event_name_cut', { ...EVENT, event: 'n'.repeat(201) }, 'event'],
    ['timestamp_unreadable', { ...EVENT, timestamp: 'soon' }, 'timestamp'],
    ['timestamp_in_future', { ...EVENT, timestamp: '2026-11-24T12:00:00Z' }, 'timestamp'],
    ['timestamp_out_of_range', { ...EVENT, timestamp: '1600-01-01T00:00:00Z' }, 'timestamp'],
  ]
  test.each(notes)('%s', async (reason, event, field) => {
    const own = await startTestCapture({}, { clock: () => NOW })
    const response = await own.post('/batch/', { api_key: 'phc_test', batch: [EVENT, event] })
    expect(await response.json()).toEqual({ status: 'Ok' })
    expect((await own.stored()).length).toBe(2)
    await own.capture.stop()
    const told = (await own.reports()).filter(({ type }) => type === 'events_changed')
    expect(told).toMatchObject([{ reason, count: 1, sample: { index: 1, field } }])
    await own.stop()
  })

  test('nothing is told of what is stored as it was sent', async () => {
    const own = await startTestCapture({}, { clock: () => NOW })
    const batch = [
      { ...EVENT, distinct_id: 'x'.repeat(200) },
      { ...EVENT, distinct_id: '😀'.repeat(200) },
      { ...EVENT, event: 'n'.repeat(200) },
      { ...EVENT, timestamp: '2026-11-23T10:00:00Z' },
      { ...EVENT, offset: 5 },
      EVENT,
    ]
    await own.post('/batch/', { api_key: 'phc_test', batch })
    await own.capture.stop()
    expect(await own.reports()).toEqual([])
    await own.stop()
  })
})

test('a beacon gets 204, also when an event of it is refused', async () => {
  const body = { api_key: 'phc_test', batch: [EVENT, { event: 'e' }] }
  const { response } = await send('/e/?beacon=1', body)
  expect([response.status, response.headers.get('content-type')]).toEqual([204, null])
})
