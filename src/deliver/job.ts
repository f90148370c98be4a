/**
 * One destination's work on one batch. In: a batch, and the indexes of the events that it wants. Out: up to where the events
 * are settled, what became of them, and which are to be tried again alone.
 *
 * ```
 * hand out in order ──all──▶ wait for the answers ──▶ settled to the end of the batch
 *        │ circuit opens, asked to stop, or no room for retries
 *        └─▶ hand out no more, wait for the answers ──▶ settled to the first that was not handed out;
 *            when the circuit is open, to the first of the failures behind the last success
 * ```
 * Must hold: an event below the end has exactly one of the outcomes; of those from the end on, none was delivered, except
 * what an answer that never came may hide. At most `room` + the width of the destination + one request go to retries,
 * and, in order per distinct_id, those behind them.
 */
import { deliveryUuid } from '../event/index.ts'
import type { Batch, Spot } from './batch.ts'
import { type Counts, NOTHING, type Parked } from './cursors.ts'
import type { EventView } from './event-view.ts'
import { retryDelayMs } from './retry-delay.ts'
import type { Runtime } from './runtime.ts'
import type { Verdict } from './targets/target.ts'

/** The end of one event at one destination, as the rows of `deliveries` say it. */
export type Ended = {
  view: EventView
  state: 'delivered' | 'failed' | 'expired'
  attempts: number
  status: number
  response: string
}

export type JobResult = {
  /** Where the cursor stands now. */
  at: Spot
  /** All of the batch is settled. */
  whole: boolean
  counts: Counts
  ended: Ended[]
  parked: Parked[]
  /** The receiver wants no more events. */
  gone: Verdict | undefined
}

export type JobOptions = {
  batch: Batch
  runtime: Runtime
  /** Indexes into the batch's views, rising. */
  wanted: readonly number[]
  /** How many events may wait to be tried again. */
  room: number
  /** Keys of which events wait already: later ones wait behind them. */
  waiting: ReadonlyMap<string, number>
  /** Nothing is handed out any more once it aborts. */
  stop: AbortSignal
  /** Requests that are under way are given up. */
  abandon: AbortSignal
  clock: () => number
  /** 0 to 1, for jitter. */
  random: () => number
}

type Item = { index: number; view: EventView; verdict?: Verdict; end?: 'sampled_out' | 'expired' | 'behind' }

/** An event that is sent to a closed door so often in a row goes to the retries, and the next one is sent. */
const PROBES_PER_EVENT = 3

export async function runJob(options: JobOptions): Promise<JobResult> {
  const job = new Job(options)
  await job.handOut()
  return job.result()
}

class Job {
  private readonly items: Item[] = []
  /** Requests in the order in which they were handed out. */
  private readonly requests: Item[][] = []
  private readonly running: Promise<void>[] = []
  private readonly lanes = new Map<string, Promise<void>>()
  private readonly parkedKeys: Set<string>
  private failures = 0
  private probed = false
  private gone: Verdict | undefined
  /** Index into `items` of the first that was not handed out. */
  private handed = 0

  constructor(private readonly options: JobOptions) {
    this.parkedKeys = new Set(options.waiting.keys())
    const { batch, runtime, wanted, clock } = options
    const { sample, expireAfterS } = runtime.destination.config
    const oldestMs = expireAfterS === undefined ? Number.NEGATIVE_INFINITY : clock() - expireAfterS * 1_000
    for (const index of wanted) {
      const view = batch.views[index]!
      const item: Item = { index, view }
      if (sample < 1 && !isSampled(view.row.distinct_id, sample)) item.end = 'sampled_out'
      else if (expireAfterS !== undefined && view.row.created_at < oldestMs) item.end = 'expired'
      this.items.push(item)
    }
  }

  async handOut(): Promise<void> {
    const { runtime, stop, room } = this.options
    const { batchMax } = runtime.target
    let from = 0
    while (from < this.items.length && this.gone === undefined) {
      const item = this.items[from]!
      if (item.end !== undefined) {
        this.handed = ++from
        continue
      }
      if (this.failures >= room) break
      if (runtime.lanes) {
        if (!(await this.handOutOrdered(item))) break
        this.handed = ++from
        continue
      }
      const turn = await runtime.turn(stop)
      if (turn === undefined) break
      this.probed ||= turn === 'probe'
      const { items, next } = this.gather(from, batchMax)
      this.requests.push(items)
      const sent = this.send(items)
      this.running.push(sent)
      // Nobody is let in before a probe has ended.
      if (turn === 'probe') await sent
      from = next
      this.handed = from
    }
    await Promise.all(this.running)
  }

  /** From the item at `from`, up to as many as go into a request; those that have an end already are passed over. */
  private gather(from: number, batchMax: number): { items: Item[]; next: number } {
    const items: Item[] = []
    let next = from
    while (next < this.items.length && items.length < batchMax) {
      const item = this.items[next++]!
      if (item.end === undefined) items.push(item)
    }
    return { items, next }
  }

