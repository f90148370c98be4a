/** When an event that failed alone is tried again: full jitter, so that many that failed together do not come back together. */
const FIRST_MS = 10_000
const LONGEST_MS = 3_600_000
const SHORTEST_MS = 1_000

/** After `attempts` attempts; not before what the receiver asked for. `random` is from 0 to 1. */
export function retryDelayMs(attempts: number, random: number, askedMs = 0): number {
  const widest = Math.min(FIRST_MS * 2 ** Math.min(attempts - 1, 20), LONGEST_MS)
  return Math.max(SHORTEST_MS, widest * random, Math.min(askedMs, LONGEST_MS))
}
