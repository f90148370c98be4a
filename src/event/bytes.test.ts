import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { ByteReader, ByteWriter, viewOf } from './bytes.ts'

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

test('what was cut off stays as it was, and only something large has large memory', () => {
  const writer = new ByteWriter(64)
  const texts = ['a'.repeat(40), 'b'.repeat(40), 'c'.repeat(1_000), 'd'.repeat(40), 'e'.repeat(1_100), 'f']
  const parts = texts.map((text) => {
    writer.text(text)
    return writer.cut()
  })
  expect(parts.map((part) => new ByteReader(viewOf(part)).text())).toEqual(texts)
  expect(parts[2]!.bytes.length).toBeLessThan(3_000)
  for (let more = 0; more < 100; more++) writer.text('g'.repeat(40))
  expect(writer.cut().bytes.length).toBeLessThan(10_000)
  // What is left of the large memory is used up first.
  const small = Array.from({ length: 200 }, () => {
    writer.text('h'.repeat(60))
    return writer.cut().bytes.length
  })
  expect(small.at(-1)).toBe(64)
})

test('numbers at the edge come back; one byte less is refused', () => {
  const writer = new ByteWriter(8)
  writer.u16(65_535)
  writer.u32(4_294_967_295)
  writer.i64(-1)
  writer.i64(Number.MAX_SAFE_INTEGER)
  writer.i64(Number.MIN_SAFE_INTEGER)
  writer.bigint64(-(2n ** 63n))
  const bytes = viewOf(writer.cut())
  const read = (reader: ByteReader) => [
    reader.u16(),
    reader.u32(),
    reader.i64(),
    reader.i64(),
    reader.i64(),
    reader.bigint64(),
  ]
  const wanted = [65_535, 4_294_967_295, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, -(2n ** 63n)]
  expect(read(new ByteReader(bytes))).toEqual(wanted)
  // The same without being a Buffer, and in the midst of other bytes.
  const around = new Uint8Array(bytes.length + 2)
  around.set(bytes, 1)
  expect(read(new ByteReader(around.subarray(1, -1)))).toEqual(wanted)
  expect(() => read(new ByteReader(bytes.subarray(0, -1)))).toThrow(RangeError)
})
