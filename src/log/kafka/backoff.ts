/** Waiting between tries: exponential with full jitter, bounded, and cut short by an abort signal. */
import { RECONNECT_MS_MAX, RECONNECT_MS_MIN } from './options.ts'

/** Milliseconds before try number `failures` + 1. Jitter keeps many clients from coming back in step. */
export function backoffMs(failures: number, random: () => number = Math.random): number {
  const ceiling = Math.min(RECONNECT_MS_MAX, RECONNECT_MS_MIN * 2 ** Math.min(failures, 10))
  return RECONNECT_MS_MIN / 2 + random() * ceiling
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal?.aborted) return done()
    const stop = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stop)
      done()
    }
    const timer = setTimeout(stop, ms)
    signal?.addEventListener('abort', stop)
  })
}
