/** Waiting: for a condition that somebody else brings about, and between two tries. */

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

const BACKOFF_MS_MIN = 100
const BACKOFF_MS_MAX = 3_000

/** Pause before try `attempt` (from 1): doubles up to 3 s, with jitter, so that recovery takes seconds. */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  const full = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(attempt - 1, 10))
  return full / 2 + (full / 2) * random()
}

/** Resolves after `ms`, or when `signal` aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Signal().wait(signal, ms)
}

/** Resolves when `work` has ended, whatever its end, at the latest after `ms`. */
export async function ended(work: Promise<unknown> | undefined, ms: number): Promise<void> {
  if (!work) return
  const given = new AbortController()
  const timer = setTimeout(() => given.abort(), ms)
  await Promise.race([work.catch(() => {}), new Signal().wait(given.signal)])
  clearTimeout(timer)
}
