/**
 * Waiting for something that happens again and again. Unlike a race of promises it leaves nothing behind: a promise
 * that stays pending for hours keeps what every race that it was in has hung on it, and so does an abort signal.
 */

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
