/**
 * Topics as Kafka has them: described, made, changed, deleted; bounds and committed offsets. Each call asks until it
 * has an answer or its time is over; changes are seen through until the brokers agree on them.
 */
import {
  createTopicsV7,
  deleteTopicsV6,
  describeConfigsV4,
  findCoordinatorV4,
  incrementalAlterConfigsV1,
  listOffsetsV7,
  metadataV12,
  offsetFetchV8,
} from '@platformatic/kafka'
import { logError } from '../errors.ts'
import type { TopicSpec, TopicState } from '../log.ts'
import { backoffMs, pause } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import { CODE, codeName, isHeadraceError } from './faults.ts'
import type { Link } from './link.ts'
import { RECORD_OVERHEAD_BYTES } from './record-batch.ts'

/** What only Kafka has. */
export type KafkaTopicSpec = TopicSpec & { replication?: number; minInsyncReplicas?: number }
export type KafkaTopicState = TopicState & {
  cleanupPolicy: string
  uncleanElection: boolean
  appendTime: boolean
}
export type TopicChange = Partial<
  Pick<KafkaTopicSpec, 'retentionMs' | 'retentionBytes' | 'recordBytesMax' | 'minInsyncReplicas'>
>

const TOPIC_RESOURCE = 2
const SET = 0
const GROUP = 0
const EARLIEST = -2n
const LATEST = -1n
const CONFIG = {
  retentionMs: 'retention.ms',
  retentionBytes: 'retention.bytes',
  recordBytes: 'max.message.bytes',
  minInsync: 'min.insync.replicas',
  cleanup: 'cleanup.policy',
  unclean: 'unclean.leader.election.enable',
  time: 'message.timestamp.type',
} as const

export class Admin {
  constructor(private readonly cluster: Cluster) {}

  async describe(names: string[]): Promise<KafkaTopicState[]> {
    if (names.length === 0) return []
    await this.cluster.retrying('a look at the topics', names, async () => {
      await this.cluster.refresh(names)
      // A topic without a leader for a partition is there, but the broker may hide its partitions for a moment.
      const hidden = names.some(
        (name) => !this.cluster.isUnknown(name) && !this.cluster.places(name)?.partitions.length,
      )
      return hidden ? { code: CODE.LEADER_NOT_AVAILABLE } : { value: true }
    })
    const there = names.filter((name) => this.cluster.places(name))
    if (there.length === 0) return []
    const configs = await this.cluster.retrying('a look at topic settings', names, async () => {
      const answer = await this.cluster.askAny<describeConfigsV4.DescribeConfigsResponse>(
        (connection, done) =>
          describeConfigsV4.api(
            connection,
            there.map((name) => ({
              resourceType: TOPIC_RESOURCE,
              resourceName: name,
              configurationKeys: Object.values(CONFIG),
            })),
            false,
            false,
            done,
          ),
      )
      const failed = answer.results.find((result) => result.errorCode !== CODE.NONE)
      return failed ? { code: failed.errorCode } : { value: answer.results }
    })
    const states: KafkaTopicState[] = []
    for (const name of there) {
      const places = this.cluster.places(name)
      const config = configs.find((result) => result.resourceName === name)
      if (!places || !config) continue
      const values = new Map(config.configs.map((entry) => [entry.name, entry.value ?? '']))
      const retentionMs = Number(values.get(CONFIG.retentionMs))
      const retentionBytes = Number(values.get(CONFIG.retentionBytes))
      states.push({
        name,
        logId: places.topicId,
        partitions: places.partitions.length,
        ...(retentionMs >= 0 ? { retentionMs } : {}),
        ...(retentionBytes >= 0 ? { retentionBytes } : {}),
        recordBytesMax: Number(values.get(CONFIG.recordBytes)) - RECORD_OVERHEAD_BYTES,
        replication: Math.min(...places.partitions.map((partition) => partition.replicas.length)),
        minInsyncReplicas: Number(values.get(CONFIG.minInsync)),
        cleanupPolicy: values.get(CONFIG.cleanup) ?? '',
        uncleanElection: values.get(CONFIG.unclean) === 'true',
        appendTime: values.get(CONFIG.time) === 'LogAppendTime',
      })
    }
    return states
  }

