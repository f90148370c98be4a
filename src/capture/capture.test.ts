import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { gzipSync } from 'node:zlib'
import { type StoredEvent, startTestCapture, type TestCapture } from '../../test/support/capture.ts'
import { partitionOf } from '../event/index.ts'

const NOW = Date.parse('2026-11-22T12:00:00Z')
const UUID = '0193a7c4-5b1e-7c3a-9d2f-1a2b3c4d5e6f'
let capture: TestCapture

beforeAll(async () => {
  capture = await startTestCapture({}, { clock: () => NOW })
})
afterAll(() => capture.stop())

/** What `send` stored beyond what was there before. */
async function newlyStored(send: () => Promise<unknown>): Promise<StoredEvent[]> {
  const place = (event: StoredEvent) => `${event.topic}/${event.partition}/${event.offset}`
  const before = new Set((await capture.stored()).map(place))
  await send()
  return (await capture.stored()).filter((event) => !before.has(place(event)))
}

const EVENT = { event: 'sign up', distinct_id: 'd1', uuid: UUID, properties: { a: 1 } }

describe('body shapes on every path', () => {
  const paths = ['/batch/', '/batch', '/e/', '/e', '/i/v0/e/', '/i/v0/e', '/capture/', '/capture']
  const json = JSON.stringify({ api_key: 'phc_test', batch: [EVENT] })
  const shapes: [string, string | Uint8Array, Record<string, string>?][] = [
    ['batch', json],
    ['batch with token', JSON.stringify({ token: 'phc_test', batch: [EVENT] })],
    ['array', JSON.stringify([{ ...EVENT, api_key: 'phc_test' }])],
    ['single event', JSON.stringify({ ...EVENT, token: 'phc_test' })],
    ['single event, $token', JSON.stringify({ ...EVENT, $token: 'phc_test' })],
    ['token in the properties', JSON.stringify([{ ...EVENT, properties: { token: 'phc_test' } }])],
    ['white space around', `\n\t ${json} \r\n`],
    ['byte order mark', `\ufeff${json}`],
    ['gzip without a header', gzipSync(json), { 'content-type': 'text/plain' }],
    ['gzip with a header', gzipSync(json), { 'content-encoding': 'gzip' }],
    ['gzip in two members', Buffer.concat([gzipSync(json.slice(0, 20)), gzipSync(json.slice(20))])],
    [
      'form of base64',
      `data=${encodeURIComponent(Buffer.from(json).toString('base64'))}`,
      { 'content-type': 'application/x-www-form-urlencoded' },
    ],
    [
      'form with a charset, and other fields before',
      `ver=1.0&data=${encodeURIComponent(Buffer.from(json).toString('base64'))}&compression=base64`,
      { 'content-type': 'application/x-www-form-urlencoded; charset=UTF-8' },
    ],
    [
      'form of JSON',
      `data=${encodeURIComponent(json)}`,
      { 'content-type': 'application/x-www-form-urlencoded' },
    ],
    ['form of gzip in base64', `data=${encodeURIComponent(gzipSync(json).toString('base64'))}`],
    ['bare base64', Buffer.from(json).toString('base64'), { 'content-type': 'text/plain' }],
    ['JSON under a form type', json, { 'content-type': 'application/x-www-form-urlencoded' }],
  ]
  test.each(shapes.map(([name, body, headers = {}]) => [name, body, headers] as const))(
    '%s',
    async (_, body, headers) => {
      for (const path of paths) {
        const stored = await newlyStored(async () => {
          const response = await capture.post(path, body, headers)
          expect(await response.text()).toBe('{"status":"Ok"}')
          expect(response.status).toBe(200)
          expect(response.headers.get('content-type')).toBe('application/json')
        })
        expect(stored.length).toBe(1)
        expect(stored[0]!.header).toMatchObject({
          token: 'phc_test',
          distinctId: 'd1',
          uuid: UUID,
          event: 'sign up',
        })
      }
    },
  )

  test('a chunked body', async () => {
    const stored = await newlyStored(async () => {
      const stream = new ReadableStream({
        async start(controller) {
          for (const half of [json.slice(0, 30), json.slice(30)]) controller.enqueue(Buffer.from(half))
          controller.close()
        },
      })
      const response = await fetch(`${capture.url}/e/`, { method: 'POST', body: stream })
      expect(response.status).toBe(200)
    })
    expect(stored.length).toBe(1)
  })
})

