/**
 * What waits to be sent, and how it is cut into batches; no input or output here.
 *
 * A `Send` is one call of `Producer.send`; its records are spread over `Lane`s, one per topic partition. A lane has at
 * most one batch on its way. A batch keeps its bytes, and so its sequence number, until it is answered or given up:
 * the broker recognises it when it comes twice.
 *
 * Giving a batch up raises the lane's epoch and starts its sequence at 0. A broker that has seen the new epoch refuses
 * the old one, so what was given up can land before the next batch or never, but not behind it, however long the
 * network holds it back. (The epoch of an idempotent producer without transactions is kept per partition, so one
 * lane's failure leaves the others alone.)
 */
import type { Position, SendRecord } from '../log.ts'
import { BATCH_BYTES_MAX, BATCH_RECORDS_MAX, type Compression } from './options.ts'
import type { ProducePart } from './produce-request.ts'
import { type BatchContent, batchBytes, packBatch, RECORD_FRAME_BYTES, writeBatch } from './record-batch.ts'

const EPOCH_MAX = 32_767
const SEQUENCE_MODULUS = 2 ** 31

export class Send {
  readonly positions: (Position | undefined)[]
  readonly done: Promise<Position[]>
  readonly bytes: number
  settled = false
  private missing: number
  private resolve!: (positions: Position[]) => void
  private reject!: (error: Error) => void

  constructor(
    readonly records: SendRecord[],
    readonly deadlineMs: number,
  ) {
    this.positions = new Array(records.length)
    this.missing = records.length
    let bytes = 0
    for (let i = 0; i < records.length; i++) bytes += records[i]!.header.length + records[i]!.value.length
    this.bytes = bytes
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }

  stored(index: number, position: Position): void {
    this.positions[index] = position
    if (--this.missing > 0 || this.settled) return
    this.settled = true
    this.resolve(this.positions as Position[])
  }

  fail(error: Error): void {
    if (this.settled) return
    this.settled = true
    this.reject(error)
  }
}

/** The records of a batch: `indexes[i]` in `sends[i]`. */
type Entries = { sends: Send[]; indexes: number[] }

export class Batch implements ProducePart {
  readonly bytes: number
  failures = 0
  /** Its bytes in memory of their own; without, they are written straight into the request. */
  private copy: Buffer | undefined

  constructor(
    readonly lane: Lane,
    readonly entries: Entries,
    /** The earliest deadline of its sends: then all of it is given up. */
    readonly deadlineMs: number,
    private readonly content: BatchContent,
    compression: Compression,
  ) {
    if (compression !== 'none') this.copy = packBatch(content, compression)
    this.bytes = this.copy?.length ?? batchBytes(content.records)
  }

  get topic(): string {
    return this.lane.topic
  }

  get partition(): number {
    return this.lane.partition
  }

  write(out: Buffer, at: number): void {
    if (this.copy) this.copy.copy(out, at)
    else writeBatch(this.content, out, at)
  }

  /** It may be sent again: then these bytes, whatever becomes of the memory of its records. */
  keep(sent: () => Buffer): void {
    this.copy ??= sent()
  }
}

export class Lane {
  readonly key: string
  /** Two arrays and no object per record, of which there are many. */
  private sends: Send[] = []
  private indexes: number[] = []
  private head = 0
  batch: Batch | undefined
  /** Not before this (performance.now) is the batch sent again. */
  retryAtMs = 0
  producerId: bigint | undefined
  private epoch = 0
  private sequence = 0

  constructor(
    readonly topic: string,
    readonly partition: number,
  ) {
    this.key = `${topic}/${partition}`
  }

  get idle(): boolean {
    return this.batch === undefined && this.head === this.sends.length
  }

  push(send: Send, index: number): void {
    this.sends.push(send)
    this.indexes.push(index)
  }

  /** Takes on a producer id that no lane of this partition has used before. */
  identify(producerId: bigint): void {
    this.producerId = producerId
    this.epoch = 0
    this.sequence = 0
  }

  /** The batch to send now: the one on its way, or the next one, made of what waits. Needs a producer id. */
  take(batchBytesMax: number, compression: Compression, nowMs: number): Batch | undefined {
    if (this.batch) return this.batch
    const limit = Math.min(batchBytesMax, BATCH_BYTES_MAX)
    const entries: Entries = { sends: [], indexes: [] }
    const records: SendRecord[] = []
    let bytes = 0
    let deadlineMs = Number.POSITIVE_INFINITY
    for (; this.head < this.sends.length && records.length < BATCH_RECORDS_MAX; this.head++) {
      const send = this.sends[this.head]!
      if (send.settled) continue
      const index = this.indexes[this.head]!
      const record = send.records[index]!
      const size = RECORD_FRAME_BYTES + record.header.length + record.value.length
      if (records.length > 0 && bytes + size > limit) break
      bytes += size
      entries.sends.push(send)
      entries.indexes.push(index)
      records.push(record)
      if (send.deadlineMs < deadlineMs) deadlineMs = send.deadlineMs
    }
    this.compact()
    if (records.length === 0) return undefined
    const identity = { producerId: this.producerId!, epoch: this.epoch, sequence: this.sequence }
    this.batch = new Batch(this, entries, deadlineMs, { records, identity, nowMs }, compression)
    return this.batch
  }

  /** Frees what was taken, in steps that keep the cost per record constant. */
  private compact(): void {
    if (this.head === this.sends.length) {
      this.sends = []
      this.indexes = []
      this.head = 0
    } else if (this.head > 4096 && this.head * 2 > this.sends.length) {
      this.sends = this.sends.slice(this.head)
      this.indexes = this.indexes.slice(this.head)
      this.head = 0
    }
  }

  /** The batch is in the log from `baseOffset` on. */
  stored(baseOffset: number): void {
    const { sends, indexes } = this.batch!.entries
    const { topic, partition } = this
    this.batch = undefined
    this.retryAtMs = 0
    this.sequence = (this.sequence + sends.length) % SEQUENCE_MODULUS
    for (let i = 0; i < sends.length; i++)
      sends[i]!.stored(indexes[i]!, { topic, partition, offset: baseOffset + i })
  }

  /** Gives the batch up: whether it landed is not known, and it cannot land behind anything that follows. */
  retire(error: Error): void {
    const batch = this.batch!
    this.batch = undefined
    this.retryAtMs = 0
    this.sequence = 0
    // A lane that used up its epochs asks for a new id. That id does not fence the last epoch of the old one; it takes
    // 32,767 failures on one partition to get here.
    if (++this.epoch > EPOCH_MAX) this.producerId = undefined
    for (const send of batch.entries.sends) send.fail(error)
  }

  /** Forgets queued records of sends that are over. */
  prune(): void {
    if (this.head === this.sends.length) return
    const sends: Send[] = []
    const indexes: number[] = []
    for (let i = this.head; i < this.sends.length; i++) {
      if (this.sends[i]!.settled) continue
      sends.push(this.sends[i]!)
      indexes.push(this.indexes[i]!)
    }
    this.sends = sends
    this.indexes = indexes
    this.head = 0
  }
}
