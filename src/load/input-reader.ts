/**
 * Reads one partition of a row topic into its lane for as long as it is ours.
 *
 * ```
 * settling ──no open intent──▶ reading ──gap, unreadable, or halt──▶ halted (rows before it are still loaded)
 *    ▲  └─world at fault: wait─┐   │                                   │
 *    └─────────────────────────┴───┴───────────────────────────────────┘ restart: a cut failed, forget the rows,
 * any ──close──▶ closed                                     settle it, and unless halted read again from the fence
 * ```
 * A halted reader is replaced by a new one after a while (`membership.ts`).
 */
import { type HeadraceError, isRetriable, TOPICS } from '../event/index.ts'
import { backoffMs, pause, Signal } from '../platform/index.ts'
import { isWarehouseDown } from './ask.ts'
import { refuseFenceBehind } from './behind.ts'
import { openFence } from './intent.ts'
import { ABANDON_WAIT_MS, type Lane, type LaneReader } from './lane.ts'
import { READ_BYTES_MAX } from './memory.ts'
import { loadMetrics } from './metrics.ts'
import { type InputPlace, PartitionInput } from './partition-input.ts'
import { BACKOFF, ended } from './wait.ts'
import { type Why, whyOf } from './why.ts'

/** One `next`. */
const READ_RECORDS_MAX = 2_000
/** What a reader holds beside, ahead of what it was asked for: one read, since rows that wait are the buffer. */
const READER_BUFFER_BYTES_MAX = READ_BYTES_MAX

/** Errors that stop a partition number, not the process. */
const STOPPING = new Set([
  'HR_LOAD_GAP',
  'HR_LOAD_STATE_BEHIND',
  'HR_LOAD_UNREADABLE',
  'HR_LOAD_BYTES_DIFFER',
  'HR_LOG_OUT_OF_RANGE',
  'HR_LOG_CORRUPT',
])

export type InputEvents = {
  /** This input stops for good, with a sentence. */
  stopped(reason: HeadraceError): void
  /** Called once, when records were taken up behind the fence, or there are none. */
  goesOn(): void
}

export class InputReader implements LaneReader {
  /** What can be cut; undefined while settling. */
  input: PartitionInput | undefined
  private going = false
  private readonly closing = new AbortController()
  private readonly halting = new AbortController()
  private round = new AbortController()
  private pauseMs = 0
  private running: Promise<void> | undefined

  constructor(
    readonly lane: Lane,
    private readonly logIds: Map<string, string>,
    readonly topic: string,
    readonly partition: number,
    private readonly told: InputEvents,
  ) {}

  start(): void {
    this.lane.add(this)
    this.running = this.run().catch((error) => this.lane.deps.fatal(error))
  }

  /** Reads no further; what waits is still loaded. */
  halt(): void {
    this.halting.abort()
  }

  /** Reads no further and forgets what waits. */
  async close(): Promise<void> {
    this.blocked(undefined)
    this.closing.abort()
    this.input = undefined
    this.lane.remove(this)
    await ended(this.running, ABANDON_WAIT_MS)
  }

  /** Forgets what waits and starts anew at the fence, after `pauseMs`. */
  restart(pauseMs: number): void {
    this.input = undefined
    this.pauseMs = pauseMs
    this.round.abort()
  }

  private async run(): Promise<void> {
    const { signal } = this.closing
    let failures = 0
    while (!signal.aborted) {
      this.round = new AbortController()
      const both = AbortSignal.any([signal, this.round.signal])
      try {
        await pause(this.pauseMs, signal)
        this.pauseMs = 0
        const input = await this.open(both)
        failures = 0
        if (input) await this.read(input, AbortSignal.any([both, this.halting.signal]))
        if (this.halting.signal.aborted) await new Signal().wait(both)
      } catch (error) {
        if (signal.aborted) return
        // It waits for something else now.
        if (!isWarehouseDown(error)) this.blocked(undefined)
        if (!isRetriable(error)) {
          this.stop(error)
          await new Signal().wait(both)
          continue
        }
        failures++
        if (failures === 1 || failures % 20 === 0) {
          this.lane.deps.logger.warn(
            { topic: this.topic, partition: this.partition, code: (error as HeadraceError).code },
            `${this.topic}/${this.partition} waits: ${(error as HeadraceError).message}`,
          )
        }
        await pause(backoffMs(failures, BACKOFF), both)
      }
    }
  }

  private async open(signal: AbortSignal): Promise<PartitionInput | undefined> {
    const { log, sql } = this.lane.deps
    const place = await this.findPlace()
    await this.lane.settle(place, signal)
    if (signal.aborted) return undefined
    const { start, end } = await log.bounds(this.topic, this.partition)
    const readFence = () => openFence(sql, { ...place, logStart: start })
    const fence = await readFence()
    if (place.chained)
      await this.askWarehouse(() => refuseFenceBehind(this.lane.deps, place, fence, readFence))
    if (signal.aborted) return undefined
    this.input = new PartitionInput(place, fence)
    if (fence.next === end) this.goesOn()
    return this.input
  }

  /** While ClickHouse does not answer, rows wait: that is to be seen. */
  private async askWarehouse(ask: () => Promise<void>): Promise<void> {
    try {
      await ask()
      this.blocked(undefined)
    } catch (error) {
      this.blocked(isWarehouseDown(error) ? whyOf(error as HeadraceError) : undefined)
      throw error
    }
  }

  private blocked(why: Why | undefined): void {
    // One that is closed says no more: another may speak for its partition by now.
    if (!this.closing.signal.aborted) this.lane.blocked.set(`${this.topic}/${this.partition}`, why)
  }

  /** The topic may have been made anew since the last look: offsets then mean other records. */
  private async findPlace(): Promise<InputPlace> {
    const { topic, partition, logIds } = this
    const [state] = await this.lane.deps.log.describe([topic])
    if (state) logIds.set(topic, state.logId)
    return { logId: logIds.get(topic)!, topic, partition, chained: topic === TOPICS.events }
  }

  private goesOn(): void {
    if (this.going) return
    this.going = true
    this.told.goesOn()
  }

  private async read(input: PartitionInput, signal: AbortSignal): Promise<void> {
    const { log } = this.lane.deps
    const { topic, partition } = this
    const reader = log.reader({
      topic,
      partition,
      from: input.nextOffset,
      bufferBytesMax: READER_BUFFER_BYTES_MAX,
    })
    try {
      for (let failures = 0; !signal.aborted; ) {
        const bytes = await this.lane.room(signal)
        try {
          const records = await reader.next({ records: READ_RECORDS_MAX, bytes }, signal)
          failures = 0
          if (records.length === 0 || signal.aborted) return
          this.take(input, records)
          this.goesOn()
        } catch (error) {
          if (!isRetriable(error)) throw error
          await pause(backoffMs(++failures, BACKOFF), signal)
        }
      }
    } finally {
      await reader.close()
    }
  }

  private take(input: PartitionInput, records: Parameters<PartitionInput['accept']>[0]): void {
    try {
      input.accept(records)
    } finally {
      const copies = input.takeCopies()
      if (copies > 0) loadMetrics.copies.inc(copies)
      this.lane.notify()
    }
  }

  /** What it has not read stays unread, until another reader looks again. */
  private stop(error: unknown): void {
    const { code } = error as Partial<HeadraceError>
    if (code === undefined || !STOPPING.has(code)) throw error
    this.halt()
    this.told.stopped(error as HeadraceError)
  }
}
