import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { backoffMs, pause } from './backoff.ts'

const limits = { firstMs: 100, maxMs: 3_000 }

describe('backoff', () => {
  test.each([
    ['the first failure, shortest', 1, 0, 50],
    ['the first failure, longest', 1, 1, 100],
    ['doubles', 2, 1, 200],
    ['the fifth', 5, 0.5, 1_200],
    ['reaches its limit', 6, 1, 3_000],
    ['stays there, however many fail', 5_000, 1, 3_000],
    ['no failure counts as one', 0, 1, 100],
  ])('%s', (_, failures, random, ms) => expect(backoffMs(failures, limits, random)).toBe(ms))

  test('is never below half of the first pause nor above the limit', () => {
    fc.assert(
      fc.property(fc.nat(), fc.double({ min: 0, max: 1, noNaN: true }), (failures, random) => {
        const ms = backoffMs(failures, limits, random)
        expect(ms).toBeGreaterThanOrEqual(limits.firstMs / 2)
        expect(ms).toBeLessThanOrEqual(limits.maxMs)
      }),
    )
  })
})

describe('pause', () => {
  test('ends by itself', () => pause(1))

  test('an abort ends it at once, before or while it waits', async () => {
    const stop = new AbortController()
    const waiting = pause(600_000, stop.signal)
    stop.abort()
    await waiting
    await pause(600_000, stop.signal)
  })
})
