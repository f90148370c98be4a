/**
 * Topics as code: the topics that a deployment needs, compared with those that exist, as a plan of actions with one
 * sentence each. Planning is pure; `applyPlan` carries it out.
 *
 * What must hold: nothing is applied while something is wrong that cannot be mended; the number of partitions and the
 * replication of a topic are never changed (the partition of an event is fixed for ever when a deployment is born).
 */
import { partitionsOf, TOPICS, type TopicName } from '../event/index.ts'
import { logError } from './errors.ts'
import type { KafkaLog, KafkaTopicState, TopicChange } from './kafka/index.ts'
import type { Log, TopicSpec, TopicState } from './log.ts'

export type WantedTopic = TopicSpec & { replication?: number; minInsyncReplicas?: number }
/** What `describe` gives; an embedded log leaves Kafka's part out. */
export type ExistingTopic = TopicState & Partial<KafkaTopicState>

export type TopicAction = {
  topic: string
  /** For people: what is found, what is wanted, what will be done. */
  sentence: string
} & (
  | { kind: 'create'; spec: WantedTopic }
  /** `common` = what all our topics share (deletion, no unclean election, the broker's clock) is set too. */
  | { kind: 'alter'; change: TopicChange; common: boolean; weaker: boolean }
  | { kind: 'wrong' }
)

const MIB = 1 << 20
const DAY_MS = 86_400_000
const RAW_RECORD_BYTES_MAX = MIB
/** A row carries its event and the properties of person and groups. */
const ROW_RECORD_BYTES_MAX = 4 * MIB
const RETENTION_MS = 7 * DAY_MS

export type DeploymentTopics = {
  /** P: fixed when the deployment is born. */
  partitions: number
  replication?: number
  minInsyncReplicas?: number
  /** Default 7 days. */
  retentionMs?: number
  retentionBytes?: number
}

/** Every topic of the event path, as a deployment with these numbers needs it. */
export function deploymentTopics(deployment: DeploymentTopics): WantedTopic[] {
  const {
    partitions,
    replication,
    minInsyncReplicas,
    retentionMs = RETENTION_MS,
    retentionBytes,
  } = deployment
  const raw: readonly TopicName[] = [TOPICS.raw, TOPICS.rawHistorical]
  return Object.values(TOPICS).map((name) => ({
    name,
    partitions: partitionsOf(name, partitions),
    recordBytesMax: raw.includes(name) ? RAW_RECORD_BYTES_MAX : ROW_RECORD_BYTES_MAX,
    retentionMs,
    ...(retentionBytes === undefined ? {} : { retentionBytes }),
    ...(replication === undefined ? {} : { replication }),
    ...(minInsyncReplicas === undefined ? {} : { minInsyncReplicas }),
  }))
}

/** What has to be done so that every wanted topic is as wanted; empty when all is well. Other topics are left alone. */
export function planTopics(wanted: WantedTopic[], existing: ExistingTopic[]): TopicAction[] {
  const found = new Map(existing.map((topic) => [topic.name, topic]))
  return wanted.flatMap((spec) => {
    const state = found.get(spec.name)
    return state ? compare(spec, state) : [creation(spec)]
  })
}

function creation(spec: WantedTopic): TopicAction {
  const parts = [
    `${spec.partitions} partitions`,
    ...(spec.replication === undefined ? [] : [`replication ${spec.replication}`]),
    ...(spec.minInsyncReplicas === undefined ? [] : [`min.insync.replicas ${spec.minInsyncReplicas}`]),
    `retention ${duration(spec.retentionMs)}`,
    ...(spec.retentionBytes === undefined ? [] : [`at most ${spec.retentionBytes} bytes per partition`]),
    `records up to ${spec.recordBytesMax} bytes`,
  ]
  return {
    kind: 'create',
    topic: spec.name,
    spec,
    sentence: `Topic ${spec.name} does not exist: it will be created with ${parts.join(', ')}.`,
  }
}

