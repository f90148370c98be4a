/** Waiting for work no longer than one may. What becomes of it after that is of no interest to the waiter. */

/** `work`, or a rejection with `late` after `ms`. */
export function within<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms)
    work.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}

/** True when `work` resolved, false when it failed or did not end by `untilMs` (performance.now). */
export function endsBy(work: Promise<unknown>, untilMs: number): Promise<boolean> {
  const late = new Error('late')
  return within(work, Math.max(0, untilMs - performance.now()), () => late).then(
    () => true,
    () => false,
  )
}
