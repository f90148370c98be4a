/**
 * The deliver stage: events from topic `events` to destinations. In: ownership of partition numbers; per number a round
 * (`round.ts`). Out: requests, rows of topic `deliveries`, positions in Postgres. Any number of processes run at once.
 * Cost when idle: three queries a second.
 */
import type { Settings, Sql } from '../catalog/index.ts'
import { TOPICS } from '../event/index.ts'
import type { Log, Member, Producer } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { type DeliverFailpoint, failpoint, pause } from '../platform/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { ensureFences } from './cursors.ts'
import { Directory } from './directory.ts'
import { type EventsTopic, eventsTopic } from './events-topic.ts'
import { AddressRules } from './http/address.ts'
import { HttpClient, type HttpClientOptions } from './http/client.ts'
import { deliverMetrics } from './metrics.ts'
import { PartitionDelivery } from './partition.ts'
import { RetryWorker } from './retry-worker.ts'
import type { Round } from './round.ts'
import type { RoundDeps } from './round-parts.ts'
import { openSecretBox } from './secrets.ts'
import { DestinationStore } from './store.ts'
import { Places } from './turns.ts'

export type DeliverDeps = {
  settings: Pick<Settings, 'deliverAllow' | 'deliverRetriesMax' | 'secretKey'>
  /** Where the key of the secrets is when no setting has it. */
  secretFile: string
  log: Log
  /** Needs 8 connections. */
  sql: Sql
  warehouse: Warehouse
  /** Of the deployment. */
  partitions: number
  logger: Logger
  clock?: () => number
  /** 0 to 1, for jitter. */
  random?: () => number
  /** How long the shared reader waits for a destination. */
  sharedWaitMs?: number
  /** Called with an error that no retry mends. Default: thrown, so that the process ends. */
  fatal?: (error: unknown) => void
  /** Called at each step. Default: the failpoints. */
  reached?: (step: DeliverFailpoint) => void
  /** For tests: how names are looked up, and who is trusted. */
  http?: Omit<HttpClientOptions, 'rules'>
}

export type Deliver = {
  stop(): Promise<void>
  /** Undefined while every owned partition is delivered, else one sentence. */
  notReady(): Promise<string | undefined>
}

const GROUP = 'deliver'
const SEND_DEADLINE_MS = 30_000
const CATCH_UPS_MAX = 8
const OBSERVE_MS = 5_000
/** A destination that takes longer for a batch is detached. */
const SHARED_WAIT_MS = 2_000

/** Joins the group `deliver` and delivers until stopped. Throws HR_DELIVER_NO_TOPIC, HR_SECRET_KEY, HR_LOG_*, HR_STATE_*. */
export async function startDeliver(deps: DeliverDeps): Promise<Deliver> {
  const topic = await eventsTopic(deps.log)
  const deliver = new Deliverer(deps, topic)
  try {
    await deliver.start()
  } catch (error) {
    await deliver.stop()
    throw error
  }
  return deliver
}

class Deliverer implements Deliver {
  private readonly producer: Producer
  private readonly directory: Directory
  private readonly partitions = new Map<number, PartitionDelivery>()
  private readonly roundDeps: RoundDeps & { fatal: (error: unknown) => void }
  private readonly retries: RetryWorker
  private readonly stopping = new AbortController()
  private member: Member | undefined
  private observing: Promise<void> | undefined

  constructor(
    private readonly deps: DeliverDeps,
    private readonly topic: EventsTopic,
  ) {
    const { log, sql, warehouse, logger, settings } = deps
    const clock = deps.clock ?? Date.now
    const http = new HttpClient({ rules: AddressRules.read(settings.deliverAllow), clock, ...deps.http })
    const store = new DestinationStore(sql, openSecretBox(settings.secretKey, deps.secretFile))
    const share = () => (this.partitions.size || 1) / topic.partitions
    const fault = (what: string, error: unknown) => logger.error({ err: error }, what)
    this.directory = new Directory(store, { http, clock, share, fault }, logger)
    this.producer = log.producer({ name: 'deliver', deadlineMs: SEND_DEADLINE_MS })
    this.roundDeps = {
      log,
      sql,
      warehouse,
      producer: this.producer,
      store,
      directory: this.directory,
      logger,
      clock,
      random: deps.random ?? Math.random,
      sharedWaitMs: deps.sharedWaitMs ?? SHARED_WAIT_MS,
      catchUps: new Places(CATCH_UPS_MAX),
      retriesMax: Math.max(10, Math.ceil(settings.deliverRetriesMax / topic.partitions)),
      reached: deps.reached ?? failpoint,
      fatal: deps.fatal ?? throwLater,
    }
    this.retries = new RetryWorker(this.roundDeps, topic.logId, () => this.rounds(), this.roundDeps.fatal)
  }

