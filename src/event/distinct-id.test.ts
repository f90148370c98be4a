import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { boundDistinctId, DISTINCT_ID_CHARS_MAX } from './distinct-id.ts'

const KEPT: [string, string][] = [
  ['a usual id', 'user-1'],
  ['200 characters', 'x'.repeat(200)],
  ['200 characters of two units each', '😀'.repeat(200)],
]
test.each(KEPT)('%s is kept', (_, id) => {
  expect(boundDistinctId(id)).toBe(id)
})

test('NUL and lone surrogates become U+FFFD', () => {
  expect(boundDistinctId('a\0b\ud800c')).toBe('a\ufffdb\ufffdc')
})

test('two long ids that begin alike stay two', () => {
  const ids = ['a', 'b', ''].map((tail) => boundDistinctId('x'.repeat(200) + tail.padEnd(5, 'y')))
  expect(new Set(ids).size).toBe(3)
  for (const id of ids) {
    expect(Array.from(id).length).toBe(DISTINCT_ID_CHARS_MAX)
    expect(id.startsWith('x'.repeat(167))).toBe(true)
  }
})

test('never too long, always well formed, and stable when applied again', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 500, size: 'max' }), (text) => {
      const id = boundDistinctId(text)
      expect(Array.from(id).length).toBeLessThanOrEqual(DISTINCT_ID_CHARS_MAX)
      expect(id.isWellFormed()).toBe(true)
      expect(boundDistinctId(id)).toBe(id)
    }),
  )
})
