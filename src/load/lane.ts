/**
 * One table's way into ClickHouse: gathers the waiting rows of all owned partitions of its topic, cuts, writes the
 * intent, inserts; one cut at a time. In: rows from the input readers. Out: rows in ClickHouse and moved fences.
 *
 * ```
 *           rows wait, and flush is due           intent written          taken
 * gathering ─────────────────────────────▶ cutting ─────────────▶ sending ──────▶ gathering
 *     ▲                                       │                      │
 *     └────── inputs of the cut start anew at their fences ◀─────────┘ anything else (they settle first)
 * ```
 * When a cut is due is for `pace.ts`: at low load a moment after the first row, at most one in `flushMs` at any load.
 * Bounds: what waits, is sent or is settled is for `memory.ts`, over all tables; beyond it reading stops. It is used only
 * far behind: at 5,000 events/s of 1.2 kB two cuts are 12 MB.
 */
import { type HeadraceError, isRetriable } from '../event/index.ts'
import { Signal } from '../platform/index.ts'
import { INSERT_BYTES_MAX, INSERT_ROWS_MAX } from '../warehouse/index.ts'
import { type BatchRange, intentOf, makeBatch } from './batch.ts'
import { Blocked } from './blocked.ts'
import { CUT_LIMITS, planCut } from './cut.ts'
import { type DeliverDeps, deliver } from './deliver.ts'
import { holdIntent } from './hold-intent.ts'
import { writeIntent } from './intent.ts'
import { type Holder, memoryOf, type RowMemory } from './memory.ts'
import { loadMetrics } from './metrics.ts'
import { Pace } from './pace.ts'
import type { PartitionInput } from './partition-input.ts'
import { type SettleDeps, settlePartition } from './settle.ts'
import { ended } from './wait.ts'

/** What a lane needs to know of a reader that fills it. */
export type LaneReader = {
  /** What can be cut now. */
  readonly input: PartitionInput | undefined
  /** Forgets what waits and starts anew at the fence, after `pauseMs`. */
  restart(pauseMs: number): void
}

type InFlight = { readers: LaneReader[]; done: Promise<void> }

export type LaneDeps = Omit<SettleDeps, 'blocked' | 'pace' | 'settling'> & {
  /** Of the process. */
  memory: RowMemory
  /** How many partitions the topic has, over all loaders. */
  partitionsOfTopic: number
  flushMs: number
  busyPercent: number
  /** Something that no retry mends: the process must stop. */
  fatal: (error: unknown) => void
}

const ROWS_MAX = Math.min(CUT_LIMITS.rowsMax, INSERT_ROWS_MAX)
const BYTES_MAX = Math.min(CUT_LIMITS.bytesMax, INSERT_BYTES_MAX)
/** While a cut is not due. */
const DUE_LOOK_MS = 1_000
/** How long the first rows after a quiet time wait for company. */
const LINGER_MS_MAX = 100
/** A call to ClickHouse that hangs cannot be called back; nobody waits longer for it when all is stopped. */
export const ABANDON_WAIT_MS = 1_000

export class Lane implements Holder {
  private readonly readers = new Set<LaneReader>()
  private readonly arrived = new Signal()
  private readonly stopping = new AbortController()
  private running: Promise<void> | undefined
  /** Inputs of the cut that is on its way. */
  private inFlight: InFlight | undefined
  private settling: Promise<unknown> = Promise.resolve()
  /** What the rows of the cut that is on its way hold, and those of the intent that is settled. */
  private sendingBytes = 0
  private settlingBytes = 0
  private readonly pace: Pace
  private waitingSinceMs: number | undefined
  private turn = 0
  /** Why rows wait now. */
  readonly blocked: Blocked
  private readonly sendDeps: DeliverDeps
  private readonly settleDeps: SettleDeps

