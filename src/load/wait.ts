/** Waiting: for a condition that somebody else brings about, and between two tries. */
import type { Backoff } from '../platform/index.ts'

/** Wakes all that wait for it. */
export class Signal {
  private waiters = new Set<() => void>()

  notify(): void {
    const { waiters } = this
    this.waiters = new Set()
    for (const wake of waiters) wake()
  }

  /** Resolves at the next `notify`, after `ms`, or when `signal` aborts; never rejects. */
  wait(signal: AbortSignal, ms = Number.POSITIVE_INFINITY): Promise<void> {
    if (signal.aborted || ms <= 0) return Promise.resolve()
    return new Promise((resolve) => {
      let timer: ReturnType<typeof setTimeout> | undefined
      const wake = () => {
        this.waiters.delete(wake)
        signal.removeEventListener('abort', wake)
        clearTimeout(timer)
        resolve()
      }
      this.waiters.add(wake)
      signal.addEventListener('abort', wake, { once: true })
      if (ms !== Number.POSITIVE_INFINITY) timer = setTimeout(wake, ms)
    })
  }
}

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
