import { TOPICS } from '../event/index.ts'
import type { Log, StoredRecord } from '../log/index.ts'
import { Signal } from '../platform/index.ts'
import { Batch } from './batch.ts'
import {
  attach,
  type CursorMove,
  commitShared,
  type Fence,
  followLoad,
  NOTHING,
  type Parked,
  type PartitionKey,
  readCursors,
  readLoaded,
  type StoredCursor,
  takeFence,
} from './cursors.ts'
import { deliverError } from './errors.ts'
import { Follower } from './follower.ts'
import { type JobResult, runJob } from './job.ts'
import { deliverMetrics } from './metrics.ts'
import { deliveryRecord } from './outbox.ts'
import { countWaiting } from './retries.ts'
import {
  type Cursor,
  type Followed,
  type Job,
  READ_BYTES_MAX,
  READ_RECORDS_MAX,
  type RoundDeps,
} from './round-parts.ts'
import type { Runtime } from './runtime.ts'
import { Selector } from './select.ts'
import { Lock } from './turns.ts'
import { untilStored } from './until-stored.ts'

const READER_BUFFER_BYTES_MAX = 4 * 1024 * 1024
/** For one that works on its last stretch before it is attached. */
const JOIN_WAIT_MS = 250
const IDLE_MS = 2_000

export class Round implements Followed {
  readonly cursors = new Map<string, Cursor>()
  /** Something moved: the fence, a cursor, or a destination. */
  readonly moved = new Signal()
  readonly halted = new Set<string>()
  private readonly followers = new Map<string, Follower>()
  private readonly lock = new Lock()
  private readonly ending = new AbortController()
  private fence!: Fence
  private batchEnd: number | undefined
  private fault: unknown
  private selector: { of: string; selector: Selector } | undefined

  constructor(
    readonly deps: RoundDeps,
    readonly key: PartitionKey,
  ) {}

  /** Aborts when the round is over. */
  get over(): AbortSignal {
    return this.ending.signal
  }

  get epoch(): number {
    return this.fence.epoch
  }

  /** Where the shared reader stands. */
  get shared(): number {
    return this.fence.next
  }

  /** Followers go no further. */
  get horizon(): number {
    return this.batchEnd ?? this.fence.next
  }

  /** Resolves when `signal` aborts; throws what ended it otherwise. `begins` is called once it has the partition. */
  async run(signal: AbortSignal, begins: () => void): Promise<void> {
    const { sql } = this.deps
    this.fence = await takeFence(sql, this.key)
    const waiting = await countWaiting(sql, this.key)
    for (const cursor of await readCursors(sql, this.key))
      this.addCursor(cursor, waiting.get(cursor.destinationId))
    begins()
    const end = () => this.ending.abort()
    signal.addEventListener('abort', end, { once: true })
    if (signal.aborted) end()
    try {
      this.startFollowers()
      await Promise.all([this.share(), this.watch()].map((work) => work.catch((error) => this.fail(error))))
    } finally {
      end()
      signal.removeEventListener('abort', end)
      await Promise.all([...this.followers.values()].map((follower) => follower.ended))
    }
    if (this.fault !== undefined) throw this.fault
  }

  /** Ends the round: what it knows is not so any more, or nothing can be known. */
  fail(error: unknown): void {
    if (!this.over.aborted) this.fault ??= error
    this.ending.abort()
  }

  /** Tries again in place while a server is away: a round that ends gives up the requests that are under way. */
  stored<T>(work: () => Promise<T>): Promise<T> {
    return untilStored(work, this.over, this.deps.logger)
  }

  /** By whoever settles retries: so many fewer wait. */
  settled(destinationId: string, orderKey: string | undefined): void {
    const cursor = this.cursors.get(destinationId)
    if (!cursor) return
    cursor.waiting--
    const left = orderKey === undefined ? 0 : (cursor.keys.get(orderKey) ?? 0) - 1
    if (orderKey === undefined) return
    if (left > 0) cursor.keys.set(orderKey, left)
    else cursor.keys.delete(orderKey)
  }

