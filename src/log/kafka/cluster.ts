/**
 * What this process knows of the cluster: brokers, topics, leaders; and the connections that are shared for short
 * questions. Producers, fetchers and members have connections of their own (a broker answers one connection's
 * requests in order, so a long poll would hold up everything behind it).
 *
 * Knowledge is renewed when somebody meets an error that says it is old, never on a timer. All who ask at the same
 * time share one request.
 */
import { metadataV12 } from '@platformatic/kafka'
import { isRetriable } from '../../event/index.ts'
import { logError } from '../errors.ts'
import { backoffMs, pause } from './backoff.ts'
import { CODE, codeName, isHeadraceError, isTransient } from './faults.ts'
import { type Call, Link } from './link.ts'
import type { BrokerAddress, KafkaSettings } from './options.ts'

export type PartitionPlace = { leader: number; leaderEpoch: number; replicas: number[] }
export type TopicPlaces = { name: string; topicId: string; partitions: PartitionPlace[] }

export class Cluster {
  private readonly brokers = new Map<number, BrokerAddress>()
  private readonly topics = new Map<string, TopicPlaces>()
  /** Topics that the last answer did not know. */
  private readonly unknown = new Set<string>()
  private readonly links = new Map<string, Link>()
  private refreshing: { topics: Set<string>; done: Promise<void> } | undefined
  private queued: { topics: Set<string>; done: Promise<void> } | undefined
  private readonly closing = new AbortController()
  private turn = 0

  constructor(readonly settings: KafkaSettings) {}

  get signal(): AbortSignal {
    return this.closing.signal
  }

  places(topic: string): TopicPlaces | undefined {
    return this.topics.get(topic)
  }

  /** True when a broker said that this topic does not exist. */
  isUnknown(topic: string): boolean {
    return this.unknown.has(topic)
  }

  leaderOf(topic: string, partition: number): number | undefined {
    const leader = this.topics.get(topic)?.partitions[partition]?.leader
    return leader !== undefined && this.brokers.has(leader) ? leader : undefined
  }

  addressOf(broker: number): BrokerAddress | undefined {
    return this.brokers.get(broker)
  }

  /** A connection for the caller alone; destroy it when done. */
  privateLink(broker: number): Link {
    const address = this.brokers.get(broker)
    if (!address) throw logError('HR_LOG_UNAVAILABLE', `Kafka broker ${broker} is not known at present`)
    return new Link(address, this.settings)
  }

  /** The shared connection for short questions. */
  linkTo(broker: number): Link {
    const address = this.brokers.get(broker)
    if (!address) throw logError('HR_LOG_UNAVAILABLE', `Kafka broker ${broker} is not known at present`)
    return this.shared(address)
  }

  /** The shared connections to all brokers known now. */
  everyLink(): Link[] {
    return [...this.brokers.values()].map((address) => this.shared(address))
  }

  /** The shared connection to an address that a broker named. */
  linkAt(address: BrokerAddress): Link {
    return this.shared(address)
  }

  private shared(address: BrokerAddress): Link {
    const key = `${address.host}:${address.port}`
    let link = this.links.get(key)
    if (!link) {
      link = new Link(address, this.settings)
      this.links.set(key, link)
    }
    return link
  }

  /** Asks any broker that answers. Rejects with HR_LOG_UNAVAILABLE when none does. */
  async askAny<T>(call: Call<T>, timeoutMs = this.settings.requestTimeoutMs): Promise<T> {
    const known = [...this.brokers.values()]
    const seeds = this.settings.seeds.filter(
      (s) => !known.some((k) => k.host === s.host && k.port === s.port),
    )
    const first = known.length ? this.turn++ % known.length : 0
    const candidates = [...known.slice(first), ...known.slice(0, first), ...seeds]
    let last: unknown
    for (const address of candidates) {
      this.throwIfClosed()
      try {
        return await this.shared(address).ask(call, timeoutMs)
      } catch (error) {
        if (!isHeadraceError(error)) throw error
        last = error
      }
    }
    throw logError(
      'HR_LOG_UNAVAILABLE',
      `none of the Kafka brokers ${candidates.map((c) => `${c.host}:${c.port}`).join(', ')} answers: ${last instanceof Error ? last.message : last}`,
      last,
    )
  }

