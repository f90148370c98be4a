import { describe, expect, test } from 'bun:test'
import { DUPLICATE, deadLetterCode, LOST, type OffsetOutcome, STORED } from '../event/index.ts'
import { differenceOf, ROW_KINDS } from './warehouse-plan.ts'

const REFUSED = deadLetterCode('refused_by_warehouse')
const FROM = 10
const OUTCOMES: OffsetOutcome[] = [
  { code: STORED, rows: 1 },
  { code: DUPLICATE, rows: 0 },
  { code: STORED, rows: 2, gone: [{ sub: 1, code: REFUSED }] },
  {
    code: REFUSED,
    rows: 0,
    gone: [
      { sub: 0, code: LOST },
      { sub: 1, code: REFUSED },
    ],
  },
  { code: LOST, rows: 0 },
  { code: STORED, rows: 3 },
]
/** What each table has of them, when nothing is wrong. */
const PLACES = {
  events: ['10/0', '12/0', '12/2', '15/0', '15/1', '15/2'],
  outcomes: ['11/0', '12/1', '13/1'],
  dead_letters: ['12/1', '13/1'],
}

function placeOf(text: string) {
  const [offset, sub] = text.split('/').map(Number)
  return { offset: offset!, sub: sub! }
}

describe('rows of offsets whose events gave several', () => {
  for (const kind of ROW_KINDS) {
    const places = PLACES[kind.table.name as keyof typeof PLACES].map((text) => ({
      ...placeOf(text),
      copies: 1,
    }))

    test(`${kind.table.name}: all there, and each one missing alone`, () => {
      const none = { missing: [], doubled: [], unexpected: [] }
      expect(differenceOf(kind, FROM, OUTCOMES, places)).toEqual(none)
      for (const place of places) {
        const { offset, sub } = place
        const others = places.filter((other) => other !== place)
        expect(differenceOf(kind, FROM, OUTCOMES, others)).toEqual({ ...none, missing: [{ offset, sub }] })
      }
    })
  }

  test('a row that ClickHouse refused, and has after all, takes the place of no other', () => {
    const present = PLACES.events.map((text) => ({ ...placeOf(text === '12/2' ? '12/1' : text), copies: 1 }))
    expect(differenceOf(ROW_KINDS[0]!, FROM, OUTCOMES, present)).toEqual({
      missing: [{ offset: 12, sub: 2 }],
      doubled: [],
      unexpected: [{ offset: 12, sub: 1 }],
    })
  })
})
