/**
 * Requests that are no HTTP, or that two servers could read differently. Each row has its answer, and what follows on
 * the same connection: a next request is answered ("open"), or never looked at ("closed"), so that nothing can be
 * smuggled past a proxy in front.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { startTestCapture, type TestCapture } from '../support/capture.ts'
import { RawConnection } from '../support/raw-http.ts'
import { waitFor } from '../support/wait-for.ts'

let capture: TestCapture
beforeAll(async () => {
  capture = await startTestCapture()
})
afterAll(() => capture.stop())

const EVENT = '{"api_key":"t","event":"e","distinct_id":"d"}'
const LENGTH = EVENT.length
const CHUNK = `${LENGTH.toString(16)}\r\n${EVENT}\r\n`
const START = 'POST /e/ HTTP/1.1\r\nHost: x\r\n'
const BODY = `Content-Length: ${LENGTH}\r\n\r\n${EVENT}`
const CHUNKED = 'Transfer-Encoding: chunked\r\n\r\n'
const NEXT = 'GET /array/next/config HTTP/1.1\r\nHost: x\r\n\r\n'

type Row = [form: string, request: string, statuses: number[], after: 'open' | 'closed']

const LENGTHS: Row[] = [
  [
    'a length and chunks',
    `${START}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    [400],
    'closed',
  ],
  [
    'chunks and a length',
    `${START}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
    [400],
    'closed',
  ],
  ['two lengths that differ', `${START}Content-Length: 3\r\n${BODY}`, [400], 'closed'],
  ['two equal lengths', `${START}Content-Length: ${LENGTH}\r\n${BODY}`, [200], 'open'],
  ['a list of lengths', `${START}Content-Length: ${LENGTH}, ${LENGTH}\r\n\r\n${EVENT}`, [400], 'closed'],
  ['a length with a plus', `${START}Content-Length: +${LENGTH}\r\n\r\n${EVENT}`, [400], 'closed'],
  ['a negative length', `${START}Content-Length: -1\r\n\r\n${EVENT}`, [400], 'closed'],
  ['a hexadecimal length', `${START}Content-Length: 0x2d\r\n\r\n${EVENT}`, [400], 'closed'],
  ['a length in two parts', `${START}Content-Length: 4 5\r\n\r\n${EVENT}`, [400], 'closed'],
  ['an empty length', `${START}Content-Length:\r\n\r\n${EVENT}`, [400], 'closed'],
  [
    'a length beyond 64 bits',
    `${START}Content-Length: 18446744073709551661\r\n\r\n${EVENT}`,
    [400],
    'closed',
  ],
  ['a length of 2^63', `${START}Content-Length: 9223372036854775808\r\n\r\n`, [400], 'closed'],
  [
    'a length with white space around',
    `${START}Content-Length: \t ${LENGTH} \r\n\r\n${EVENT}`,
    [200],
    'open',
  ],
  ['no length', `${START}\r\n`, [400], 'open'],
]

const CHUNKS: Row[] = [
  ['an unknown encoding', `${START}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, [400], 'closed'],
  ['identity', `${START}Transfer-Encoding: identity\r\n\r\n`, [400], 'closed'],
  ['gzip and chunked', `${START}Transfer-Encoding: gzip, chunked\r\n\r\n${CHUNK}0\r\n\r\n`, [400], 'closed'],
  [
    'chunked and identity',
    `${START}Transfer-Encoding: chunked, identity\r\n\r\n${CHUNK}0\r\n\r\n`,
    [400],
    'closed',
  ],
  ['chunked twice', `${START}Transfer-Encoding: chunked\r\n${CHUNKED}${CHUNK}0\r\n\r\n`, [400], 'closed'],
  [
    'chunked behind a vertical tab',
    `${START}Transfer-Encoding: \x0bchunked\r\n\r\n${CHUNK}0\r\n\r\n`,
    [400],
    'closed',
  ],
  ['chunked in capitals', `${START}Transfer-Encoding: CHUNKED\r\n\r\n${CHUNK}0\r\n\r\n`, [200], 'open'],
  [
    'a chunk with an extension',
    `${START}${CHUNKED}${LENGTH.toString(16)};a=b\r\n${EVENT}\r\n0\r\n\r\n`,
    [200],
    'open',
  ],
  ['an extension of 100 kB', `${START}${CHUNKED}1;${'a'.repeat(100_000)}\r\n{\r\n0\r\n\r\n`, [413], 'closed'],
  ['a chunk size that is none', `${START}${CHUNKED}zz\r\n${EVENT}\r\n0\r\n\r\n`, [400], 'closed'],
  ['a chunk size with 0x', `${START}${CHUNKED}0x2d\r\n${EVENT}\r\n0\r\n\r\n`, [400], 'closed'],
  ['a negative chunk size', `${START}${CHUNKED}-2\r\n${EVENT}\r\n0\r\n\r\n`, [400], 'closed'],
  [
    'a chunk size beyond 64 bits',
    `${START}${CHUNKED}1000000000000002d\r\n${EVENT}\r\n0\r\n\r\n`,
    [400],
    'closed',
  ],
  ['chunks that end in LF', `${START}${CHUNKED}2d\n${EVENT}\n0\n\n`, [400], 'closed'],
  ['a chunk longer than its size', `${START}${CHUNKED}2d\r\n${EVENT}XX0\r\n\r\n`, [400], 'closed'],
]

const HEADERS: Row[] = [
  ['a space before the colon', `${START}Content-Length : ${LENGTH}\r\n\r\n${EVENT}`, [400], 'closed'],
  [
    'a space before the colon of chunked',
    `${START}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
    [400],
    'closed',
  ],
  ['a folded line', `${START}X-A: 1\r\n 2\r\n${BODY}`, [400], 'closed'],
  ['a folded encoding', `${START}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`, [400], 'closed'],
  ['LF alone in a header', `${START}X-A: 1\nX-B: 2\r\n${BODY}`, [400], 'closed'],
  ['CR alone in a header', `${START}X-A: 1\rX-B: 2\r\n${BODY}`, [400], 'closed'],
  ['NUL in a header', `${START}X-A: 1\x002\r\n${BODY}`, [400], 'closed'],
  ['a line without a colon', `${START}garbage\r\n${BODY}`, [400], 'closed'],
  ['a header without a name', `${START}: v\r\n${BODY}`, [400], 'closed'],
  ['a space in a name', `${START}X A: v\r\n${BODY}`, [400], 'closed'],
  ['bytes above 127 in a value', `${START}X-A: \xe9\xff\r\nOrigin: \xe9\r\n${BODY}`, [200], 'open'],
  ['198 headers', `${START}${manyHeaders(196)}${BODY}`, [200], 'open'],
  ['10,000 headers', `${START}${manyHeaders(10_000)}${BODY}`, [431], 'closed'],
  ['199 headers', `${START}${manyHeaders(197)}${BODY}`, [431], 'closed'],
  ['a head of 16,384 bytes', `${headOf(16_384)}${EVENT}`, [200], 'open'],
  ['a head of 16,400 bytes', `${headOf(16_400)}${EVENT}`, [431], 'closed'],
  ['a header of 1 MB', `${START}X-A: ${'a'.repeat(1_000_000)}\r\n${BODY}`, [431], 'closed'],
]

const LINES: Row[] = [
  ['the absolute form', `POST http://elsewhere.example/e/?a=1 HTTP/1.1\r\nHost: x\r\n${BODY}`, [200], 'open'],
  ['no Host', `POST /e/ HTTP/1.1\r\n${BODY}`, [400], 'closed'],
  ['an empty Host', `POST /e/ HTTP/1.1\r\nHost:\r\n${BODY}`, [200], 'open'],
  ['two Hosts', `POST /e/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n${BODY}`, [200], 'open'],
  ['a Host that is none', `POST /e/?a=//b HTTP/1.1\r\nHost: a b/c?d#e\r\n${BODY}`, [200], 'open'],
  ['HTTP/1.0', `POST /e/ HTTP/1.0\r\n${BODY}`, [200], 'closed'],
  ['HTTP/1.0 that would stay', `POST /e/ HTTP/1.0\r\nConnection: keep-alive\r\n${BODY}`, [200], 'closed'],
  ['HTTP/1.0 with chunks', `POST /e/ HTTP/1.0\r\n${CHUNKED}${CHUNK}0\r\n\r\n`, [400], 'closed'],
  ['HTTP/0.9', 'GET /\r\n', [505], 'closed'],
  ['HTTP/1.2', `GET / HTTP/1.2\r\nHost: x\r\n\r\n`, [505], 'closed'],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [400], 'closed'],
  ['a version in small letters', 'GET / http/1.1\r\nHost: x\r\n\r\n', [505], 'closed'],
  [
    'lines that end in LF',
    `POST /e/ HTTP/1.1\nHost: x\nContent-Length: ${LENGTH}\n\n${EVENT}`,
    [505],
    'closed',
  ],
  ['an empty line before', `\r\n${START}${BODY}`, [400], 'closed'],
  ['a space in the target', 'GET /a b HTTP/1.1\r\nHost: x\r\n\r\n', [505], 'closed'],
  ['two spaces', 'GET  / HTTP/1.1\r\nHost: x\r\n\r\n', [400], 'closed'],
  ['a target without a slash', 'GET e HTTP/1.1\r\nHost: x\r\n\r\n', [400], 'closed'],
  ['NUL in the target', 'GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n', [505], 'closed'],
  ['bytes above 127 in the target', 'GET /\xe9\xff HTTP/1.1\r\nHost: x\r\n\r\n', [404], 'open'],
  ['a target of 15,000 bytes', `GET /${'a'.repeat(15_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, [404], 'open'],
  ['a target of 17,000 bytes', `GET /${'a'.repeat(17_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, [431], 'closed'],
  ['dots in the target', `POST /../x/../e/ HTTP/1.1\r\nHost: x\r\n${BODY}`, [200], 'open'],
  [
    'CONNECT to elsewhere',
    'CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example:443\r\n\r\n',
    [404],
    'closed',
  ],
  ['CONNECT to a path', 'CONNECT /e/ HTTP/1.1\r\nHost: x\r\n\r\n', [405], 'closed'],
  ['TRACE', 'TRACE /e/ HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n', [405], 'open'],
  ['OPTIONS *', 'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n', [400], 'closed'],
  ['PUT', `PUT /e/ HTTP/1.1\r\nHost: x\r\n${BODY}`, [405], 'open'],
  ['an unknown method', `BREW /e/ HTTP/1.1\r\nHost: x\r\n${BODY}`, [], 'closed'],
  ['a method in small letters', `post /e/ HTTP/1.1\r\nHost: x\r\n${BODY}`, [], 'closed'],
  ['a body to GET', `GET /array/t/config HTTP/1.1\r\nHost: x\r\n${BODY}`, [200], 'open'],
  [
    'an upgrade to WebSocket',
    `GET /array/t/config HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`,
    [200],
    'open',
  ],
  [
    'an upgrade to HTTP/2',
    `${START}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n${BODY}`,
    [200],
    'open',
  ],
  ['100-continue', `${START}Expect: 100-continue\r\n${BODY}`, [100, 200], 'open'],
  ['an unknown expectation', `${START}Expect: miracles\r\n${BODY}`, [200], 'open'],
  ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', [400], 'closed'],
  ['all bytes', String.fromCharCode(...Array(256).keys()).repeat(10), [400], 'closed'],
]

/** Request line and headers of exactly `bytes` bytes. */
function headOf(bytes: number): string {
  const head = (value: string) => `${START}X-A: ${value}\r\nContent-Length: ${LENGTH}\r\n\r\n`
  return head('a'.repeat(bytes - head('').length))
}

