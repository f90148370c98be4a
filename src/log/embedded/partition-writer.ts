/**
 * The one writer of one partition. Holds the writer lock from the first send until it is closed.
 *
 * States: open → appended (bytes written, not known to be durable) → open, by `confirm` after the fdatasync or by
 * `rollback` when the write failed; closed at the end. Only the commit loop (group-commit.ts) moves it.
 */
import { closeSync, ftruncateSync, write } from 'node:fs'
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
import { writeFully } from './layout.ts'
import { damagedRecords, tornBytes } from './metrics.ts'
import type { FileOperations } from './options.ts'
import { recoverPartition, type Tail } from './recover.ts'
import { createSegment, type OpenSegment, openSegment } from './segment-file.ts'
import type { TopicHandle } from './topic-handle.ts'

/** A larger commit is written on another thread, so that a slow disk does not hold up the event loop. */
const WRITE_INLINE_BYTES = 256 * 1024

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
  closed = false
  /** Somebody is about to delete the topic: closed after the commit in flight. */
  leaving = false

  private constructor(
    readonly topic: TopicHandle,
    readonly partition: number,
    private readonly lock: FileLock,
    private readonly tail: Tail,
  ) {
    this.written = { end: tail.end, bytes: tail.bytes }
  }

  /**
   * Takes the writer lock and recovers the partition. Undefined when another process keeps the lock for `waitMs`.
   * Throws HR_LOG_UNAVAILABLE, HR_LOG_CORRUPT, or what the disk says.
   */
  static async open(
    topic: TopicHandle,
    partition: number,
    waitMs: number,
    operations: FileOperations,
  ): Promise<PartitionWriter | undefined> {
    const lock = await FileLock.within(topic.layout.writerLock(topic.name, partition), waitMs)
    if (!lock) return undefined
    try {
      topic.refresh()
      if (topic.state !== 'live') throw logError('HR_LOG_UNAVAILABLE', `topic ${topic.name} is being deleted`)
      const tail = await recoverPartition(topic, partition, operations)
      tornBytes.inc(tail.cutBytes)
      if (tail.damage.length > 0) damagedRecords.inc({ topic: topic.name }, tail.damage.length)
      return new PartitionWriter(topic, partition, lock, tail)
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
    let opened: OpenSegment | undefined
    try {
      await createSegment(topic, partition, tail.end)
      opened = openSegment(topic, partition, tail.end, 'r+')
    } finally {
      if (!opened) this.close()
    }
    const { fd, header } = opened!
    closeSync(tail.fd)
    tail.fd = fd
    tail.segment = tail.end
    tail.segmentMadeMs = header.madeMs
    tail.bytes = SEGMENT_HEADER_BYTES
    this.written = { end: tail.end, bytes: tail.bytes }
  }

  /** Writes `records` (of `bodyBytes`) as one frame. Gives the first one's offset. They are not durable yet. */
  async append(records: readonly Content[], bodyBytes: number, scratch: Scratch): Promise<number> {
    const { tail } = this
    const appendedMs = Math.max(Date.now(), this.lastAppendedMs)
    const length = FRAME_HEADER_BYTES + bodyBytes
    const bytes = scratch.take(length)
    let at = FRAME_HEADER_BYTES
    for (const record of records) at = encodeRecord(bytes, at, record)
    encodeFrameHeader(
      bytes,
      0,
      { base: tail.end, appendedMs, records: records.length, bodyBytes },
      this.topic.mark,
    )
    this.topic.indexes[this.partition]!.note(tail.segment, tail.end, tail.bytes)
    if (length <= WRITE_INLINE_BYTES) writeFully(tail.fd, bytes.subarray(0, length), tail.bytes)
    else await writeAway(tail.fd, bytes, length, tail.bytes)
    this.lastAppendedMs = appendedMs
    this.written = { end: tail.end + records.length, bytes: tail.bytes + length }
    return tail.end
  }

  /** What was appended is durable. */
  confirm(): void {
    this.tail.end = this.written.end
    this.tail.bytes = this.written.bytes
  }

  /** Takes back what was appended. False when even that fails: the writer must be closed and opened again. */
  rollback(): boolean {
    this.written = { end: this.tail.end, bytes: this.tail.bytes }
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

  close(): void {
    if (this.closed) return
    this.closed = true
    closeSync(this.tail.fd)
    this.lock.release()
  }
}

async function writeAway(fd: number, bytes: Buffer, length: number, position: number): Promise<void> {
  for (let at = 0; at < length; )
    at += await new Promise<number>((resolve, reject) =>
      write(fd, bytes, at, length - at, position + at, (error, count) =>
        error ? reject(error) : resolve(count),
      ),
    )
}
