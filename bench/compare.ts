/**
 * Figures of two runs, by ratio. Microseconds of two machines, or of one machine on two days, cannot be compared; so
 * each run also measures a yardstick, a fixed piece of work, and CPU is compared as so many yardsticks per event.
 */
import { cpuTotal, type Figures } from './measure.ts'

export type Accepted = {
  /** ISO date; null when nothing was accepted yet. */
  takenAt: string | null
  machine: string | null
  yardstickUs: number
  figures: Figures[]
}

/** More CPU per event than this many times what was accepted is a regression. */
export const CPU_RATIO_MAX = 1.3
/** The rate hangs on disks and neighbours, which no yardstick evens out; so it may fall further. */
export const RATE_RATIO_MIN = 0.6

export type Verdict = {
  name: string
  /** New by accepted; undefined when this name was never accepted. */
  cpuRatio: number | undefined
  rateRatio: number | undefined
  worse: boolean
}

export function compare(accepted: Accepted, now: { yardstickUs: number; figures: Figures[] }): Verdict[] {
  return now.figures.map((figures) => {
    const before = accepted.figures.find(({ name }) => name === figures.name)
    if (!before) return { name: figures.name, cpuRatio: undefined, rateRatio: undefined, worse: false }
    const cpuRatio =
      cpuTotal(figures.cpuUs) / now.yardstickUs / (cpuTotal(before.cpuUs) / accepted.yardstickUs)
    const rateRatio = figures.eventsPerSecond / before.eventsPerSecond
    return {
      name: figures.name,
      cpuRatio,
      rateRatio,
      worse: cpuRatio > CPU_RATIO_MAX || rateRatio < RATE_RATIO_MIN,
    }
  })
}

/** New figures take the place of accepted ones of the same name; the others are brought to the new yardstick. */
export function accept(accepted: Accepted, now: Accepted): Accepted {
  const names = new Set(now.figures.map(({ name }) => name))
  const scale = now.yardstickUs / accepted.yardstickUs
  const kept = accepted.figures
    .filter(({ name }) => !names.has(name))
    .map((figures) => ({
      ...figures,
      cpuUs: Object.fromEntries(Object.entries(figures.cpuUs).map(([part, us]) => [part, us * scale])),
    }))
  return { ...now, figures: [...kept, ...now.figures] }
}

const ROUNDS = 2_000
const REPEATS = 5

/** CPU microseconds of parsing and writing the same JSON once: the best of some repeats. */
export function measureYardstick(): number {
  const text = JSON.stringify(
    Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`property_${i}`, `value ${i} of some length`])),
  )
  let best = Number.POSITIVE_INFINITY
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const before = process.cpuUsage()
    for (let i = 0; i < ROUNDS; i++) JSON.stringify(JSON.parse(text))
    const { user, system } = process.cpuUsage(before)
    best = Math.min(best, (user + system) / ROUNDS)
  }
  return best
}
