/**
 * Short form of the crash test; `npm run faults -- --runs 200` is the long one. The seed is printed and can be set
 * with HEADRACE_TEST_SEED.
 */
import { describe, expect, test } from 'bun:test'
import { startProduct } from '../support/product.ts'
import { crash, seeded } from './crash.ts'

const RUNS = Number(process.env.HEADRACE_TEST_FAULT_RUNS ?? 12)
const SEED = Number(process.env.HEADRACE_TEST_SEED ?? Date.now() % 1_000_000)

describe('I1, I2, I3, I4: random kills on one machine', () => {
  test(`${RUNS} hits, seed ${SEED}`, async () => {
    const product = await startProduct()
    try {
      const report = await crash(product, {
        runs: RUNS,
        roles: ['capture', 'ingest', 'load', 'warehouse', 'postgres'],
        pauseEvery: 6,
        pauseMs: 12_000,
        load: { senders: 4, batchEvents: 20, batchesPerSecond: 5 },
        random: seeded(SEED),
        say: (line) => console.log(line),
      })
      console.log(JSON.stringify(report))
      expect(report.acked).toBeGreaterThan(0)
    } catch (error) {
      console.log(product.output.slice(-60).join('\n'))
      throw error
    } finally {
      await product.stop()
    }
  }, 400_000)
})
