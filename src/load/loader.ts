/**
 * The load stage: rows from the log into ClickHouse, each once. In: ownership of partition numbers; per number an
 * input in the lane of each table. Out: see `lane.ts`. A number that stops (gap) stops with all its inputs; the
 * others go on. Any number of loaders run at once. Cost when idle: one query each 5 s.
 */
import type { Settings, Sql } from '../catalog/index.ts'
import { partitionsOf, ROW_TOPICS, type RowTopic, TABLE_OF_TOPIC } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { failpoint, Signal } from '../platform/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { StepHook } from './deliver.ts'
import { loadError } from './errors.ts'
import { countIntents, neededFrom, pruneIntents } from './intent.ts'
import { Lane } from './lane.ts'
import { Membership, REVOKE_WAIT_MS } from './membership.ts'
import { RowMemory } from './memory.ts'
import { loadMetrics } from './metrics.ts'

export type LoadDeps = {
  settings: Pick<Settings, 'loadFlushMs' | 'loadBusyPercent' | 'loadMemoryMb'>
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
  /** Called at each step of an insert. Default: the failpoints. */
  reached?: StepHook
}

export type Load = {
  /** Finishes the running inserts (5 s at most), leaves the group. */
  stop(): Promise<void>
  /** Undefined while every owned partition is loaded, else one sentence. */
  notReady(): Promise<string | undefined>
}

const OBSERVE_MS = 5_000
const PRUNE_MS = 60_000
const INTENT_KEPT_MS = 86_400_000
const PRUNED_AT_ONCE = 5_000

/** Joins the groups `load` and `load_outcomes` and loads until stopped. Throws HR_LOAD_NO_TOPIC, HR_LOG_*. */
export async function startLoad(deps: LoadDeps): Promise<Load> {
  const logIds = new Map<string, string>()
  for (const { name, logId } of await deps.log.describe([...ROW_TOPICS])) logIds.set(name, logId)
  const missing = ROW_TOPICS.filter((topic) => !logIds.has(topic))
  if (missing.length > 0) throw loadError('HR_LOAD_NO_TOPIC', `the log has no topic ${missing.join(', ')}`)
  const loader = new Loader(deps, logIds)
  try {
    await loader.start()
  } catch (error) {
    // The caller may try again: no half of this one may stay in a group.
    await loader.stop()
    throw error
  }
  return loader
}

class Loader implements Load {
  private readonly lanes: ReadonlyMap<RowTopic, Lane>
  private readonly memberships: Membership[]
  private readonly stopping = new AbortController()
  private readonly assigned = new Signal()
  /** A number became ours since the last look: its positions hold retention back. */
  private unseen = false
  private housekeeping: Promise<void> | undefined

  constructor(
    private readonly deps: LoadDeps,
    private readonly logIds: Map<string, string>,
  ) {
    const memory = new RowMemory(deps.settings.loadMemoryMb * 2 ** 20, ROW_TOPICS.length)
    this.lanes = new Map(ROW_TOPICS.map((topic) => [topic, this.makeLane(topic, memory)]))
    const oneWriter = ROW_TOPICS.filter((topic) => partitionsOf(topic, deps.partitions) === deps.partitions)
    const twoWriters = ROW_TOPICS.filter((topic) => !oneWriter.includes(topic))
    const changed = () => {
      this.unseen = true
      this.assigned.notify()
    }
    this.memberships = [
      new Membership('load', oneWriter, this.lanes, logIds, deps.logger, changed),
      new Membership('load_outcomes', twoWriters, this.lanes, logIds, deps.logger, changed),
    ]
  }

  private makeLane(topic: RowTopic, memory: RowMemory): Lane {
    const { sql, log, warehouse, logger, partitions, settings } = this.deps
    return new Lane(TABLE_OF_TOPIC[topic].name, {
      sql,
      log,
      warehouse,
      logger,
      partitions,
      logIds: this.logIds,
      memory,
      partitionsOfTopic: partitionsOf(topic, partitions),
      clock: this.deps.clock ?? Date.now,
      flushMs: settings.loadFlushMs,
      busyPercent: settings.loadBusyPercent,
      reached: this.deps.reached ?? failpoint,
      fatal: this.deps.fatal ?? throwLater,
    })
  }

  async start(): Promise<void> {
    for (const lane of this.lanes.values()) lane.start()
    for (const membership of this.memberships) await membership.join(this.deps.log)
    this.housekeeping = this.keepHouse()
  }

  async notReady(): Promise<string | undefined> {
    for (const membership of this.memberships) {
      const reason = membership.notReady()
      if (reason) return reason
    }
    for (const { blocked } of this.lanes.values()) if (blocked.sentence) return blocked.sentence
    return undefined
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    await Promise.all([
      ...this.memberships.map((membership) => membership.leave()),
      ...[...this.lanes.values()].map((lane) => lane.stop(REVOKE_WAIT_MS)),
    ])
    await this.housekeeping
  }

  /** Figures, positions for the log, old intents. What fails here is the world's fault, and it comes again. */
  private async keepHouse(): Promise<void> {
    const { signal } = this.stopping
    const { sql, logger } = this.deps
    let prunedMs = 0
    while (!signal.aborted) {
      this.unseen = false
      try {
        await this.observe()
        if (Date.now() - prunedMs > PRUNE_MS) {
          await pruneIntents(sql, INTENT_KEPT_MS, PRUNED_AT_ONCE)
          prunedMs = Date.now()
        }
      } catch (error) {
        logger.debug({ err: error }, 'load housekeeping failed and will try again')
      }
      if (!this.unseen) await this.assigned.wait(signal, OBSERVE_MS)
    }
  }

  private async observe(): Promise<void> {
    const { log, sql } = this.deps
    const needed = await neededFrom(sql, this.logIds)
    for (const membership of this.memberships) {
      const positions = membership.owned().map(({ topic, partition }) => ({
        topic,
        partition,
        offset: needed.get(`${topic}/${partition}`) ?? 0,
      }))
      await membership.commit(positions)
      for (const { topic, partition, offset } of positions) {
        const { end } = await log.bounds(topic, partition)
        loadMetrics.lag.set({ topic, partition }, Math.max(0, end - offset))
      }
    }
    const { open, repair } = await countIntents(sql)
    loadMetrics.openIntents.set(open)
    loadMetrics.repairIntents.set(repair)
  }
}

/** Ends the process through its handler of uncaught errors. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}
