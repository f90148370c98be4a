/**
 * Short form of the fault test of delivery; `npm run faults -- deliver` is the long one. The seed is printed and can be
 * set with HEADRACE_TEST_SEED.
 */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { runDeliver } from './deliver/index.ts'

setDefaultTimeout(180_000)

const SEED = Number(process.env.HEADRACE_TEST_SEED ?? Date.now() % 1_000_000)
const KILLS = Number(process.env.HEADRACE_TEST_FAULT_RUNS ?? 2)

test(`deliver processes killed under a receiver that misbehaves, seed ${SEED}`, async () => {
  const report = await runDeliver({ kills: KILLS, seed: SEED, leastMs: 0 })
  console.log(JSON.stringify(report))
  expect(report.kills).toBeGreaterThanOrEqual(KILLS)
})

test('while nobody dies, nothing is sent again that was answered', async () => {
  const report = await runDeliver({ kills: 0, seed: SEED, leastMs: 300 })
  expect(report.twice).toBe(0)
})