  async create(spec: KafkaTopicSpec): Promise<KafkaTopicState> {
    const replication = spec.replication ?? this.cluster.settings.replication ?? -1
    const configs: { name: string; value: string }[] = [
      { name: CONFIG.retentionMs, value: String(spec.retentionMs ?? -1) },
      { name: CONFIG.retentionBytes, value: String(spec.retentionBytes ?? -1) },
      { name: CONFIG.recordBytes, value: String(spec.recordBytesMax + RECORD_OVERHEAD_BYTES) },
      { name: CONFIG.cleanup, value: 'delete' },
      { name: CONFIG.unclean, value: 'false' },
      { name: CONFIG.time, value: 'LogAppendTime' },
    ]
    if (spec.minInsyncReplicas !== undefined)
      configs.push({ name: CONFIG.minInsync, value: String(spec.minInsyncReplicas) })
    const topic = {
      name: spec.name,
      numPartitions: spec.partitions,
      replicationFactor: replication,
      assignments: [],
      configs,
    }
    const { requestTimeoutMs } = this.cluster.settings
    let tries = 0
    await this.cluster.retrying(`to create topic ${spec.name}`, [], async () => {
      const answer = await this.cluster.askAny<createTopicsV7.CreateTopicsResponse>((connection, done) =>
        createTopicsV7.api(connection, [topic], requestTimeoutMs, false, done),
      )
      const result = answer.topics[0]
      if (!result) return { code: CODE.LEADER_NOT_AVAILABLE }
      // A first try whose answer was lost has made the topic.
      if (result.errorCode === CODE.TOPIC_ALREADY_EXISTS && tries++ > 0) return { value: true }
      tries++
      if (result.errorCode === CODE.NONE) return { value: true }
      if (result.errorCode === CODE.NOT_CONTROLLER || result.errorCode === CODE.REQUEST_TIMED_OUT)
        return { code: result.errorCode }
      throw logError(
        'HR_LOG_WRONG_TOPIC',
        `Kafka refused to create topic ${spec.name} (${spec.partitions} partitions, replication ${replication}): ${codeName(result.errorCode)}${result.errorMessage ? `, ${result.errorMessage}` : ''}`,
      )
    })
    await this.agreed(spec.name, (count) => count === spec.partitions)
    const [state] = await this.describe([spec.name])
    if (!state) throw logError('HR_LOG_UNAVAILABLE', `topic ${spec.name} was created but is not there`)
    return state
  }

  /** Changes settings of a topic that is there; what is not named stays. `retention…: undefined` given = keep for ever. */
  async alter(name: string, change: TopicChange): Promise<void> {
    const entries: [string, string][] = []
    if ('retentionMs' in change) entries.push([CONFIG.retentionMs, String(change.retentionMs ?? -1)])
    if ('retentionBytes' in change) entries.push([CONFIG.retentionBytes, String(change.retentionBytes ?? -1)])
    if (change.recordBytesMax !== undefined)
      entries.push([CONFIG.recordBytes, String(change.recordBytesMax + RECORD_OVERHEAD_BYTES)])
    if (change.minInsyncReplicas !== undefined)
      entries.push([CONFIG.minInsync, String(change.minInsyncReplicas)])
    await this.setConfigs(name, entries)
  }

  /** Sets what every topic of ours needs whatever its spec: no compaction, no unclean election, the broker's clock. */
  async alterFixed(name: string): Promise<void> {
    await this.setConfigs(name, [
      [CONFIG.cleanup, 'delete'],
      [CONFIG.unclean, 'false'],
      [CONFIG.time, 'LogAppendTime'],
    ])
  }

  private async setConfigs(name: string, entries: [string, string][]): Promise<void> {
    if (entries.length === 0) return
    await this.cluster.retrying(`to change topic ${name}`, [], async () => {
      const answer = await this.cluster.askAny<incrementalAlterConfigsV1.IncrementalAlterConfigsResponse>(
        (connection, done) =>
          incrementalAlterConfigsV1.api(
            connection,
            [
              {
                resourceType: TOPIC_RESOURCE,
                resourceName: name,
                configs: entries.map(([key, value]) => ({ name: key, configOperation: SET, value })),
              },
            ],
            false,
            done,
          ),
      )
      const result = answer.responses[0]
      if (!result) return { code: CODE.LEADER_NOT_AVAILABLE }
      if (result.errorCode === CODE.NONE) return { value: true }
      if (result.errorCode === CODE.NOT_CONTROLLER || result.errorCode === CODE.REQUEST_TIMED_OUT)
        return { code: result.errorCode }
      throw logError(
        'HR_LOG_WRONG_TOPIC',
        `Kafka refused to change topic ${name} (${entries.map((entry) => entry.join('=')).join(', ')}): ${codeName(result.errorCode)}${result.errorMessage ? `, ${result.errorMessage}` : ''}`,
      )
    })
  }

  /** Deleting a topic that is not there is done already. */
  async delete(name: string): Promise<void> {
    await this.cluster.retrying(`to delete topic ${name}`, [], async () => {
      const answer = await this.cluster.askAny<deleteTopicsV6.DeleteTopicsResponse>((connection, done) =>
        deleteTopicsV6.api(
          connection,
          [{ name, topicId: null }],
          this.cluster.settings.requestTimeoutMs,
          done,
        ),
      )
      const code = answer.responses[0]?.errorCode ?? CODE.LEADER_NOT_AVAILABLE
      return code === CODE.NONE || code === CODE.UNKNOWN_TOPIC_OR_PARTITION ? { value: true } : { code }
    })
    await this.agreed(name, (count) => count === 0)
  }

