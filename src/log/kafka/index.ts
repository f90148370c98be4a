/**
 * The log on Kafka (brokers from 3.2 on). Sockets, TLS, SASL and the simple requests are `@platformatic/kafka`'s; who
 * sends what when, what is retried, and what is believed, is decided here:
 *
 * - `producer.ts`, `send-queue.ts`: what is acknowledged is in the log, once, in order; what was given up cannot land
 *   behind what follows.
 * - `fetcher.ts`, `feed.ts`, `reader.ts`: records from an exact position on, each batch checked by its CRC; offsets are
 *   never reset.
 * - `member.ts`, `assignment.ts`: partition numbers shared out among the members of a group.
 * - `admin.ts`: topics, bounds, committed offsets.
 */
import { metadataV12 } from '@platformatic/kafka'
import type { Log, MemberOptions, Producer, ProducerOptions, Reader, ReaderOptions } from '../log.ts'
import { Admin, type KafkaTopicSpec, type KafkaTopicState, type TopicChange } from './admin.ts'
import { Cluster } from './cluster.ts'
import { isHeadraceError } from './faults.ts'
import { Fetcher } from './fetcher.ts'
import { KafkaMember } from './member.ts'
import { type KafkaLogOptions, kafkaSettings } from './options.ts'
import { KafkaProducer } from './producer.ts'
import { KafkaReader, readRange } from './reader.ts'
import { TopicLimits } from './topic-limits.ts'

export type { KafkaTopicSpec, KafkaTopicState, TopicChange } from './admin.ts'
export type { KafkaLogOptions } from './options.ts'

/** What Kafka can do beyond `Log`. */
export interface KafkaLog extends Log {
  readonly kind: 'kafka'
  createTopic(spec: KafkaTopicSpec): Promise<KafkaTopicState>
  describe(topics: string[]): Promise<KafkaTopicState[]>
  alterTopic(name: string, change: TopicChange): Promise<void>
  /** Sets what all our topics have in common: deletion and not compaction, no unclean election, the broker's clock. */
  alterFixed(name: string): Promise<void>
}

/**
 * Opens the log. Resolves without waiting for a broker, so that a role can start before Kafka does; use `notReady`.
 * Rejects with HR_LOG_SETTING when an option is wrong.
 */
export async function openKafkaLog(options: KafkaLogOptions): Promise<KafkaLog> {
  const cluster = new Cluster(kafkaSettings(options))
  const admin = new Admin(cluster)
  const fetcher = new Fetcher(cluster, admin)
  const limits = new TopicLimits(cluster, admin)
  const producers = new Set<KafkaProducer>()
  const readers = new Set<KafkaReader>()
  const members = new Set<KafkaMember>()

  return {
    kind: 'kafka',
    producer(producerOptions: ProducerOptions): Producer {
      cluster.throwIfClosed()
      const producer = new KafkaProducer(cluster, limits, producerOptions, (closed) =>
        producers.delete(closed),
      )
      producers.add(producer)
      return producer
    },
    reader(readerOptions: ReaderOptions): Reader {
      cluster.throwIfClosed()
      const reader = new KafkaReader(fetcher, readerOptions, false, (closed) => readers.delete(closed))
      readers.add(reader)
      return reader
    },
    async join(memberOptions: MemberOptions) {
      cluster.throwIfClosed()
      const member = new KafkaMember(cluster, admin, memberOptions, (gone) => members.delete(gone))
      members.add(member)
      await member.start()
      return member
    },
    async *read(topic, partition, from, to) {
      cluster.throwIfClosed()
      yield* readRange(fetcher, admin, { topic, partition, from, to })
    },
    async bounds(topic, partition) {
      return admin.bounds(topic, partition)
    },
    async committed(group, topic, partition) {
      return admin.committed(group, topic, partition)
    },
    async describe(topics) {
      return admin.describe(topics)
    },
    async createTopic(spec) {
      limits.forget(spec.name)
      return admin.create(spec)
    },
    async deleteTopic(topic) {
      await admin.delete(topic)
      limits.forget(topic)
    },
    async alterTopic(name, change) {
      await admin.alter(name, change)
      limits.forget(name)
    },
    async alterFixed(name) {
      await admin.alterFixed(name)
    },
    async notReady() {
      try {
        const answer = await cluster.askAny<metadataV12.MetadataResponse>(
          (connection, done) => metadataV12.api(connection, [], false, false, done),
          2_000,
        )
        return answer.brokers.length > 0 ? undefined : 'Kafka has no broker that takes records'
      } catch (error) {
        if (isHeadraceError(error)) return error.message
        throw error
      }
    },
    async close() {
      if (cluster.signal.aborted) return
      await Promise.all([...members].map((member) => member.leave()))
      await Promise.all([...producers].map((producer) => producer.close()))
      await Promise.all([...readers].map((reader) => reader.close()))
      fetcher.close()
      cluster.close()
    },
  }
}
