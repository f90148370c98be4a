import { describe, expect, test } from 'bun:test'
import { nextMerge, RUN_CLAIMS_MAX, type RunAge } from './merge-plan.ts'

const WINDOW_MS = 8_000

/** Runs as `level` or `level!` (in a merge), each 100 ms long, one after the other. */
function runs(words: string, ms = 100): RunAge[] {
  return words.split(' ').map((word, i) => ({
    level: Number.parseInt(word, 10),
    busy: word.endsWith('!'),
    count: 10,
    firstMs: i * ms,
    lastMs: i * ms + ms - 1,
  }))
}

describe('eight neighbours of one level', () => {
  const rows: [rule: string, words: string, plan: { from: number; to: number } | undefined][] = [
    ['none', '0', undefined],
    ['seven wait for the eighth', '0 0 0 0 0 0 0', undefined],
    ['eight are merged', '0 0 0 0 0 0 0 0', { from: 0, to: 8 }],
    ['the oldest eight of nine', '0 0 0 0 0 0 0 0 0', { from: 0, to: 8 }],
    ['of another level they are none', '1 1 1 1 0 0 0 0', undefined],
    ['behind older and larger ones', '2 1 1 0 0 0 0 0 0 0 0', { from: 3, to: 11 }],
    ['one merge of a level at a time', '0! 0! 0! 0! 0! 0! 0! 0! 0 0 0 0 0 0 0 0', undefined],
  ]
  test.each(rows)('%s', (_, words, plan) => expect(nextMerge(runs(words, 50), WINDOW_MS)).toEqual(plan))
})

describe('an eighth of the window', () => {
  const rows: [rule: string, words: string, ms: number, plan: { from: number; to: number } | undefined][] = [
    ['closes a group: it is merged as it is', '0 0 0 0', 400, { from: 0, to: 2 }],
    ['a group that may still grow waits', '0 0', 400, undefined],
    ['one alone is left', '0 0 0', 900, undefined],
    ['a run of another level closes it, too', '1 1 1 0', 300, { from: 0, to: 3 }],
    ['a group after a single run that nothing fits to', '1 0 0 0', 500, { from: 1, to: 3 }],
  ]
  test.each(rows)('%s', (_, words, ms, plan) => expect(nextMerge(runs(words, ms), WINDOW_MS)).toEqual(plan))
})

test('no run becomes larger than a run may be', () => {
  const large = runs('3 3 3', 10).map((run) => ({ ...run, count: RUN_CLAIMS_MAX / 2 }))
  expect(nextMerge(large, WINDOW_MS)).toEqual({ from: 0, to: 2 })
  expect(
    nextMerge(
      runs('3 3', 10).map((run) => ({ ...run, count: RUN_CLAIMS_MAX })),
      WINDOW_MS,
    ),
  ).toBeUndefined()
})

test('comes to an end, whatever the runs are', () => {
  let all = runs(Array.from({ length: 300 }, (_, i) => i % 3).join(' '), 30)
  for (let merges = 0; ; merges++) {
    expect(merges).toBeLessThan(300)
    const plan = nextMerge(all, WINDOW_MS)
    if (!plan) break
    const chosen = all.slice(plan.from, plan.to)
    const merged = {
      level: chosen[0]!.level + 1,
      busy: false,
      count: chosen.reduce((sum, { count }) => sum + count, 0),
      firstMs: chosen[0]!.firstMs,
      lastMs: chosen.at(-1)!.lastMs,
    }
    expect(merged.lastMs - merged.firstMs).toBeLessThanOrEqual(WINDOW_MS / 8)
    all = [...all.slice(0, plan.from), merged, ...all.slice(plan.to)]
  }
})
