/**
 * Halts that no waiting mends, under load and between kills: a Postgres restored to an earlier state, and a raw topic
 * that was deleted and made again. Ingest (and load, where Postgres went back) must stop with a sentence and touch
 * nothing; `headrace repair` must bring it back; `prove` shows that every event is there once, but for those that were
 * lost with the topic.
 */
import { cleanEnvironment } from '../../support/product.ts'
import { killAtFailpoints } from './kills.ts'
import type { Proven } from './proof.ts'
import type { Rig } from './rig.ts'

const SOME = 300
const WAIT_MS_MAX = 60_000
const KILL_MS_MAX = 10_000
const RESTORED = 'Postgres was restored to an earlier state'
const RECREATED = 'was recreated'

type Report = Proven & { kills: number; halts: string[]; repaired: string; lost: number }

export type RepairScenario = {
  name: string
  /** With `kills` before the fault and as many behind the repair. */
  run(rig: Rig, kills: number): Promise<Report>
}

export const REPAIR_SCENARIOS: readonly RepairScenario[] = [
  { name: 'postgres-restored', run: restored },
  { name: 'topic-recreated', run: recreated },
]

async function restored(rig: Rig, kills: number): Promise<Report> {
  rig.startLoad()
  let killed = await killSome(rig, kills)
  const backup = await rig.postgres.save()
  killed += await killSome(rig, kills)
  await rig.moved(SOME, WAIT_MS_MAX)
  await rig.postgres.restore(backup)
  const halts = await haltsOf(rig, RESTORED)
  await rig.until('halt of load', () => rig.loader.halt.includes(RESTORED), WAIT_MS_MAX)
  halts.push(rig.loader.halt)
  const repaired = await repair(rig, 'rewind', '--yes')
  await goesOn(rig)
  killed += await killSome(rig, kills)
  return { ...(await rig.prove()), kills: killed, halts, repaired, lost: 0 }
}

/** Ingest is away while the last records come, which are lost with the topic. */
async function recreated(rig: Rig, kills: number): Promise<Report> {
  rig.startLoad()
  let killed = await killSome(rig, kills)
  await rig.workOff()
  await Promise.all(rig.processes.map((process) => process.stop()))
  const load = rig.startLoad()
  await rig.until('records that nobody reads', () => load.acked > SOME, WAIT_MS_MAX)
  await rig.endLoad()
  const lost = await rig.recreateRaw()
  if (lost === 0) throw new Error('no record was lost with the topic')
  rig.startLoad()
  for (const process of rig.processes) process.resume(cleanEnvironment())
  const halts = await haltsOf(rig, RECREATED)
  const repaired = await repair(rig, 'gap', '--all', '--accept-loss', '--yes')
  await goesOn(rig)
  killed += await killSome(rig, kills)
  return { ...(await rig.prove()), kills: killed, halts, repaired, lost }
}

async function killSome(rig: Rig, kills: number): Promise<number> {
  return (await killAtFailpoints(rig, kills, 0, WAIT_MS_MAX + kills * KILL_MS_MAX)).kills
}

/** Until an ingest process says so. */
async function haltsOf(rig: Rig, sentence: string): Promise<string[]> {
  const halts = () => rig.processes.map(({ halt }) => halt).filter((halt) => halt.includes(sentence))
  await rig.until(`halt: ${sentence}`, () => halts().length > 0, WAIT_MS_MAX)
  return halts()
}

/** First a look, which changes nothing and must find what is to be done. Gives what the repair says. */
async function repair(rig: Rig, ...words: string[]): Promise<string> {
  const looked = await rig.repair()
  if (looked.code !== 1) throw new Error(`headrace repair ended with ${looked.code}: ${looked.text}`)
  let done = await rig.repair(...words)
  await rig.until(
    `headrace repair ${words.join(' ')}: ${done.text}`,
    async () => {
      if (done.code !== 0) done = await rig.repair(...words)
      return done.code === 0
    },
    WAIT_MS_MAX,
  )
  return done.text
}

async function goesOn(rig: Rig): Promise<void> {
  const all = [...rig.processes, rig.loader]
  await rig.until('end of the halts', () => all.every(({ halt }) => halt === ''), WAIT_MS_MAX)
  await rig.moved(SOME, WAIT_MS_MAX)
}
