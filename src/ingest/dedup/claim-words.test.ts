import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import {
  appendedMsAt,
  CLAIM_WORDS,
  ClaimKeys,
  compareClaims,
  digestAt,
  isSameDigest,
  isSameUuid,
  logNumberAt,
  offsetAt,
  writeHolder,
} from './claim-words.ts'
import { claimOf } from './claims.fixture.ts'

const keys = new ClaimKeys(12_345)

function wordsOf(uuid: string, event = 'e', seed = keys): Uint32Array {
  const words = new Uint32Array(CLAIM_WORDS)
  seed.write(claimOf(0, { uuid, event }), words, 0)
  return words
}

test('words give back what was written, up to the largest that they hold', () => {
  const number = fc.integer({ min: 0, max: 2 ** 48 - 1 })
  fc.assert(
    fc.property(fc.nat(65_535), number, number, fc.uuid(), (log, offset, appendedMs, uuid) => {
      const words = wordsOf(uuid)
      const digest = digestAt(words, 0)
      writeHolder(words, 0, log, offset, appendedMs)
      expect([logNumberAt(words, 0), offsetAt(words, 0), appendedMsAt(words, 0)]).toEqual([
        log,
        offset,
        appendedMs,
      ])
      expect(digestAt(words, 0)).toBe(digest)
    }),
  )
})

describe('mixed uuids', () => {
  test('two that differ in one bit stay two, and differ in their first word', () => {
    const base = '018f4b2e0000700080000000000000ff'
    const all = new Set<string>()
    const first = new Set<number>()
    for (let bit = 0; bit < 128; bit++) {
      const hex = (BigInt(`0x${base}`) ^ (1n << BigInt(bit))).toString(16).padStart(32, '0')
      const words = wordsOf(hex)
      all.add(words.subarray(0, 4).join())
      first.add(words[0]!)
    }
    expect([all.size, first.size]).toEqual([128, 128])
  })

  test.each([
    [
      'a counter in the last bytes',
      (n: number) => `018f4b2e-0000-7000-8000-${n.toString(16).padStart(12, '0')}`,
    ],
    [
      'a counter in the first bytes',
      (n: number) => `${n.toString(16).padStart(8, '0')}-0000-4000-8000-000000000000`,
    ],
    [
      'ids of one millisecond',
      (n: number) =>
        `018f4b2e-0000-7${(n % 4096).toString(16).padStart(3, '0')}-8000-${(n >> 4).toString(16).padStart(12, '0')}`,
    ],
  ])('%s fills all parts of the space alike', (_, uuid) => {
    const parts = new Array<number>(64).fill(0)
    for (let n = 0; n < 64_000; n++) parts[wordsOf(uuid(n))[0]! >>> 26]!++
    // 1,000 each; six standard deviations of chance.
    expect(Math.min(...parts)).toBeGreaterThan(800)
    expect(Math.max(...parts)).toBeLessThan(1_200)
  })

  test('fall elsewhere in each index', () => {
    const uuid = '018f4b2e-0000-7000-8000-000000000001'
    expect(wordsOf(uuid)[0]).not.toBe(wordsOf(uuid, 'e', new ClaimKeys(54_321))[0])
  })
})

test('order and equality agree', () => {
  const some = fc.tuple(
    fc.constantFrom('018f4b2e-0000-7000-8000-000000000001', crypto.randomUUID()),
    fc.nat(2),
  )
  fc.assert(
    fc.property(some, some, ([a, x], [b, y]) => {
      const one = wordsOf(a, `e${x}`)
      const two = wordsOf(b, `e${y}`)
      writeHolder(one, 0, 1, 7, 7)
      writeHolder(two, 0, 2, 8, 8)
      expect(isSameUuid(one, 0, two, 0)).toBe(a === b)
      expect(isSameUuid(one, 0, two, 0) && isSameDigest(one, 0, two, 0)).toBe(a === b && x === y)
      expect(compareClaims(one, 0, two, 0) === 0).toBe(a === b && x === y)
      expect(Math.sign(compareClaims(one, 0, two, 0))).toBe(0 - Math.sign(compareClaims(two, 0, one, 0)))
    }),
  )
})

test('no two events of a project have one text: names may hold any character', () => {
  const pair = (event: string, distinctId: string) => {
    const words = new Uint32Array(CLAIM_WORDS)
    keys.write(claimOf(0, { event, distinctId }), words, 0)
    return digestAt(words, 0)
  }
  expect(pair('a\u0000b', 'c')).not.toBe(pair('a', 'b\u0000c'))
  expect(pair('ab', 'c')).not.toBe(pair('a', 'bc'))
})
