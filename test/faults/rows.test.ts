/**
 * Short form of the fault test of verbs that change stored rows: the seed picks one of them and a failpoint at which it is
 * killed, once, while events go on. `npm run faults -- rows` kills them all at all of them. The seed is in the name of each
 * test and can be set with HEADRACE_TEST_SEED.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { seeded } from './crash.ts'
import { RowsRig } from './rows/rig.ts'
import { proveExact, SQUASH_POINTS, VERBS } from './rows/scenarios.ts'

setDefaultTimeout(120_000)

const SEED = Number(process.env.HEADRACE_TEST_SEED ?? Date.now() % 1_000_000)
const random = seeded(SEED)
const pick = <T>(among: readonly T[]) => among[Math.floor(random() * among.length)]!

describe('I1, I2, I4: changes of stored rows', () => {
  let rig: RowsRig
  beforeAll(async () => {
    rig = await RowsRig.start()
  })
  afterAll(() => rig?.stop())

  const verb = pick(VERBS)
  const point = pick(verb.points)
  test(`${verb.rule}: killed at ${point}, seed ${SEED}`, async () => {
    const killedAt = await verb.prepare(rig, 0)
    await killedAt([point])
  })

  test('then the audit is exact, and there is nothing to repair', async () => {
    const erased = await proveExact(rig)
    if (verb.points === SQUASH_POINTS) expect(erased).toBe(0)
    else expect(erased).toBeGreaterThan(0)
  })
})
