/**
 * Short form of the fault test of load, on the embedded log; `npm run faults -- load` is the long one. The seed is
 * printed and can be set with HEADRACE_TEST_SEED.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { killAtFailpoints } from './load/kills.ts'
import { Rig } from './load/rig.ts'

setDefaultTimeout(180_000)

const SEED = Number(process.env.HEADRACE_TEST_SEED ?? Date.now() % 1_000_000)
const KILLS = Number(process.env.HEADRACE_TEST_FAULT_RUNS ?? 8)
const KILLS_MS_MAX = 150_000

describe('I1, I2, I4: load, two processes', () => {
  let rig: Rig
  beforeAll(async () => {
    rig = await Rig.start({ kafka: false, seed: SEED, say: console.log })
  })
  afterAll(() => rig?.stop())

  test(`loaders and ClickHouse killed, seed ${SEED}`, async () => {
    const report = await killAtFailpoints(rig, KILLS, 0, KILLS_MS_MAX)
    const proven = await rig.prove()
    console.log(JSON.stringify({ ...report, ...proven }))
    expect(proven.rows).toBeGreaterThan(0)
  })

  test('then every process stops with success', () => rig.stopCleanly())
})