describe('the stored record', () => {
  test('is the bytes that were sent, and the header says what capture found', async () => {
    const raw = `{ "event":"caf\\u00e9", "properties" : {"$lib":"web","$lib_version":"1.2.3","x":1.0, "x":2e0,"é":"\\ud800"},"distinct_id": "d2" ,"timestamp":"2026-11-22T11:00:00.000Z", "uuid":"${UUID.toUpperCase()}" }`
    const stored = await newlyStored(() =>
      capture.post('/batch/', `{"api_key":"phc_test","sent_at":"2026-11-22T13:00:00Z","batch":[ ${raw} ]}`, {
        'user-agent': 'posthog-python/7.42.0',
        'x-request-id': 'r-1',
      }),
    )
    expect(stored.length).toBe(1)
    const [{ header, value, partition, topic }] = stored as [StoredEvent]
    expect(value).toBe(raw)
    expect(topic).toBe('raw_events')
    expect(partition).toBe(partitionOf({ kind: 'distinctId', token: 'phc_test', distinctId: 'd2' }, 4))
    expect(header).toEqual({
      token: 'phc_test',
      distinctId: 'd2',
      event: 'café',
      uuid: UUID,
      timestampMs: NOW - 2 * 3_600_000,
      timeRule: 'skewCorrected',
      nowMs: NOW,
      sentAtMs: NOW + 3_600_000,
      ip: '127.0.0.1',
      userAgent: 'posthog-python/7.42.0',
      sdk: 'web/1.2.3',
      personProcessing: 'on',
      cookieless: false,
      clientTimeMs: Date.parse('2026-11-22T11:00:00Z'),
      disposition: 'event',
      requestId: 'r-1',
      replayOf: undefined,
    })
  })

  test('the last of repeated members counts, in envelope, event and properties', async () => {
    const body = `{"batch":[{"event":"first","distinct_id":"x"}],"api_key":"phc_a","api_key":"phc_test",
      "batch":[{"event":"one","event":"two","properties":{"distinct_id":"old","$lib":"gone"},"properties":{"distinct_id":"new"}}]}`
    const stored = await newlyStored(() => capture.post('/batch/', body))
    expect(stored.map(({ header }) => [header.token, header.event, header.distinctId, header.sdk])).toEqual([
      ['phc_test', 'two', 'new', ''],
    ])
  })

  test('an import goes to its own lane', async () => {
    const stored = await newlyStored(() =>
      capture.post('/batch/', { api_key: 'phc_test', historical_migration: true, batch: [EVENT] }),
    )
    expect(stored.map(({ topic }) => topic)).toEqual(['raw_events_historical'])
  })

  test('an event without a uuid: by its bytes when it has a time of its own, else a new one each time', async () => {
    const timed = { event: 'e', distinct_id: 'd', timestamp: '2026-11-22T11:00:00Z' }
    const untimed = { event: 'e', distinct_id: 'd' }
    const send = () => capture.post('/batch/', { api_key: 'phc_test', batch: [timed, untimed] })
    const stored = await newlyStored(async () => {
      await send()
      await send()
    })
    const uuids = (named: (value: string) => boolean) =>
      stored.filter(({ value }) => named(value)).map(({ header }) => header.uuid)
    expect(new Set(uuids((value) => value.includes('timestamp'))).size).toBe(1)
    expect(new Set(uuids((value) => !value.includes('timestamp'))).size).toBe(2)
  })

  test('events without a uuid that are alike in one request are all stored', async () => {
    const timed = { event: 'e', distinct_id: 'd', timestamp: '2026-11-22T11:00:00Z' }
    const stored = await newlyStored(async () => {
      for (let send = 0; send < 2; send++)
        await capture.post('/batch/', { api_key: 'phc_test', batch: [timed, timed, timed] })
    })
    expect(stored.length).toBe(6)
    expect(new Set(stored.map(({ header }) => header.uuid)).size).toBe(3)
  })

  test('sent_at of the query is read when the body has none', async () => {
    const stored = await newlyStored(() =>
      capture.post(`/e/?_=${NOW - 60_000}`, { ...EVENT, api_key: 'phc_test' }),
    )
    expect(stored[0]!.header.sentAtMs).toBe(NOW - 60_000)
  })
})