  parked(cursor: Cursor, parked: readonly Parked[]): void {
    cursor.waiting += parked.length
    for (const { orderKey } of parked)
      if (orderKey !== undefined) cursor.keys.set(orderKey, (cursor.keys.get(orderKey) ?? 0) + 1)
  }

  startJob(
    runtime: Runtime,
    cursor: Cursor,
    batch: Batch,
    wanted: readonly number[],
    stop: AbortSignal,
  ): Job {
    const room = this.deps.retriesMax - cursor.waiting
    const { clock, random } = this.deps
    const waiting = cursor.keys
    const result = runJob({ batch, runtime, wanted, room, waiting, stop, abandon: this.over, clock, random })
    // It may be looked at later than it fails.
    result.catch(() => {})
    return { runtime, batch, result }
  }

  /** What must be in the log before a commit counts it; and the log of what happened. */
  async announce(results: readonly { runtime: Runtime; result: JobResult }[]): Promise<void> {
    const { producer, clock, reached } = this.deps
    const nowMs = clock()
    const records = results.flatMap(({ runtime, result }) =>
      result.ended.map((ended) => deliveryRecord(runtime.destination, ended, this.key.partition, nowMs)),
    )
    if (records.length === 0) return
    await this.stored(() => {
      const sent = producer.send(records)
      reached('outcome_rows_sent')
      return sent
    })
    reached('outcome_rows_stored')
  }

  tell({ destination }: Runtime, { counts, parked, gone }: JobResult): void {
    const { seen: _, ...states } = counts
    for (const [state, n] of Object.entries({ ...states, parked: parked.length }))
      if (n > 0) deliverMetrics.events.inc({ kind: destination.kind, state }, n)
    if (gone) void this.pauseGone(destination.id, destination.name, gone.response)
  }

  private async pauseGone(id: string, name: string, response: string): Promise<void> {
    const { store, directory, logger } = this.deps
    deliverMetrics.paused.inc()
    logger.warn(
      { destination: id, docs: 'docs/runbooks/deliver.md#gone' },
      `destination ${name} is paused: the receiver answered 410 Gone`,
    )
    try {
      await store.setState(id, 'paused', `the receiver answered 410 Gone: ${response.slice(0, 200)}`)
      await directory.refresh()
    } catch (error) {
      logger.debug(
        { err: error },
        'a destination could not be paused; its circuit is open, and it will be asked again',
      )
    }
  }

  /** Attaches a destination that stands where the fence stands, if no batch is under way. */
  async tryJoin(cursor: Cursor): Promise<boolean> {
    if (cursor.until !== undefined || this.batchEnd !== undefined || cursor.at?.next !== this.fence.next)
      return false
    return this.lock.run(async () => {
      if (this.over.aborted || cursor.at?.next !== this.fence.next) return false
      await this.stored(() => {
        const attaching = attach(this.deps.sql, this.key, this.fence, cursor.destinationId)
        this.deps.reached('attach_sent')
        return attaching
      })
      cursor.at = undefined
      this.moved.notify()
      return true
    })
  }

  private addCursor(stored: StoredCursor, waiting?: { count: number; keys: Map<string, number> }): void {
    this.cursors.set(stored.destinationId, {
      ...stored,
      waiting: waiting?.count ?? 0,
      keys: waiting?.keys ?? new Map(),
    })
  }

  private startFollowers(): void {
    for (const cursor of this.cursors.values()) if (cursor.at) this.follow(cursor)
  }

  private follow(cursor: Cursor, job?: Job): void {
    const follower = new Follower(this, cursor, job)
    this.followers.set(cursor.destinationId, follower)
    void follower.ended.then(() => {
      if (this.followers.get(cursor.destinationId) === follower) this.followers.delete(cursor.destinationId)
    })
  }

