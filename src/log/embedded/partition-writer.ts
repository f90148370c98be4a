/**
 * The one writer of one partition. Holds the writer lock from the first send until it is closed.
 *
 * States: open → appended (bytes written, not known to be durable) → open, by `confirm` after the fdatasync or by
 * `rollback` when the write failed; closing → closed at the end. Only the commit loop (group-commit.ts) moves it.
 *
 * What was confirmed may be durable in the commit journal only (commit-journal.ts). `sync` makes it durable in the
 * segment; a segment that is left behind, and a partition that is let go of, has been synced before. The writer lock
 * carries the id of the journal meanwhile: whoever takes the partition over settles that one first.
 */
import { closeSync, ftruncateSync } from 'node:fs'
import { FileLock } from '../../platform/index.ts'
import { logError } from '../errors.ts'
import {
  type Content,
  encodeFrameHeader,
  encodeRecord,
  FRAME_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
} from './format.ts'
import type { Slot } from './head-file.ts'
import { partLabel } from './journal-format.ts'
import { writeBytes } from './layout.ts'
import { damagedRecords, tornBytes } from './metrics.ts'
import { recoverPartition, type Tail } from './recover.ts'
import { createSegment, type OpenSegment, openSegment } from './segment-file.ts'
import type { Settlement } from './settlement.ts'
import type { TopicHandle } from './topic-handle.ts'

/** Where commits are put together before they are written; one per commit loop. */
export class Scratch {
  private static readonly KEEP_BYTES = 8 * 2 ** 20
  private bytes = Buffer.allocUnsafeSlow(2 ** 20)

  /** A buffer of at least `bytes`, valid until the next call. */
  take(bytes: number): Buffer {
    if (bytes > Scratch.KEEP_BYTES) return Buffer.allocUnsafeSlow(bytes)
    if (bytes > this.bytes.length) this.bytes = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(bytes)))
    return this.bytes
  }
}

export class PartitionWriter {
  /** Written but not yet durable. */
  private written: { end: number; bytes: number }
  private lastAppendedMs = 0
  /** How much of the last segment is durable in the segment itself. */
  private syncedBytes: number
  private syncing: Promise<void> = Promise.resolve()
  /** The journal that the writer lock names. */
  private journal: string | undefined
  private closing: Promise<void> | undefined
  /** How the commit journal names this partition. */
  readonly label: Buffer
  /** Somebody is about to delete the topic: closed after the commit in flight. */
  leaving = false

  private constructor(
    readonly topic: TopicHandle,
    readonly partition: number,
    private readonly lock: FileLock,
    private readonly tail: Tail,
    private readonly fdatasync: (fd: number) => Promise<void>,
  ) {
    this.written = { end: tail.end, bytes: tail.bytes }
    this.syncedBytes = tail.bytes
    this.label = partLabel(topic.logId, partition, topic.name)
  }

  /**
   * Takes the writer lock and recovers the partition. Undefined when another process keeps the lock for `waitMs`.
   * `fdatasync` is what makes its segments durable later on.
   * Throws HR_LOG_UNAVAILABLE, HR_LOG_CORRUPT, or what the disk says.
   */
  static async open(
    topic: TopicHandle,
    partition: number,
    waitMs: number,
    settlement: Settlement,
    fdatasync = settlement.operations.fdatasync,
  ): Promise<PartitionWriter | undefined> {
    const lock = await FileLock.within(topic.layout.writerLock(topic.name, partition), waitMs)
    if (!lock) return undefined
    try {
      topic.refresh()
      if (topic.state !== 'live') throw logError('HR_LOG_UNAVAILABLE', `topic ${topic.name} is being deleted`)
      const tail = await recoverPartition(topic, partition, settlement)
      tornBytes.inc(tail.cutBytes)
      if (tail.damage.length > 0) damagedRecords.inc({ topic: topic.name }, tail.damage.length)
      return new PartitionWriter(topic, partition, lock, tail, fdatasync)
    } catch (error) {
      lock.release()
      throw error
    }
  }

  /** What an operator should know of the state in which the partition was found. */
  foundAtOpen(): string[] {
    const { cutBytes, damage } = this.tail
    const where = `${this.topic.name}/${this.partition}`
    const told = damage.map((what) => `${where} is damaged: ${what}`)
    if (cutBytes > 0) told.push(`${where}: cut ${cutBytes} bytes of a commit that nobody was told of`)
    return told
  }

  get fd(): number {
    return this.tail.fd
  }

  /** Nothing more can be appended. */
  get closed(): boolean {
    return this.closing !== undefined
  }

