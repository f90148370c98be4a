/**
 * Which place a life is to die at: that which was met least so far; the others can kill it too, rarely. And counts of
 * such deaths.
 */
import type { Failpoint } from '../../src/platform/index.ts'
import type { KeptProcess } from './kept-process.ts'

export type Likelihood = {
  /** Of each call at the place where a life is to die. */
  there: (place: Failpoint) => number
  /** Of each call at any other place. */
  elsewhere: number
}

/** For HEADRACE_TEST_FAILPOINT. `stop`: at its place the life is stopped and not killed; once it goes on, it dies at `then`. */
export function planFor(
  place: Failpoint,
  places: readonly Failpoint[],
  { there, elsewhere }: Likelihood,
  stop = false,
  then?: Failpoint,
): string {
  const all = places.map((point) =>
    point === place ? `${point}:${there(point)}${stop ? ':stop' : ''}` : `${point}:${elsewhere}`,
  )
  if (then) all.push(`${then}:${there(then)}:then`)
  return all.join(',')
}

/** One of the places with the fewest `met`. */
export function leastMet<P extends string>(
  places: readonly P[],
  met: Readonly<Record<string, number>>,
  random: () => number,
): P {
  const least = Math.min(...places.map((place) => met[place] ?? 0))
  const rare = places.filter((place) => (met[place] ?? 0) === least)
  return rare[Math.floor(random() * rare.length)]!
}

export function deathsOf(processes: readonly KeptProcess[]): Record<string, number> {
  const all: Record<string, number> = {}
  for (const { deaths } of processes)
    for (const [place, count] of deaths) all[place] = (all[place] ?? 0) + count
  return all
}

export function since(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after).map(([place, count]) => [place, count - (before[place] ?? 0)]),
  )
}

export function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0)
}
