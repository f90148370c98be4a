/**
 * Counts of answered requests, by path and status, and how long they took. Kept in plain arrays and brought to the
 * metrics when those are read: counting in them directly took 4 µs of a request's 35.
 */
import { counter, histogram } from '../observe/index.ts'

const requestsTotal = counter('headrace_capture_requests_total', 'Requests answered.', ['path', 'status'])
const BUCKETS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const requestSeconds = histogram(
  'headrace_capture_request_seconds',
  'From the end of the headers of a request to its answer.',
  BUCKETS_S,
)

const BUCKETS_MS = BUCKETS_S.map((seconds) => seconds * 1000)
/** What the library keeps of a histogram without labels; it can only be given one value at a time. */
type Kept = { bucketValues: Record<number, number>; sum: number; count: number }

export class Traffic {
  private readonly counts = new Map<string, Map<number, number>>()
  /** One more than the bounds: what is beyond all of them is only in the count. */
  private readonly buckets = new Float64Array(BUCKETS_MS.length + 1)
  private sumMs = 0

  /** `path` is from the list of routes, or a word for all others, so that the labels stay few. */
  count(path: string, status: number): void {
    let statuses = this.counts.get(path)
    if (statuses === undefined) {
      statuses = new Map()
      this.counts.set(path, statuses)
    }
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
  }

  took(ms: number): void {
    let at = 0
    while (at < BUCKETS_MS.length && ms > BUCKETS_MS[at]!) at++
    this.buckets[at]!++
    this.sumMs += ms
  }

  publish(): void {
    for (const [path, statuses] of this.counts) {
      for (const [status, count] of statuses) requestsTotal.inc({ path, status }, count)
      statuses.clear()
    }
    const { hashMap } = requestSeconds as unknown as { hashMap: Record<string, Kept> }
    const kept = Object.values(hashMap)[0]!
    for (let at = 0; at < this.buckets.length; at++) {
      const count = this.buckets[at]!
      if (at < BUCKETS_S.length) kept.bucketValues[BUCKETS_S[at]!]! += count
      kept.count += count
    }
    kept.sum += this.sumMs / 1000
    this.buckets.fill(0)
    this.sumMs = 0
  }
}
