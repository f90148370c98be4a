import { describe, expect, test } from 'bun:test'
import {
  brotliCompressSync,
  constants,
  deflateRawSync,
  deflateSync,
  gzipSync,
  zstdCompressSync,
} from 'node:zlib'
import fc from 'fast-check'
import LZString from 'lz-string'
import { HeadraceError } from '../../event/index.ts'
import { InFlightBudget } from '../limits.ts'
import { incomingOf, TEST_LIMITS } from './incoming.fixture.ts'
import { readPayload, readStrictPayload } from './index.ts'
import { RATIO_FREE_BYTES } from './inflate.ts'

function decode(body: Buffer, budgetBytes = 10_000_000): Promise<Buffer> {
  return readPayload(incomingOf(body, { budgetBytes }), TEST_LIMITS)
}

const base64 = (bytes: Buffer) => bytes.toString('base64')
const form = (data: string) => Buffer.from(`data=${encodeURIComponent(data)}`)

/** Every way in which SDKs wrap their JSON. */
const WRAPS: [string, (json: Buffer) => Buffer][] = [
  ['nothing', (json) => json],
  ['a byte order mark', (json) => Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), json])],
  ['gzip', gzipSync],
  ['base64', (json) => Buffer.from(base64(json))],
  ['URL-safe base64', (json) => Buffer.from(json.toString('base64url'))],
  ['base64 of gzip', (json) => Buffer.from(base64(gzipSync(json)))],
  ['form of base64', (json) => form(base64(json))],
  [
    'form of base64 with bare plus signs',
    (json) => Buffer.from(`data=${base64(json).replaceAll('=', '%3D')}`),
  ],
  ['form of JSON', (json) => form(json.toString())],
  ['form of gzip', (json) => form(base64(gzipSync(json)))],
  ['deflate', deflateSync],
  ['zstd', zstdCompressSync],
  ['base64 of zstd', (json) => Buffer.from(base64(zstdCompressSync(json)))],
  ['gzip of base64', (json) => gzipSync(base64(json))],
  ['lz64', (json) => Buffer.from(LZString.compressToBase64(json.toString()))],
  ['lz64 for addresses', (json) => Buffer.from(LZString.compressToEncodedURIComponent(json.toString()))],
  ['form of lz64', (json) => form(LZString.compressToBase64(json.toString()))],
]

describe('takes off', () => {
  test.each(WRAPS)('%s', async (_, wrap) => {
    const json = fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.array(fc.jsonValue()))
    await fc.assert(
      fc.asyncProperty(json, async (value) => {
        const text = Buffer.from(JSON.stringify(value))
        expect((await decode(wrap(text))).toString()).toBe(text.toString())
      }),
      { numRuns: 200 },
    )
  })
})

test('what is no wrap of JSON stays as it is', async () => {
  for (const text of ['hello', 'true', '1234', 'NaN', ' {"a":1}', 'SGVsbG8=']) {
    expect((await decode(Buffer.from(text))).toString()).toBe(text)
  }
})

test('a large gzip body is inflated aside, to the same bytes and under the same limit', async () => {
  const noise = Buffer.from(Array.from({ length: 300_000 }, (_, i) => 32 + ((i * 7919) % 90)))
  const random = crypto.getRandomValues(new Uint8Array(60_000))
  const json = Buffer.from(
    JSON.stringify([
      noise.toString('base64'),
      base64(Buffer.from(random)),
      base64(Buffer.from(crypto.getRandomValues(new Uint8Array(60_000)))),
    ]),
  )
  const packed = gzipSync(json, { level: 0 })
  expect(packed.length).toBeGreaterThan(131_072)
  expect((await decode(packed)).equals(json)).toBe(true)
  const over = gzipSync(Buffer.alloc(TEST_LIMITS.inflatedBytesMax + 1, 32), { level: 0 })
  await expect(decode(over)).rejects.toMatchObject({ code: 'HR_CAPTURE_INFLATED_TOO_LARGE' })
  await expect(decode(packed.subarray(0, -5))).rejects.toMatchObject({ code: 'HR_CAPTURE_WRONG_GZIP' })
})

test('inflated bytes count as in flight', async () => {
  const packed = gzipSync(Buffer.alloc(500_000, 32))
  await expect(decode(packed, 400_000)).rejects.toMatchObject({ code: 'HR_CAPTURE_BUSY' })
})

