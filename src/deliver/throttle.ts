/**
 * How many requests at once, and how many a second. In: how requests ended. Out: a turn. The width goes up by one per round
 * of successes and is halved by a failure (AIMD), between 1 and what the destination allows. The rate is a token bucket
 * of one second. Must hold: waiters get their turn in the order in which they came.
 */
/** Requests at once before anything is known of the receiver. */
const WIDTH_FIRST = 4

export class Throttle {
  private width: number
  private running = 0
  private tokens: number
  private filledMs: number
  private readonly queue: { wake: () => void }[] = []
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(
    private widthMax: number,
    private ratePerSecond: number | undefined,
    private readonly clock: () => number = Date.now,
  ) {
    this.width = Math.min(widthMax, WIDTH_FIRST)
    this.tokens = Math.max(1, ratePerSecond ?? 0)
    this.filledMs = clock()
  }

  get allowed(): number {
    return Math.floor(this.width)
  }

  limit(widthMax: number, ratePerSecond: number | undefined): void {
    this.widthMax = widthMax
    this.ratePerSecond = ratePerSecond
    this.width = Math.min(this.width, widthMax)
    this.wakeNext()
  }

  /** True: a turn, to be given back by `leave`. False: `signal` aborted first. */
  enter(signal: AbortSignal): true | Promise<boolean> {
    if (this.queue.length === 0 && this.take()) return true
    return new Promise((resolve) => {
      const leave = () => {
        this.queue.splice(this.queue.indexOf(waiter), 1)
        resolve(false)
      }
      const waiter = {
        wake: () => {
          signal.removeEventListener('abort', leave)
          resolve(true)
        },
      }
      this.queue.push(waiter)
      if (signal.aborted) return leave()
      signal.addEventListener('abort', leave, { once: true })
      this.wakeNext()
    })
  }

  leave(): void {
    this.running--
    this.wakeNext()
  }

  succeeded(): void {
    this.width = Math.min(this.widthMax, this.width + 1 / this.width)
  }

  failed(): void {
    this.width = Math.max(1, this.width / 2)
  }

  private take(): boolean {
    if (this.running >= this.allowed) return false
    if (this.ratePerSecond !== undefined) {
      const nowMs = this.clock()
      const burst = Math.max(1, this.ratePerSecond)
      this.tokens = Math.min(burst, this.tokens + ((nowMs - this.filledMs) / 1_000) * this.ratePerSecond)
      this.filledMs = nowMs
      if (this.tokens < 1) return false
      this.tokens--
    }
    this.running++
    return true
  }

  /** Those woken hold a turn already. */
  private wakeNext(): void {
    while (this.queue.length > 0 && this.take()) this.queue.shift()!.wake()
    if (this.queue.length === 0 || this.timer || this.ratePerSecond === undefined) return
    if (this.running >= this.allowed) return
    this.timer = setTimeout(
      () => {
        this.timer = undefined
        this.wakeNext()
      },
      Math.max(1, (1_000 * (1 - this.tokens)) / this.ratePerSecond),
    )
  }
}
