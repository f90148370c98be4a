/**
 * What one reader has of one partition: its position, the records fetched ahead, and who waits for them. No input or
 * output here; the fetcher fills feeds, the reader empties them.
 *
 * The buffer is bounded: a feed is fetched for only while another full answer fits (or it is empty), so it holds at
 * most `bufferBytesMax` plus one batch. A record's bytes are a view of what came of its partition in one answer.
 */
import type { StoredRecord } from '../log.ts'
import { FETCH_PARTITION_BYTES_MAX } from './options.ts'

export class Feed {
  readonly topic: string
  readonly partition: number
  /** The next offset to fetch. */
  position: number
  /** Set when the feed was first placed; a topic with another id is another log. */
  topicId: string | undefined
  /** performance.now() since when no broker serves it. */
  lostMs: number | undefined
  /** Since when brokers say that the topic is not there. */
  unknownMs: number | undefined
  /** How often in a row an answer had a wrong CRC: the wire may be at fault, twice the disk is. */
  corrupt = 0
  failures = 0
  closed = false
  private buffered: StoredRecord[] = []
  private head = 0
  private bytes = 0
  private fatal: Error | undefined
  private waiting: { wake(): void; fail(error: Error): void } | undefined

  constructor(
    { topic, partition, from }: { topic: string; partition: number; from: number },
    /** A loop of its own serves it. */
    readonly alone: boolean,
    private readonly bufferBytesMax: number,
    /** Called when room came free in a feed that was full. */
    private readonly onRoom: () => void,
  ) {
    this.topic = topic
    this.partition = partition
    this.position = from
  }

  get key(): string {
    return `${this.topic}/${this.partition}`
  }

  get hasRoom(): boolean {
    return this.bytes === 0 || this.bytes + FETCH_PARTITION_BYTES_MAX <= this.bufferBytesMax
  }

  get ended(): boolean {
    return this.closed || this.fatal !== undefined
  }

  push(records: StoredRecord[], bytes: number, next: number): void {
    if (this.closed || records.length === 0) return
    if (this.head === this.buffered.length) {
      this.buffered = records
      this.head = 0
    } else for (const record of records) this.buffered.push(record)
    this.bytes += bytes
    this.position = next
    this.waiting?.wake()
  }

  /** Nothing more will come; what is buffered is still served. */
  fail(error: Error): void {
    this.fatal ??= error
    this.waiting?.wake()
  }

  /** Tells a waiting caller that the log is out of reach; the feed goes on. */
  complain(error: Error): void {
    this.waiting?.fail(error)
  }

  /** At least one record, or undefined when none is buffered. Throws what `fail` was given once the buffer is empty. */
  take(limit: { records: number; bytes: number }): StoredRecord[] | undefined {
    if (this.head === this.buffered.length) {
      if (this.fatal) throw this.fatal
      return undefined
    }
    const wasFull = !this.hasRoom
    const from = this.head
    const end = Math.min(this.buffered.length, from + Math.max(1, limit.records))
    let bytes = 0
    let to = from
    while (to < end) {
      const record = this.buffered[to]!
      const size = record.header.length + record.value.length
      if (to > from && bytes + size > limit.bytes) break
      bytes += size
      to++
    }
    const taken = from === 0 && to === this.buffered.length ? this.buffered : this.buffered.slice(from, to)
    if (to === this.buffered.length) {
      this.buffered = []
      this.head = 0
      this.bytes = 0
    } else {
      this.head = to
      this.bytes -= bytes
      if (to > 4096) {
        this.buffered = this.buffered.slice(to)
        this.head = 0
      }
    }
    if (wasFull && this.hasRoom) this.onRoom()
    return taken
  }

  /** Resolves when there is something to take, an error, the end, or when `signal` aborts. One waiter at a time. */
  wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.waiting = undefined
        signal?.removeEventListener('abort', wake)
      }
      const wake = () => {
        settle()
        resolve()
      }
      const fail = (error: Error) => {
        settle()
        reject(error)
      }
      this.waiting = { wake, fail }
      signal?.addEventListener('abort', wake)
    })
  }

  close(): void {
    this.closed = true
    this.buffered = []
    this.head = 0
    this.bytes = 0
    this.waiting?.wake()
    this.onRoom()
  }
}
