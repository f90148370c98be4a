/**
 * The long form: `npm run faults -- kafka-down [--runs 1000] [--only name,name] [--captures 4] [--seed N]`. Kills at the
 * failpoints of capture first, `--runs` of them, then the scenarios one by one on the same rig. Without `--only` all but
 * the ten-minute outage, which is run by its name. Prints a line of JSON for each; false when something did not hold.
 */
import { killAtFailpoints } from './kills.ts'
import { Rig } from './rig.ts'
import { SCENARIOS } from './scenarios.ts'

export type KafkaDownOptions = { runs: number; only: readonly string[]; captures: number; seed: number }

const KILLS = 'kills'
const SEND_EVERY_MS = 100
/** Of each kill, on two busy cores. */
const KILL_MS_MAX = 10_000
const LEAST_PER_PLACE = 3

export const KAFKA_DOWN_NAMES: readonly string[] = [KILLS, ...SCENARIOS.map(({ name }) => name)]

export async function runKafkaDown({ runs, only, captures, seed }: KafkaDownOptions): Promise<boolean> {
  const wants = (name: string, long = false) => (only.length === 0 ? !long : only.includes(name))
  const began = performance.now()
  const rig = await Rig.start({ captures, seed, sendEveryMs: SEND_EVERY_MS, say: console.log })
  const tell = (name: string, report: object) =>
    console.log(
      JSON.stringify({ name, seconds: Math.round((performance.now() - began) / 1000), ok: true, ...report }),
    )
  let name = KILLS
  try {
    console.log(`${captures} capture processes on three brokers, seed ${seed}`)
    if (wants(KILLS)) {
      rig.load()
      const report = await killAtFailpoints(rig, runs, LEAST_PER_PLACE, 60_000 + runs * KILL_MS_MAX)
      const { events, copies } = await rig.prove()
      tell(name, { ...report, ...rig.ledger.take(), events, copies })
    }
    for (const scenario of SCENARIOS) {
      name = scenario.name
      if (!wants(name, scenario.long)) continue
      const missing = scenario.missing?.()
      if (missing === undefined) tell(name, await scenario.run(rig))
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
