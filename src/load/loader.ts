/**
 * The load stage: rows from the log into ClickHouse, each once. In: ownership of partition numbers; per number, one
 * input in the lane of every table (two for topics with two writers). Out: see `lane.ts`. A number that stops (gap)
 * stops with all its inputs; the others go on. Any number of loaders run at once.
 */
import type { Settings, Sql } from '../catalog/index.ts'
import {
  type HeadraceError,
  partitionsOf,
  ROW_TOPICS,
  type RowTopic,
  TABLE_OF_TOPIC,
  writerPartition,
} from '../event/index.ts'
import type { Log, Member } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { StepHook } from './deliver.ts'
import { loadError } from './errors.ts'
import { InputReader } from './input-reader.ts'
import { countIntents, pruneIntents } from './intent.ts'
import { Lane } from './lane.ts'
import { LOAD_DOCS, loadMetrics } from './metrics.ts'
import { pause } from './wait.ts'

export type LoadDeps = {
  settings: Pick<Settings, 'loadFlushMs' | 'loadFlushRows'>
  log: Log
  /** Needs up to 14 connections at once: one per table that sends and one per table that settles. */
  sql: Sql
  warehouse: Warehouse
  /** Of the deployment. */
  partitions: number
  logger: Logger
  clock?: () => number
  /** Called with an error that no retry mends. Default: thrown, so that the process ends. */
  fatal?: (error: unknown) => void
  /** Tests only: called at each step of an insert. */
  reached?: StepHook
}

export type Load = {
  /** Finishes the running inserts (5 s at most), leaves the group. */
  stop(): Promise<void>
  /** Undefined while every owned partition is loaded, else one sentence. */
  notReady(): Promise<string | undefined>
}

const GROUP = 'load'
/** A number that goes to another member waits so long for its running insert; the heir waits for its lock anyway. */
const REVOKE_WAIT_MS = 5_000
const OBSERVE_MS = 5_000
const PRUNE_MS = 60_000
const INTENT_KEPT_MS = 86_400_000
const PRUNED_AT_ONCE = 5_000

/** Joins group `load` and loads until stopped. Throws when a topic is missing or the group cannot be joined. */
export async function startLoad(deps: LoadDeps): Promise<Load> {
  const loader = new Loader(deps)
  await loader.start()
  return loader
}

class Loader implements Load {
  private readonly lanes: Map<RowTopic, Lane>
  private readonly numbers = new Map<number, InputReader[]>()
  private readonly stopped = new Map<number, HeadraceError>()
  private readonly logIds = new Map<string, string>()
  private readonly stopping = new AbortController()
  private member: Member | undefined
  private housekeeping: Promise<void> | undefined

  constructor(private readonly deps: LoadDeps) {
    const fatal =
      deps.fatal ??
      ((error: unknown) => {
        queueMicrotask(() => {
          throw error
        })
      })
    const lane = (topic: RowTopic): [RowTopic, Lane] => [
      topic,
      new Lane(TABLE_OF_TOPIC[topic].name, {
        sql: deps.sql,
        log: deps.log,
        warehouse: deps.warehouse,
        logger: deps.logger,
        partitions: deps.partitions,
        logIds: this.logIds,
        clock: deps.clock ?? Date.now,
        flushMs: deps.settings.loadFlushMs,
        flushRows: deps.settings.loadFlushRows,
        reached: deps.reached ?? (() => {}),
        fatal,
      }),
    ]
    this.lanes = new Map(ROW_TOPICS.map(lane))
  }

  async start(): Promise<void> {
    for (const { name, logId } of await this.deps.log.describe([...ROW_TOPICS])) this.logIds.set(name, logId)
    const missing = ROW_TOPICS.filter((topic) => !this.logIds.has(topic))
    if (missing.length > 0) throw loadError('HR_LOAD_NO_TOPIC', `the log has no topic ${missing.join(', ')}`)
    for (const lane of this.lanes.values()) lane.start()
    this.member = await this.deps.log.join({
      group: GROUP,
      topics: [...ROW_TOPICS],
      assigned: (partition) => this.assigned(partition),
      revoked: (partition) => this.revoked(partition),
      lost: (partition) => {
        void this.give(partition)
      },
    })
    this.housekeeping = this.keepHouse()
  }

