/** A partition that was taken over is left to its owner for a while. */
import { expect, test } from 'bun:test'
import { reopenMs } from './reopen.ts'

test.each<[rule: string, code: string, failures: number, random: number, ms: number]>([
  ['a failure of the world is tried again soon', 'HR_STATE_UNAVAILABLE', 1, 0, 50],
  ['and later and later', 'HR_STATE_UNAVAILABLE', 9, 1, 5_000],
  [
    'a partition that another took, at the first time already, after one second',
    'HR_INGEST_FENCE',
    1,
    0,
    1_000,
  ],
  ['or up to three', 'HR_INGEST_FENCE', 1, 1, 3_000],
])('%s', (_, code, failures, random, ms) => {
  expect(reopenMs(code, failures, random)).toBe(ms)
})