const JSON_TEXT = '{"event":"é","properties":{"a":[1,2,"+/ &=%"]}}'
const JSON_BYTES = Buffer.from(JSON_TEXT)
const HINTS = [
  'gzip',
  'gzip-js',
  'deflate',
  'br',
  'zstd',
  'lz64',
  'base64',
  'b64',
  'identity',
  'nonsense',
  'BR',
]

describe('a hint', () => {
  /** What has no magic, with the names that hint at it. */
  const rows: [string, Buffer, string[]][] = [
    ['br', brotliCompressSync(JSON_BYTES), ['br', 'brotli', ' BR ']],
    ['bare deflate', deflateRawSync(JSON_BYTES), ['deflate', 'Deflate', 'zlib']],
    ['base64 of br', Buffer.from(base64(brotliCompressSync(JSON_BYTES))), ['br']],
    ['form of base64 of br', form(base64(brotliCompressSync(JSON_BYTES))), ['br']],
    ['lz64', Buffer.from(LZString.compressToBase64(`\n ${JSON_TEXT}`)), ['lz64', 'lz-string', 'LZ64']],
  ]
  test.each(rows)('tells %s, as parameter or header', async (_, body, names) => {
    for (const name of names) {
      for (const sent of [
        { query: `?compression=${encodeURIComponent(name)}` },
        { headers: { 'content-encoding': name } },
      ]) {
        expect((await readPayload(incomingOf(body, sent), TEST_LIMITS)).toString().trim()).toBe(JSON_TEXT)
      }
    }
  })

  test('of the parameter wins over that of the form, which wins over that of the header', async () => {
    const packed = base64(brotliCompressSync(JSON_BYTES))
    const body = Buffer.from(`data=${encodeURIComponent(packed)}&compression=br`)
    const inForm = { headers: { 'content-encoding': 'deflate' } }
    expect((await readPayload(incomingOf(body, inForm), TEST_LIMITS)).toString()).toBe(JSON_TEXT)
    const lying = { query: '?compression=deflate', headers: { 'content-encoding': 'br' } }
    await expect(readPayload(incomingOf(body, lying), TEST_LIMITS)).rejects.toMatchObject({
      code: 'HR_CAPTURE_WRONG_COMPRESSION',
    })
  })

  test('that lies changes nothing where the bytes say what they are', async () => {
    const telling: Buffer[] = [
      JSON_BYTES,
      Buffer.from(`\ufeff ${JSON_TEXT}`),
      gzipSync(JSON_BYTES),
      deflateSync(JSON_BYTES),
      zstdCompressSync(JSON_BYTES),
      Buffer.from(base64(JSON_BYTES)),
      Buffer.from(base64(gzipSync(JSON_BYTES))),
      form(base64(JSON_BYTES)),
      form(JSON_TEXT),
      form(LZString.compressToBase64(JSON_TEXT)),
    ]
    for (const body of telling) {
      for (const hint of HINTS) {
        for (const sent of [{ query: `?compression=${hint}` }, { headers: { 'content-encoding': hint } }]) {
          const json = (await readPayload(incomingOf(body, sent), TEST_LIMITS)).toString()
          expect(json.trim()).toBe(JSON_TEXT)
        }
      }
    }
  })
})

describe('the data parameter', () => {
  const EMPTY = Buffer.alloc(0)
  const rows: [string, string][] = [
    ['JSON', encodeURIComponent(JSON_TEXT)],
    ['base64', encodeURIComponent(base64(JSON_BYTES))],
    ['base64 as it is', base64(JSON_BYTES)],
    ['URL-safe base64', JSON_BYTES.toString('base64url')],
    ['base64 of gzip', encodeURIComponent(base64(gzipSync(JSON_BYTES)))],
    ['gzip', gzipSync(JSON_BYTES).toString('hex').replace(/../g, '%$&')],
    ['lz64', LZString.compressToEncodedURIComponent(JSON_TEXT)],
  ]
  test.each(rows)('as %s, wins over the body', async (_, data) => {
    for (const body of [EMPTY, Buffer.from('{"other":1}')]) {
      const incoming = incomingOf(body, { query: `?ip=1&data=${data}&_=1` })
      expect((await readPayload(incoming, TEST_LIMITS)).toString()).toBe(JSON_TEXT)
      expect(incoming.trail.body?.length).toBe(JSON_BYTES.length)
    }
  })

  test('that is empty leaves it to the body', async () => {
    const json = await readPayload(incomingOf(JSON_BYTES, { query: '?data=&x=1' }), TEST_LIMITS)
    expect(json.toString()).toBe(JSON_TEXT)
  })
})

