/**
 * Capture killed at its failpoints, again and again, every process for itself, under load and in all weathers of the
 * network. Each life is to die at one place, that which was met least so far; the others can meet it too, rarely.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type CaptureFailpoint, FAILPOINTS, type Failpoint } from '../../../src/platform/index.ts'
import { waitFor } from '../../support/wait-for.ts'
import { deathsOf, leastMet, planFor, since, total } from '../failpoint-plan.ts'
import { LIVES_ON } from '../kept-process.ts'
import type { Rig } from './rig.ts'

const POINTS = Object.keys(FAILPOINTS.capture) as CaptureFailpoint[]
/** Of each call at the place where a life is to die; batches are drained rarely, so those places die at once. */
const LIKELY: Partial<Record<Failpoint, number>> = {
  drain_sent: 0.7,
  drained_before_position: 0.7,
  spool_appended: 0.3,
}
const LIKELY_ELSE = 0.1
const UNLIKELY = 0.002
/** A life that does not meet its place is ended from outside. */
const LIFE_MS_MAX = 15_000
const FAIR_MS_MAX = 4_000
const FOUL_MS_MAX = 3_500
const SAY_EVERY = 100

export type KillReport = { kills: number; byPlace: Record<string, number>; weathers: Record<string, number> }

/** Ends when there were `count` kills and each place was met `leastPerPlace` times, all captures alive and well. */
export async function killAtFailpoints(
  rig: Rig,
  count: number,
  leastPerPlace: number,
  withinMs: number,
): Promise<KillReport> {
  const { random, captures, network, options } = rig
  const before = deathsOf(captures)
  let running = true
  rig.nextLife = () => ({
    failpoints: planFor(leastMet(POINTS, deathsOf(captures), random), POINTS, {
      there: (point) => LIKELY[point] ?? LIKELY_ELSE,
      elsewhere: UNLIKELY,
    }),
    seed: Math.floor(random() * 2 ** 31),
  })
  const done = () => {
    const met = since(before, deathsOf(captures))
    return total(met) >= count && POINTS.every((point) => (met[point] ?? 0) >= leastPerPlace)
  }
  const weathers: Record<string, number> = {}
  const weather = (async () => {
    while (running) {
      await delay(random() * FAIR_MS_MAX)
      const foul = (['cutOnce', 'cutOff', 'holdBack'] as const)[Math.floor(random() * 3)]!
      weathers[foul] = (weathers[foul] ?? 0) + 1
      network[foul]()
      await delay(random() * FOUL_MS_MAX)
      network.heal()
    }
  })()
  const watches = captures.map(async (capture) => {
    let ended = -1
    let from = 0
    while (running) {
      if (capture.ended !== ended) {
        ended = capture.ended
        from = performance.now()
      } else if (performance.now() > from + LIFE_MS_MAX) await capture.kill()
      await delay(100)
    }
  })
  try {
    // The lives that began before had no place to die.
    for (const capture of captures) await capture.kill()
    let said = 0
    const checked = () => {
      const kills = total(since(before, deathsOf(captures)))
      if (Math.floor(kills / SAY_EVERY) > said) {
        said = Math.floor(kills / SAY_EVERY)
        options.say(`${kills} kills, ${rig.ledger.acked} events acknowledged`)
      }
      const wrong = [...rig.ledger.defects, ...captures.flatMap(({ defects }) => defects)]
      if (wrong.length > 0) throw new Error(wrong[0])
      return done()
    }
    await waitFor(`${count} kills`, checked, withinMs, () => JSON.stringify(deathsOf(captures)))
  } finally {
    running = false
    rig.nextLife = () => LIVES_ON
    await Promise.all([weather, ...watches])
    network.heal()
  }
  const byPlace = since(before, deathsOf(captures))
  for (const capture of captures) await capture.kill()
  return { kills: total(byPlace), byPlace, weathers }
}
