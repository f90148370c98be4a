import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { ByteReader, ByteWriter } from './bytes.ts'
import {
  DISPOSITIONS,
  decodeRawHeader,
  encodeRawHeader,
  PERSON_PROCESSING,
  type RawHeader,
  TIME_RULES,
} from './raw-record.ts'
import { decodeOutcomes, encodeOutcomes } from './receipt.ts'
import { decodeRowHeader, encodeRowHeader } from './row-record.ts'
import { comparePlaces, formatSource, parseSource, SUB_MAX } from './source.ts'

const uuid = fc.uuid()
const safeInteger = fc.integer({ min: -8_640_000_000_000_000, max: 8_640_000_000_000_000 })
const offset = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
const wellFormed = fc.string({ unit: 'grapheme', maxLength: 300 })
const source = fc.record({
  logId: uuid,
  partition: fc.integer({ min: 0, max: 65_535 }),
  offset,
  sub: fc.integer({ min: 0, max: SUB_MAX }),
})
const rawHeader: fc.Arbitrary<RawHeader> = fc.record({
  token: wellFormed,
  distinctId: wellFormed,
  event: wellFormed,
  uuid,
  timestampMs: safeInteger,
  timeRule: fc.constantFrom(...TIME_RULES),
  nowMs: safeInteger,
  sentAtMs: fc.option(safeInteger, { nil: undefined }),
  ip: wellFormed,
  userAgent: wellFormed,
  sdk: wellFormed,
  personProcessing: fc.constantFrom(...PERSON_PROCESSING),
  cookieless: fc.boolean(),
  clientTimeMs: fc.option(safeInteger, { nil: undefined }),
  disposition: fc.constantFrom(...DISPOSITIONS),
  requestId: wellFormed,
  replayOf: fc.option(source, { nil: undefined }),
})

describe('raw header', () => {
  test('what is packed is unpacked', () => {
    fc.assert(
      fc.property(rawHeader, (header) => {
        expect(decodeRawHeader(encodeRawHeader(header))).toEqual(header)
      }),
    )
  })

  test('headers do not touch each other, also after one that failed', () => {
    fc.assert(
      fc.property(fc.array(rawHeader, { minLength: 2, maxLength: 40 }), (headers) => {
        const packed = headers.map((header, i) => {
          if (i % 3 === 0) expect(() => encodeRawHeader({ ...header, uuid: 'none' })).toThrow()
          return encodeRawHeader(header)
        })
        expect(packed.map((bytes) => decodeRawHeader(bytes))).toEqual(headers)
      }),
    )
  })

  test('a cut header is refused, never half read', () => {
    fc.assert(
      fc.property(rawHeader, fc.nat(), (header, at) => {
        const bytes = encodeRawHeader(header)
        expect(() => decodeRawHeader(bytes.subarray(0, at % bytes.length))).toThrow()
      }),
    )
  })

  test('an unknown version is refused by name', () => {
    expect(() => decodeRawHeader(Uint8Array.of(9, 0, 0, 0))).toThrow('raw header version 9')
  })
})

describe('row header', () => {
  test('what is packed is unpacked', () => {
    const place = fc.record({ offset, sub: fc.integer({ min: 0, max: SUB_MAX }) })
    const header = fc.record({
      source,
      prev: fc.option(place, { nil: undefined }),
      teamId: fc.nat(),
      timestampMs: safeInteger,
      restamped: fc.boolean(),
    })
    fc.assert(
      fc.property(header, (value) => {
        expect(decodeRowHeader(encodeRowHeader(value))).toEqual(value)
      }),
    )
  })
})

describe('outcomes of a receipt', () => {
  const outcome = fc.record({
    code: fc.integer({ min: 0, max: 255 }),
    rows: fc.integer({ min: 0, max: 70_000 }),
  })

  test('one per offset, whatever the runs', () => {
    fc.assert(
      fc.property(fc.array(outcome, { maxLength: 200 }), (outcomes) => {
        expect(decodeOutcomes(encodeOutcomes(outcomes))).toEqual(outcomes)
      }),
    )
  })

  test('a batch in which all is stored takes four bytes', () => {
    expect(encodeOutcomes(Array.from({ length: 5000 }, () => ({ code: 0, rows: 1 })))).toHaveLength(4)
  })
})

describe('bytes', () => {
  test('texts of any length and script keep their length prefix', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 200 }), { maxLength: 20 }), (texts) => {
        const writer = new ByteWriter(8)
        for (const text of texts) writer.text(text)
        const reader = new ByteReader(writer.take())
        for (const text of texts) expect(reader.text()).toBe(text.toWellFormed())
        expect(reader.done).toBe(true)
      }),
    )
  })

  test('numbers', () => {
    fc.assert(
      fc.property(safeInteger, offset, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (a, b, c) => {
        const writer = new ByteWriter(4)
        writer.i64(a)
        writer.varint(b)
        writer.bigint64(c)
        const reader = new ByteReader(writer.take())
        expect([reader.i64(), reader.varint(), reader.bigint64()]).toEqual([a, b, c])
      }),
    )
  })
})

describe('sources', () => {
  test('what is written is read', () => {
    fc.assert(
      fc.property(source, (value) => {
        expect(parseSource(formatSource(value))).toEqual(value)
      }),
    )
  })

  test.each([
    '',
    'a/b',
    '00000000-0000-0000-0000-000000000000/1/2',
    '00000000-0000-0000-0000-000000000000/-1/2/3',
  ])('"%s" is not a source', (text) => {
    expect(parseSource(text)).toBeUndefined()
  })

  test('places are ordered by offset, then by row', () => {
    expect(comparePlaces({ offset: 1, sub: 9 }, { offset: 2, sub: 0 })).toBeLessThan(0)
    expect(comparePlaces({ offset: 2, sub: 1 }, { offset: 2, sub: 0 })).toBeGreaterThan(0)
    expect(comparePlaces({ offset: 2, sub: 1 }, { offset: 2, sub: 1 })).toBe(0)
  })
})
