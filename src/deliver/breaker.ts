/**
 * Whether a receiver is worth a request now. In: how requests ended. Out: go, probe or wait. Pure; the clock is passed in.
 *
 * ```
 *            5 failures in a row, or half of the last 20, or "wait" (429, 503 with Retry-After)
 *   closed ────────────────────────────────────────────────────────────────────────────────▶ open (until …)
 *     ▲                                                                                        │ time has passed
 *     └──────────── the probe ends well ─────────── half-open: one probe at a time ◀────────────┘
 *                                                     └── it fails: open, twice as long
 * ```
 */
import { type Backoff, backoffMs } from '../platform/index.ts'

const FAILURES_MAX = 5
const SAMPLES_MIN = 20
const SHARE_MAX = 0.5
/** Weight of the newest request in the share of failures. */
const NEWEST = 0.1
const COOL_DOWN: Backoff = { firstMs: 1_000, maxMs: 300_000 }
/** A receiver may ask for more; it is asked again after this. */
export const WAIT_MS_MAX = 3_600_000

export class Breaker {
  private inARow = 0
  private samples = 0
  private failing = 0
  private openedTimes = 0
  private openUntilMs = 0
  private isOpen = false
  private probing = false

  constructor(private readonly random: () => number = Math.random) {}

  get open(): boolean {
    return this.isOpen
  }

  /** How often in a row, without a success in between. */
  get openings(): number {
    return this.openedTimes
  }

  /** Takes a turn: `go`, `probe` (report how it ended, or give it back), or how long to wait at least. */
  enter(nowMs: number): 'go' | 'probe' | number {
    if (!this.isOpen) return 'go'
    if (this.probing) return 50
    if (nowMs < this.openUntilMs) return this.openUntilMs - nowMs
    this.probing = true
    return 'probe'
  }

  /** Whether `enter` would let somebody in; else how long to wait. */
  waitMs(nowMs: number): number {
    if (!this.isOpen) return 0
    return this.probing ? 50 : Math.max(0, this.openUntilMs - nowMs)
  }

  /** A probe that was not sent after all. */
  giveBack(): void {
    this.probing = false
  }

  succeeded(): void {
    this.probing = false
    this.isOpen = false
    this.openedTimes = 0
    this.inARow = 0
    this.sample(0)
  }

  /** `waitMs`: what the receiver asked for; `waits`: it asked to wait, if for an unknown time. */
  failed(nowMs: number, waits: boolean, waitMs = 0): void {
    this.inARow++
    this.sample(1)
    const broken = this.inARow >= FAILURES_MAX || (this.samples >= SAMPLES_MIN && this.failing > SHARE_MAX)
    if (this.isOpen && !this.probing) {
      // Sent before it opened; what the receiver asks for counts all the same.
      this.openUntilMs = Math.max(this.openUntilMs, nowMs + Math.min(waitMs, WAIT_MS_MAX))
      return
    }
    if (!broken && !waits && !this.probing) return
    this.probing = false
    this.isOpen = true
    this.openedTimes++
    const restMs = Math.max(
      backoffMs(this.openedTimes, COOL_DOWN, this.random()),
      Math.min(waitMs, WAIT_MS_MAX),
    )
    this.openUntilMs = nowMs + restMs
    this.samples = 0
    this.failing = 0
  }

  private sample(value: 0 | 1): void {
    this.samples++
    this.failing += (value - this.failing) * NEWEST
  }
}