  async start(): Promise<void> {
    await ensureFences(this.deps.sql, this.topic)
    await this.directory.start()
    this.member = await this.deps.log.join({
      group: GROUP,
      topics: [TOPICS.events],
      assigned: (partition) => this.assigned(partition),
      revoked: (partition) => this.give(partition),
      lost: (partition) => void this.give(partition),
    })
    this.retries.start()
    this.observing = this.observe()
  }

  async notReady(): Promise<string | undefined> {
    if (!this.member) return `deliver has not joined group ${GROUP} yet`
    for (const [partition, { says }] of this.partitions)
      if (says !== undefined) return `delivery of partition ${partition} waits: ${says}`
    return undefined
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    await this.retries.stop()
    await this.member?.leave()
    await Promise.all([...this.partitions.keys()].map((partition) => this.give(partition)))
    await this.directory.stop()
    await this.observing
    await this.producer.close()
  }

  private assigned(partition: number): void {
    if (this.partitions.has(partition)) return
    const { logId } = this.topic
    this.partitions.set(partition, new PartitionDelivery(this.roundDeps, { logId, partition }))
    this.directory.reshare()
  }

  private async give(partition: number): Promise<void> {
    const given = this.partitions.get(partition)
    this.partitions.delete(partition)
    deliverMetrics.lag.remove({ partition })
    deliverMetrics.gap.remove({ partition })
    this.directory.reshare()
    await given?.stop()
  }

  private rounds(): Map<number, Round> {
    const rounds = new Map<number, Round>()
    for (const [partition, { round }] of this.partitions) if (round) rounds.set(partition, round)
    return rounds
  }

  /** Figures, and positions for the log. What fails here is the world's fault, and it comes again. */
  private async observe(): Promise<void> {
    const { signal } = this.stopping
    while (!signal.aborted) {
      try {
        await this.look()
      } catch (error) {
        this.deps.logger.debug({ err: error }, 'deliver could not look at its positions and will try again')
      }
      await pause(OBSERVE_MS, signal)
    }
  }

  private async look(): Promise<void> {
    const behind = new Map<string, number>()
    let detached = 0
    const waiting = new Map<string, number>()
    for (const [partition, round] of this.rounds()) {
      const offset = round.shared
      await this.member?.commit([{ topic: TOPICS.events, partition, offset }]).catch(() => {})
      const { end } = await this.deps.log.bounds(TOPICS.events, partition)
      deliverMetrics.lag.set({ partition }, Math.max(0, end - offset))
      for (const cursor of round.cursors.values()) {
        const id = cursor.destinationId
        waiting.set(id, (waiting.get(id) ?? 0) + cursor.waiting)
        if (!this.directory.get(id)?.active || cursor.until !== undefined) continue
        if (cursor.at) detached++
        behind.set(id, Math.max(behind.get(id) ?? 0, end - (cursor.at?.next ?? offset)))
      }
    }
    deliverMetrics.detached.set(detached)
    deliverMetrics.behind.reset()
    deliverMetrics.retries.reset()
    for (const [destination, n] of behind) deliverMetrics.behind.set({ destination }, n)
    for (const [destination, n] of waiting) deliverMetrics.retries.set({ destination }, n)
    for (const { id, breaker } of this.directory.all())
      deliverMetrics.open.set({ destination: id }, breaker.open ? 1 : 0)
  }
}

/** Ends the process through its handler of uncaught errors. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}
