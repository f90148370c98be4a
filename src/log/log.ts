/**
 * The log: what the stages hand each other events through. Two implementations behind one interface, held to the
 * same promises by one conformance suite (`conformance.ts`): embedded (append-only files) and Kafka.
 *
 * What must hold:
 * - A send resolves only when its records are durable; no reader sees a record before that.
 * - Offsets of a partition are dense and rising; an offset once shown is never given again.
 * - Records of one producer are in a partition in the order of its sends. A send that failed or passed its
 *   deadline never lands behind a later one of the same producer (its producer is retired first).
 * - Nothing resets an offset: reading below `start` or above `end` fails with HR_LOG_OUT_OF_RANGE.
 */

import type { Bytes } from '../event/index.ts'

/** What a producer takes: its parts may lie within larger buffers. */
export type SendRecord = { topic: string; partition: number; header: Bytes; value: Bytes }

/** A record to send whose parts are views of their own. */
export type LogRecord = { topic: string; partition: number; header: Uint8Array; value: Uint8Array }

export type StoredRecord = {
  offset: number
  /** When the log took it, epoch ms. */
  appendedMs: number
  header: Uint8Array
  value: Uint8Array
}

export type Position = { topic: string; partition: number; offset: number }

export type TopicSpec = {
  name: string
  partitions: number
  /** Oldest records are removed beyond these; undefined = keep. The embedded log never passes a registered reader. */
  retentionMs?: number
  retentionBytes?: number
  /** Largest header + value that one record may have. */
  recordBytesMax: number
}

export type TopicState = TopicSpec & {
  /** Canonical UUID; another one means that the topic was deleted and made again. */
  logId: string
  /** Kafka only. */
  replication?: number
  minInsyncReplicas?: number
}

export interface Producer {
  /**
   * Appends `records` in order. Resolves with one position per record when all are durable. Rejects with
   * HR_LOG_RECORD_TOO_LARGE (rejected, before anything is sent), or HR_LOG_UNAVAILABLE, HR_LOG_DISK_FULL,
   * HR_LOG_DEADLINE (retriable; some of the records may have landed). Sends that arrive while one is in flight
   * are joined into the next.
   */
  send(records: SendRecord[]): Promise<Position[]>
  close(): Promise<void>
}

export type ProducerOptions = {
  /** Named in errors and metrics. */
  name: string
  /** A send that is not durable after this fails with HR_LOG_DEADLINE. */
  deadlineMs: number
}

export type ReaderOptions = {
  topic: string
  partition: number
  /** First offset to read. */
  from: number
  /** Buffered ahead of `next`, per reader. */
  bufferBytesMax?: number
}

export interface Reader {
  /**
   * The next records, in order, at least one: waits until there is one. Resolves with [] only after `close` or
   * when `signal` aborts. Rejects with HR_LOG_OUT_OF_RANGE, HR_LOG_CORRUPT (fatal, with position), or
   * HR_LOG_UNAVAILABLE (retriable; the reader stays usable and goes on where it was).
   */
  next(limit: { records: number; bytes: number }, signal?: AbortSignal): Promise<StoredRecord[]>
  close(): Promise<void>
}

/**
 * Ownership of partition numbers within a group. A member owns a number for all `topics` at once, so both lanes of
 * a raw partition are always with the same member.
 */
export type MemberOptions = {
  group: string
  topics: string[]
  /** Called for each number that became ours. Must not throw; slow work goes on in the background. */
  assigned(partition: number): void
  /** The number goes to another member when this resolves (finish or abandon the batch); called also on `leave`. */
  revoked(partition: number): Promise<void>
  /** The number is gone already (we were paused or cut off): stop at once, another member may own it. */
  lost(partition: number): void
}

export interface Member {
  /** Partition numbers that we own now. */
  owned(): number[]
  /** For lag displays only, our own positions are in Postgres. Rejects with HR_LOG_NOT_OWNER when the partition is not ours. */
  commit(positions: Position[]): Promise<void>
  /** Revokes everything, then leaves the group. */
  leave(): Promise<void>
}

export interface Log {
  readonly kind: 'embedded' | 'kafka'
  producer(options: ProducerOptions): Producer
  reader(options: ReaderOptions): Reader
  join(options: MemberOptions): Promise<Member>
  /** Reads [from, to) of one partition in batches, for replay, audit and repair. Same errors as `Reader.next`. */
  read(topic: string, partition: number, from: number, to: number): AsyncIterable<StoredRecord[]>
  /** First offset that can be read, and the offset that the next record will get (durable end). */
  bounds(topic: string, partition: number): Promise<{ start: number; end: number }>
  committed(group: string, topic: string, partition: number): Promise<number | undefined>
  /** The topics that exist of those asked for. */
  describe(topics: string[]): Promise<TopicState[]>
  createTopic(spec: TopicSpec): Promise<TopicState>
  deleteTopic(topic: string): Promise<void>
  /** Ready to store: the disk is below its watermark, the brokers answer. Undefined, or one sentence why not. */
  notReady(): Promise<string | undefined>
  close(): Promise<void>
}
