/**
 * Brings one detached destination on in one partition, until it is attached again. In: records of the log, or rows of
 * ClickHouse when the log no longer has them. Out: a cursor that moves, one commit per batch.
 *
 * ```
 * waiting (paused, circuit open, retries full) ──▶ catching up, a few batches in turn with others ──▶ at the horizon
 *      ▲                                                 │ not whole                                     │
 *      └─────────────────────────────────────────────────┘                             joined ◀──────────┘
 * ```
 * A gap ends only this destination's way here; it is looked at again after a while, so that a repair needs no restart.
 */
import { type HeadraceError, TOPICS } from '../event/index.ts'
import { Batch } from './batch.ts'
import { commitDetached } from './cursors.ts'
import { readHistory } from './history.ts'
import type { JobResult } from './job.ts'
import { deliverMetrics } from './metrics.ts'
import { type Cursor, type Followed, type Job, READ_BYTES_MAX, READ_RECORDS_MAX } from './round-parts.ts'
import type { Runtime } from './runtime.ts'
import { Selector } from './select.ts'

/** Then another one has its turn. */
const BATCHES_PER_TURN = 8
const READER_BUFFER_BYTES_MAX = 1024 * 1024
const LOOK_MS = 1_000
const HALTED_MS = 10_000
/** Errors that stop one destination, not the process. */
const STOPPING = new Set(['HR_DELIVER_GAP', 'HR_DELIVER_UNREADABLE', 'HR_LOG_CORRUPT', 'HR_LOG_OUT_OF_RANGE'])

export class Follower {
  /** End of the batch that it works on. */
  busyTo: number | undefined
  /** Behind a gap: when it looks again. */
  private restUntilMs = 0
  /** Never rejects: faults end the round. */
  readonly ended: Promise<void>

  constructor(
    private readonly round: Followed,
    readonly cursor: Cursor,
    job: Job | undefined,
  ) {
    this.ended = this.run(job).catch((error) => round.fail(error))
  }

  private get runtime(): Runtime | undefined {
    return this.round.deps.directory.get(this.cursor.destinationId)
  }

  private async run(job: Job | undefined): Promise<void> {
    const { round, cursor } = this
    if (job) await this.settle(job)
    while (!round.over.aborted && cursor.at && round.cursors.get(cursor.destinationId) === cursor) {
      const waitMs = this.waitMs()
      if (waitMs > 0) {
        await round.moved.wait(round.over, waitMs)
        continue
      }
      // A replay that has come to its end.
      if (cursor.until !== undefined && cursor.at.next >= cursor.until.next) return
      if (await round.tryJoin(cursor)) return
      if (cursor.at.next >= round.horizon) {
        await round.moved.wait(round.over, LOOK_MS)
        continue
      }
      await round.deps.catchUps.use(() => this.catchUp())
    }
  }

  /** How long there is nothing to do at least; 0 = go on. */
  private waitMs(): number {
    const { runtime, cursor, round } = this
    if (!runtime?.active) return LOOK_MS
    if (cursor.waiting >= round.deps.retriesMax) return LOOK_MS
    const nowMs = round.deps.clock()
    return Math.min(LOOK_MS, Math.max(this.restUntilMs - nowMs, runtime.breaker.waitMs(nowMs)))
  }

  private async catchUp(): Promise<void> {
    try {
      const { start } = await this.round.deps.log.bounds(TOPICS.events, this.round.key.partition)
      if (this.cursor.at!.next < start) await this.fromHistory(start)
      else await this.fromLog()
      this.stands(false)
    } catch (error) {
      const { code, message } = error as HeadraceError
      if (!STOPPING.has(code)) throw error
      const { deps, key } = this.round
      this.stands(true)
      deps.logger.error(
        {
          partition: key.partition,
          destination: this.cursor.destinationId,
          code,
          docs: 'docs/runbooks/deliver.md#gap',
        },
        `a destination stands still in partition ${key.partition}: ${message}`,
      )
      this.restUntilMs = deps.clock() + HALTED_MS
    }
  }

  /** Says whether there is a gap in front of one of the destinations here. */
  private stands(still: boolean): void {
    const { halted, key } = this.round
    if (still) halted.add(this.cursor.destinationId)
    else if (!halted.delete(this.cursor.destinationId)) return
    deliverMetrics.gap.set({ partition: key.partition }, halted.size > 0 ? 1 : 0)
  }

  private async fromLog(): Promise<void> {
    const { round, cursor } = this
    const { partition } = round.key
    const reader = round.deps.log.reader({
      topic: TOPICS.events,
      partition,
      from: cursor.at!.next,
      bufferBytesMax: READER_BUFFER_BYTES_MAX,
    })
    try {
      for (let turn = 0; turn < BATCHES_PER_TURN && this.waitMs() === 0 && !round.over.aborted; turn++) {
        const from = cursor.at!
        const to = Math.min(round.horizon, cursor.until?.next ?? Number.POSITIVE_INFINITY)
        if (from.next >= to) return
        const limit = { records: Math.min(READ_RECORDS_MAX, to - from.next), bytes: READ_BYTES_MAX }
        const records = (await reader.next(limit, round.over)).filter(({ offset }) => offset < to)
        if (records.length === 0) return
        const batch = Batch.read(from, records, cursor.adopt, `${TOPICS.events}/${partition}`)
        if (!(await this.work(batch))) return
      }
    } finally {
      await reader.close()
    }
  }

  /** What the log no longer has is in ClickHouse, up to the load progress. */
  private async fromHistory(start: number): Promise<void> {
    const { round, cursor } = this
    for (let turn = 0; turn < BATCHES_PER_TURN && this.waitMs() === 0 && !round.over.aborted; turn++) {
      if (cursor.at!.next >= start) return
      const batch = await readHistory(round.deps, round.key, cursor, start)
      if (!(await this.work(batch))) return
    }
  }

  /** True when all of the batch is settled. */
  private async work(batch: Batch): Promise<boolean> {
    const { round, cursor, runtime } = this
    if (!runtime?.active) return false
    const wanted = new Selector([runtime]).select(batch).get(runtime) ?? []
    return this.settle(round.startJob(runtime, cursor, batch, wanted, round.over))
  }

  private async settle({ runtime, batch, result: working }: Job): Promise<boolean> {
    const { round, cursor } = this
    this.busyTo = batch.end.next
    try {
      const result: JobResult = await working
      if (round.over.aborted) return false
      await round.announce([{ runtime, result }])
      const { at, counts, parked } = result
      const move = { destinationId: cursor.destinationId, from: batch.begin, at, counts }
      await round.stored(() => {
        const committing = commitDetached(round.deps.sql, round.key, round.epoch, move, parked)
        round.deps.reached('delivery_commit_sent')
        return committing
      })
      round.deps.reached('delivery_committed')
      cursor.at = at
      round.parked(cursor, parked)
      round.tell(runtime, result)
      return result.whole
    } finally {
      this.busyTo = undefined
      round.moved.notify()
    }
  }
}
