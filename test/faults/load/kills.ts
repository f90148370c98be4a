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
import type { Rig } from './rig.ts'

const PLACES = Object.keys(FAILPOINTS.load) as LoadFailpoint[]
/** Met only where ClickHouse refuses a row. */
const RARELY_MET: ReadonlySet<Failpoint> = new Set(['split', 'buried'])
const LIKELIHOOD = {
  there: (place: Failpoint) => (RARELY_MET.has(place) ? 0.9 : 0.2),
  elsewhere: 0.003,
}
const STOP_EVERY = 5
/** Of the stops, the share at which ClickHouse is killed. */
const ENGINE_SHARE = 0.5
/** Beyond the lock's 10 s of silence, now and then; else short of it. */
const ZOMBIE_MS = { usual: 2_000, long: 13_000, longShare: 0.15 }
/** A life that does not meet its place is ended from outside, at any moment. */
const LIFE_MS_MAX = 5_000
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
  const asleep = new Set<LoadFailpoint>()
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
    asleep.add(place)
    const ms = random() < ZOMBIE_MS.longShare ? ZOMBIE_MS.long : ZOMBIE_MS.usual * random()
    setTimeout(() => {
      asleep.delete(place)
      goOn()
    }, ms)
  }
  const watches = loaders.map(async (loader) => {
    while (running) {
      const { ended } = loader
      const until = performance.now() + LIFE_MS_MAX * (0.5 + random() / 2)
      const lasts = () => running && loader.ended === ended && (performance.now() < until || asleep.size > 0)
      while (lasts()) await delay(50)
      if (running && loader.ended === ended) await loader.kill()
    }
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
