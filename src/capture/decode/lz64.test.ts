import { expect, test } from 'bun:test'
import fc from 'fast-check'
import LZString from 'lz-string'
import { beginsLikeLz64Json, Lz64TooLarge, lz64Decoded } from './lz64.ts'

const UNITS_MAX = 1_000_000
const decode = (text: string, unitsMax = UNITS_MAX) => lz64Decoded(Buffer.from(text), unitsMax)?.toString()

/** Any UTF-16, lone surrogates and long repeats among it. */
const texts = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 300 }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 200 })
    .map((units) => String.fromCharCode(...units)),
  fc
    .array(fc.tuple(fc.string({ maxLength: 5 }), fc.nat(400)), { maxLength: 20 })
    .map((parts) => parts.map(([part, times]) => part.repeat(times)).join('')),
  fc.json(),
)

test('is what lz-string packed, in both alphabets, padded or not; a lone surrogate is U+FFFD', () => {
  fc.assert(
    fc.property(texts, (text) => {
      const packed = LZString.compressToBase64(text)
      expect(decode(packed)).toBe(text.toWellFormed())
      expect(decode(packed.replace(/=+$/, ''))).toBe(text.toWellFormed())
      expect(decode(packed.replaceAll('+', ' '))).toBe(text.toWellFormed())
      expect(decode(LZString.compressToEncodedURIComponent(text))).toBe(text.toWellFormed())
    }),
    { numRuns: 1000 },
  )
})

test('agrees with lz-string on damaged text wherever that gives an answer', () => {
  const edit = fc.tuple(fc.nat(), fc.constantFrom(...'ABCDEFGHMNZabcdmz0189+/='))
  fc.assert(
    fc.property(texts, fc.array(edit, { minLength: 1, maxLength: 3 }), (text, edits) => {
      const packed = [...LZString.compressToBase64(text)]
      for (const [place, char] of edits) packed[place % packed.length] = char
      const damaged = packed.join('')
      // The first code can only be a new unit or the end; theirs goes on with `undefined` after any other.
      if (/^[w-z0-9+/]/.test(damaged)) return expect(decode(damaged)).toBeUndefined()
      const theirs = LZString.decompressFromBase64(damaged)
      // Theirs says '' for what is cut as for what is empty, and null for what cannot be.
      if (theirs) expect(decode(damaged)).toBe(theirs.toWellFormed())
      else expect(decode(damaged) || '').toBe('')
    }),
    { numRuns: 2000 },
  )
})

test('what is cut or of another alphabet is no lz64', () => {
  const packed = LZString.compressToBase64(JSON.stringify({ event: 'e', properties: { a: [1, 2, 3] } }))
  for (let length = 0; length < packed.length - 2; length++) {
    expect(decode(packed.slice(0, length))).toBeUndefined()
  }
  expect(decode(`${packed.slice(0, 9)}%${packed.slice(10)}`)).toBeUndefined()
})

test('stops at the limit, also when a few bytes would become many', () => {
  const packed = LZString.compressToBase64('x'.repeat(UNITS_MAX))
  expect(packed.length).toBeLessThan(6000)
  expect(decode(packed)?.length).toBe(UNITS_MAX)
  expect(() => decode(packed, UNITS_MAX - 1)).toThrow(Lz64TooLarge)
})

test('lz64 of JSON objects and arrays is known by its beginning', () => {
  fc.assert(
    fc.property(fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.array(fc.jsonValue())), (value) => {
      const packed = LZString.compressToBase64(JSON.stringify(value))
      expect(beginsLikeLz64Json(Buffer.from(packed))).toBe(true)
    }),
  )
  for (const other of ['{"a":1}', 'eyJhIjoxfQ==', 'W10=', 'H4sIAAAA', 'data=e30', 'NaN', '']) {
    expect(beginsLikeLz64Json(Buffer.from(other))).toBe(false)
  }
})
