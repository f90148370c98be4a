/** Waiting: between two tries, and for the end of work that may hang. */
import { type Backoff, Signal } from '../platform/index.ts'

/** Between two tries; short enough that recovery takes seconds. */
export const BACKOFF: Backoff = { firstMs: 100, maxMs: 3_000 }

/** Resolves when `work` has ended, whatever its end, at the latest after `ms`. */
export async function ended(work: Promise<unknown> | undefined, ms: number): Promise<void> {
  if (!work) return
  const given = new AbortController()
  const timer = setTimeout(() => given.abort(), ms)
  await Promise.race([work.catch(() => {}), new Signal().wait(given.signal)])
  clearTimeout(timer)
}