  private async send(items: Item[]): Promise<void> {
    const { runtime, abandon } = this.options
    const deliveries = items.map(({ view }) => ({ id: deliveryUuid(runtime.idsOf, view.origin), view }))
    const verdicts = await runtime.send(deliveries, abandon)
    items.forEach((item, i) => {
      const verdict = verdicts[i]!
      item.verdict = verdict
      if (verdict.kind === 'gone') this.gone = verdict
      if (verdict.kind === 'failed' || verdict.kind === 'busy') this.failures++
    })
  }

  /** False when nothing more is to be handed out. One that has another of its key before it follows when that has ended. */
  private async handOutOrdered(item: Item): Promise<boolean> {
    const { runtime, stop } = this.options
    const key = item.view.row.distinct_id
    if (this.parkedKeys.has(key)) {
      item.end = 'behind'
      return true
    }
    const before = this.lanes.get(key)
    if (before) {
      this.requests.push([item])
      const sent = before.then(() => this.follow(item, key))
      this.lanes.set(key, sent)
      this.running.push(sent)
      return true
    }
    const turn = await runtime.turn(stop)
    if (turn === undefined) return false
    this.probed ||= turn === 'probe'
    this.requests.push([item])
    const sent = this.send([item]).then(() => this.noteLane(item, key))
    this.lanes.set(key, sent)
    this.running.push(sent)
    if (turn === 'probe') await sent
    return true
  }

  private async follow(item: Item, key: string): Promise<void> {
    const { runtime, stop } = this.options
    const turn = this.parkedKeys.has(key) ? undefined : await runtime.turn(stop)
    if (turn === undefined) {
      item.end = 'behind'
      this.parkedKeys.add(key)
      return
    }
    this.probed ||= turn === 'probe'
    await this.send([item])
    this.noteLane(item, key)
  }

  private noteLane(item: Item, key: string): void {
    const kind = item.verdict?.kind
    if (kind !== 'delivered' && kind !== 'refused') this.parkedKeys.add(key)
  }

  result(): JobResult {
    const { batch, runtime } = this.options
    const settled = this.settledItems()
    const whole = settled === this.items.length
    const endIndex = whole ? batch.views.length : this.items[settled]!.index
    const seen = batch.countOf(runtime.destination.teamId, endIndex)
    const counts: Counts = { ...NOTHING, seen, filtered: seen - settled }
    const ended: Ended[] = []
    const parked: Parked[] = []
    for (let i = 0; i < settled; i++) this.settle(this.items[i]!, counts, ended, parked)
    return { at: batch.spotAt(endIndex), whole, counts, ended, parked, gone: this.gone }
  }

  /** How many items, from the first on, have an outcome. */
  private settledItems(): number {
    const { runtime } = this.options
    let settled = this.handed
    if (!runtime.breaker.open && this.gone === undefined) return settled
    // Nor may one event that the receiver cannot bear keep all behind it waiting for ever.
    if (this.probed && runtime.breaker.openings % PROBES_PER_EVENT === 0) return settled
    // An outage costs no rows: what failed behind the last success counts as not handed out.
    for (let i = this.requests.length - 1; i >= 0; i--) {
      const request = this.requests[i]!
      if (!request.every(isUnserved)) break
      settled = this.items.indexOf(request[0]!)
    }
    return settled
  }

  private settle(item: Item, counts: Counts, ended: Ended[], parked: Parked[]): void {
    const { view, verdict, end } = item
    if (end === 'sampled_out') {
      counts.sampled_out++
      return
    }
    if (end === 'expired') {
      counts.expired++
      ended.push({ view, state: 'expired', attempts: 0, status: 0, response: 'older than expire_after_s' })
      return
    }
    if (verdict?.kind === 'delivered' || verdict?.kind === 'refused') {
      const state = verdict.kind === 'delivered' ? 'delivered' : 'failed'
      counts[state]++
      ended.push({ view, state, attempts: 1, status: verdict.status, response: verdict.response })
      return
    }
    const { runtime } = this.options
    parked.push({
      destinationId: runtime.id,
      rawLogId: view.source.logId,
      rawOffset: view.source.offset,
      sub: view.source.sub,
      orderKey: runtime.destination.config.ordered ? view.row.distinct_id : undefined,
      row: view.bytes,
      attempts: verdict ? 1 : 0,
      nextInMs: verdict ? retryDelayMs(1, this.options.random(), verdict.waitMs) : 0,
      status: verdict?.status ?? 0,
      response: verdict?.response ?? 'waits for an earlier event of its distinct_id',
    })
  }
}

/** Not taken, and not for a reason of its own. */
function isUnserved({ verdict, end }: Item): boolean {
  return (
    end === 'behind' || verdict === undefined || (verdict.kind !== 'delivered' && verdict.kind !== 'refused')
  )
}

/** The same ids everywhere and always, whatever else is decided about them. */
export function isSampled(distinctId: string, share: number): boolean {
  return Bun.hash.xxHash32(distinctId) / 2 ** 32 < share
}
