/**
 * Hostile input for capture: each row has one stated answer, and after each the same capture still takes events.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { startTestCapture, type TestCapture } from '../support/capture.ts'
import { waitFor } from '../support/wait-for.ts'

const LIMITS = {
  captureBodyBytesMax: 6_000_000,
  captureInflatedBytesMax: 20_000_000,
  captureEventBytesMax: 100_000,
  captureBatchEventsMax: 1000,
}
let capture: TestCapture

beforeAll(async () => {
  capture = await startTestCapture(LIMITS)
})
afterAll(() => capture.stop())
afterEach(async () => {
  const response = await capture.post('/e/', { event: 'still here', distinct_id: 'd', token: 't' })
  expect(await response.text()).toBe('{"status":"Ok"}')
  expect(capture.fatal).toEqual([])
})

/** The wire form of a batch whose events are given as JSON text. */
function batch(...events: string[]): string {
  return `{"api_key":"t","batch":[${events.join(',')}]}`
}

function event(properties: string, distinctId = '"d"'): string {
  return `{"event":"e","distinct_id":${distinctId},"properties":${properties}}`
}

/** An event of exactly `bytes` bytes. */
function eventOf(bytes: number): string {
  return event(`{"p":"${'x'.repeat(bytes - event('{"p":""}').length)}"}`)
}

function nested(levels: number): string {
  return '['.repeat(levels) + ']'.repeat(levels)
}

function members(count: number): string {
  return Array.from({ length: count }, (_, i) => `"k${i}":${i}`).join(',')
}

const GOOD = event('{}')
const OVER_LIMIT = LIMITS.captureBodyBytesMax + 1

/** What is sent, the status, and the error code or the reasons of refused events. */
type Row = [name: string, body: string | Uint8Array, status: number, codes: string[]]

