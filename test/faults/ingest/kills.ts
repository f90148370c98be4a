/**
 * Ingest killed at its failpoints, again and again, each process for itself, under load. Every life is to end at one
 * place, that which was met least so far; some are stopped there instead and go on later, as zombies where the log has
 * given their partitions to others meanwhile. Now and then a process dies before it stands.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { FAILPOINTS, type Failpoint, type IngestFailpoint } from '../../../src/platform/index.ts'
import { deathsOf, leastMet, planFor, since, total } from '../failpoint-plan.ts'
import { LIVES_ON } from '../kept-process.ts'
import type { WorkerProcess } from '../workers/process.ts'
import type { Rig } from './rig.ts'

const PLACES = Object.keys(FAILPOINTS.ingest) as IngestFailpoint[]
/** Of each call at the place where a life is to end; what is met rarely ends it at once. */
const RARELY_MET: ReadonlySet<Failpoint> = new Set([
  'apply_begun',
  'apply_before_commit',
  'before_mark',
  'replay_sent',
  'replay_before_mark',
])
const LIKELIHOOD = {
  there: (place: Failpoint) => (RARELY_MET.has(place) ? 0.8 : 0.15),
  elsewhere: 0.003,
}
const STOP_EVERY = 6
/** A life that does not meet its place within this time of its work is ended from outside. */
const LIFE_MS = { least: 1_000, most: 3_000 }
/** Where nothing was decided meanwhile: on a busy machine lives that are too short get nowhere. */
const IDLE_LIFE_MS = 15_000
/** A zombie that was let go has this long to do harm. */
const ZOMBIE_LIFE_MS = { least: 300, most: 1_300 }
/** One life in so many ends while it starts. */
const EARLY_EVERY = 15
const START_MS = { least: 0, most: 400 }
const LOOK_MS = 20
const SAY_EVERY = 100

export type KillReport = {
  kills: number
  byPlace: Record<string, number>
  stops: Record<string, number>
  /** Kills of processes that did not stand yet. */
  whileStarting: number
  msPerKill: number
}

/** Ends when there were `count` kills and each place was met `leastPerPlace` times, nobody having ended by itself. */
export async function killAtFailpoints(
  rig: Rig,
  count: number,
  leastPerPlace: number,
  withinMs: number,
): Promise<KillReport> {
  const { random, processes, options } = rig
  const stops = () => {
    const all: Record<string, number> = {}
    for (const process of processes)
      for (const [place, times] of process.stops) all[place] = (all[place] ?? 0) + times
    return all
  }
  const before = deathsOf(processes)
  const stopsBefore = stops()
  const met = () => since(before, deathsOf(processes))
  const from = performance.now()
  let running = true
  let lives = 0
  rig.nextLife = () => {
    const stop = ++lives % STOP_EVERY === 0
    const place = leastMet(PLACES, stop ? stops() : met(), random)
    return { failpoints: planFor(place, PLACES, LIKELIHOOD, stop), seed: Math.floor(random() * 2 ** 31) }
  }
  let whileStarting = 0
  const between = ({ least, most }: { least: number; most: number }) => least + random() * (most - least)
  const stopsOf = ({ stops }: WorkerProcess) => total(Object.fromEntries(stops))
  /** Ends one life when its time has come, unless it ends before. */
  const watch = async (process: WorkerProcess) => {
    const { ended } = process
    const lives = () => running && process.ended === ended
    const wait = async (holds: () => boolean) => {
      while (lives() && !holds()) await delay(LOOK_MS)
    }
    const isPast = (at: number) => performance.now() > at
    if (random() * EARLY_EVERY < 1) {
      const at = performance.now() + between(START_MS)
      await wait(() => isPast(at))
    } else {
      const [stopped, decided, lifeMs] = [stopsOf(process), rig.decidedSoFar, between(LIFE_MS)]
      const hasStopped = () => stopsOf(process) > stopped
      await wait(() => process.isUp)
      const up = performance.now()
      await wait(() => hasStopped() || isPast(up + (rig.decidedSoFar > decided ? lifeMs : IDLE_LIFE_MS)))
      if (hasStopped()) {
        const at = performance.now() + rig.zombieMs + between(ZOMBIE_LIFE_MS)
        await wait(() => isPast(at))
      }
    }
    if (!lives()) return
    if (!process.isUp) whileStarting++
    await process.kill()
  }
  const watches = processes.map(async (process) => {
    while (running) await watch(process)
  })
  try {
    // The lives that began before had no place to die.
    for (const process of processes) await process.kill()
    let said = 0
    const done = () => {
      const kills = total(met())
      if (Math.floor(kills / SAY_EVERY) > said) {
        said = Math.floor(kills / SAY_EVERY)
        options.say(`${kills} kills, ${rig.load?.acked ?? 0} records captured, ${rig.lag} behind`)
      }
      const [defect] = rig.defects
      if (defect !== undefined) throw new Error(defect)
      return kills >= count && PLACES.every((place) => (met()[place] ?? 0) >= leastPerPlace)
    }
    await rig.until(`${count} kills, by now ${JSON.stringify(met())}`, done, withinMs)
  } finally {
    running = false
    rig.nextLife = () => LIVES_ON
    await Promise.all(watches)
  }
  const byPlace = met()
  for (const process of processes) await process.kill()
  const kills = total(byPlace)
  return {
    kills,
    byPlace,
    stops: since(stopsBefore, stops()),
    whileStarting,
    msPerKill: Math.round((performance.now() - from) / kills),
  }
}
