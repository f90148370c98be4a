/**
 * What heavy events of one set may take of a process, so that one project's code does not hold up the others. In: the
 * interrupts that an event came to. Out: whether the next one may run at all. A bucket: INTERRUPTS_BURST at once, then
 * INTERRUPTS_PER_SECOND (of 0.3 to 1 ms each: half of a core at most). Events of a few interrupts are free, however
 * many they are. What may not run is quarantined, whatever the policy of its step says: the receipt has that outcome, and
 * nothing else of it does, so that a replay need not know how busy the process was.
 */
import type { TransformFailure } from './outcome.ts'

export const INTERRUPTS_BURST = 2_500
export const INTERRUPTS_PER_SECOND = 500
/** Of one event and step. */
export const INTERRUPTS_FREE = 4

export class Allowance {
  #left = INTERRUPTS_BURST
  #atMs: number
  readonly #now: () => number

  /** `now`: ms, monotonic. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.#atMs = now()
  }

  spend(interrupts: number): void {
    if (interrupts <= INTERRUPTS_FREE) return
    this.#refill()
    this.#left -= interrupts - INTERRUPTS_FREE
  }

  get isSpent(): boolean {
    if (this.#left > 0) return false
    this.#refill()
    return this.#left <= 0
  }

  #refill(): void {
    const atMs = this.#now()
    const earned = ((atMs - this.#atMs) / 1_000) * INTERRUPTS_PER_SECOND
    this.#left = Math.min(INTERRUPTS_BURST, this.#left + earned)
    this.#atMs = atMs
  }
}

export const SUSPENDED: TransformFailure = {
  kind: 'timeout',
  message:
    'the transformations of this project took too long on the events before it; it was not run on this one',
  line: undefined,
}