const NOT_JSON: Row[] = [
  ['nothing', '', 400, ['HR_CAPTURE_NO_BODY']],
  ['words', 'hello world', 400, ['HR_CAPTURE_NOT_JSON']],
  ['markup', '<!doctype html><p>hi', 400, ['HR_CAPTURE_NOT_JSON']],
  ['half a body', batch(GOOD).slice(0, -5), 400, ['HR_CAPTURE_NOT_JSON']],
  ['a body and more', `${batch(GOOD)}}`, 400, ['HR_CAPTURE_NOT_JSON']],
  ['two bodies', batch(GOOD) + batch(GOOD), 400, ['HR_CAPTURE_NOT_JSON']],
  ['a comma at the end', batch(`${GOOD},`), 400, ['HR_CAPTURE_NOT_JSON']],
  ['NaN', batch(event('{"x":NaN}')), 400, ['HR_CAPTURE_NOT_JSON']],
  ['Infinity', batch(event('{"x":-Infinity}')), 400, ['HR_CAPTURE_NOT_JSON']],
  ['single quotes', "{'event':'e'}", 400, ['HR_CAPTURE_NOT_JSON']],
  ['a NUL byte in a string', batch(event('{"x":"\0"}')), 400, ['HR_CAPTURE_NOT_JSON']],
  ['only NUL bytes', '\0\0\0\0', 400, ['HR_CAPTURE_NOT_JSON']],
  ['UTF-16', Buffer.from(`\ufeff${batch(GOOD)}`, 'utf16le'), 400, ['HR_CAPTURE_NOT_JSON']],
  ['an encoded surrogate', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), 400, ['HR_CAPTURE_NOT_JSON']],
  [
    'invalid UTF-8 in a string',
    Buffer.concat([Buffer.from('{"event":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]),
    400,
    ['HR_CAPTURE_NOT_JSON'],
  ],
  ['invalid UTF-8 of 2 MB', Buffer.alloc(2_000_000, 0xff), 400, ['HR_CAPTURE_NOT_JSON']],
  ['brackets without end', '['.repeat(1_000_000), 400, ['HR_CAPTURE_NOT_JSON']],
  ['a string without end', `"${'\\u0041'.repeat(100_000)}`, 400, ['HR_CAPTURE_NOT_JSON']],
]

const WRONG_SHAPE: Row[] = [
  ['null', 'null', 400, ['HR_CAPTURE_WRONG_SHAPE']],
  ['a number', '12', 400, ['HR_CAPTURE_WRONG_SHAPE']],
  ['a string', '"batch"', 400, ['HR_CAPTURE_WRONG_SHAPE']],
  ['{}', '{}', 400, ['HR_CAPTURE_WRONG_SHAPE']],
  ['[]', '[]', 400, ['HR_CAPTURE_NO_EVENTS']],
  ['an empty batch', batch(), 400, ['HR_CAPTURE_NO_EVENTS']],
  ['batch is an object', '{"api_key":"t","batch":{}}', 400, ['HR_CAPTURE_WRONG_SHAPE']],
  [
    'batch came twice, the last is no list',
    '{"api_key":"t","batch":[{"event":"e"}],"batch":1}',
    400,
    ['HR_CAPTURE_WRONG_SHAPE'],
  ],
  ['an array without a token', `[${nested(100_000)}]`, 401, ['HR_CAPTURE_NO_TOKEN']],
]

const ONE_BAD: Row[] = [
  ['not an object', batch(GOOD, '[]'), 200, ['not_an_object']],
  ['100,000 levels', batch(GOOD, event(`{"x":${nested(100_000 / 4)}}`)), 200, ['event_too_deep']],
  ['100,000 levels in an unknown member', batch(GOOD, `{"x":${nested(49_000)}}`), 200, ['event_too_deep']],
  ['100,000 levels beyond the size', batch(GOOD, nested(100_000)), 200, ['not_an_object']],
  ['128 levels', batch(GOOD, event(`{"x":${nested(126)}}`)), 200, []],
  ['129 levels', batch(GOOD, event(`{"x":${nested(127)}}`)), 200, ['event_too_deep']],
  ['129 levels in the distinct_id', batch(GOOD, event('{}', nested(128))), 200, ['event_too_deep']],
  ['an event of the limit', batch(GOOD, eventOf(100_000)), 200, []],
  ['an event one byte over the limit', batch(GOOD, eventOf(100_001)), 200, ['event_too_large']],
  ['no name', batch(GOOD, '{"distinct_id":"d"}'), 200, ['missing_event']],
  ['a name that is a number', batch(GOOD, '{"event":1,"distinct_id":"d"}'), 200, ['invalid_event']],
  ['no distinct_id', batch(GOOD, '{"event":"e"}'), 200, ['missing_distinct_id']],
  ['an empty distinct_id', batch(GOOD, '{"event":"e","distinct_id":""}'), 200, ['missing_distinct_id']],
  ['a uuid that is none', batch(GOOD, '{"event":"e","distinct_id":"d","uuid":"1"}'), 200, ['invalid_uuid']],
  ['a uuid that is a number', batch(GOOD, '{"event":"e","distinct_id":"d","uuid":1}'), 200, ['invalid_uuid']],
  [
    'a timestamp that is a number',
    batch(GOOD, '{"event":"e","distinct_id":"d","timestamp":1}'),
    200,
    ['invalid_timestamp'],
  ],
  [
    'an offset of 1e999',
    batch(GOOD, '{"event":"e","distinct_id":"d","offset":1e999}'),
    200,
    ['invalid_offset'],
  ],
  [
    'an offset that is text',
    batch(GOOD, '{"event":"e","distinct_id":"d","offset":"1"}'),
    200,
    ['invalid_offset'],
  ],
  ['properties are null', batch(GOOD, event('null')), 200, ['invalid_properties']],
  ['properties are a list', batch(GOOD, event('[]')), 200, ['invalid_properties']],
  ['$set is a list', batch(GOOD, '{"event":"e","distinct_id":"d","$set":[]}'), 200, ['invalid_set']],
  [
    'cookieless mode is text',
    batch(GOOD, event('{"$cookieless_mode":"yes"}')),
    200,
    ['invalid_cookieless_mode'],
  ],
  [
    'nothing else in the request',
    batch(event('null')),
    400,
    ['HR_CAPTURE_NOTHING_STORED', 'invalid_properties'],
  ],
  [
    'nothing else, and too large',
    batch(eventOf(100_001)),
    413,
    ['HR_CAPTURE_EVENT_TOO_LARGE', 'event_too_large'],
  ],
]

const TAKEN: Row[] = [
  ['a byte order mark', `\ufeff${batch(GOOD)}`, 200, []],
  ['1e999 and long numbers', batch(event(`{"a":1e999,"b":-1e-999,"c":${'9'.repeat(10_000)}}`)), 200, []],
  ['lone surrogates', batch(event('{"a":"\\ud800","\\udfff":1}', '"\\ud800x"')), 200, []],
  ['an escaped NUL', batch(event('{"a":"\\u0000"}', '"a\\u0000b"')), 200, []],
  [
    '__proto__ and constructor',
    batch(`{"__proto__":{"event":"x","admin":true},"constructor":1,${GOOD.slice(1)}`),
    200,
    [],
  ],
  ['repeated members', batch(`{"event":"a","event":"b","distinct_id":"x","distinct_id":"d"}`), 200, []],
  ['escaped keys', batch('{"\\u0065vent":"e","distinct\\u005fid":"d"}'), 200, []],
  ['a name of 90,000 characters', batch(`{"event":"${'n'.repeat(90_000)}","distinct_id":"d"}`), 200, []],
  ['a distinct_id of 90,000 characters', batch(event('{}', `"${'i'.repeat(90_000)}"`)), 200, []],
  ['a distinct_id that is a tree', batch(event('{}', '{"a":[1, 2]}')), 200, []],
  ['7,000 members in an event', batch(event(`{${members(7_000)}}`)), 200, []],
  ['white space of 1 MB', `{${' '.repeat(1_000_000)}${batch(GOOD).slice(1)}`, 200, []],
]

const LARGE: Row[] = [
  ['the body limit', batch(GOOD).padEnd(OVER_LIMIT - 1), 200, []],
  ['one byte over the body limit', batch(GOOD).padEnd(OVER_LIMIT), 413, ['HR_CAPTURE_BODY_TOO_LARGE']],
  ['the inflated limit', gzipSync(batch(GOOD).padEnd(LIMITS.captureInflatedBytesMax)), 200, []],
  [
    'one byte over the inflated limit',
    gzipSync(batch(GOOD).padEnd(LIMITS.captureInflatedBytesMax + 1)),
    413,
    ['HR_CAPTURE_INFLATED_TOO_LARGE'],
  ],
  ['a bomb', gzipSync(Buffer.alloc(300_000_000)), 413, ['HR_CAPTURE_INFLATED_TOO_LARGE']],
  [
    'a bomb in base64',
    gzipSync(Buffer.alloc(30_000_000)).toString('base64'),
    413,
    ['HR_CAPTURE_INFLATED_TOO_LARGE'],
  ],
  ['the most events', batch(...Array<string>(1000).fill(GOOD)), 200, []],
  ['one event more', batch(...Array<string>(1001).fill(GOOD)), 413, ['HR_CAPTURE_TOO_MANY_EVENTS']],
  [
    'a million members in an event',
    gzipSync(batch(GOOD, `{${members(1_000_000)}}`)),
    200,
    ['event_too_large'],
  ],
  ['a million members around the batch', gzipSync(`{${members(1_000_000)},${batch(GOOD).slice(1)}`), 200, []],
]

const gzipped = gzipSync(batch(GOOD))
const broken = Buffer.from(gzipped)
broken[20]! ^= 0xff
const GZIP: Row[] = [
  ['cut', gzipped.subarray(0, -9), 400, ['HR_CAPTURE_WRONG_GZIP']],
  ['only its first bytes', gzipped.subarray(0, 2), 400, ['HR_CAPTURE_WRONG_GZIP']],
  ['a flipped bit', broken, 400, ['HR_CAPTURE_WRONG_GZIP']],
  ['more behind it', Buffer.concat([gzipped, Buffer.from('more')]), 400, ['HR_CAPTURE_WRONG_GZIP']],
  [
    'text that says it is gzip',
    Buffer.concat([Buffer.from([0x1f, 0x8b, 8]), Buffer.from(batch(GOOD))]),
    400,
    ['HR_CAPTURE_WRONG_GZIP'],
  ],
  ['gzip in gzip', gzipSync(gzipped), 400, ['HR_CAPTURE_NOT_JSON']],
  ['gzip of nothing', gzipSync(''), 400, ['HR_CAPTURE_NOT_JSON']],
  ['a form without data', 'ver=1&compression=gzip', 400, ['HR_CAPTURE_WRONG_FORM']],
  ['a form whose data is no base64', 'data=%00%01', 400, ['HR_CAPTURE_NOT_JSON']],
]

describe.each([
  ['not JSON', NOT_JSON],
  ['the wrong shape', WRONG_SHAPE],
  ['one bad event', ONE_BAD],
  ['strange and taken', TAKEN],
  ['large', LARGE],
  ['wrong encodings', GZIP],
] as [string, Row[]][])('%s', (_, rows) => {
  test.each(rows)('%s', async (_name, body, status, codes) => {
    const response = await capture.post('/batch/', body, { origin: 'https://shop.example' })
    const answer = (await response.json()) as {
      code?: string
      detail?: string
      rejected?: { reason: string }[]
    }
    const found = [
      ...(answer.code ? [answer.code] : []),
      ...(answer.rejected ?? []).map(({ reason }) => reason),
    ]
    expect([response.status, ...found]).toEqual([status, ...codes])
    expect(response.headers.get('access-control-allow-origin')).toBe('https://shop.example')
    if (status !== 200) expect(answer.detail).toBeString()
  })
})

test('a prototype is not touched by an event', () => {
  expect(({} as Record<string, unknown>).admin).toBeUndefined()
})

test('what strange ids became: two people stay two', async () => {
  const ids = ['12345678901234567890', '12345678901234567891', '{"a": 1}', 'true', '"a\\u0000b"', '"\\ud800"']
  const named = ids.map((id) => `{"event":"ids","distinct_id":${id}}`)
  expect((await capture.post('/batch/', batch(...named))).status).toBe(200)
  const stored = (await capture.stored()).filter(({ header }) => header.event === 'ids')
  expect(new Set(stored.map(({ header }) => header.distinctId))).toEqual(
    new Set(['12345678901234567890', '12345678901234567891', '{"a":1}', 'true', 'a\ufffdb', '\ufffd']),
  )
})

test('one refused event of many does not make the answer large', async () => {
  const response = await capture.post('/batch/', batch(...Array<string>(1000).fill('0')))
  const answer = (await response.json()) as { rejected: unknown[]; rejected_count: number }
  expect([response.status, answer.rejected_count]).toEqual([400, 1000])
  expect(answer.rejected.length).toBeLessThanOrEqual(1000)
})

test('aborted uploads are noticed and give their bytes back', async () => {
  const metric = async (line: RegExp) => {
    const text = await (await fetch(`${capture.url}/metrics`)).text()
    return Number(line.exec(text)?.[1] ?? 0)
  }
  const refused = () => metric(/^headrace_capture_requests_total\{path="\/e",status="400"\} (\d+)$/m)
  const inFlightBytes = () => metric(/^headrace_capture_in_flight_bytes (\d+)$/m)
  const { hostname, port } = new URL(capture.url)
  const before = await refused()
  const aborts = 5
  for (let i = 0; i < aborts; i++) {
    const socket = connect(Number(port), hostname)
    // A small body is counted when it is announced, a large one as it comes.
    const announced = i % 2 === 0 ? 50_000 : 100_000
    socket.write(`POST /e/ HTTP/1.1\r\nHost: x\r\nContent-Length: ${announced}\r\n\r\n{"event":`)
    const counted = i % 2 === 0 ? 50_000 : '{"event":'.length
    await waitFor('bytes in flight', async () => (await inFlightBytes()) === counted, 5000)
    socket.destroy()
    await waitFor('bytes given back', async () => (await inFlightBytes()) === 0, 5000)
  }
  expect(await refused()).toBe(before + aborts)
})

test('any change of a good body is answered, and with 200 only when JSON.parse takes it', async () => {
  const good = Buffer.from(batch(GOOD, event('{"a":[1,{"b":"c\\n"}],"é":null}')))
  const edits = fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 })), {
    minLength: 1,
    maxLength: 3,
  })
  await fc.assert(
    fc.asyncProperty(edits, async (changes) => {
      const body = Buffer.from(good)
      for (const [at, byte] of changes) body[at] = byte
      const response = await capture.post('/batch/', body)
      await response.arrayBuffer()
      expect([200, 400, 401]).toContain(response.status)
      if (response.status === 200) {
        expect(() => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))).not.toThrow()
      }
    }),
    { numRuns: 400 },
  )
})