  /**
   * Waits until every broker that answers sees the topic as `expected`: a broker behind the others would make the next
   * reader or producer believe that the topic is not there.
   */
  private async agreed(name: string, expected: (partitionsWithLeader: number) => boolean): Promise<void> {
    const { requestTimeoutMs } = this.cluster.settings
    const deadline = performance.now() + requestTimeoutMs
    for (let failures = 0; performance.now() < deadline; failures++) {
      await this.cluster.refresh([name])
      const links = this.cluster.everyLink()
      const counts = await Promise.all(links.map((link) => leadersSeen(link, name)))
      if (counts.every((count) => count === undefined || expected(count))) {
        await this.cluster.refresh([name])
        return
      }
      await pause(backoffMs(failures), this.cluster.signal)
      this.cluster.throwIfClosed()
    }
    throw logError(
      'HR_LOG_UNAVAILABLE',
      `the brokers do not agree on topic ${name} after ${requestTimeoutMs} ms`,
    )
  }

  async bounds(topic: string, partition: number): Promise<{ start: number; end: number }> {
    const [start, end] = await Promise.all([
      this.offsetAt(topic, partition, EARLIEST),
      this.offsetAt(topic, partition, LATEST),
    ])
    return { start, end }
  }

  private async offsetAt(topic: string, partition: number, timestamp: bigint): Promise<number> {
    return this.cluster.retrying(`the bounds of ${topic}/${partition}`, [topic], async () => {
      if (this.cluster.leaderOf(topic, partition) === undefined) await this.cluster.refresh([topic])
      const places = this.cluster.places(topic)
      if (!places && this.cluster.isUnknown(topic))
        throw logError(
          'HR_LOG_NO_TOPIC',
          `topic ${topic} does not exist in Kafka; create it with headrace kafka apply`,
        )
      if (places && partition >= places.partitions.length)
        throw logError(
          'HR_LOG_WRONG_TOPIC',
          `topic ${topic} has ${places.partitions.length} partitions, asked for ${partition}`,
        )
      const leader = this.cluster.leaderOf(topic, partition)
      if (leader === undefined) return { code: CODE.LEADER_NOT_AVAILABLE }
      const answer = await this.cluster
        .linkTo(leader)
        .ask<listOffsetsV7.ListOffsetsResponse>((connection, done) =>
          listOffsetsV7.api(
            connection,
            -1,
            0,
            [{ name: topic, partitions: [{ partitionIndex: partition, currentLeaderEpoch: -1, timestamp }] }],
            done,
          ),
        )
      const found = answer.topics[0]?.partitions[0]
      if (!found) return { code: CODE.LEADER_NOT_AVAILABLE }
      return found.errorCode === CODE.NONE ? { value: Number(found.offset) } : { code: found.errorCode }
    })
  }

  async coordinator(group: string): Promise<{ nodeId: number; host: string; port: number }> {
    return this.cluster.retrying(`the coordinator of group ${group}`, [], async () => {
      const answer = await this.cluster.askAny<findCoordinatorV4.FindCoordinatorResponse>(
        (connection, done) => findCoordinatorV4.api(connection, GROUP, [group], done),
      )
      const found = answer.coordinators[0]
      if (!found) return { code: CODE.COORDINATOR_NOT_AVAILABLE }
      return found.errorCode === CODE.NONE ? { value: found } : { code: found.errorCode }
    })
  }

  async committed(group: string, topic: string, partition: number): Promise<number | undefined> {
    return this.cluster.retrying(`the committed offset of group ${group}`, [], async () => {
      const { host, port } = await this.coordinator(group)
      const answer = await this.cluster
        .linkAt({ host, port })
        .ask<offsetFetchV8.OffsetFetchResponse>((connection, done) =>
          offsetFetchV8.api(
            connection,
            [
              {
                groupId: group,
                memberId: null,
                memberEpoch: -1,
                topics: [{ name: topic, partitionIndexes: [partition] }],
              },
            ],
            true,
            done,
          ),
        )
      const found = answer.groups[0]
      if (!found) return { code: CODE.COORDINATOR_NOT_AVAILABLE }
      if (found.errorCode !== CODE.NONE) return { code: found.errorCode }
      const entry = found.topics[0]?.partitions[0]
      if (entry && entry.errorCode !== CODE.NONE) return { code: entry.errorCode }
      const offset = entry ? Number(entry.committedOffset) : -1
      return { value: offset < 0 ? undefined : offset }
    })
  }
}

/** How many partitions with a leader this broker knows of; undefined when it does not answer. */
async function leadersSeen(link: Link, topic: string): Promise<number | undefined> {
  try {
    const answer = await link.ask<metadataV12.MetadataResponse>(
      (connection, done) => metadataV12.api(connection, [topic], false, false, done),
      1_000,
    )
    const found = answer.topics[0]
    if (!found || found.errorCode === CODE.UNKNOWN_TOPIC_OR_PARTITION) return 0
    return found.partitions.filter((partition) => partition.leaderId >= 0).length
  } catch (error) {
    if (isHeadraceError(error)) return undefined
    throw error
  }
}
