/** How often and how much, as ClickHouse bears it. */
import { describe, expect, test } from 'bun:test'
import { Pace, type PaceOptions } from './pace.ts'

const MB = 2 ** 20
const pace = (more: Partial<PaceOptions> = {}) =>
  new Pace({ everyMs: 1_000, busyPercent: 100, bytesMax: 128 * MB, share: () => 1, ...more })
/** A cut at `nowMs` whose insert takes so long. */
const insert = (one: Pace, nowMs: number, tookMs: number, bytes = one.bytesMax) => {
  one.cut(nowMs)
  one.taken(nowMs + tookMs, tookMs, bytes)
  return nowMs + tookMs
}

describe('time between two cuts', () => {
  const rows: [rule: string, options: Partial<PaceOptions>, tookMs: number, dueInMs: number][] = [
    ['a quick insert: the rest of the second', {}, 100, 900],
    ['a slow one: at once', {}, 3_000, 0],
    ['a quick one with half of the time: the second is longer', { busyPercent: 50 }, 100, 900],
    ['a slow one with half of the time: as long as it took', { busyPercent: 50 }, 3_000, 3_000],
    ['with a tenth of the time: nine times as long', { busyPercent: 10 }, 200, 1_800],
    ['one that took very long: half a minute at most', { busyPercent: 10 }, 60_000, 30_000],
  ]
  for (const [rule, options, tookMs, dueInMs] of rows)
    test(rule, () => {
      const one = pace(options)
      expect(one.dueInMs(0)).toBe(0)
      const now = insert(one, 5_000, tookMs)
      expect(one.dueInMs(now)).toBe(dueInMs)
      expect(one.dueInMs(now + dueInMs)).toBe(0)
    })

  test('too many parts: twice as long, up to 30 s, and back in steps', () => {
    const one = pace()
    one.crowded()
    one.cut(0)
    expect(one.dueInMs(0)).toBe(2_000)
    for (let i = 0; i < 10; i++) one.crowded()
    one.cut(0)
    expect(one.dueInMs(0)).toBe(30_000)
    for (let i = 0; i < 40; i++) insert(one, 0, 10)
    one.cut(0)
    expect(one.dueInMs(0)).toBe(1_000)
  })

  test.each([
    ['few months, the whole table: the second', 3, 1, 1_000],
    ['fifty months: the tokens that ClickHouse remembers last', 50, 1, 2_500],
    ['fifty months, a tenth of the table: ten times as long', 50, 0.1, 25_000],
  ])('%s', (_, tokens, share, dueInMs) => {
    const one = pace({ share: () => share })
    one.cut(0)
    one.sent(0, tokens)
    expect(one.dueInMs(0)).toBe(dueInMs)
    expect(one.dueInMs(dueInMs - 1)).toBe(1)
    expect(one.dueInMs(dueInMs)).toBe(0)
    // So does an insert beside the cuts.
    const other = one.beside()
    other.sent(0, tokens)
    expect(other.dueInMs(0)).toBe((tokens * 50) / share)
  })

  test('sent late, it is paid off late', () => {
    const one = pace()
    one.cut(0)
    one.sent(60_000, 50)
    expect(one.dueInMs(60_000)).toBe(2_500)
  })

  test('the same one sent again uses up nothing more', () => {
    const one = pace()
    for (const nowMs of [0, 100, 1_000, 2_000]) one.sent(nowMs, 50)
    expect(one.dueInMs(2_000)).toBe(2_500)
    // Of its months those that are missing.
    one.sent(3_000, 10)
    expect(one.dueInMs(3_000)).toBe(1_500)
  })

  test('the share that counts is that of now: what was used up with one partition is paid off with all', () => {
    let share = 1 / 64
    const one = pace({ share: () => share })
    one.sent(0, 50)
    expect(one.dueInMs(0)).toBe(160_000)
    expect(one.dueInMs(3_200)).toBe(156_800)
    share = 1
    expect(one.dueInMs(3_200)).toBe(2_450)
    share = 1 / 2
    expect(one.dueInMs(4_200)).toBe(3_900)
  })

  test('another one beside it has its own times, and knows what the first has learned', () => {
    const one = pace()
    const other = one.beside()
    one.cut(0)
    expect(other.dueInMs(0)).toBe(0)
    one.crowded()
    one.tooLarge(128 * MB)
    expect(other.bytesMax).toBe(64 * MB)
    other.cut(0)
    expect([one.dueInMs(0), other.dueInMs(0)]).toEqual([1_000, 2_000])
  })

  test('a setting above 30 s stays', () => {
    const one = pace({ everyMs: 60_000 })
    one.crowded()
    one.cut(0)
    expect(one.dueInMs(0)).toBe(60_000)
  })

  test('a clock that is set back holds up nothing for longer', () => {
    const one = pace()
    one.cut(10_000_000)
    expect(one.dueInMs(0)).toBe(1_000)
    const other = pace()
    other.sent(10_000_000, 50)
    expect(other.dueInMs(0)).toBe(2_500)
    expect(other.dueInMs(2_500)).toBe(0)
  })
})

test('no memory: half the size, down to 1 MB, and back in steps', () => {
  const one = pace()
  one.tooLarge(128 * MB)
  expect(one.bytesMax).toBe(64 * MB)
  one.tooLarge(8 * MB)
  expect(one.bytesMax).toBe(4 * MB)
  for (let i = 0; i < 20; i++) one.tooLarge(128 * MB)
  expect(one.bytesMax).toBe(MB)
  insert(one, 0, 10, MB / 4)
  expect(one.bytesMax).toBe(MB)
  insert(one, 0, 10)
  expect(one.bytesMax).toBe(1.25 * MB)
  for (let i = 0; i < 40; i++) insert(one, 0, 10)
  expect(one.bytesMax).toBe(128 * MB)
})

test('no memory even for a small one: it is not its size, and the others stay as they are', () => {
  const one = pace()
  one.tooLarge(1_000)
  one.tooLarge(MB)
  expect(one.bytesMax).toBe(128 * MB)
})
