/**
 * The long form: `npm run faults -- ingest [--runs 2000] [--kafka] [--only name,name] [--seed N] [--transform]`. Kills at the failpoints
 * of ingest first, `--runs` of them, then what repair mends, then Postgres scenario by scenario, on one rig; on the embedded log, or with
 * `--kafka` on a real one, where a process that is stopped for longer than its session comes back as a zombie.
 * With `--transform` sets of transformations are at work, another one from the middle of each round on.
 * Prints a line of JSON for each; false when something did not hold.
 */
import { type KillReport, killAtFailpoints } from './kills.ts'
import { POSTGRES_SCENARIOS } from './postgres.ts'
import { REPAIR_SCENARIOS } from './repairs.ts'
import { Rig } from './rig.ts'

export type IngestFaultsOptions = {
  runs: number
  only: readonly string[]
  kafka: boolean
  seed: number
  transform: boolean
}

const KILLS = 'kills'
/** Of each kill, on two busy cores. */
const KILL_MS_MAX = 10_000
/** Of each round, which ends with a proof of everything since the beginning. */
const LEAST_PER_PLACE = 3
const ROUND_KILLS = 100
/** Before a halt, and again behind its repair. */
const REPAIR_KILLS = 30

export const INGEST_FAULT_NAMES: readonly string[] = [
  KILLS,
  ...[...REPAIR_SCENARIOS, ...POSTGRES_SCENARIOS].map(({ name }) => name),
]

export async function runIngestFaults(options: IngestFaultsOptions): Promise<boolean> {
  const { runs, only, kafka, seed, transform } = options
  const wants = (name: string) => only.length === 0 || only.includes(name)
  const began = performance.now()
  const rig = await Rig.start({ kafka, seed, transform, say: console.log })
  const tell = (name: string, report: object) => {
    const seconds = Math.round((performance.now() - began) / 1000)
    console.log(JSON.stringify({ name, seconds, ok: true, ...report }))
  }
  let name = KILLS
  try {
    console.log(`two ingest processes on ${kafka ? 'Kafka' : 'the embedded log'}, seed ${seed}`)
    if (wants(KILLS)) {
      const reports: KillReport[] = []
      for (let left = runs; left > 0; left = runs - sum(reports.map(({ kills }) => kills))) {
        const load = rig.startLoad()
        await load.send(rig.story.crowd())
        await rig.publishNext()
        const count = Math.min(ROUND_KILLS, left)
        reports.push(await killAtFailpoints(rig, count, LEAST_PER_PLACE, 60_000 + count * KILL_MS_MAX))
        tell(name, { ...together(reports), ...(await rig.prove()) })
      }
    }
    for (const scenario of REPAIR_SCENARIOS) {
      name = scenario.name
      if (wants(name)) tell(name, await scenario.run(rig, REPAIR_KILLS))
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

/** Of all rounds. */
function together(reports: readonly KillReport[]): KillReport {
  return {
    kills: sum(reports.map(({ kills }) => kills)),
    byPlace: addUp(reports.map(({ byPlace }) => byPlace)),
    stops: addUp(reports.map(({ stops }) => stops)),
    whileStarting: sum(reports.map(({ whileStarting }) => whileStarting)),
    msPerKill: Math.round(sum(reports.map(({ msPerKill }) => msPerKill)) / reports.length),
  }
}

function addUp(all: readonly Record<string, number>[]): Record<string, number> {
  const names = new Set(all.flatMap((counts) => Object.keys(counts)))
  return Object.fromEntries([...names].map((name) => [name, sum(all.map((counts) => counts[name] ?? 0))]))
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0)
}
