/**
 * What is strange in a body, each with the answer that docs/guides/capture-limits.md states: the status, the code, and
 * what is stored of it. After each the same capture still takes events.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { brotliCompressSync, constants, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import LZString from 'lz-string'
import { startTestCapture, type TestCapture } from '../support/capture.ts'

const LIMITS = {
  captureInflatedBytesMax: 3_000_000,
  captureRatioMax: 100,
  captureLz64BytesMax: 10_000,
  captureBatchEventsMax: 1000,
  captureBatchValuesMax: 150_000,
  captureEventBytesMax: 500_000,
  captureEventDepthMax: 20,
  captureEventKeysMax: 1000,
}
let capture: TestCapture
let seen = 0

beforeAll(async () => {
  capture = await startTestCapture(LIMITS)
})
afterAll(() => capture.stop())
afterEach(async () => {
  const response = await capture.post('/e/', { event: 'still here', distinct_id: 'd', token: 't' })
  expect(await response.text()).toBe('{"status":"Ok"}')
  expect(capture.fatal).toEqual([])
  seen = (await capture.stored()).length
})

/** Posts, and says what came of it: status, code or reasons, and the values that were stored. */
async function outcomeOf(body: string | Uint8Array, headers: Record<string, string> = {}, path = '/e/') {
  const response = await capture.post(path, body, headers)
  const answer = (await response.json()) as { code?: string; rejected?: { reason: string }[] }
  const reasons = answer.rejected?.map(({ reason }) => reason) ?? []
  const all = await capture.stored()
  const marks = all.filter(({ header }) => header.event !== 'still here')
  const stored = marks.slice(marks.length - (all.length - seen))
  return {
    status: response.status,
    codes: [...(answer.code ? [answer.code] : []), ...reasons],
    stored: all.length === seen ? [] : stored.map(({ value }) => value),
  }
}

/** Compresses in tenths of seconds rather than in seconds. */
const brotli = (packed: Buffer) =>
  brotliCompressSync(packed, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } })
const utf16 = (text: string) => Buffer.from(text, 'utf16le')
const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(parts.map((part) => Buffer.from(part as string)))
/** An event with `properties`, as the single event of a request. */
const event = (properties: string) => `{"token":"t","event":"e","distinct_id":"d","properties":${properties}}`
const batch = (...events: string[]) => `{"api_key":"t","batch":[${events.join(',')}]}`
const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)
const members = (count: number) => `{${Array.from({ length: count }, (_, i) => `"k${i}":${i}`).join(',')}}`
const zeros = (count: number) => `[${Array<number>(count).fill(0).join(',')}]`
const GOOD = event('{}')

describe('stored byte for byte', () => {
  const rows: [string, string][] = [
    ['lone surrogates', event('{"a":"\\ud800","\\udc00b":"\\ud800\\ud800"}')],
    ['a NUL that is escaped', event('{"a\\u0000":"\\u0000"}')],
    ['1e999 and -1e999', event('{"a":1e999,"b":-1e999}')],
    ['-0 and numbers beyond 64 bits', event('{"a":-0,"b":-0.0,"c":123456789012345678901234567890}')],
    ['__proto__ and constructor', event('{"__proto__":{"x":1},"constructor":{"prototype":{}},"toString":0}')],
    ['repeated keys', event('{"a":1,"a":2}')],
    ['an empty key', event('{"":{"":[""]}}')],
    ['U+2028, U+FEFF inside, the last character there is', event('{"a":"\u2028\ufeff\u{10ffff}"}')],
  ]
  test.each(rows)('%s', async (_, body) => {
    expect(await outcomeOf(body)).toEqual({ status: 200, codes: [], stored: [body] })
  })

  test('a byte order mark is no part of it, in any wrap', async () => {
    const marked = `\ufeff${GOOD}`
    const bodies = [
      marked,
      gzipSync(marked),
      Buffer.from(marked).toString('base64'),
      zstdCompressSync(marked),
    ]
    for (const body of bodies) {
      expect(await outcomeOf(body)).toEqual({ status: 200, codes: [], stored: [GOOD] })
      seen = (await capture.stored()).length
    }
  })
})

