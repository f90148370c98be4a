/**
 * Short form of the fault tests of capture around Kafka; `npm run faults -- kafka-down` is the long one. The seed is
 * printed and can be set with HEADRACE_TEST_SEED.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { skipKafka } from '../support/kafka.ts'
import { killAtFailpoints } from './kafka-down/kills.ts'
import { Rig } from './kafka-down/rig.ts'
import { SCENARIOS } from './kafka-down/scenarios.ts'

setDefaultTimeout(300_000)

const SEED = Number(process.env.HEADRACE_TEST_SEED ?? Date.now() % 1_000_000)
const KILLS = Number(process.env.HEADRACE_TEST_FAULT_RUNS ?? 10)
const KILLS_MS_MAX = 240_000

describe.skipIf(skipKafka())('I1, I3: capture around Kafka', () => {
  let rig: Rig
  beforeAll(async () => {
    rig = await Rig.start({ captures: 2, seed: SEED, sendEveryMs: 100, say: console.log })
  })
  afterAll(() => rig?.stop())

  test(`killed at every failpoint, seed ${SEED}`, async () => {
    rig.load()
    const report = await killAtFailpoints(rig, KILLS, 1, KILLS_MS_MAX)
    const { events, copies } = await rig.prove()
    console.log(JSON.stringify({ ...report, ...rig.ledger.take(), events, copies }))
    expect(report.kills).toBeGreaterThanOrEqual(KILLS)
  })

  const short = ['down-1s', 'one-broker-gone']
  for (const { name, about, run } of SCENARIOS.filter((scenario) => short.includes(scenario.name)))
    test(about, async () => {
      const report = await run(rig)
      console.log(JSON.stringify({ name, ...report }))
      expect(report.refused).toBe(0)
    })

  test('then every process stops with success and leaves nothing', () => rig.stopCleanly())
})
