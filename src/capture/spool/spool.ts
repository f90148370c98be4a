/**
 * One spool: raw records in, in one total order, durable when `append` resolves; out again in that order, and gone when
 * `advance` has passed them. An embedded log with one partition (one fdatasync per append) in a folder that this
 * process holds; how far it is drained is a committed position of that log, so it is durable too, and what lies below
 * is removed by the log's retention. Accepted and drained counts are offsets: they cannot be wrong.
 *
 * States: open → closed (the folder is left to the next process, removed, or quarantined).
 * Cost: an append is one write and one fdatasync; draining a batch is one small write and one fdatasync.
 */
import {
  type EmbeddedLogOptions,
  type Log,
  logError,
  type Member,
  openEmbeddedLog,
  type Producer,
  type Reader,
  type SendRecord,
  type StoredRecord,
} from '../../log/index.ts'
import { Signal } from '../../platform/index.ts'
import type { SpoolFolder } from './folder.ts'
import {
  APPEND_MS_MAX,
  DISK_LOOK_EVERY_MS,
  QUEUE_BYTES_MAX,
  RECORD_BYTES_MAX,
  RETENTION_EVERY_MS,
  SEGMENT_BYTES,
  SEGMENT_KEEP_MS,
} from './limits.ts'
import { SPOOL_PARTITION, SPOOL_TOPIC, toSpool } from './record.ts'

const GROUP = 'drain'
/** The folder is ours alone, so nobody else ever comes or goes. */
const MEMBER_POLL_MS = 3_600_000
/** The drainer waits for nothing: it asks only for what is there. */
const POLL_MS = 60_000

export type SpoolOptions = {
  /** Most that it may take on its disk. */
  bytesMax: number
  /** Appends are refused while more than this part of the disk is used. */
  diskUsedRatioMax: number
  /** Told in one sentence what an operator should know. */
  warn(sentence: string): void
  /** For fault tests. */
  log?: Partial<EmbeddedLogOptions>
}

export class Spool {
  private acceptedThrough: number
  private drainedThrough: number
  /** Appends that the disk has not answered yet, also those that nobody waits for any more. */
  private inFlight = 0
  private bytes: number
  private looked = performance.now()
  private readThrough: number
  private closed: Promise<void> | undefined
  /** When the oldest record that is not drained was taken, epoch ms, as far as it is known. */
  private oldestMs: number | undefined

  private constructor(
    readonly folder: SpoolFolder,
    private readonly options: SpoolOptions,
    private readonly log: Log,
    private readonly member: Member,
    private readonly producer: Producer,
    private readonly reader: Reader,
    { accepted, drained }: { accepted: number; drained: number },
  ) {
    this.acceptedThrough = accepted
    this.drainedThrough = drained
    this.readThrough = drained
    this.bytes = folder.bytesOnDisk()
  }

  /** Opens what `folder` holds, or makes it. Throws HR_LOG_UNAVAILABLE, HR_LOG_DISK_FULL, HR_LOG_CORRUPT. */
  static async open(folder: SpoolFolder, options: SpoolOptions): Promise<Spool> {
    const log = await openEmbeddedLog({
      dir: folder.logDir,
      segmentBytes: SEGMENT_BYTES,
      queueBytesMax: QUEUE_BYTES_MAX,
      retentionEveryMs: RETENTION_EVERY_MS,
      memberPollMs: MEMBER_POLL_MS,
      pollMs: POLL_MS,
      diskUsedRatioMax: options.diskUsedRatioMax,
      warn: options.warn,
      ...options.log,
    })
    try {
      // Retention never passes a committed position, so a position is committed before anything can be appended.
      await log.createTopic({
        name: SPOOL_TOPIC,
        partitions: 1,
        recordBytesMax: RECORD_BYTES_MAX,
        retentionBytes: 1,
        retentionMs: SEGMENT_KEEP_MS,
      })
      const member = await joinAlone(log)
      const { start, end } = await log.bounds(SPOOL_TOPIC, SPOOL_PARTITION)
      let drained = await log.committed(GROUP, SPOOL_TOPIC, SPOOL_PARTITION)
      if (drained === undefined) {
        drained = start
        await member.commit([{ topic: SPOOL_TOPIC, partition: SPOOL_PARTITION, offset: drained }])
      }
      if (drained > end)
        throw logError(
          'HR_LOG_CORRUPT',
          `the spool ${folder.path} ends at ${end} and is drained to ${drained}`,
        )
      const producer = log.producer({ name: 'spool', deadlineMs: APPEND_MS_MAX })
      const reader = log.reader({ topic: SPOOL_TOPIC, partition: SPOOL_PARTITION, from: drained })
      return new Spool(folder, options, log, member, producer, reader, { accepted: end, drained })
    } catch (error) {
      await log.close()
      throw error
    }
  }