function compare(spec: WantedTopic, state: ExistingTopic): TopicAction[] {
  const wrong = unmendable(spec, state)
  if (wrong) return [{ kind: 'wrong', topic: spec.name, sentence: wrong }]
  const change: TopicChange = {}
  const said: string[] = []
  let weaker = false
  const differs = (name: string, found: string, wantedText: string, isWeaker: boolean) => {
    said.push(`${name} is ${found} and becomes ${wantedText}`)
    weaker ||= isWeaker
  }
  if (spec.retentionMs !== state.retentionMs) {
    if (spec.retentionMs !== undefined) change.retentionMs = spec.retentionMs
    else Object.assign(change, { retentionMs: undefined })
    differs(
      'retention.ms',
      duration(state.retentionMs),
      duration(spec.retentionMs),
      (state.retentionMs ?? Infinity) < (spec.retentionMs ?? Infinity),
    )
  }
  if (spec.retentionBytes !== state.retentionBytes) {
    Object.assign(change, { retentionBytes: spec.retentionBytes })
    differs(
      'retention.bytes',
      String(state.retentionBytes ?? 'unlimited'),
      String(spec.retentionBytes ?? 'unlimited'),
      (state.retentionBytes ?? Infinity) < (spec.retentionBytes ?? Infinity),
    )
  }
  if (spec.recordBytesMax !== state.recordBytesMax) {
    change.recordBytesMax = spec.recordBytesMax
    differs(
      'the record limit (max.message.bytes less our overhead)',
      String(state.recordBytesMax),
      String(spec.recordBytesMax),
      state.recordBytesMax < spec.recordBytesMax,
    )
  }
  if (spec.minInsyncReplicas !== undefined && state.minInsyncReplicas !== undefined) {
    if (spec.minInsyncReplicas !== state.minInsyncReplicas) {
      change.minInsyncReplicas = spec.minInsyncReplicas
      differs(
        'min.insync.replicas',
        String(state.minInsyncReplicas),
        String(spec.minInsyncReplicas),
        state.minInsyncReplicas < spec.minInsyncReplicas,
      )
    }
  }
  const common = commonDifferences(state)
  for (const { name, found, needed } of common) differs(name, found, needed, true)
  if (said.length === 0) return []
  return [
    {
      kind: 'alter',
      topic: spec.name,
      change,
      common: common.length > 0,
      weaker,
      sentence: `Topic ${spec.name}: ${said.join('; ')}.`,
    },
  ]
}

/** What no command can change without moving or losing records. */
function unmendable(spec: WantedTopic, state: ExistingTopic): string | undefined {
  if (state.partitions !== spec.partitions)
    return `Topic ${spec.name} has ${state.partitions} partitions and this deployment was set up for ${spec.partitions}: the number cannot be changed, so set the deployment to the topic's number or use a new topic.`
  if (
    spec.replication !== undefined &&
    state.replication !== undefined &&
    state.replication < spec.replication
  )
    return `Topic ${spec.name} has replication ${state.replication} and at least ${spec.replication} is wanted: reassign its replicas with Kafka's own tools.`
  return undefined
}

function commonDifferences(state: ExistingTopic): { name: string; found: string; needed: string }[] {
  const differences: { name: string; found: string; needed: string }[] = []
  if (state.cleanupPolicy !== undefined && state.cleanupPolicy !== 'delete')
    differences.push({ name: 'cleanup.policy', found: state.cleanupPolicy, needed: 'delete' })
  if (state.uncleanElection === true)
    differences.push({ name: 'unclean.leader.election.enable', found: 'true', needed: 'false' })
  if (state.appendTime === false)
    differences.push({ name: 'message.timestamp.type', found: 'CreateTime', needed: 'LogAppendTime' })
  return differences
}

/** One line per action, for a terminal. */
export function formatPlan(plan: TopicAction[]): string {
  if (plan.length === 0) return 'All topics are as they should be.'
  const signs = { create: '+', alter: '~', wrong: '!' } as const
  return plan.map((action) => `${signs[action.kind]} ${action.sentence}`).join('\n')
}

/**
 * Carries the plan out. Rejects with HR_LOG_WRONG_TOPIC before anything is changed when a part of it cannot be done.
 * Safe to repeat: a plan made again afterwards is empty.
 */
export async function applyPlan(log: Log, plan: TopicAction[]): Promise<void> {
  const kafka = isKafka(log) ? log : undefined
  for (const action of plan) {
    if (action.kind === 'wrong') throw logError('HR_LOG_WRONG_TOPIC', action.sentence)
    if (action.kind === 'alter' && !kafka)
      throw logError(
        'HR_LOG_WRONG_TOPIC',
        `${action.sentence} The embedded log cannot change a topic that exists.`,
      )
  }
  for (const action of plan) {
    if (action.kind === 'create') await log.createTopic(action.spec)
    if (action.kind !== 'alter' || !kafka) continue
    await kafka.alterTopic(action.topic, action.change)
    if (action.common) await kafka.alterFixed(action.topic)
  }
}

function isKafka(log: Log): log is KafkaLog {
  return log.kind === 'kafka'
}

/**
 * For boot: throws HR_LOG_NO_TOPIC or HR_LOG_WRONG_TOPIC, one sentence, when a topic is missing or promises less than
 * is wanted. A topic that promises more (longer retention, larger records) is fine.
 */
export function checkTopics(wanted: WantedTopic[], existing: ExistingTopic[]): void {
  for (const action of planTopics(wanted, existing)) {
    if (action.kind === 'create')
      throw logError(
        'HR_LOG_NO_TOPIC',
        `Topic ${action.topic} does not exist; \`headrace kafka apply\` creates it with ${action.spec.partitions} partitions.`,
      )
    if (action.kind === 'wrong') throw logError('HR_LOG_WRONG_TOPIC', action.sentence)
    if (action.weaker)
      throw logError(
        'HR_LOG_WRONG_TOPIC',
        `${action.sentence.slice(0, -1)}, as soon as you run \`headrace kafka apply\`.`,
      )
  }
}

function duration(ms: number | undefined): string {
  if (ms === undefined) return 'unlimited'
  if (ms % DAY_MS === 0) return `${ms / DAY_MS} ${ms === DAY_MS ? 'day' : 'days'}`
  return `${ms} ms`
}
