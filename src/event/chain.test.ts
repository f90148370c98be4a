import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { Chain, judgeRow } from './chain.ts'
import type { Place } from './source.ts'

const at = (offset: number, sub = 0): Place => ({ offset, sub })

describe('I2: which rows a reader of events takes', () => {
  test.each([
    ['the first row of a partition', undefined, undefined, at(0), 'accept'],
    ['the first row again', at(0), undefined, at(0), 'copy'],
    ['the next row', at(3), at(3), at(4), 'accept'],
    ['the next row, offsets in between were dropped', at(3), at(3), at(9), 'accept'],
    ['a row that was taken before', at(9), at(3), at(4), 'copy'],
    ['a second row of the same event', at(4, 0), at(4, 0), at(4, 1), 'accept'],
    ['a row whose predecessor is missing', at(3), at(4), at(5), 'gap'],
    ['a row with a predecessor when nothing was read', undefined, at(4), at(5), 'gap'],
    ['a first row when others were read', at(3), undefined, at(5), 'gap'],
  ] as const)('%s', (_, last, prev, source, verdict) => {
    expect(judgeRow(last, prev, source)).toBe(verdict)
  })

  test('copies in any order and number never let a row through twice, nor lose one', () => {
    const logId = '00000000-0000-4000-8000-000000000000'
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(1000), { minLength: 1, maxLength: 50 }),
        fc.infiniteStream(fc.nat(60)),
        (offsets, noise) => {
          const sorted = offsets.toSorted((a, b) => a - b)
          const rows = sorted.map((offset, i) => ({ offset, prev: i === 0 ? undefined : at(sorted[i - 1]!) }))
          const chain = new Chain()
          const taken: number[] = []
          rows.forEach((row, i) => {
            for (const copy of [rows[noise.next().value % (i + 1)]!, row, row]) {
              const verdict = chain.take({ logId, partition: 0, offset: copy.offset, sub: 0 }, copy.prev)
              if (verdict === 'accept') taken.push(copy.offset)
              else expect(verdict).toBe(copy === row || taken.includes(copy.offset) ? 'copy' : 'gap')
            }
          })
          expect(taken).toEqual(sorted)
          expect(new Chain(JSON.parse(JSON.stringify(chain))).last(logId)).toEqual(at(sorted.at(-1)!))
        },
      ),
    )
  })
})
