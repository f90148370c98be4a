/**
 * The long form: `npm run faults -- rows [--runs 20]`. In each round overrides are squashed, a person and a project are
 * deleted, by verbs that are killed at every one of their failpoints, one after the other, while events go on; at the end
 * everything is compared. Prints a line of JSON per round; false when something did not hold.
 */
import { RowsRig } from './rig.ts'
import {
  PERSON_POINTS,
  PROJECT_POINTS,
  prepare,
  proveExact,
  repairSquashed,
  SQUASH_POINTS,
} from './scenarios.ts'

export async function runRowsFaults({ runs }: { runs: number }): Promise<boolean> {
  const rig = await RowsRig.start()
  let kills = 0
  try {
    for (let round = 0; round < runs; round++) {
      const began = performance.now()
      const [squashed, person, project] = await prepare(rig, round)
      await squashed(SQUASH_POINTS)
      await repairSquashed(rig, round)
      await person(PERSON_POINTS)
      await project(PROJECT_POINTS)
      kills += SQUASH_POINTS.length + PERSON_POINTS.length + PROJECT_POINTS.length
      const seconds = Math.round((performance.now() - began) / 1000)
      console.log(JSON.stringify({ name: 'rows', round, kills, seconds }))
    }
    if ((await proveExact(rig)) === 0) throw new Error('nothing is on record as erased')
    console.log(JSON.stringify({ name: 'rows', ok: true, kills, acked: rig.acked }))
    return true
  } catch (error) {
    console.error(rig.product.output.slice(-100).join('\n'))
    console.error(`rows: ${(error as Error).message}`)
    return false
  } finally {
    await rig.stop()
  }
}
