import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { ByteReader, ByteWriter } from './bytes.ts'

test('texts of any length and script come back as they were, one after another', () => {
  const text = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc.string({ unit: 'grapheme', maxLength: 60 }),
    fc.string({ minLength: 120, maxLength: 140 }),
    fc.string({ unit: 'grapheme', maxLength: 300, size: 'max' }),
  )
  fc.assert(
    fc.property(fc.array(text, { maxLength: 8 }), (texts) => {
      const writer = new ByteWriter(8)
      for (const one of texts) writer.text(one)
      const reader = new ByteReader(writer.take())
      expect(texts.map(() => reader.text())).toEqual(texts)
      expect(reader.done).toBe(true)
    }),
    { numRuns: 500 },
  )
})

test('a byte order mark at the beginning is a character like any other', () => {
  const writer = new ByteWriter(8)
  writer.text('\ufeffabc')
  expect(new ByteReader(writer.take()).text()).toBe('\ufeffabc')
})

test('lone surrogates become U+FFFD, also behind ASCII', () => {
  const writer = new ByteWriter(8)
  writer.text('abc\ud800d')
  expect(new ByteReader(writer.take()).text()).toBe('abc\ufffdd')
})
