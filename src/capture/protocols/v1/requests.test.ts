/** Requests of v1 that are refused whole: the tags and statuses that SDKs decide by (capture spec §6.4). */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { fdatasync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { EVERY_TOKEN, startTestCapture, type TestCapture } from '../../../../test/support/capture.ts'
import { waitFor } from '../../../../test/support/wait-for.ts'
import { CAPTURE_ERRORS } from '../../errors.ts'
import { errorTag, v1Status } from './refusal.ts'
import { readHeaders } from './request-headers.ts'
import { envelope, event, HEADERS, NOW, PATH, REQUEST_ID, send, uuid, type V1Error } from './v1.fixture.ts'

setDefaultTimeout(60_000)

let capture: TestCapture
beforeAll(async () => {
  const known = (token: string) => (token === 'phc_nobody' ? null : { teamId: 1, settings: {} })
  capture = await startTestCapture(
    {
      captureBatchEventsMax: 2,
      captureBodyBytesMax: 65_536,
      captureInflatedBytesMax: 131_072,
      captureBatchValuesMax: 1_000,
    },
    { clock: () => NOW, projects: { known, find: async (token) => known(token) } },
  )
})
afterAll(() => capture.stop())

const BODY = envelope([event(1)])

type Row = [
  name: string,
  headers: Record<string, string | undefined>,
  body: unknown,
  status: number,
  tag: string,
]
const rows: Row[] = [
  ...Object.keys(HEADERS)
    // fetch adds a User-Agent of its own.
    .filter((name) => name !== 'user-agent')
    .map((name): Row => [`no ${name}`, { [name]: undefined }, '', 400, 'missing_required_headers']),
  ['a blank header', { 'posthog-sdk-info': ' ' }, BODY, 400, 'missing_required_headers'],
  ['an SDK without a version', { 'posthog-sdk-info': 'posthog-node' }, BODY, 400, 'invalid_header_value'],
  ['an SDK without a name', { 'posthog-sdk-info': '/1.0' }, BODY, 400, 'invalid_header_value'],
  ['attempt 0', { 'posthog-attempt': '0' }, BODY, 400, 'invalid_header_value'],
  ['attempt 1.5', { 'posthog-attempt': '1.5' }, BODY, 400, 'invalid_header_value'],
  ['a request id that is no UUID', { 'posthog-request-id': 'r-1' }, BODY, 400, 'invalid_header_value'],
  ['a time that is none', { 'posthog-request-timestamp': 'now' }, BODY, 400, 'invalid_header_value'],
  ['another content type', { 'content-type': 'text/plain' }, BODY, 415, 'unsupported_content_type'],
  ['one that begins alike', { 'content-type': 'application/jsonl' }, BODY, 415, 'unsupported_content_type'],
  ['another encoding', { 'content-encoding': 'lz4' }, BODY, 415, 'unsupported_encoding'],
  ['two encodings', { 'content-encoding': 'gzip, br' }, BODY, 415, 'unsupported_encoding'],
  ['another scheme', { authorization: 'Basic cGhjX3Rlc3Q6' }, BODY, 401, 'invalid_api_token'],
  ['a scheme alone', { authorization: 'Bearer' }, BODY, 401, 'invalid_api_token'],
  ['a secret key', { authorization: 'Bearer phx_secret' }, BODY, 401, 'invalid_api_token'],
  ['a token of 65 characters', { authorization: `Bearer ${'x'.repeat(65)}` }, BODY, 401, 'invalid_api_token'],
  ['a token nobody has', { authorization: 'Bearer phc_nobody' }, BODY, 401, 'invalid_api_token'],
  ['no body', {}, '', 400, 'empty_body'],
  ['nothing in gzip', { 'content-encoding': 'gzip' }, gzipSync(''), 400, 'empty_body'],
  ['gzip that is none', { 'content-encoding': 'gzip' }, BODY, 400, 'request_decoding_error'],
  ['gzip that was not told', {}, gzipSync(JSON.stringify(BODY)), 400, 'request_parsing_error'],
  ['br that is none', { 'content-encoding': 'br' }, '\u0001\u0002', 400, 'request_decoding_error'],
  ['no JSON', {}, '{"created_at":', 400, 'request_parsing_error'],
  ['more than JSON', {}, `${JSON.stringify(BODY)}x`, 400, 'request_parsing_error'],
  ['a list', {}, [event(1)], 400, 'request_parsing_error'],
  ['a text', {}, '"x"', 400, 'request_parsing_error'],
  ['no created_at', {}, { batch: [event(1)] }, 400, 'request_parsing_error'],
  ['created_at of a number', {}, envelope([event(1)], { created_at: 7 }), 400, 'request_parsing_error'],
  ['created_at of no time', {}, envelope([event(1)], { created_at: 'soon' }), 400, 'invalid_batch'],
  ['no batch', {}, envelope(undefined), 400, 'request_parsing_error'],
  ['a batch of an object', {}, envelope({}), 400, 'request_parsing_error'],
  ['an empty batch', {}, envelope([]), 400, 'empty_batch'],
  [
    'historical_migration of a word that is none',
    {},
    envelope([event(1)], { historical_migration: 'perhaps' }),
    400,
    'request_parsing_error',
  ],
  [
    'capture_internal of a list',
    {},
    envelope([event(1)], { capture_internal: [] }),
    400,
    'request_parsing_error',
  ],
  ['too many events', {}, envelope([event(1), event(2), event(3)]), 413, 'payload_too_large'],
  ['too many values', {}, envelope([Array(1_000).fill(0)]), 413, 'payload_too_large'],
  ['too large a body', {}, 'x'.repeat(65_537), 413, 'payload_too_large'],
  [
    'too large once it is inflated',
    { 'content-encoding': 'gzip' },
    gzipSync(Buffer.alloc(131_073, 32)),
    413,
    'payload_too_large',
  ],
]
test.each(rows)('%s', async (_, headers, body, status, tag) => {
  const own = { origin: 'https://shop.example', ...headers }
  const { response, answer, stored } = await send<V1Error>(capture, body, own)
  expect([response.status, answer.error, stored.length]).toEqual([status, tag, 0])
  expect(Object.keys(answer)).toEqual(['error', 'error_description', 'error_uri'])
  expect(answer.error_description).not.toBe('')
  expect(answer.error_uri).toMatch(/#hr_capture_\w+$/)
  const header = (name: string) => response.headers.get(name)
  expect([header('accept'), header('accept-encoding')]).toEqual([
    'application/json',
    'gzip, deflate, br, zstd',
  ])
  expect(header('posthog-request-id')).toBe(
    'posthog-request-id' in headers ? (headers['posthog-request-id'] ?? null) : REQUEST_ID,
  )
  expect(header('access-control-allow-origin')).toBe('https://shop.example')
  expect(header('retry-after')).toBeNull()
})

test('missing headers are told together, and so are those that cannot be read', async () => {
  const missing = { authorization: undefined, 'posthog-attempt': undefined }
  const { answer } = await send<V1Error>(capture, BODY, missing)
  expect(answer.error_description).toEndWith('missing: Authorization, PostHog-Attempt')
  const wrong = { 'posthog-sdk-info': 'x', 'posthog-attempt': '0', 'posthog-request-id': 'r' }
  const second = await send<V1Error>(capture, BODY, wrong)
  for (const name of ['Sdk-Info', 'Attempt', 'Request-Id']) {
    expect(second.answer.error_description).toContain(`PostHog-${name}`)
  }
})

test('all that is missing is told', () => {
  expect(() => readHeaders(new Headers())).toThrow(
    'missing: Authorization, Content-Type, User-Agent, PostHog-Sdk-Info, PostHog-Attempt, PostHog-Request-Id, PostHog-Request-Timestamp',
  )
})

test('a request id that is no plain short text is not repeated', async () => {
  for (const id of ['x'.repeat(65), 'a b']) {
    const { response } = await send<V1Error>(capture, BODY, { 'posthog-request-id': id })
    expect([response.status, response.headers.get('posthog-request-id')]).toEqual([400, null])
  }
})

test('GET is refused with 405, and a preflight names what is taken', async () => {
  const get = await fetch(capture.url + PATH)
  expect([get.status, get.headers.get('allow')]).toEqual([405, 'POST, OPTIONS'])
  expect(((await get.json()) as V1Error).error).toBe('method_not_allowed')
  const preflight = await fetch(`${capture.url}${PATH}/`, {
    method: 'OPTIONS',
    headers: {
      origin: 'https://shop.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,posthog-attempt',
    },
  })
  expect([preflight.status, await preflight.text()]).toEqual([200, ''])
  expect(preflight.headers.get('access-control-allow-methods')).toBe('POST, OPTIONS')
  expect(preflight.headers.get('access-control-allow-headers')).toBe('authorization,posthog-attempt')
})

/** Which tags SDKs know for a status. */
const KNOWN_TAGS: Readonly<Record<number, readonly string[]>> = {
  400: [
    'missing_required_headers',
    'invalid_header_value',
    'request_decoding_error',
    'request_parsing_error',
    'empty_body',
    'empty_batch',
    'invalid_batch',
  ],
  401: ['invalid_api_token'],
  405: ['method_not_allowed'],
  408: ['body_read_timeout'],
  413: ['payload_too_large'],
  415: ['unsupported_content_type', 'unsupported_encoding'],
  500: ['internal_error'],
  503: ['service_unavailable'],
}
const answered = Object.entries(CAPTURE_ERRORS).flatMap(([code, spec]) =>
  // What is not found has no route, and so no form of v1.
  'status' in spec && spec.status !== 404 ? [[code, v1Status(code, spec.status)] as const] : [],
)
test.each(answered)('%s has a tag of its status %d', (code, status) => {
  expect(KNOWN_TAGS[status]).toContain(errorTag(code, status))
})

describe('what is to be sent again', () => {
  test('a body that stalls: 408, with the time to wait', async () => {
    const own = await startTestCapture({ captureBodyMs: 1_000, captureBodyStallMs: 1_000 })
    const { hostname, port } = new URL(own.url)
    let text = ''
    const socket = await Bun.connect({
      hostname,
      port: Number(port),
      socket: {
        data(_, bytes) {
          text += bytes.toString()
        },
      },
    })
    const headers = Object.entries({ ...HEADERS, host: 'h', 'content-length': '100' })
    socket.write(`POST ${PATH} HTTP/1.1\r\n${headers.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n{`)
    await waitFor('an answer', async () => text.includes('error_uri'), 10_000)
    socket.end()
    await own.stop()
    expect(text).toStartWith('HTTP/1.1 408')
    expect(text).toContain('"error":"body_read_timeout"')
    expect(text.toLowerCase()).toContain('\r\nretry-after: 5\r\n')
  })

  const project = { teamId: 7, settings: {} }
  const full = () =>
    startTestCapture(
      {},
      {
        log: { operations: { diskUsedRatio: () => 0.99 } },
        projects: { known: () => project, find: async () => project },
      },
    )

  test('a log that is full: 503 when nothing of the request is settled', async () => {
    const own = await full()
    const { response, answer } = await send<V1Error>(own, envelope([event(1), event(2)]))
    await own.stop()
    expect([response.status, answer.error]).toEqual([503, 'service_unavailable'])
    expect(response.headers.get('retry-after')).toBe('5')
    expect(response.headers.get('posthog-request-id')).toBe(REQUEST_ID)
  })

  test('and when some is: retry for what is valid, drop for what will never be', async () => {
    const own = await full()
    const batch = [event(1), event(2, { event: '' }), event(3, { distinct_id: 'null' })]
    const { response, answer, stored } = await send(own, envelope(batch))
    expect([response.status, response.headers.get('retry-after'), stored.length]).toEqual([200, '1', 0])
    expect(Object.entries(answer.results)).toEqual([
      [uuid(1), { result: 'retry', details: 'not_persisted' }],
      [uuid(2), { result: 'drop', details: 'missing_event_name' }],
      [uuid(3), { result: 'retry', details: 'not_persisted' }],
    ])
    expect(answer.rejected).toMatchObject([{ index: 1, reason: 'missing_event' }])
    const metrics = await (await fetch(`${own.url}/metrics`)).text()
    expect(metrics).toMatch(/headrace_capture_refused_total\{code="HR_CAPTURE_DISK_FULL"\} [1-9]/)
    // What was told as dropped will not come again, so it is accounted for now.
    expect(metrics).toContain('headrace_capture_events_rejected_total{project="7",reason="missing_event"} 1')
    await own.stop()
  })

  test('a log that breaks: 500 with the time to wait, and capture stops', async () => {
    let broken = false
    const sync = (fd: number) =>
      new Promise<void>((resolve, reject) => {
        if (broken) reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' }))
        else fdatasync(fd, (error) => (error ? reject(error) : resolve()))
      })
    const own = await startTestCapture({}, { log: { operations: { fdatasync: sync } } })
    await send(own, BODY)
    broken = true
    const response = await fetch(own.url + PATH, {
      method: 'POST',
      headers: HEADERS,
      body: JSON.stringify(envelope([event(2), event(3, { event: '' })])),
    })
    const answer = (await response.json()) as V1Error
    expect([response.status, answer.error]).toEqual([500, 'internal_error'])
    expect(response.headers.get('retry-after')).toBe('5')
    expect(own.fatal.length).toBe(1)
    await own.stop()
  })
})

test('a token that cannot be asked about now is taken', async () => {
  const own = await startTestCapture(
    {},
    { projects: { ...EVERY_TOKEN, known: () => undefined, find: async () => undefined } },
  )
  const { answer } = await send(own, BODY)
  await own.stop()
  expect(answer.results).toEqual({ [uuid(1)]: { result: 'ok' } })
})