  constructor(
    readonly table: string,
    readonly deps: LaneDeps,
  ) {
    this.blocked = new Blocked((sentence) => this.tellBlocked(sentence))
    const { flushMs: everyMs, busyPercent } = deps
    const share = () => Math.min(1, Math.max(1, this.readers.size) / deps.partitionsOfTopic)
    this.pace = new Pace({ everyMs, busyPercent, bytesMax: BYTES_MAX, share })
    const { pace } = this
    this.sendDeps = { ...deps, pace, blocked: (why) => this.blocked.set('insert', why) }
    const settling = (bytes: number) => {
      const settled = this.settlingBytes
      this.settlingBytes = bytes
      if (settled > bytes) deps.memory.letGo(settled - bytes)
    }
    const left = { pace: pace.beside(), settling }
    this.settleDeps = { ...deps, ...left, blocked: (why) => this.blocked.set('settle', why) }
    deps.memory.add(this)
  }

  start(): void {
    this.running = this.run().catch((error) => this.deps.fatal(error))
  }

  /** Stops after the running cut, or after `waitMs` without it: its intent then stays open for the heir. */
  async stop(waitMs: number): Promise<void> {
    await this.finished(undefined, waitMs)
    this.stopping.abort()
    await ended(this.running, ABANDON_WAIT_MS)
  }

  add(reader: LaneReader): void {
    this.readers.add(reader)
  }

  remove(reader: LaneReader): void {
    this.readers.delete(reader)
    this.deps.memory.freed.notify()
  }

  /** Resolves when no cut with rows of `reader` (any reader, if undefined) is on its way, at the latest after `waitMs`. */
  async finished(reader: LaneReader | undefined, waitMs: number): Promise<void> {
    const { inFlight } = this
    if (!inFlight || (reader && !inFlight.readers.includes(reader))) return
    await ended(inFlight.done, waitMs)
  }

  /** Rows were taken up. */
  notify(): void {
    this.waitingSinceMs ??= this.deps.clock()
    this.arrived.notify()
  }

  /** Resolves with how many bytes one reader may read next, or 0 when `signal` aborts. */
  async room(signal: AbortSignal): Promise<number> {
    const { memory } = this.deps
    for (;;) {
      if (signal.aborted) return 0
      const bytes = this.mayRead()
      if (bytes > 0) return bytes
      await memory.freed.wait(signal)
    }
  }

  private mayRead(): number {
    const { rows, bytes } = this.waiting()
    if (rows >= ROWS_MAX || bytes >= BYTES_MAX) return 0
    const waits = this.blocked.sentence !== undefined
    return this.deps.memory.mayRead(this, memoryOf(rows, bytes), waits)
  }

  get readersCount(): number {
    return this.readers.size
  }

  held(): number {
    const { rows, bytes } = this.waiting()
    return memoryOf(rows, bytes) + this.sendingBytes + this.settlingBytes
  }

  /** One partition after the other, so that one batch at a time is read again. */
  async settle(of: { logId: string; partition: number }, signal: AbortSignal): Promise<void> {
    const both = AbortSignal.any([signal, this.stopping.signal])
    const turn = this.settling.then(() =>
      both.aborted ? undefined : settlePartition(this.settleDeps, this.table, of, both),
    )
    this.settling = turn.catch(() => {})
    await turn
  }

  private waiting(): { rows: number; bytes: number; movable: boolean } {
    let rows = 0
    let bytes = 0
    let movable = false
    for (const { input } of this.readers) {
      if (!input) continue
      rows += input.waiting.length
      bytes += input.waitingBytes
      if (input.movable) movable = true
    }
    return { rows, bytes, movable }
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping
    while (!signal.aborted) {
      const waitMs = this.dueInMs()
      if (waitMs > 0) {
        // It may be due sooner: partitions may come, and with them a larger share.
        await this.arrived.wait(signal, Number.isFinite(waitMs) ? Math.min(waitMs, DUE_LOOK_MS) : waitMs)
        continue
      }
      this.inFlight = this.beginCut()
      await this.inFlight.done
      this.inFlight = undefined
      const sent = this.sendingBytes
      this.sendingBytes = 0
      this.deps.memory.letGo(sent)
    }
  }

  /** Its rows are nobody's but those of who sends them: what is let go of must not be in a variable of the loop. */
  private beginCut(): InFlight {
    const cut = this.takeCut()
    return { readers: cut.readers, done: this.send(cut) }
  }

