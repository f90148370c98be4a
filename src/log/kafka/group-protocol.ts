/**
 * The requests of a group member, in Kafka's classic protocol, with subscriptions and assignments in the consumer
 * format, so that Kafka's own tools can show the group.
 */
import {
  decodeConsumerProtocolAssignment,
  decodeConsumerProtocolSubscription,
  encodeConsumerProtocolAssignment,
  encodeConsumerProtocolSubscription,
  heartbeatV4,
  joinGroupV9,
  leaveGroupV5,
  offsetCommitV8,
  syncGroupV5,
} from '@platformatic/kafka'
import type { Position } from '../log.ts'
import { assignNumbers } from './assignment.ts'
import type { Link } from './link.ts'

const PROTOCOL_TYPE = 'consumer'
/** The name is the version: members that share out differently must not be in one group. */
const PROTOCOL = 'headrace-numbers-1'
const FORMAT_VERSION = 2

export type GroupIdentity = { group: string; memberId: string; generation: number }

export type JoinAnswer = {
  code: number
  memberId: string
  generation: number
  /** Only for the leader: everyone's subscription. */
  members: { memberId: string; metadata: Buffer }[] | undefined
}

export async function joinGroup(
  link: Link,
  identity: GroupIdentity,
  wish: { topics: string[]; owned: number[]; sessionTimeoutMs: number; rebalanceTimeoutMs: number },
): Promise<JoinAnswer> {
  const metadata = encodeConsumerProtocolSubscription({
    version: FORMAT_VERSION,
    topics: wish.topics,
    userData: Buffer.alloc(0),
    ownedPartitions: wish.topics.map((topic) => ({ topic, partitions: wish.owned })),
    generationId: identity.generation,
  })
  const answer = await link.ask<joinGroupV9.JoinGroupResponse>(
    (connection, done) =>
      joinGroupV9.api(
        connection,
        identity.group,
        wish.sessionTimeoutMs,
        wish.rebalanceTimeoutMs,
        identity.memberId,
        null,
        PROTOCOL_TYPE,
        [{ name: PROTOCOL, metadata }],
        null,
        done,
      ),
    // The broker answers when all members have come or the rebalance time is over.
    wish.rebalanceTimeoutMs + wish.sessionTimeoutMs,
  )
  const leads = answer.errorCode === 0 && answer.leader === answer.memberId
  return {
    code: answer.errorCode,
    memberId: answer.memberId ?? '',
    generation: answer.generationId,
    members: leads
      ? answer.members.map((m) => ({ memberId: m.memberId, metadata: m.metadata as Buffer }))
      : undefined,
  }
}

/** As leader: the assignment of every member, made from what they say they own. */
export function assignAll(
  members: NonNullable<JoinAnswer['members']>,
  topics: string[],
  partitions: number,
): { memberId: string; assignment: Buffer }[] {
  const claims = members.map(({ memberId, metadata }) => {
    const subscription = decodeConsumerProtocolSubscription(metadata)
    const owned = subscription.ownedPartitions?.find(({ topic }) => topic === topics[0])?.partitions ?? []
    return { id: memberId, owned: [...owned], generation: subscription.generationId ?? -1 }
  })
  return [...assignNumbers(claims, partitions)].map(([memberId, numbers]) => ({
    memberId,
    assignment: encodeConsumerProtocolAssignment({
      version: FORMAT_VERSION,
      assignedPartitions: topics.map((topic) => ({ topic, partitions: numbers })),
      userData: null,
    }),
  }))
}

export async function syncGroup(
  link: Link,
  identity: GroupIdentity,
  assignments: { memberId: string; assignment: Buffer }[],
  timeoutMs: number,
): Promise<{ code: number; numbers: number[] }> {
  const answer = await link.ask<syncGroupV5.SyncGroupResponse>(
    (connection, done) =>
      syncGroupV5.api(
        connection,
        identity.group,
        identity.generation,
        identity.memberId,
        null,
        PROTOCOL_TYPE,
        PROTOCOL,
        assignments,
        done,
      ),
    timeoutMs,
  )
  if (answer.errorCode !== 0) return { code: answer.errorCode, numbers: [] }
  const { assignedPartitions } = decodeConsumerProtocolAssignment(answer.assignment)
  return { code: 0, numbers: [...(assignedPartitions[0]?.partitions ?? [])] }
}

export async function heartbeat(link: Link, identity: GroupIdentity, timeoutMs: number): Promise<number> {
  const answer = await link.ask<heartbeatV4.HeartbeatResponse>(
    (connection, done) =>
      heartbeatV4.api(connection, identity.group, identity.generation, identity.memberId, null, done),
    timeoutMs,
  )
  return answer.errorCode
}

export async function leaveGroup(link: Link, identity: GroupIdentity, timeoutMs: number): Promise<void> {
  await link.ask<leaveGroupV5.LeaveGroupResponse>(
    (connection, done) =>
      leaveGroupV5.api(
        connection,
        identity.group,
        [{ memberId: identity.memberId, groupInstanceId: null, reason: null }],
        done,
      ),
    timeoutMs,
  )
}

/** The first error code of any partition, or 0. */
export async function commitOffsets(
  link: Link,
  identity: GroupIdentity,
  positions: Position[],
): Promise<number> {
  const topics = new Map<string, offsetCommitV8.OffsetCommitRequestPartition[]>()
  for (const { topic, partition, offset } of positions) {
    const entry = {
      partitionIndex: partition,
      committedOffset: BigInt(offset),
      committedLeaderEpoch: -1,
      committedMetadata: null,
    }
    const same = topics.get(topic)
    if (same) same.push(entry)
    else topics.set(topic, [entry])
  }
  const answer = await link.ask<offsetCommitV8.OffsetCommitResponse>((connection, done) =>
    offsetCommitV8.api(
      connection,
      identity.group,
      identity.generation,
      identity.memberId,
      null,
      [...topics].map(([name, partitions]) => ({ name, partitions })),
      done,
    ),
  )
  for (const topic of answer.topics)
    for (const partition of topic.partitions) if (partition.errorCode !== 0) return partition.errorCode
  return 0
}
