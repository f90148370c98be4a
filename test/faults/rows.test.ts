/**
 * Short form of the fault test of verbs that change stored rows: each is killed once, at a failpoint that the seed picks,
 * while events go on. `npm run faults -- rows` kills them at all of them. The seed is in the name of each test and can be
 * set with HEADRACE_TEST_SEED.
 */
import { afterAll, beforeAll, describe, setDefaultTimeout, test } from 'bun:test'
import { seeded } from './crash.ts'
import { RowsRig } from './rows/rig.ts'
import { PERSON_POINTS, PROJECT_POINTS, prepare, proveExact, SQUASH_POINTS } from './rows/scenarios.ts'

setDefaultTimeout(120_000)

const SEED = Number(process.env.HEADRACE_TEST_SEED ?? Date.now() % 1_000_000)
const random = seeded(SEED)
const pick = (points: readonly string[]) => points[Math.floor(random() * points.length)]!

describe('I1, I2, I4: changes of stored rows', () => {
  let rig: RowsRig
  let prepared: Awaited<ReturnType<typeof prepare>>
  beforeAll(async () => {
    rig = await RowsRig.start()
    prepared = await prepare(rig, 0)
  })
  afterAll(() => rig?.stop())

  const ofSquash = pick(SQUASH_POINTS)
  test(`overrides go, and nobody sees a difference: killed at ${ofSquash}, seed ${SEED}`, () =>
    prepared[0]([ofSquash]))

  const ofPerson = pick(PERSON_POINTS)
  test(`a person goes, and comes back as somebody new: killed at ${ofPerson}, seed ${SEED}`, () =>
    prepared[1]([ofPerson]))

  const ofProject = pick(PROJECT_POINTS)
  test(`a project goes, and its token is nobody's: killed at ${ofProject}, seed ${SEED}`, () =>
    prepared[2]([ofProject]))

  test('then the audit is exact, and there is nothing to repair', () => proveExact(rig))
})