describe('answers', () => {
  test('beacon=1 is answered with 204', async () => {
    const stored = await newlyStored(async () => {
      const response = await capture.post('/e/?beacon=1', { ...EVENT, api_key: 'phc_test' })
      expect(response.status).toBe(204)
      expect(await response.text()).toBe('')
    })
    expect(stored.length).toBe(1)
  })

  test('valid events are stored, the others are named by index', async () => {
    const batch = [EVENT, { event: '' }, 7, { ...EVENT, uuid: 'no' }, { event: 'b', distinct_id: 'd' }]
    const stored = await newlyStored(async () => {
      const response = await capture.post('/batch/', { api_key: 'phc_test', batch })
      expect(response.status).toBe(200)
      expect(await response.json()).toEqual({
        status: 'Ok',
        rejected_count: 3,
        rejected: [
          { index: 1, field: 'event', reason: 'missing_event', message: expect.any(String) },
          { index: 2, field: '', reason: 'not_an_object', message: expect.any(String) },
          { index: 3, field: 'uuid', reason: 'invalid_uuid', uuid: 'no', message: expect.any(String) },
        ],
      })
    })
    expect(stored.map(({ header }) => header.event).sort()).toEqual(['b', 'sign up'])
  })

  test('an origin is mirrored on success and on every refusal', async () => {
    const origin = 'https://shop.example'
    const rows: [string, string, number][] = [
      ['POST', '/e/', 400],
      ['PUT', '/e/', 405],
      ['POST', '/nowhere', 404],
      ['GET', '/array/phc_test/config', 200],
    ]
    for (const [method, path, status] of rows) {
      const response = await fetch(capture.url + path, {
        method,
        headers: { origin },
        ...(method === 'POST' ? { body: 'x' } : {}),
      })
      expect([path, response.status]).toEqual([path, status])
      expect(response.headers.get('access-control-allow-origin')).toBe(origin)
      expect(response.headers.get('access-control-allow-credentials')).toBe('true')
      expect(response.headers.get('access-control-expose-headers')).toContain('Retry-After')
      if (status >= 400) {
        const body = (await response.json()) as Record<string, string>
        expect(body.code).toStartWith('HR_CAPTURE_')
        expect(body.docs).toEndWith(`#${body.code!.toLowerCase()}`)
      }
    }
  })

  test('a preflight allows what was asked for', async () => {
    const response = await fetch(`${capture.url}/e/`, {
      method: 'OPTIONS',
      headers: { origin: 'https://shop.example', 'access-control-request-headers': 'content-type, x-any' },
    })
    expect(response.status).toBe(200)
    expect(await response.text()).toBe('')
    expect(response.headers.get('access-control-allow-headers')).toBe('content-type, x-any')
    expect(response.headers.get('access-control-allow-methods')).toContain('POST')
  })

  test('health and metrics', async () => {
    expect((await fetch(`${capture.url}/_readiness`)).status).toBe(200)
    expect((await fetch(`${capture.url}/_liveness`)).status).toBe(200)
    const metrics = await (await fetch(`${capture.url}/metrics`)).text()
    expect(metrics).toContain('headrace_capture_requests_total{path="/batch",status="200"}')
    expect(metrics).toContain('headrace_capture_events_rejected_total{project="1",reason="invalid_uuid"} 1')
    expect(metrics).toContain('headrace_capture_in_flight_bytes 0')
  })
})

describe('tokens', () => {
  const rows: [string, unknown, number, string][] = [
    ['none', { batch: [EVENT] }, 401, 'HR_CAPTURE_NO_TOKEN'],
    ['empty', { api_key: ' ', batch: [EVENT] }, 401, 'HR_CAPTURE_INVALID_TOKEN'],
    ['not a string', { api_key: 7, batch: [EVENT] }, 401, 'HR_CAPTURE_INVALID_TOKEN'],
    ['65 characters', { api_key: 'x'.repeat(65), batch: [EVENT] }, 401, 'HR_CAPTURE_INVALID_TOKEN'],
    ['64 characters', { api_key: 'x'.repeat(64), batch: [EVENT] }, 200, ''],
    ['not ASCII', { api_key: 'clé', batch: [EVENT] }, 401, 'HR_CAPTURE_INVALID_TOKEN'],
    ['NUL', { api_key: 'a\0b', batch: [EVENT] }, 401, 'HR_CAPTURE_INVALID_TOKEN'],
    ['a personal key', { api_key: 'phx_secret', batch: [EVENT] }, 401, 'HR_CAPTURE_INVALID_TOKEN'],
    ['pasted with a line break', { api_key: 'phc_test\n', batch: [EVENT] }, 200, ''],
    ['some events without one', [{ ...EVENT, token: 'a' }, EVENT], 200, ''],
  ]
  test.each(rows)('%s', async (_, body, status, code) => {
    const response = await capture.post('/batch/', body)
    expect(response.status).toBe(status)
    if (code) expect(((await response.json()) as { code: string }).code).toBe(code)
  })
})

describe('quiet answers', () => {
  test('config, config.js, flags, decide and the rest', async () => {
    const get = async (path: string, method = 'GET') => {
      const response = await fetch(capture.url + path, {
        method,
        ...(method === 'POST' ? { body: '{}' } : {}),
      })
      expect([path, response.status]).toEqual([path, 200])
      return response
    }
    const config = (await (await get('/array/phc_test/config')).json()) as Record<string, unknown>
    expect(config).toMatchObject({ supportedCompression: ['gzip', 'gzip-js'], hasFeatureFlags: false })
    const script = await get('/array/phc_test/config.js')
    expect(script.headers.get('content-type')).toStartWith('application/javascript')
    const window: { _POSTHOG_REMOTE_CONFIG?: Record<string, unknown> } = {}
    new Function('window', await script.text())(window)
    expect(window._POSTHOG_REMOTE_CONFIG).toEqual({ phc_test: { config, siteApps: [] } })
    expect(await (await get('/flags/?v=2', 'POST')).json()).toMatchObject({ flags: {} })
    expect(await (await get('/flags/?v=2&config=true', 'POST')).json()).toMatchObject({
      flags: {},
      sessionRecording: false,
    })
    expect(await (await get('/decide/?v=3', 'POST')).json()).toMatchObject({ featureFlags: {} })
    expect(await (await get('/api/surveys/?token=phc_test')).json()).toEqual({ surveys: [] })
    expect(await (await get('/flags/definitions?token=phc_test&send_cohorts')).json()).toMatchObject({
      flags: [],
    })
  })

  test('a token that could leave the string of the script is not served', async () => {
    expect(
      (await fetch(`${capture.url}/array/${encodeURIComponent('"];alert(1)//')}/config.js`)).status,
    ).toBe(404)
  })
})