describe('a form', () => {
  test('gives back every byte of its field', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), fc.boolean(), async (tail, spaced) => {
        const bytes = Buffer.concat([Buffer.from('{"'), tail])
        const escaped = bytes.toString('hex').replace(/../g, '%$&')
        const data = spaced ? escaped.replaceAll('%20', '+') : escaped.replaceAll('%41', 'A')
        const body = Buffer.from(`ver=1&unknown=2&data=${data}&ip=0`)
        expect((await decode(body)).equals(bytes)).toBe(true)
      }),
    )
  })

  test('of other fields than SDKs send is a form by its data', async () => {
    expect((await decode(Buffer.from(`foo=1&data=${base64(JSON_BYTES)}`))).toString()).toBe(JSON_TEXT)
  })

  test('without data, or with more than 64 fields before it, is refused', async () => {
    for (const text of ['data=', 'ver=1&compression=gzip', `ver=1${'&a'.repeat(63)}&data=e30`]) {
      await expect(decode(Buffer.from(text))).rejects.toMatchObject({ code: 'HR_CAPTURE_WRONG_FORM' })
    }
    expect((await decode(Buffer.from(`ver=1${'&a'.repeat(62)}&data=e30`))).toString()).toBe('{}')
  })
})

describe('what comes out of compression is bounded while it comes', () => {
  const size = TEST_LIMITS.inflatedBytesMax
  const packers: [string, (bytes: Buffer) => Buffer][] = [
    ['gzip', gzipSync],
    ['deflate', deflateSync],
    ['deflate', deflateRawSync],
    ['br', (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } })],
    ['zstd', zstdCompressSync],
  ]
  test.each(packers)('%s', async (encoding, pack) => {
    const sent = { headers: { 'content-encoding': encoding } }
    const read = (bytes: Buffer) => readStrictPayload(incomingOf(pack(bytes), sent), TEST_LIMITS)
    expect((await read(Buffer.alloc(size, 32))).length).toBe(size)
    await expect(read(Buffer.alloc(size + 1, 32))).rejects.toMatchObject({
      code: 'HR_CAPTURE_INFLATED_TOO_LARGE',
      status: 413,
    })
    await expect(read(Buffer.alloc(40 * size, 32))).rejects.toMatchObject({
      code: 'HR_CAPTURE_INFLATED_TOO_LARGE',
    })
  })

  test('the ratio counts above 1 MiB, on both sides of what our own thread inflates', async () => {
    const limits = { ...TEST_LIMITS, ratioMax: 100 }
    const read = (body: Buffer) => readPayload(incomingOf(body), limits)
    expect((await read(gzipSync(Buffer.alloc(RATIO_FREE_BYTES, 32)))).length).toBe(RATIO_FREE_BYTES)
    for (const over of [
      gzipSync(Buffer.alloc(RATIO_FREE_BYTES + 1, 32)),
      zstdCompressSync(Buffer.alloc(size, 32)),
    ]) {
      await expect(read(over)).rejects.toMatchObject({ code: 'HR_CAPTURE_RATIO_TOO_HIGH', status: 413 })
    }
    // Exactly the ratio passes: the body is filled up with empty gzip members.
    const packed = gzipSync(Buffer.alloc(size, 32))
    const member = gzipSync('')
    const missing = Math.ceil((size / 100 - packed.length) / member.length)
    const padded = Buffer.concat([packed, ...Array<Buffer>(missing).fill(member)])
    expect((await read(padded)).length).toBe(size)
    await expect(read(padded.subarray(0, -2 * member.length))).rejects.toMatchObject({
      code: 'HR_CAPTURE_RATIO_TOO_HIGH',
    })
  })

  test('lz64 has a limit of its own, in units and in bytes', async () => {
    const limits = { ...TEST_LIMITS, lz64BytesMax: 1000 }
    const read = (text: string) =>
      readPayload(incomingOf(Buffer.from(LZString.compressToBase64(text))), limits)
    expect((await read(`[${' '.repeat(998)}]`)).length).toBe(1000)
    for (const over of [`[${' '.repeat(999)}]`, `["${'é'.repeat(500)}"]`]) {
      await expect(read(over)).rejects.toMatchObject({ code: 'HR_CAPTURE_INFLATED_TOO_LARGE' })
    }
  })
})

