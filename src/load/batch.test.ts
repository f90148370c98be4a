import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { encodeRowHeader, TOPICS } from '../event/index.ts'
import type { StoredRecord } from '../log/index.ts'
import { type Batch, halveBatch, makeBatch, takeHeads } from './batch.ts'
import { PartitionInput } from './partition-input.ts'

const LOG_ID = '00000000-0000-4000-8000-000000000001'
const RAW_ID = '00000000-0000-4000-8000-0000000000aa'

/** Records of one partition of `events`, in the months in turn; a copy repeats the row before it. */
function records(kinds: ('row' | 'copy')[], months = 1): StoredRecord[] {
  let source = -1
  return kinds.map((kind, offset) => {
    if (kind === 'row' || source < 0) source++
    return {
      offset,
      appendedMs: 1000 + offset,
      header: encodeRowHeader({
        source: { logId: RAW_ID, partition: 3, offset: source * 2, sub: 0 },
        prev: source === 0 ? undefined : { offset: (source - 1) * 2, sub: 0 },
        teamId: 1,
        timestampMs: Date.UTC(2020, source % months, 1),
        restamped: false,
      }),
      value: Buffer.from(`row ${source}`),
    }
  })
}

function inputOf(partition: number): PartitionInput {
  return new PartitionInput(
    { logId: LOG_ID, topic: TOPICS.events, partition, chained: true },
    { next: 0, last: {} },
  )
}

test('copies are passed over and counted, and the range still covers them', () => {
  const input = inputOf(0)
  input.accept(records(['row', 'copy', 'row', 'copy']))
  expect(input.waiting.map(({ offset }) => offset)).toEqual([0, 2])
  const { range, lastAfter, rows } = input.cut(1)
  expect([range.from, range.to, rows.length]).toEqual([0, 2, 1])
  expect(lastAfter).toEqual({ [RAW_ID]: [0, 0] })
  const rest = input.cut(1)
  expect([rest.range.from, rest.range.to, rest.range.last]).toEqual([2, 4, { [RAW_ID]: [0, 0] }])
  expect(input.takeCopies()).toBe(2)
})

test('a gap is refused, and what stood before it is kept', () => {
  const input = inputOf(0)
  const all = records(['row', 'row', 'row', 'row'])
  const holed = [all[0]!, { ...all[2]!, offset: 1 }]
  expect(() => input.accept(holed)).toThrow(
    /gap in events\/0.*follows row 2\/0, but the last one here was 0\/0/,
  )
  expect(input.waiting.length).toBe(1)
  expect(input.nextOffset).toBe(1)
  expect(() => inputOf(0).accept([{ ...all[0]!, offset: 5 }])).toThrow(/offset 0 was to be read next/)
  expect(() => inputOf(0).accept([{ ...all[0]!, header: Buffer.from('x') }])).toThrow(/carries no row header/)
})

test('halving keeps every row, every offset and the chain, whatever the copies are', () => {
  const kinds = fc.array(fc.constantFrom('row' as const, 'row' as const, 'copy' as const), { maxLength: 12 })
  fc.assert(
    fc.property(fc.array(kinds, { minLength: 1, maxLength: 4 }), (lists) => {
      const parts = lists.map((list, partition) => {
        const input = inputOf(partition)
        input.accept(records(list))
        return input.cut(input.waiting.length)
      })
      const whole = makeBatch('events', parts)
      if (whole.rows.length < 2) return
      const halves = halveBatch(whole)
      expect(halves.map(({ rows }) => rows.length).every((n) => n > 0)).toBe(true)
      expect(halves.flatMap(({ rows }) => rows)).toEqual(whole.rows)
      for (const half of halves) expectReadAgain(half, (partition) => records(lists[partition]!))
      const covered = halves.flatMap((half) => half.ranges.map(({ range }) => range))
      for (const { range } of whole.ranges) {
        const own = covered.filter(({ partition }) => partition === range.partition)
        expect(own[0]!.from).toBe(range.from)
        expect(own.at(-1)!.to).toBe(range.to)
        if (own.length === 2) expect(own[0]!.to).toBe(own[1]!.from)
      }
    }),
  )
})

/** Read again from the log by its own ranges, it is the same rows. */
function expectReadAgain(batch: Batch, recordsOf: (partition: number) => StoredRecord[]): void {
  for (const { range, rows } of batch.ranges) {
    const again = new PartitionInput(
      { logId: LOG_ID, topic: TOPICS.events, partition: range.partition, chained: true },
      { next: range.from, last: range.last },
    )
    again.accept(recordsOf(range.partition).slice(range.from, range.to))
    expect(again.waiting).toEqual(rows)
  }
}

test('the first row of each month and all others are the batch, and each can be read again', () => {
  const kinds = fc.array(fc.constantFrom('row' as const, 'row' as const, 'copy' as const), { maxLength: 12 })
  fc.assert(
    fc.property(
      fc.array(kinds, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 5 }),
      (lists, months) => {
        const recordsOf = (partition: number) => records(lists[partition]!, months)
        const parts = lists.map((_, partition) => {
          const input = inputOf(partition)
          input.accept(recordsOf(partition))
          return input.cut(input.waiting.length)
        })
        const whole = makeBatch('events', parts)
        const { heads, others } = takeHeads(whole)
        const seen = whole.rows.map(({ month }) => month)
        const isFirst = whole.rows.map(({ month }, i) => seen.indexOf(month) === i)
        expect(heads.rows).toEqual(whole.rows.filter((_, i) => isFirst[i]))
        expect(others.rows).toEqual(whole.rows.filter((_, i) => !isFirst[i]))
        for (const batch of [heads, others]) expectReadAgain(batch, recordsOf)
      },
    ),
  )
})
