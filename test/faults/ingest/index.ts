/**
 * The long form: `npm run faults -- ingest [--runs 2000] [--kafka] [--only name,name] [--seed N]`. Kills at the failpoints
 * of ingest first, `--runs` of them, then Postgres scenario by scenario, on one rig; on the embedded log, or with
 * `--kafka` on a real one, where a process that is stopped for longer than its session comes back as a zombie.
 * Prints a line of JSON for each; false when something did not hold.
 */
import { killAtFailpoints } from './kills.ts'
import { POSTGRES_SCENARIOS } from './postgres.ts'
import { Rig } from './rig.ts'

export type IngestFaultsOptions = { runs: number; only: readonly string[]; kafka: boolean; seed: number }

const KILLS = 'kills'
/** Of each kill, on two busy cores. */
const KILL_MS_MAX = 10_000
const LEAST_PER_PLACE = 3

export const INGEST_FAULT_NAMES: readonly string[] = [KILLS, ...POSTGRES_SCENARIOS.map(({ name }) => name)]

export async function runIngestFaults({ runs, only, kafka, seed }: IngestFaultsOptions): Promise<boolean> {
  const wants = (name: string) => only.length === 0 || only.includes(name)
  const began = performance.now()
  const rig = await Rig.start({ kafka, seed, say: console.log })
  const tell = (name: string, report: object) => {
    const seconds = Math.round((performance.now() - began) / 1000)
    console.log(JSON.stringify({ name, seconds, ok: true, ...report }))
  }
  let name = KILLS
  try {
    console.log(`two ingest processes on ${kafka ? 'Kafka' : 'the embedded log'}, seed ${seed}`)
    if (wants(KILLS)) {
      const load = rig.startLoad()
      await load.send(rig.story.crowd())
      const report = await killAtFailpoints(rig, runs, LEAST_PER_PLACE, 60_000 + runs * KILL_MS_MAX)
      tell(name, { ...report, ...(await rig.prove()) })
    }
    for (const scenario of POSTGRES_SCENARIOS) {
      name = scenario.name
      if (!wants(name)) continue
      const missing = scenario.missing?.()
      if (missing === undefined) tell(name, await scenario.run(rig, 'long'))
      else console.log(`${name} is skipped: ${missing}`)
    }
    name = 'stop'
    await rig.stopCleanly()
    return true
  } catch (error) {
    console.error(rig.told())
    console.error(`${name}: ${(error as Error).message}`)
    return false
  } finally {
    await rig.stop()
  }
}