  private assigned(number: number): void {
    // A log may number by the largest topic; the second half of those with two writers comes with its first.
    if (number >= this.deps.partitions || this.numbers.has(number)) return
    const readers: InputReader[] = []
    for (const topic of ROW_TOPICS) {
      const lane = this.lanes.get(topic)!
      for (const partition of this.partitionsFor(topic, number)) {
        readers.push(
          new InputReader(lane, this.logIds.get(topic)!, topic, partition, (error) =>
            this.halt(number, error),
          ),
        )
      }
    }
    this.numbers.set(number, readers)
    loadMetrics.gap.set({ partition: number }, 0)
    for (const reader of readers) reader.start()
  }

  private partitionsFor(topic: RowTopic, number: number): number[] {
    const { partitions } = this.deps
    const twoWriters = partitionsOf(topic, partitions) > partitions
    return twoWriters ? [number, writerPartition(topic, 'load', number, partitions)] : [number]
  }

  /** Stops a number where something is missing or wrong; what is before it is still loaded. */
  private halt(number: number, error: HeadraceError): void {
    const readers = this.numbers.get(number)
    if (!readers || this.stopped.has(number)) return
    this.stopped.set(number, error)
    for (const reader of readers) reader.halt()
    loadMetrics.gap.set({ partition: number }, 1)
    this.deps.logger.error(
      { partition: number, code: error.code, docs: `${LOAD_DOCS}#gap` },
      `load of partition ${number} stopped: ${error.message}`,
    )
  }

  private async revoked(number: number): Promise<void> {
    const readers = this.numbers.get(number) ?? []
    for (const reader of readers) reader.halt()
    await Promise.all(readers.map((reader) => this.laneOf(reader).finished(reader, REVOKE_WAIT_MS)))
    await this.give(number)
  }

  private laneOf(reader: InputReader): Lane {
    return this.lanes.get(reader.topic as RowTopic)!
  }

  private async give(number: number): Promise<void> {
    const readers = this.numbers.get(number) ?? []
    this.numbers.delete(number)
    this.stopped.delete(number)
    loadMetrics.gap.remove({ partition: number })
    for (const { topic, partition } of readers) loadMetrics.lag.remove({ topic, partition })
    await Promise.all(readers.map((reader) => reader.close()))
  }

  async notReady(): Promise<string | undefined> {
    if (!this.member) return 'load has not joined its group yet'
    for (const [number, error] of this.stopped) return `load of partition ${number} stopped: ${error.message}`
    for (const lane of this.lanes.values()) if (lane.blockedBy) return lane.blockedBy
    return undefined
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    await this.member?.leave()
    await Promise.all([...this.lanes.values()].map((lane) => lane.stop(REVOKE_WAIT_MS)))
    await Promise.all([...this.numbers.keys()].map((number) => this.give(number)))
    await this.housekeeping
  }

  /** Figures, lag displays and old intents. Its failures are of the world, and it comes again. */
  private async keepHouse(): Promise<void> {
    const { signal } = this.stopping
    let prunedMs = 0
    while (!signal.aborted) {
      try {
        await this.observe()
        if (Date.now() - prunedMs > PRUNE_MS) {
          await pruneIntents(this.deps.sql, INTENT_KEPT_MS, PRUNED_AT_ONCE)
          prunedMs = Date.now()
        }
      } catch (error) {
        this.deps.logger.debug({ err: error }, 'load housekeeping will try again')
      }
      await pause(OBSERVE_MS, signal)
    }
  }

  private async observe(): Promise<void> {
    const { log, sql } = this.deps
    for (const reader of [...this.numbers.values()].flat()) {
      const { input, topic, partition } = reader
      if (!input) continue
      const { end } = await log.bounds(topic, partition)
      loadMetrics.lag.set({ topic, partition }, Math.max(0, end - input.fenceOffset))
      // Only for the group's lag display; a member that just lost the partition is told so by the log.
      await this.member?.commit([{ topic, partition, offset: input.fenceOffset }]).catch(() => {})
    }
    const { open, repair } = await countIntents(sql)
    loadMetrics.openIntents.set(open)
    loadMetrics.repairIntents.set(repair)
  }
}