function manyHeaders(count: number): string {
  return Array.from({ length: count }, (_, i) => `X-${i}: 1\r\n`).join('')
}

describe.each([
  ['lengths', LENGTHS],
  ['chunks', CHUNKS],
  ['headers', HEADERS],
  ['request lines', LINES],
] as [string, Row[]][])('%s', (_, rows) => {
  test.each(rows)('%s', async (_form, request, statuses, after) => {
    const connection = await RawConnection.open(capture.url)
    if (after === 'open') {
      await connection.send(request)
      await connection.awaitAnswers(statuses.length)
      await connection.send(NEXT)
      await connection.awaitAnswers(statuses.length + 1)
      expect([connection.statuses, connection.closed]).toEqual([[...statuses, 200], false])
    } else {
      await connection.send(request + NEXT)
      await connection.awaitEnd()
      expect(connection.statuses).toEqual(statuses)
    }
    connection.destroy()
    expect(capture.fatal).toEqual([])
    expect(await (await capture.post('/e/', EVENT)).text()).toBe('{"status":"Ok"}')
  })
})

test('a request that comes before the answer to the one before it ends the connection', async () => {
  const before = (await capture.stored()).length
  const connection = await RawConnection.open(capture.url)
  await connection.send((START + BODY).repeat(3))
  await connection.awaitEnd()
  expect(connection.statuses).toEqual([])
  expect((await capture.post('/e/', EVENT)).status).toBe(200)
  // The first was whole when the second came, so it may be stored; its sender does not know, and sends it again.
  expect((await capture.stored()).length - before).toBeLessThanOrEqual(2)
})