  /** Records that it ever took. */
  get accepted(): number {
    return this.acceptedThrough
  }

  /** Those of them that are in the log. */
  get drained(): number {
    return this.drainedThrough
  }

  get backlog(): number {
    return this.acceptedThrough - this.drainedThrough
  }

  /** True when nothing is in it, and nothing on its way into it. */
  get isEmpty(): boolean {
    return this.inFlight === 0 && this.backlog === 0
  }

  /** Bytes on disk; 0 when nothing is in it, though the last segment may still be there. */
  get bytesHeld(): number {
    return this.isEmpty ? 0 : this.bytes
  }

  /** Age of the oldest record in it, ms. */
  ageMs(nowMs: number): number {
    return this.backlog === 0 || this.oldestMs === undefined ? 0 : Math.max(0, nowMs - this.oldestMs)
  }

  /** Undefined when it can take records, else one sentence why not. */
  async notReady(): Promise<string | undefined> {
    if (this.look() > this.options.bytesMax)
      return `The spool ${this.folder.path} holds ${this.bytes} bytes, at most ${this.options.bytesMax} are allowed.`
    return this.log.notReady()
  }

  /**
   * Resolves when all are durable, behind those of earlier calls. Throws HR_LOG_DISK_FULL (also above `bytesMax`),
   * HR_LOG_UNAVAILABLE, HR_LOG_SYNC_FAILED.
   */
  async append(records: readonly SendRecord[]): Promise<void> {
    let more = 0
    for (const { header, value } of records) more += header.length + value.length
    if (this.look() + more > this.options.bytesMax)
      throw logError(
        'HR_LOG_DISK_FULL',
        `the spool holds ${this.bytes} bytes; ${more} more would pass the ${this.options.bytesMax} that are allowed`,
      )
    this.inFlight++
    try {
      const positions = await this.producer.send(toSpool(records))
      if (this.backlog === 0) this.oldestMs = Date.now()
      this.acceptedThrough = positions.at(-1)!.offset + 1
      this.bytes += more
    } finally {
      this.inFlight--
    }
  }

  /**
   * The oldest records that were not read yet, within the limits, at least one when there are some. Throws HR_LOG_CORRUPT, HR_LOG_OUT_OF_RANGE, HR_LOG_UNAVAILABLE.
   */
  async read(limit: { records: number; bytes: number }): Promise<StoredRecord[]> {
    const batch: StoredRecord[] = []
    let bytes = 0
    while (this.readThrough < this.acceptedThrough && batch.length < limit.records && bytes < limit.bytes) {
      const left = Math.min(limit.records - batch.length, this.acceptedThrough - this.readThrough)
      const piece = await this.nextPiece({ records: left, bytes: limit.bytes - bytes }, batch.length > 0)
      if (piece.length === 0) break
      for (const record of piece) {
        bytes += record.header.length + record.value.length
        batch.push(record)
      }
      this.readThrough = piece.at(-1)!.offset + 1
    }
    if (batch.length > 0) this.oldestMs = batch[0]!.appendedMs
    return batch
  }

  /** What can be read in front of damage is given first; the next call meets it again. */
  private async nextPiece(
    limit: { records: number; bytes: number },
    hasSome: boolean,
  ): Promise<StoredRecord[]> {
    try {
      return await this.reader.next(limit)
    } catch (error) {
      if (hasSome) return []
      throw error
    }
  }

  /** What lies below `offset` is in the log. Resolves when that is durable. */
  async advance(offset: number): Promise<void> {
    await this.member.commit([{ topic: SPOOL_TOPIC, partition: SPOOL_PARTITION, offset }])
    this.drainedThrough = offset
  }

  /** Closes it; the folder stays held. */
  close(): Promise<void> {
    this.closed ??= this.log.close()
    return this.closed
  }

  private look(): number {
    const now = performance.now()
    if (now - this.looked >= DISK_LOOK_EVERY_MS) {
      this.looked = now
      this.bytes = this.folder.bytesOnDisk()
    }
    return this.bytes
  }
}

/** The membership that may commit; resolves when the one partition is ours. */
async function joinAlone(log: Log): Promise<Member> {
  const owned = new Signal()
  const never = new AbortController().signal
  const waiting = owned.wait(never)
  const member = await log.join({
    group: GROUP,
    topics: [SPOOL_TOPIC],
    assigned: () => owned.notify(),
    revoked: async () => {},
    lost: () => {},
  })
  await waiting
  return member
}
