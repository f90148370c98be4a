import { describe, expect, test } from 'bun:test'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { HeadraceError } from '../../event/index.ts'
import { InFlightBudget } from '../limits.ts'
import { incomingOf, TEST_LIMITS } from './incoming.fixture.ts'
import { readPayload } from './index.ts'

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
