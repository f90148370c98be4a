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
import { deadLetterCode, LOST, STORED } from './reasons.ts'
import {
  codeOfRow,
  decodeOutcomes,
  encodeOutcomes,
  endedSubs,
  type OffsetOutcome,
  storedSubs,
  withoutRow,
} from './receipt.ts'
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
  const code = fc.integer({ min: 0, max: 255 })
  const outcome = fc.record(
    {
      code,
      rows: fc.integer({ min: 0, max: 70_000 }),
      gone: fc.array(fc.record({ sub: fc.integer({ min: 0, max: 65_535 }), code }), { maxLength: 5 }),
    },
    { requiredKeys: ['code', 'rows'] },
  )

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

  const REFUSED = deadLetterCode('refused_by_warehouse')
  const S = (rows: number): OffsetOutcome => ({ code: STORED, rows })
  const goes: [string, OffsetOutcome, [number, number][], OffsetOutcome | undefined][] = [
    ['the only row, refused', S(1), [[0, REFUSED]], { code: REFUSED, rows: 0 }],
    ['the only row, lost', S(1), [[0, LOST]], { code: LOST, rows: 0 }],
    ['one of several', S(3), [[1, REFUSED]], { ...S(2), gone: [{ sub: 1, code: REFUSED }] }],
    [
      'all, lost',
      S(2),
      [
        [1, LOST],
        [0, LOST],
      ],
      { code: LOST, rows: 0 },
    ],
    [
      'all, one lost and one refused',
      S(2),
      [
        [1, REFUSED],
        [0, LOST],
      ],
      {
        code: REFUSED,
        rows: 0,
        gone: [
          { sub: 0, code: LOST },
          { sub: 1, code: REFUSED },
        ],
      },
    ],
    [
      'one that is gone already',
      S(2),
      [
        [1, REFUSED],
        [1, REFUSED],
      ],
      undefined,
    ],
    ['one that it never had', S(2), [[2, REFUSED]], undefined],
    ['one of an event that is not stored', { code: REFUSED, rows: 0 }, [[0, REFUSED]], undefined],
  ]
  for (const [name, before, rows, after] of goes) {
    test(`a row goes: ${name}`, () => {
      const end = rows.reduce(
        (outcome: OffsetOutcome | undefined, [sub, code]) => outcome && withoutRow(outcome, sub, code),
        before,
      )
      expect(end).toEqual(after)
    })
  }

  test('rows that go are in one table each, and it does not matter which goes first', () => {
    const some = fc.record({
      rows: fc.integer({ min: 1, max: 6 }),
      going: fc.uniqueArray(
        fc.record({ sub: fc.integer({ min: 0, max: 5 }), code: fc.constantFrom(REFUSED, LOST) }),
        { selector: ({ sub }) => sub },
      ),
    })
    fc.assert(
      fc.property(some, ({ rows, going }) => {
        const mine = going.filter(({ sub }) => sub < rows)
        const end = (order: typeof mine) =>
          order.reduce((outcome, { sub, code }) => withoutRow(outcome, sub, code)!, S(rows))
        const outcome = end(mine)
        expect(end(mine.toReversed())).toEqual(outcome)
        expect(decodeOutcomes(encodeOutcomes([outcome]))).toEqual([outcome])
        const refused = mine.filter(({ code }) => code === REFUSED).map(({ sub }) => sub)
        expect(endedSubs(outcome)).toEqual(refused.sort())
        expect(storedSubs(outcome)).toEqual(
          Array.from({ length: rows }, (_, sub) => sub).filter((sub) => !mine.some((row) => row.sub === sub)),
        )
        for (const sub of refused) expect(codeOfRow(outcome, sub)).toBe(REFUSED)
      }),
    )
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