describe('the strict reading', () => {
  const read = (body: Buffer, encoding?: string) =>
    readStrictPayload(
      incomingOf(body, encoding ? { headers: { 'content-encoding': encoding } } : {}),
      TEST_LIMITS,
    )

  test('takes four encodings, both kinds of deflate, and none', async () => {
    const rows: [Buffer, string | undefined][] = [
      [JSON_BYTES, undefined],
      [Buffer.from(`\ufeff${JSON_TEXT}`), 'identity'],
      [gzipSync(JSON_BYTES), 'gzip'],
      [gzipSync(`\ufeff${JSON_TEXT}`), 'GZIP'],
      [deflateSync(JSON_BYTES), 'deflate'],
      [deflateRawSync(JSON_BYTES), 'deflate'],
      [brotliCompressSync(JSON_BYTES), 'br'],
      [zstdCompressSync(JSON_BYTES), 'zstd'],
    ]
    for (const [body, encoding] of rows) expect((await read(body, encoding)).toString()).toBe(JSON_TEXT)
  })

  test('guesses nothing: another encoding is 415, other bytes than said are 400', async () => {
    for (const encoding of ['lz64', 'base64', 'x-gzip', 'gzip, gzip', 'nonsense']) {
      await expect(read(JSON_BYTES, encoding)).rejects.toMatchObject({
        code: 'HR_CAPTURE_UNSUPPORTED_ENCODING',
        status: 415,
      })
    }
    for (const encoding of ['gzip', 'deflate', 'br', 'zstd']) {
      await expect(read(JSON_BYTES, encoding)).rejects.toMatchObject({ status: 400 })
    }
    const gzip = gzipSync(JSON_BYTES)
    expect((await read(gzip)).equals(gzip)).toBe(true)
  })
})

test('bytes changed, cut and doubled in any wrap become some bytes or an error of ours', async () => {
  const seeds = [
    ...WRAPS.map(([, wrap]) => wrap(JSON_BYTES)),
    brotliCompressSync(JSON_BYTES),
    deflateRawSync(JSON_BYTES),
    deflateSync(JSON_BYTES),
    zstdCompressSync(JSON_BYTES),
    Buffer.from(LZString.compressToBase64(JSON_TEXT)),
    form(LZString.compressToBase64(JSON_TEXT)),
    gzipSync(base64(gzipSync(JSON_BYTES))),
  ]
  const edit = fc.tuple(fc.nat(), fc.constantFrom('set', 'insert', 'cut', 'double'), fc.nat(255))
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...seeds),
      fc.array(edit, { minLength: 1, maxLength: 4 }),
      fc.constantFrom(...HINTS),
      async (seed, edits, hint) => {
        let mutated = [...seed]
        for (const [place, kind, byte] of edits) {
          const at = place % (mutated.length + 1)
          if (kind === 'set') mutated[at] = byte
          else if (kind === 'insert') mutated.splice(at, 0, byte)
          else if (kind === 'cut') mutated = mutated.slice(0, Math.max(at, 1))
          else mutated.splice(at, 0, ...mutated.slice(at, at + 16))
        }
        const incoming = incomingOf(Buffer.from(mutated), { query: `?compression=${hint}` })
        const outcome = await readPayload(incoming, TEST_LIMITS).catch((error: unknown) => error)
        if (!Buffer.isBuffer(outcome)) {
          expect(outcome).toBeInstanceOf(HeadraceError)
          expect([400, 413]).toContain((outcome as HeadraceError).status!)
        }
      },
    ),
    { numRuns: 5000 },
  )
})

test('a share gives back exactly what it took', () => {
  const budget = new InFlightBudget(100)
  const first = budget.open()
  first.take(60)
  const second = budget.open()
  expect(() => second.take(41)).toThrow(HeadraceError)
  second.take(40)
  first.close()
  first.close()
  const third = budget.open()
  third.take(60)
  expect(() => third.take(1)).toThrow(HeadraceError)
})
