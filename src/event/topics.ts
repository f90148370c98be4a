/**
 * The topics, and how their partition numbers relate. Every topic of the event path has P partitions (fixed when
 * a deployment is born), and a raw event's rows go to the partition number of the event, so that one owner writes
 * one partition. Topics with two writing roles have P partitions for each: ingest writes p, load writes P + p.
 */
export const TOPICS = {
  raw: 'raw_events',
  rawHistorical: 'raw_events_historical',
  events: 'events',
  persons: 'persons',
  personDistinctIds: 'person_distinct_ids',
  groups: 'groups',
  ingestionWarnings: 'ingestion_warnings',
  deadLetters: 'dead_letters',
  outcomes: 'outcomes',
  deliveries: 'deliveries',
} as const

export type TopicName = (typeof TOPICS)[keyof typeof TOPICS]

/** Both lanes of a partition number have one owner; order of this list = order of priority. */
export const RAW_TOPICS = [TOPICS.raw, TOPICS.rawHistorical] as const
export type RawTopic = (typeof RAW_TOPICS)[number]

/** Topics whose records are rows that the loader inserts as they are. */
export const ROW_TOPICS = [
  TOPICS.events,
  TOPICS.persons,
  TOPICS.personDistinctIds,
  TOPICS.groups,
  TOPICS.ingestionWarnings,
  TOPICS.deadLetters,
  TOPICS.outcomes,
  TOPICS.deliveries,
] as const
export type RowTopic = (typeof ROW_TOPICS)[number]

/** Topics that ingest and load both write: twice the partitions. */
const TWO_WRITERS: readonly TopicName[] = [TOPICS.deadLetters, TOPICS.outcomes]

/** How many partitions `topic` has in a deployment born with `partitions`. */
export function partitionsOf(topic: TopicName, partitions: number): number {
  return TWO_WRITERS.includes(topic) ? partitions * 2 : partitions
}

export type WritingRole = 'ingest' | 'load'

/** The partition that `role` writes for partition number `p`. */
export function writerPartition(topic: TopicName, role: WritingRole, p: number, partitions: number): number {
  return TWO_WRITERS.includes(topic) && role === 'load' ? partitions + p : p
}