  /** When the next cut is due: 0 now, infinite while nothing waits. */
  private dueInMs(): number {
    const { bytes, movable } = this.waiting()
    loadMetrics.buffered.set({ table: this.table }, bytes)
    if (!movable) {
      this.waitingSinceMs = undefined
      return Number.POSITIVE_INFINITY
    }
    const { flushMs, clock } = this.deps
    const now = clock()
    const since = this.waitingSinceMs ?? now
    this.waitingSinceMs = since
    const lingerMs = Math.min(LINGER_MS_MAX, flushMs / 10)
    return Math.max(0, Math.min(since + lingerMs - now, lingerMs), this.pace.dueInMs(now))
  }

  /** Takes the next cut out of the inputs; their fences in memory move at once. */
  private takeCut(): { ranges: BatchRange[]; readers: LaneReader[] } {
    const ready = [...this.readers].filter((reader) => reader.input?.movable)
    const turned = [...ready.slice(this.turn % ready.length), ...ready.slice(0, this.turn % ready.length)]
    this.turn++
    this.waitingSinceMs = undefined
    const inputs = turned.map(({ input }) => input as PartitionInput)
    const plan = planCut(
      inputs.map(({ waiting }) => waiting),
      { rowsMax: ROWS_MAX, bytesMax: this.pace.bytesMax, monthsMax: CUT_LIMITS.monthsMax },
    )
    this.pace.cut(this.deps.clock())
    const ranges: BatchRange[] = []
    const readers: LaneReader[] = []
    for (let i = 0; i < inputs.length; i++) {
      const input = inputs[i]!
      // With no row waiting there are only copies: the fence passes them.
      if (plan.taken[i]! === 0 && input.waiting.length > 0) continue
      ranges.push(input.cut(plan.taken[i]!))
      readers.push(turned[i]!)
    }
    return { ranges, readers }
  }

  private async send({ ranges, readers }: { ranges: BatchRange[]; readers: LaneReader[] }): Promise<void> {
    const batch = makeBatch(this.table, ranges)
    this.sendingBytes = memoryOf(batch.rows.length, batch.bytes)
    // What waited is on its way: there may be room for what comes next.
    this.deps.memory.freed.notify()
    const intent = intentOf(batch, Bun.randomUUIDv7())
    try {
      await writeIntent(this.deps.sql, intent, ranges)
      await this.deps.reached('intent_written')
      if (batch.rows.length === 0) return
      const result = await holdIntent(this.deps.sql, intent.id, async (hold) => {
        await this.deps.reached('locked')
        // The lock came late: another loader had it meanwhile, and cut it up.
        if (hold.intent.rows !== batch.rows.length) return 'split'
        return deliver(this.sendDeps, hold, batch, 'owner', this.stopping.signal)
      })
      await this.deps.reached('committed')
      // Without a result another loader has settled it, perhaps with children that wait to be settled.
      if (result === undefined || result === 'split' || result === 'verdict')
        for (const reader of readers) reader.restart(0)
    } catch (error) {
      this.failed(readers, error)
    }
  }

  /** Where the cut ended is for Postgres to say: its inputs start anew there, after settling what is open. */
  private failed(readers: LaneReader[], error: unknown): void {
    if (!this.stopping.signal.aborted) {
      if (!isRetriable(error)) throw error
      const { code, message } = error as HeadraceError
      const moved = code === 'HR_LOAD_FENCE'
      if (moved) loadMetrics.fenceMoved.inc({ table: this.table })
      this.deps.logger.warn(
        {
          table: this.table,
          code,
          docs: moved ? 'docs/runbooks/load.md#fence-moved' : 'docs/runbooks/load.md#cut-given-up',
        },
        `a cut of ${this.table} was given up and will be settled: ${message}`,
      )
      // Another owner gets the time to be told apart from us.
      for (const reader of readers) reader.restart(moved ? 2_000 : 0)
      return
    }
    for (const reader of readers) reader.restart(0)
  }

  private tellBlocked(sentence: string | undefined): void {
    if (sentence)
      this.deps.logger.warn({ table: this.table, docs: 'docs/runbooks/load.md#clickhouse-away' }, sentence)
    else this.deps.logger.info({ table: this.table }, `rows of ${this.table} are taken again`)
    loadMetrics.blocked.set({ table: this.table }, sentence ? 1 : 0)
    if (!sentence) this.deps.memory.freed.notify()
  }
}