describe('not JSON, and nothing of it stored', () => {
  const rows: [string, string | Uint8Array][] = [
    ['a byte that is not UTF-8', bytes(GOOD.slice(0, -3), [0xff], '"}}')],
    ['a surrogate in UTF-8', bytes('{"token":"t","event":"', [0xed, 0xa0, 0x80], '","distinct_id":"d"}')],
    ['an overlong form', bytes('{"token":"t","event":"', [0xc0, 0xaf], '","distinct_id":"d"}')],
    ['a bare NUL in a string', event('{"a":"\0"}')],
    ['a bare NUL behind it', `${GOOD}\0`],
    ['NaN', event('{"a":NaN}')],
    ['Infinity', event('{"a":Infinity}')],
    ['-Infinity', event('{"a":-Infinity}')],
    ['more behind it', `${GOOD}x`],
    ['two documents', GOOD + GOOD],
    ['two documents on two lines', `${GOOD}\n${GOOD}`],
    ['two byte order marks', `\ufeff\ufeff${GOOD}`],
    ['half of it', GOOD.slice(0, -2)],
    ['UTF-16', utf16(GOOD)],
    ['UTF-16 with its mark', utf16(`\ufeff${GOOD}`)],
    ['UTF-16, high byte first', utf16(`\ufeff${GOOD}`).swap16()],
    ['UTF-16 in gzip', gzipSync(utf16(GOOD))],
    ['zstd that is cut', zstdCompressSync(GOOD).subarray(0, -4)],
  ]
  test.each(rows)('%s', async (_, body) => {
    expect(await outcomeOf(body)).toEqual({ status: 400, codes: ['HR_CAPTURE_NOT_JSON'], stored: [] })
  })
})

describe('refused alone, its neighbours stored', () => {
  const rows: [string, string, string][] = [
    ['100,000 levels', event(`{"a":${nested(100_000)}}`), 'event_too_deep'],
    ['one level too deep', event(`{"a":${nested(19)}}`), 'event_too_deep'],
    ['one key too many', event(members(997)), 'too_many_keys'],
    ['one key too many, deep inside', event(`{"a":[{"b":${members(995)}}]}`), 'too_many_keys'],
    ['30,000 keys', event(members(30_000)), 'too_many_keys'],
    [
      'one byte too large',
      event(`{"a":"${'x'.repeat(500_000 - event('{"a":""}').length + 1)}"}`),
      'event_too_large',
    ],
  ]
  test.each(rows)('%s', async (_, bad, reason) => {
    const { status, codes, stored } = await outcomeOf(batch(GOOD, bad, GOOD), {}, '/batch/')
    expect({ status, codes, stored: stored.length }).toEqual({ status: 200, codes: [reason], stored: 2 })
  })
})

describe('at the limit', () => {
  const filler = (size: number) => GOOD.padEnd(size)
  const gzipOf = (size: number) => gzipSync(filler(size), { level: 1 })
  /** GOOD counts as 14: itself, its properties and three strings that are picked. */
  const GOOD_VALUES = 14
  const events = (count: number) => batch(...Array<string>(count).fill(GOOD))
  const lz64 = (size: number) => LZString.compressToBase64(filler(size))
  const rows: [string, string | Uint8Array, string | Uint8Array, number, string][] = [
    ['depth', event(`{"a":${nested(18)}}`), event(`{"a":${nested(19)}}`), 400, 'HR_CAPTURE_NOTHING_STORED'],
    ['keys', event(members(996)), event(members(997)), 400, 'HR_CAPTURE_NOTHING_STORED'],
    ['events', events(1000), events(1001), 413, 'HR_CAPTURE_TOO_MANY_EVENTS'],
    ['lz64', lz64(10_000), lz64(10_001), 413, 'HR_CAPTURE_INFLATED_TOO_LARGE'],
    ['ratio', gzipOf(1_048_576), gzipOf(1_048_577), 413, 'HR_CAPTURE_RATIO_TOO_HIGH'],
    [
      'values',
      event(`{"a":${zeros(150_000 - GOOD_VALUES - 1)}}`),
      event(`{"a":${zeros(150_000 - GOOD_VALUES)}}`),
      413,
      'HR_CAPTURE_TOO_MANY_VALUES',
    ],
  ]
  test.each(rows)('%s', async (_, good, over, status, code) => {
    expect((await outcomeOf(good)).status).toBe(200)
    seen = (await capture.stored()).length
    const answer = await outcomeOf(over)
    expect([answer.status, answer.codes[0], answer.stored]).toEqual([status, code, []])
  })

  test('inflated bytes, in every compression', async () => {
    // Enough that does not repeat, so that the ratio is none of the matter.
    const random = Buffer.from(crypto.getRandomValues(new Uint8Array(200_000))).toString('hex')
    const sized = (size: number) => Buffer.from(`{"pad":"${random}",${batch(GOOD).slice(1)}`.padEnd(size))
    for (const [encoding, pack] of [
      ['gzip', gzipSync],
      ['deflate', deflateRawSync],
      ['br', brotli],
      ['zstd', zstdCompressSync],
    ] as const) {
      const headers = { 'content-encoding': encoding }
      expect((await outcomeOf(pack(sized(3_000_000)), headers)).status).toBe(200)
      seen = (await capture.stored()).length
      const over = await outcomeOf(pack(sized(3_000_001)), headers)
      expect([over.status, ...over.codes]).toEqual([413, 'HR_CAPTURE_INFLATED_TOO_LARGE'])
    }
  })
})
