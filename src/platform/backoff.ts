/** Waiting between tries, the same way everywhere. */

export type Backoff = {
  /** The longest pause after the first failure. */
  readonly firstMs: number
  /** No pause is longer. */
  readonly maxMs: number
}

/**
 * How long to wait after `failures` in a row (from 1): twice as long each time up to the limit, and a random part of
 * the upper half, so that many who failed together do not come back together. `random` is from 0 to 1.
 */
export function backoffMs(failures: number, { firstMs, maxMs }: Backoff, random = Math.random()): number {
  const full = Math.min(firstMs * 2 ** Math.max(0, failures - 1), maxMs)
  return full / 2 + (full / 2) * random
}

/** Resolves after `ms`, or at once when `signal` aborts; never rejects. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted || ms <= 0) return resolve()
    const end = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    signal?.addEventListener('abort', end, { once: true })
  })
}
