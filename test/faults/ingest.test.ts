/**
 * Short form of the fault tests of ingest, on the embedded log; `npm run faults -- ingest` is the long one. The seed is
 * printed and can be set with HEADRACE_TEST_SEED.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { killAtFailpoints } from './ingest/kills.ts'
import { POSTGRES_SCENARIOS } from './ingest/postgres.ts'
import { Rig } from './ingest/rig.ts'

setDefaultTimeout(240_000)

const SEED = Number(process.env.HEADRACE_TEST_SEED ?? Date.now() % 1_000_000)
const KILLS = Number(process.env.HEADRACE_TEST_FAULT_RUNS ?? 20)
const KILLS_MS_MAX = 200_000

describe('I1, I2, I3, I4: ingest, two processes', () => {
  let rig: Rig
  beforeAll(async () => {
    rig = await Rig.start({ kafka: false, seed: SEED, say: console.log })
  })
  afterAll(() => rig?.stop())

  test(`killed at every failpoint, seed ${SEED}`, async () => {
    rig.startLoad()
    const report = await killAtFailpoints(rig, KILLS, 1, KILLS_MS_MAX)
    console.log(JSON.stringify({ ...report, ...(await rig.prove()) }))
    expect(report.kills).toBeGreaterThanOrEqual(KILLS)
  })

  // What the others do to a single batch, failures.test.ts of the identity step shows every day.
  const short = ['postgres-stopped', 'postgres-killed', 'postgres-failover']
  for (const { name, about, run } of POSTGRES_SCENARIOS.filter((scenario) => short.includes(scenario.name)))
    test(about, async () => {
      const report = await run(rig, 'short')
      console.log(JSON.stringify({ name, ...report }))
      expect(report.stored).toBeGreaterThan(0)
    })

  test('then every process stops with success', () => rig.stopCleanly())
})
