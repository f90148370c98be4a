/**
 * Token buckets of the projects that have a rate, each of this capture process alone: n processes behind a load balancer
 * let n times the rate in. A bucket survives changes of its project's policy.
 */

/** Beyond this the bucket that was made first goes; its project then begins with a full one. */
const BUCKETS_MAX = 10_000

export type Rate = { perSecond: number; burst: number }

type Bucket = { tokens: number; atMs: number }

export class Rates {
  private readonly buckets = new Map<number, Bucket>()

  /** How many of `events` may pass at `nowMs`, a clock that never goes back; they are taken. */
  take(teamId: number, events: number, rate: Rate, nowMs: number): number {
    const bucket = this.bucketOf(teamId, rate, nowMs)
    const gained = ((nowMs - bucket.atMs) * rate.perSecond) / 1000
    bucket.tokens = Math.min(rate.burst, bucket.tokens + gained)
    bucket.atMs = nowMs
    const taken = Math.min(events, Math.floor(bucket.tokens))
    bucket.tokens -= taken
    return taken
  }

  /** What was taken did not get in after all. */
  giveBack(teamId: number, events: number): void {
    const bucket = this.buckets.get(teamId)
    if (bucket) bucket.tokens += events
  }

  private bucketOf(teamId: number, rate: Rate, nowMs: number): Bucket {
    let bucket = this.buckets.get(teamId)
    if (!bucket) {
      bucket = { tokens: rate.burst, atMs: nowMs }
      this.buckets.set(teamId, bucket)
      if (this.buckets.size > BUCKETS_MAX) this.buckets.delete(this.buckets.keys().next().value!)
    }
    return bucket
  }
}
