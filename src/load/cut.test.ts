import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { type Cuttable, extendChecksum, finishChecksum, monthOf, planCut } from './cut.ts'

const row = (length: number, month = 0): Cuttable => ({ row: new Uint8Array(length), month })
const months = (...list: number[]) => list.map((month) => row(1, month))

describe('planCut', () => {
  const limits = { rowsMax: 4, bytesMax: 10, monthsMax: 2 }
  const cases: [string, Cuttable[][], number[]][] = [
    ['nothing waits', [[], []], [0, 0]],
    ['all fit', [[row(1)], [row(1), row(1)]], [1, 2]],
    [
      'rows are limited',
      [
        [row(1), row(1), row(1)],
        [row(1), row(1)],
      ],
      [3, 1],
    ],
    ['bytes are limited', [[row(6), row(4)], [row(1)]], [2, 0]],
    ['a row over the limit goes alone', [[row(11), row(1)]], [1]],
    ['a month too many ends its input only', [months(1, 2, 3), months(2, 1)], [2, 2]],
    ['a month seen before is free', [months(1, 2, 1, 2)], [4]],
  ]
  for (const [name, inputs, taken] of cases) {
    test(name, () => expect(planCut(inputs, limits).taken).toEqual(taken))
  }

  const inputs = fc.array(
    fc.array(fc.record({ length: fc.integer({ min: 0, max: 12 }), month: fc.integer({ min: 0, max: 5 }) }), {
      maxLength: 12,
    }),
    { maxLength: 5 },
  )
  const limit = fc.record({
    rowsMax: fc.integer({ min: 1, max: 8 }),
    bytesMax: fc.integer({ min: 1, max: 30 }),
    monthsMax: fc.integer({ min: 1, max: 4 }),
  })

  test('cuts stay within the limits, and repeated cuts take every row once, in order', () => {
    fc.assert(
      fc.property(inputs, limit, (shapes, limits) => {
        const left = shapes.map((shape) => shape.map(({ length, month }) => row(length, month)))
        const seen: Cuttable[][] = left.map(() => [])
        const all = left.map((list) => [...list])
        while (left.some((list) => list.length > 0)) {
          const cut = planCut(left, limits)
          const rows = cut.taken.flatMap((count, i) => left[i]!.slice(0, count))
          expect(cut.rows).toBe(rows.length)
          expect(cut.rows).toBeGreaterThan(0)
          expect(cut.bytes).toBe(rows.reduce((sum, { row }) => sum + row.length, 0))
          expect(cut.rows).toBeLessThanOrEqual(limits.rowsMax)
          if (cut.rows > 1) expect(cut.bytes).toBeLessThanOrEqual(limits.bytesMax)
          expect(cut.months).toBe(new Set(rows.map(({ month }) => month)).size)
          expect(cut.months).toBeLessThanOrEqual(limits.monthsMax)
          cut.taken.forEach((count, i) => {
            seen[i]!.push(...left[i]!.splice(0, count))
          })
        }
        expect(seen).toEqual(all)
      }),
    )
  })

  test('a cut takes all that the limits allow', () => {
    fc.assert(
      fc.property(inputs, limit, (shapes, limits) => {
        const lists = shapes.map((shape) => shape.map(({ length, month }) => row(length, month)))
        const cut = planCut(lists, limits)
        const known = new Set(lists.flatMap((list, i) => list.slice(0, cut.taken[i]).map((r) => r.month)))
        const next = lists.map((list, i) => list[cut.taken[i]!]).filter((r) => r !== undefined)
        const first = next[0]
        if (!first) return
        const overRows = cut.rows + 1 > limits.rowsMax
        const overBytes = next.some((r) => cut.bytes + r.row.length > limits.bytesMax)
        const overMonths = next.every((r) => !known.has(r.month)) && known.size >= limits.monthsMax
        expect(overRows || overBytes || overMonths).toBe(true)
      }),
    )
  })
})

test('monthOf agrees with the calendar, also where DateTime64 ends', () => {
  fc.assert(
    fc.property(fc.date({ min: new Date('1900-01-01'), max: new Date('2299-12-31') }), (date) => {
      if (Number.isNaN(date.getTime())) return
      expect(monthOf(date.getTime())).toBe(date.getUTCFullYear() * 12 + date.getUTCMonth())
    }),
  )
  expect(monthOf(-1e15)).toBe(1900 * 12)
  expect(monthOf(1e15)).toBe(2299 * 12 + 11)
})

test('a checksum depends on the order of the rows and is a safe integer', () => {
  const rows = [Buffer.from('one'), Buffer.from('two')]
  const forward = finishChecksum(rows.reduce(extendChecksum, 0n))
  const backward = finishChecksum([...rows].reverse().reduce(extendChecksum, 0n))
  expect(forward).not.toBe(backward)
  expect(Number.isSafeInteger(forward)).toBe(true)
})