  /** What is durable, as published. */
  get slot(): Omit<Slot, 'bootMark'> {
    const { start, end, segment, bytes } = this.tail
    return { start, end, segment, bytes }
  }

  get segmentMadeMs(): number {
    return this.tail.segmentMadeMs
  }

  /** Whether `more` bytes belong in a new segment. */
  mustRoll(more: number, segmentBytes: number): boolean {
    return this.tail.bytes > SEGMENT_HEADER_BYTES && this.tail.bytes + more > segmentBytes
  }

  /**
   * Begins a new segment at the durable end. Nothing may be in flight. When it fails the writer is closed: the new
   * segment may be there already, so nothing more may be appended to the old one.
   */
  async roll(): Promise<void> {
    const { topic, partition, tail } = this
    // Recovery looks at the end of the last segment only.
    await this.sync()
    let opened: OpenSegment | undefined
    try {
      await createSegment(topic, partition, tail.end)
      opened = openSegment(topic, partition, tail.end, 'r+')
    } finally {
      if (!opened) await this.close()
    }
    const { fd, header } = opened!
    closeSync(tail.fd)
    tail.fd = fd
    tail.segment = tail.end
    tail.segmentMadeMs = header.madeMs
    tail.bytes = SEGMENT_HEADER_BYTES
    this.written = { end: tail.end, bytes: tail.bytes }
    this.syncedBytes = tail.bytes
  }

  /** Notes for whoever takes the partition over that its last commits may be in this journal only. */
  dependOn(journal: string): void {
    if (this.journal === journal) return
    this.lock.note(journal)
    this.journal = journal
  }

  /**
   * Makes all that was written so far durable in the segment. One call after the other, for the kernel tells a failed
   * write-back once per open file: of two fdatasyncs at the same time one would succeed. Throws when the sync fails.
   */
  sync(): Promise<void> {
    const syncing = this.syncing.then(async () => {
      const { bytes } = this.written
      if (bytes <= this.syncedBytes) return
      await this.fdatasync(this.tail.fd)
      this.syncedBytes = bytes
    })
    this.syncing = syncing.catch(() => {})
    return syncing
  }

  /**
   * Puts `records` (of `bodyBytes`) as one frame into `bytes` at `from`, and writes it. Gives the first one's offset.
   * They are not durable yet.
   */
  async append(records: readonly Content[], bodyBytes: number, bytes: Buffer, from: number): Promise<number> {
    const { tail } = this
    const appendedMs = Math.max(Date.now(), this.lastAppendedMs)
    const length = FRAME_HEADER_BYTES + bodyBytes
    let at = from + FRAME_HEADER_BYTES
    for (const record of records) at = encodeRecord(bytes, at, record)
    encodeFrameHeader(
      bytes,
      from,
      { base: tail.end, appendedMs, records: records.length, bodyBytes },
      this.topic.mark,
    )
    this.topic.indexes[this.partition]!.note(tail.segment, tail.end, tail.bytes)
    await writeBytes(tail.fd, bytes, from, from + length, tail.bytes)
    this.lastAppendedMs = appendedMs
    this.written = { end: tail.end + records.length, bytes: tail.bytes + length }
    return tail.end
  }

  /** What was appended is durable: in the segment, or in the journal only. */
  confirm(): void {
    this.tail.end = this.written.end
    this.tail.bytes = this.written.bytes
  }

  /** Takes back what was appended. False when even that fails: the writer must be closed and opened again. */
  rollback(): boolean {
    this.written = { end: this.tail.end, bytes: this.tail.bytes }
    // The next sync must take the cut along.
    this.syncedBytes = -1
    try {
      ftruncateSync(this.tail.fd, this.tail.bytes)
      return true
    } catch {
      return false
    }
  }

  /** Retention moved the first readable offset; published before the files go. */
  moveStart(start: number): void {
    this.tail.start = start
    this.topic.publish(this.partition, [this.slot])
  }

  /**
   * Makes all durable in the segment and lets go of the partition; with `sync` false it only lets go, and the journal
   * that its lock names has the rest. Throws when the sync fails, and has let go then too.
   */
  close(sync = true): Promise<void> {
    this.closing ??= this.letGo(sync)
    return this.closing
  }

  private async letGo(sync: boolean): Promise<void> {
    try {
      await (sync ? this.sync() : this.syncing)
      if (sync && this.journal) this.lock.note('')
    } finally {
      closeSync(this.tail.fd)
      this.lock.release()
    }
  }
}