  /** Learns anew where `topics` are. Requests that arrive while one is under way share the next one. */
  refresh(topics: Iterable<string>): Promise<void> {
    if (this.refreshing) {
      this.queued ??= {
        topics: new Set(),
        done: this.refreshing.done.catch(() => {}).then(() => this.runQueued()),
      }
      for (const topic of topics) this.queued.topics.add(topic)
      return this.queued.done
    }
    const wanted = new Set(topics)
    const done = this.load(wanted).finally(() => {
      this.refreshing = undefined
    })
    this.refreshing = { topics: wanted, done }
    return done
  }

  private runQueued(): Promise<void> {
    const topics = this.queued?.topics ?? new Set<string>()
    this.queued = undefined
    return this.refresh(topics)
  }

  private async load(topics: Set<string>): Promise<void> {
    const wanted = [...topics]
    const answer = await this.askAny<metadataV12.MetadataResponse>(
      (connection, done) => metadataV12.api(connection, wanted, false, false, done),
      Math.min(this.settings.requestTimeoutMs, 5_000),
    )
    if (answer.brokers.length > 0) {
      const named = new Map(answer.brokers.map((b) => [b.nodeId, { host: b.host, port: b.port }]))
      this.brokers.clear()
      for (const [id, address] of named) this.brokers.set(id, address)
    }
    for (const topic of answer.topics) {
      if (!topic.name) continue
      if (topic.errorCode === CODE.UNKNOWN_TOPIC_OR_PARTITION) {
        this.unknown.add(topic.name)
        this.topics.delete(topic.name)
        continue
      }
      if (topic.errorCode !== CODE.NONE) continue
      this.unknown.delete(topic.name)
      const partitions: PartitionPlace[] = []
      for (const p of topic.partitions)
        partitions[p.partitionIndex] = {
          leader: p.leaderId,
          leaderEpoch: p.leaderEpoch,
          replicas: p.replicaNodes,
        }
      this.topics.set(topic.name, { name: topic.name, topicId: topic.topicId, partitions })
    }
  }

  /**
   * Tries `once` until it gives a value, waiting in between and learning anew about `topics`, for at most
   * `requestTimeoutMs`. `once` gives an error code when the answer was one that may pass.
   */
  async retrying<T>(
    what: string,
    topics: string[],
    once: () => Promise<{ value: T } | { code: number }>,
    budgetMs = this.settings.requestTimeoutMs,
  ): Promise<T> {
    const deadline = performance.now() + budgetMs
    for (let failures = 0; ; failures++) {
      this.throwIfClosed()
      let failure: unknown
      let code: number | undefined
      try {
        const result = await once()
        if ('value' in result) return result.value
        code = result.code
      } catch (error) {
        if (!isRetriable(error)) throw error
        failure = error
      }
      if (code !== undefined && !isTransient(code))
        throw logError('HR_LOG_UNAVAILABLE', `Kafka refused ${what}: ${codeName(code)}`)
      const reason = code === undefined ? (failure as Error).message : codeName(code)
      if (performance.now() > deadline)
        throw logError(
          'HR_LOG_UNAVAILABLE',
          `Kafka did not manage ${what} within ${budgetMs} ms: ${reason}`,
          failure,
        )
      await pause(backoffMs(failures), this.signal)
      await this.refresh(topics).catch((error) => {
        if (!isHeadraceError(error)) throw error
      })
    }
  }

  throwIfClosed(): void {
    if (this.closing.signal.aborted)
      throw logError('HR_LOG_CLOSED', 'the Kafka log was used after it was closed')
  }

  close(): void {
    this.closing.abort()
    for (const link of this.links.values()) link.destroy()
    this.links.clear()
  }
}
