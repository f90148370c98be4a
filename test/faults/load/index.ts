/**
 * The long form: `npm run faults -- load [--runs 1000] [--kafka] [--seed N]`. Loaders are killed at the failpoints of
 * load, `--runs` times, ClickHouse and everything at once as often as forms.ts says, on the embedded log, or with
 * `--kafka` on a real one, where a loader that is stopped for longer than its session comes back as a zombie. Prints
 * lines of JSON; false when something did not hold.
 */
import { FORMS, PLACES } from './forms.ts'
import { killAtFailpoints } from './kills.ts'
import { Rig } from './rig.ts'

/** Of each kill, on two busy cores. */
const KILL_MS_MAX = 10_000
/** Of each form at each place. */
const LEAST = 3

export async function runLoadFaults(options: {
  runs: number
  kafka: boolean
  seed: number
}): Promise<boolean> {
  const { runs, kafka, seed } = options
  const began = performance.now()
  const rig = await Rig.start({ kafka, seed, say: console.log })
  try {
    console.log(`two loaders on ${kafka ? 'Kafka' : 'the embedded log'}, seed ${seed}`)
    const kills = Math.max(runs, LEAST * PLACES.length * Object.keys(FORMS).length)
    const report = await killAtFailpoints(rig, runs, LEAST, 60_000 + kills * KILL_MS_MAX)
    const proven = await rig.prove()
    await rig.stopCleanly()
    const seconds = Math.round((performance.now() - began) / 1000)
    console.log(JSON.stringify({ name: 'load', seconds, ok: true, ...report, ...proven }))
    return true
  } catch (error) {
    console.error(rig.told())
    console.error(`load: ${(error as Error).message}`)
    return false
  } finally {
    await rig.stop()
  }
}