  /** Takes up destinations that are new, and forgets deleted ones. */
  private async watch(): Promise<void> {
    const { directory, sql } = this.deps
    let version = -1
    while (!this.over.aborted) {
      if (version === directory.version) {
        await directory.changed.wait(this.over, IDLE_MS)
        continue
      }
      version = directory.version
      for (const cursor of this.cursors.values())
        if (cursor.at && !directory.get(cursor.destinationId)) this.cursors.delete(cursor.destinationId)
      const unknown = [...directory.all()].filter(({ id }) => !this.cursors.has(id)).map(({ id }) => id)
      if (unknown.length > 0) {
        const found = await this.stored(() => readCursors(sql, this.key, unknown))
        await this.lock.run(async () => {
          for (const cursor of found) {
            if (this.cursors.has(cursor.destinationId)) continue
            this.addCursor(cursor)
            if (cursor.at) this.follow(this.cursors.get(cursor.destinationId)!)
          }
        })
      }
      this.moved.notify()
    }
  }

  private attached(): Cursor[] {
    return [...this.cursors.values()].filter(({ at }) => at === undefined)
  }

  /** The shared reader. */
  private async share(): Promise<void> {
    const { log, sql } = this.deps
    const { partition } = this.key
    let reader: ReturnType<Log['reader']> | undefined
    try {
      while (!this.over.aborted) {
        if (this.attached().length === 0) {
          await reader?.close()
          reader = undefined
          await this.lock.run(async () => {
            if (this.attached().length === 0)
              this.fence = await this.stored(() => followLoad(sql, this.key, this.fence))
          })
          this.moved.notify()
          if (this.attached().length === 0) await this.moved.wait(this.over, IDLE_MS)
          continue
        }
        reader ??= log.reader({
          topic: TOPICS.events,
          partition,
          from: this.fence.next,
          bufferBytesMax: READER_BUFFER_BYTES_MAX,
        })
        const records = await reader
          .next({ records: READ_RECORDS_MAX, bytes: READ_BYTES_MAX }, this.over)
          .catch((error: { code?: string }) => {
            if (error.code !== 'HR_LOG_OUT_OF_RANGE') throw error
            return this.lock.run(() => this.leap(error))
          })
        if (records.length > 0) await this.lock.run(() => this.serve(records))
      }
    } finally {
      await reader?.close()
    }
  }

  private async serve(records: StoredRecord[]): Promise<void> {
    const { directory, sql, reached } = this.deps
    const batch = Batch.read(this.fence, records, false, `${TOPICS.events}/${this.key.partition}`)
    this.batchEnd = batch.end.next
    reached('batch_taken')
    try {
      const cursors = this.attached()
      const working = cursors.flatMap((cursor) => {
        const runtime = directory.get(cursor.destinationId)
        return runtime?.active ? [{ cursor, runtime }] : []
      })
      const wanted = this.selectorOf(working.map(({ runtime }) => runtime)).select(batch)
      const stop = new AbortController()
      const parts = working.map(({ cursor, runtime }) => ({
        cursor,
        job: this.startJob(runtime, cursor, batch, wanted.get(runtime) ?? [], stop.signal),
      }))
      reached('requests_sent')
      const ended = await this.endedOf(parts.map(({ job }) => job))
      // Those that are late hand out no more, and go on as followers.
      stop.abort()
      reached('requests_answered')
      const done = parts.flatMap(({ cursor, job }) => {
        const result = ended.get(job)
        return result ? [{ cursor, runtime: job.runtime, result }] : []
      })
      const late = new Map(
        parts.flatMap(({ cursor, job }) => (ended.has(job) ? [] : [[cursor, job] as const])),
      )
      const joining = await this.joining(batch.end.next)
      const moves: CursorMove[] = [
        ...done
          .filter(({ result }) => !result.whole || result.counts.seen > 0)
          .map(({ cursor, result }) => ({
            destinationId: cursor.destinationId,
            at: result.whole ? undefined : result.at,
            counts: result.counts,
          })),
        ...cursors
          .filter((cursor) => !done.some((one) => one.cursor === cursor))
          .map(({ destinationId }) => ({ destinationId, at: batch.begin, counts: NOTHING })),
        ...joining.map(({ destinationId }) => ({ destinationId, at: undefined, counts: NOTHING })),
      ]
      await this.announce(done)
      const parked = done.flatMap(({ result }) => result.parked)
      await this.stored(() => {
        const committing = commitShared(sql, this.key, this.fence, batch.end, moves, parked)
        reached('delivery_commit_sent')
        return committing
      })
      reached('delivery_committed')
      this.fence = { ...batch.end, epoch: this.fence.epoch }
      for (const { cursor, runtime, result } of done) {
        this.parked(cursor, result.parked)
        this.tell(runtime, result)
      }
      this.apply(moves, late)
    } finally {
      this.batchEnd = undefined
    }
    this.moved.notify()
  }

