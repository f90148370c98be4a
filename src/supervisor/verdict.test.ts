import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import {
  type ChildView,
  FORGIVEN_AFTER_MS,
  judgeChild,
  RESTART_MS_MAX,
  restartDelayMs,
  SILENT_MS_MAX,
  STARTING_MS_MAX,
  stopShareMs,
  UNANSWERED_MIN,
  type Verdict,
} from './verdict.ts'

describe('delay before a restart', () => {
  const rows: [rule: string, deaths: number, random: number, ms: number][] = [
    ['after the first death, lowest roll', 1, 0, 100],
    ['after the first death, highest roll', 1, 1, 200],
    ['doubles with each death', 2, 1, 400],
    ['and again', 3, 0, 400],
    ['up to the cap', 6, 1, RESTART_MS_MAX],
    ['and not beyond it', 1_000, 1, RESTART_MS_MAX],
    ['at least half of it is not left to the dice', 1_000, 0, RESTART_MS_MAX / 2],
  ]
  test.each(rows)('%s', (_, deaths, random, ms) => expect(restartDelayMs(deaths, random)).toBe(ms))

  test('never longer than the cap, never nothing', () => {
    fc.assert(
      fc.property(fc.nat(10_000), fc.double({ min: 0, max: 1, noNaN: true }), (deaths, random) => {
        const ms = restartDelayMs(deaths, random)
        expect(ms).toBeGreaterThanOrEqual(100)
        expect(ms).toBeLessThanOrEqual(RESTART_MS_MAX)
      }),
    )
  })
})

describe('verdict on a child', () => {
  const healthy: ChildView = { state: 'healthy', silentMs: 0, unanswered: 0, healthyMs: 1_000 }
  const starting: ChildView = { state: 'starting', silentMs: 0, unanswered: 0, healthyMs: 0 }
  const rows: [rule: string, view: ChildView, verdict: Verdict][] = [
    ['answers: kept', healthy, 'keep'],
    [
      'silent for less than the limit: kept',
      { ...healthy, silentMs: SILENT_MS_MAX - 1, unanswered: 9 },
      'keep',
    ],
    [
      'silent for the limit: killed',
      { ...healthy, silentMs: SILENT_MS_MAX, unanswered: UNANSWERED_MIN },
      'kill',
    ],
    [
      'silent for hours but hardly asked, because we slept ourselves: kept',
      { ...healthy, silentMs: 3_600_000, unanswered: UNANSWERED_MIN - 1 },
      'keep',
    ],
    ['starting may take longer', { ...starting, silentMs: SILENT_MS_MAX, unanswered: 99 }, 'keep'],
    ['but not for ever', { ...starting, silentMs: STARTING_MS_MAX, unanswered: 99 }, 'kill'],
    ['healthy for long: forgiven', { ...healthy, healthyMs: FORGIVEN_AFTER_MS }, 'forgive'],
    [
      'silent for the limit after a long health: killed all the same',
      { ...healthy, healthyMs: FORGIVEN_AFTER_MS, silentMs: SILENT_MS_MAX, unanswered: UNANSWERED_MIN },
      'kill',
    ],
  ]
  test.each(rows)('%s', (_, view, verdict) => expect(judgeChild(view)).toBe(verdict))
})

describe('share of the time for a stop', () => {
  const rows: [rule: string, remainingMs: number, left: number, ms: number][] = [
    ['equal parts of what remains', 8_000, 4, 2_000],
    ['the last may take all of it', 5_000, 1, 5_000],
    ['nothing when the time is over', -20, 2, 0],
  ]
  test.each(rows)('%s', (_, remaining, left, ms) => expect(stopShareMs(remaining, left)).toBe(ms))
})
