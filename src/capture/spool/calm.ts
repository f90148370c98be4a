/**
 * When the log may be trusted again after it failed. Pure. Events go to it directly only when its answers have been
 * quick for a while without exception; the while doubles each time that trust was wrong soon after, so that a log
 * that is slow in waves does not make every request wait for its budget again and again.
 */
import { CALM_MS_MAX, CALM_MS_MIN, TRUST_AFTER_MS } from './limits.ts'

export class Calm {
  /** The first of the quick answers in a row; undefined after a slow one or a failure. */
  private since: number | undefined
  private neededMs = 0
  private trustedAt = Number.NEGATIVE_INFINITY

  /** `quickMs`: an answer within this is a quick one. */
  constructor(private readonly quickMs: number) {}

  /** The log answered after `tookMs`. */
  answered(tookMs: number, nowMs: number): void {
    if (tookMs > this.quickMs) this.since = undefined
    else this.since ??= nowMs
  }

  /** The log failed, or was not asked for its own fault. */
  failed(): void {
    this.since = undefined
  }

  /** Events that went to it directly met a failure: the trust was wrong. */
  betrayed(nowMs: number): void {
    this.since = undefined
    const longAgo = nowMs - this.trustedAt > TRUST_AFTER_MS
    this.neededMs = longAgo ? CALM_MS_MIN : Math.min(Math.max(CALM_MS_MIN, this.neededMs * 2), CALM_MS_MAX)
  }

  /** Events go to it directly from now on. */
  trusted(nowMs: number): void {
    this.trustedAt = nowMs
  }

  isCalm(nowMs: number): boolean {
    return this.since !== undefined && nowMs - this.since >= this.neededMs
  }
}