  private apply(moves: readonly CursorMove[], late: ReadonlyMap<Cursor, Job>): void {
    for (const { destinationId, at } of moves) {
      const cursor = this.cursors.get(destinationId)!
      cursor.at = at
      if (!at) continue
      if (!this.deps.directory.get(destinationId)) {
        // Deleted, or not to be read: its row says where it stands.
        this.cursors.delete(destinationId)
        continue
      }
      this.follow(cursor, late.get(cursor))
    }
  }

  /** What ended in time, by job. Throws the first fault that is ours. */
  private async endedOf(jobs: readonly Job[]): Promise<Map<Job, JobResult>> {
    const ended = new Map<Job, JobResult>()
    const all = Promise.all(
      jobs.map(async (job) => {
        ended.set(job, await job.result)
      }),
    )
    let timer: ReturnType<typeof setTimeout> | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.deps.sharedWaitMs)
    })
    try {
      await Promise.race([all, late])
    } finally {
      clearTimeout(timer)
      all.catch(() => {})
    }
    return new Map(ended)
  }

  /** Those that stand at the end of this batch, or will in a moment. */
  private async joining(end: number): Promise<Cursor[]> {
    const near = [...this.followers.values()].filter(({ busyTo }) => busyTo === end)
    if (near.length > 0) {
      const deadline = this.deps.clock() + JOIN_WAIT_MS
      while (near.some(({ busyTo }) => busyTo === end) && !this.over.aborted) {
        const leftMs = deadline - this.deps.clock()
        if (leftMs <= 0) break
        await this.moved.wait(this.over, leftMs)
      }
    }
    return [...this.followers.values()]
      .filter((follower) => follower.busyTo === undefined && follower.cursor.at?.next === end)
      .map(({ cursor }) => cursor)
      .filter(
        ({ until, destinationId }) => until === undefined && this.deps.directory.get(destinationId)?.active,
      )
  }

  /** Made anew only when others are attached. */
  private selectorOf(runtimes: readonly Runtime[]): Selector {
    const of = `${this.deps.directory.version}:${runtimes.map(({ id }) => id).join()}`
    if (this.selector?.of !== of) this.selector = { of, selector: new Selector(runtimes) }
    return this.selector.selector
  }

  /**
   * The log no longer has what is behind the fence: everybody is detached there, and the fence goes on where the load is.
   * Throws `error`, or HR_DELIVER_GAP, when that cannot be.
   */
  private async leap(error: unknown): Promise<never> {
    const { log, sql } = this.deps
    const { start, end } = await log.bounds(TOPICS.events, this.key.partition)
    if (this.fence.next > end) throw error
    const loaded = await readLoaded(sql, this.key)
    if (!loaded || loaded.next < start || loaded.next <= this.fence.next)
      throw deliverError(
        'HR_DELIVER_GAP',
        `the log begins at offset ${start} of events/${this.key.partition}, delivery stands at ${this.fence.next}, and the load has not read what lies between`,
      )
    const at = { next: this.fence.next, last: this.fence.last }
    const moves = this.attached().map(({ destinationId }) => ({ destinationId, at, counts: NOTHING }))
    await commitShared(sql, this.key, this.fence, loaded, moves, [])
    throw deliverError(
      'HR_DELIVER_FENCE',
      `the fence of partition ${this.key.partition} went on to where the load is`,
    )
  }
}