test('trailers end the connection', async () => {
  const connection = await RawConnection.open(capture.url)
  await connection.send(`${START}${CHUNKED}${CHUNK}0\r\nX-Trailer: 1\r\n\r\n`)
  await connection.awaitEnd()
  expect(connection.statuses).toEqual([400])
})

test('a sender who does not wait for the answer is heard', async () => {
  const before = (await capture.stored()).length
  const whole = await RawConnection.open(capture.url)
  await whole.send(START + BODY)
  whole.destroy()
  const half = await RawConnection.open(capture.url)
  await half.send(START + BODY)
  half.halfClose()
  await half.awaitEnd()
  await waitFor('both events', async () => (await capture.stored()).length === before + 2, 5_000)
})

test.each([
  ['headers', START],
  ['an announced body', `${START}Content-Length: 100\r\n\r\n{`],
  ['a chunked body', `${START}${CHUNKED}64\r\n{`],
])('%s that end with the connection store nothing', async (_, request) => {
  const before = (await capture.stored()).length
  const connection = await RawConnection.open(capture.url)
  await connection.send(request)
  connection.halfClose()
  await connection.awaitEnd()
  expect(connection.statuses).toEqual([])
  expect((await capture.stored()).length).toBe(before)
})

describe('what is echoed', () => {
  test('cannot become a header of its own', async () => {
    for (const value of ['https://a.example\r\nX-Injected: 1', 'https://a.example\nX-Injected: 1', 'a\0b']) {
      const connection = await RawConnection.open(capture.url)
      await connection.send(`${START}Origin: ${value}\r\n${BODY}`)
      const answers = connection.closed ? connection.answers : await connection.awaitAnswers(1)
      for (const { headers } of answers) expect(headers.get('x-injected')).toBeNull()
      connection.destroy()
    }
  })

  test('comes back as the bytes that were sent, on every status, and twice the same', async () => {
    for (const value of ['https://a.example', 'null', 'x'.repeat(5_000), '\xe9\x80', 'a, b', '*']) {
      for (const [request, status] of [
        [`${START}Origin: ${value}\r\n${BODY}`, 200],
        [`${START}Origin: ${value}\r\n${BODY}`, 200],
        [`GET /no HTTP/1.1\r\nHost: x\r\nOrigin: ${value}\r\n\r\n`, 404],
        [
          `OPTIONS /e/ HTTP/1.1\r\nHost: x\r\nOrigin: ${value}\r\nAccess-Control-Request-Headers: x-${'y'.repeat(3_000)}\r\n\r\n`,
          200,
        ],
      ] as const) {
        const connection = await RawConnection.open(capture.url)
        await connection.send(request)
        const [answer] = await connection.awaitAnswers(1)
        expect(answer!.status).toBe(status)
        expect(answer!.headers.get('access-control-allow-origin')).toBe(value)
        expect(answer!.headers.get('vary')).toBe('Origin')
        connection.destroy()
      }
    }
  })

  test('a path in an error is cut and quoted', async () => {
    const response = await fetch(`${capture.url}/<script>${'a'.repeat(5_000)}`)
    const answer = (await response.json()) as { detail: string }
    expect([response.status, response.headers.get('x-content-type-options')]).toEqual([404, 'nosniff'])
    expect(answer.detail.length).toBeLessThan(300)
  })
})
