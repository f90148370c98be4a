/**
 * Loaders and ClickHouse killed at the failpoints of load, again and again, under load. Every life of a loader is to end
 * at one place, that which was met least so far. Some lives are stopped there instead: then either ClickHouse is killed
 * while the loader stands still and it goes on at once, or it sleeps until its heirs have had time to do its work and
 * wakes as a zombie.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { FAILPOINTS, type Failpoint, type LoadFailpoint } from '../../../src/platform/index.ts'
import { deathsOf, leastMet, planFor, since, total } from '../failpoint-plan.ts'
import { LIVES_ON } from '../kept-process.ts'
import type { WorkerProcess } from '../workers/process.ts'
import type { Rig } from './rig.ts'

const PLACES = Object.keys(FAILPOINTS.load) as LoadFailpoint[]
/** Met only where ClickHouse refuses a row. */
const RARELY_MET: ReadonlySet<Failpoint> = new Set(['split', 'buried'])
const LIKELIHOOD = {
  there: (place: Failpoint) => (RARELY_MET.has(place) ? 0.9 : 0.4),
  elsewhere: 0.003,
}
const STOP_EVERY = 5
/** Of the stops, the share at which ClickHouse is killed. */
const ENGINE_SHARE = 0.5
/** Beyond the lock's 10 s of silence, now and then; else short of it. */
const ZOMBIE_MS = { usual: 2_000, long: 13_000, longShare: 0.15 }
/** A life that does not meet its place within this time of its work is ended from outside. */
const LIFE_MS = { least: 1_500, most: 4_000 }
/** Where nothing was loaded meanwhile: on a busy machine lives that are too short get nowhere. */
const IDLE_LIFE_MS = 15_000
const LOOK_MS = 20
const SAY_EVERY = 100

export type KillReport = {
  kills: number
  byPlace: Record<string, number>
  /** ClickHouse killed while a loader stood there. */
  engineKilledAt: Record<string, number>
  zombiesAt: Record<string, number>
  msPerKill: number
}

/** Ends when there were `count` kills and each place was met `leastPerPlace` times, nobody having ended by itself. */
export async function killAtFailpoints(
  rig: Rig,
  count: number,
  leastPerPlace: number,
  withinMs: number,
): Promise<KillReport> {
  const { random, loaders, options, engine } = rig
  const before = deathsOf(loaders)
  const met = () => since(before, deathsOf(loaders))
  const engineKilledAt: Record<string, number> = {}
  const zombiesAt: Record<string, number> = {}
  const from = performance.now()
  let running = true
  let lives = 0
  /** Zombies to be. */
  let asleep = 0
  rig.nextLife = () => {
    const stop = ++lives % STOP_EVERY === 0
    const counts = stop ? sumOf(engineKilledAt, zombiesAt) : met()
    const place = leastMet(PLACES, counts, random)
    return { failpoints: planFor(place, PLACES, LIKELIHOOD, stop), seed: Math.floor(random() * 2 ** 31) }
  }
  rig.stopped = (place, goOn) => {
    if (random() < ENGINE_SHARE) {
      engineKilledAt[place] = (engineKilledAt[place] ?? 0) + 1
      void engine.restart()
      setTimeout(goOn, random() * 300)
      return
    }
    zombiesAt[place] = (zombiesAt[place] ?? 0) + 1
    asleep++
    const ms = random() < ZOMBIE_MS.longShare ? ZOMBIE_MS.long : ZOMBIE_MS.usual * random()
    setTimeout(() => {
      asleep--
      goOn()
    }, ms)
  }
  /** Ends one life when its time has come, unless it ends before. */
  const watch = async (loader: WorkerProcess) => {
    const { ended } = loader
    const lives = () => running && loader.ended === ended
    const sent = rig.loadedSoFar
    while (lives() && !loader.isUp) await delay(LOOK_MS)
    const up = performance.now()
    const lifeMs = LIFE_MS.least + random() * (LIFE_MS.most - LIFE_MS.least)
    const isOver = () => performance.now() > up + (rig.loadedSoFar > sent ? lifeMs : IDLE_LIFE_MS)
    while (lives() && (asleep > 0 || !isOver())) await delay(LOOK_MS)
    if (lives()) await loader.kill()
  }
  const watches = loaders.map(async (loader) => {
    while (running) await watch(loader)
  })
  try {
    // The lives that began before had no place to die.
    for (const loader of loaders) await loader.kill()
    let said = 0
    const done = () => {
      const kills = total(met())
      if (Math.floor(kills / SAY_EVERY) > said) {
        said = Math.floor(kills / SAY_EVERY)
        options.say(`${kills} kills, ClickHouse ${engine.kills}; ${rig.rows} rows sent, ${rig.lag} behind`)
      }
      const defect = loaders.flatMap(({ defects }) => defects)[0]
      if (defect !== undefined) throw new Error(defect)
      return kills >= count && PLACES.every((place) => (met()[place] ?? 0) >= leastPerPlace)
    }
    await rig.until(`${count} kills, by now ${JSON.stringify(met())}`, done, withinMs)
  } finally {
    running = false
    rig.nextLife = () => LIVES_ON
    rig.stopped = (_, goOn) => goOn()
    await Promise.all(watches)
  }
  const byPlace = met()
  // The last lives still have a place to die: whoever comes next lives on.
  for (const loader of loaders) await loader.kill()
  const kills = total(byPlace)
  return {
    kills,
    byPlace,
    engineKilledAt,
    zombiesAt,
    msPerKill: Math.round((performance.now() - from) / kills),
  }
}

function sumOf(one: Record<string, number>, other: Record<string, number>): Record<string, number> {
  const sum = { ...one }
  for (const [place, count] of Object.entries(other)) sum[place] = (sum[place] ?? 0) + count
  return sum
}
