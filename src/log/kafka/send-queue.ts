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
import { encodeBatch, RECORD_FRAME_BYTES } from './record-batch.ts'

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
    for (const record of records) bytes += record.header.length + record.value.length
    this.bytes = bytes
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }

  stored(index: number, offset: number): void {
    const { topic, partition } = this.records[index]!
    this.positions[index] = { topic, partition, offset }
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

type Waiting = { send: Send; index: number }

export type Batch = {
  lane: Lane
  entries: Waiting[]
  bytes: Buffer
  /** The earliest deadline of its sends: then all of it is given up. */
  deadlineMs: number
  failures: number
}

export class Lane {
  readonly key: string
  private waiting: Waiting[] = []
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
    return this.batch === undefined && this.head === this.waiting.length
  }

  push(send: Send, index: number): void {
    this.waiting.push({ send, index })
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
    const entries: Waiting[] = []
    const payload: SendRecord[] = []
    let bytes = 0
    let deadlineMs = Number.POSITIVE_INFINITY
    while (this.head < this.waiting.length && entries.length < BATCH_RECORDS_MAX) {
      const entry = this.waiting[this.head]!
      if (entry.send.settled) {
        this.head++
        continue
      }
      const record = entry.send.records[entry.index]!
      const size = RECORD_FRAME_BYTES + record.header.length + record.value.length
      if (entries.length > 0 && bytes + size > limit) break
      bytes += size
      entries.push(entry)
      payload.push(record)
      deadlineMs = Math.min(deadlineMs, entry.send.deadlineMs)
      this.head++
    }
    this.compact()
    if (entries.length === 0) return undefined
    const identity = { producerId: this.producerId!, epoch: this.epoch, sequence: this.sequence }
    const encoded = encodeBatch(payload, identity, nowMs, compression)
    this.batch = { lane: this, entries, bytes: encoded, deadlineMs, failures: 0 }
    return this.batch
  }

  /** Frees what was taken, in steps that keep the cost per record constant. */
  private compact(): void {
    if (this.head === this.waiting.length) {
      this.waiting = []
      this.head = 0
    } else if (this.head > 4096 && this.head * 2 > this.waiting.length) {
      this.waiting = this.waiting.slice(this.head)
      this.head = 0
    }
  }

  /** The batch is in the log from `baseOffset` on. */
  stored(baseOffset: number): void {
    const { entries } = this.batch!
    this.batch = undefined
    this.retryAtMs = 0
    this.sequence = (this.sequence + entries.length) % SEQUENCE_MODULUS
    for (let i = 0; i < entries.length; i++) entries[i]!.send.stored(entries[i]!.index, baseOffset + i)
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
    for (const { send } of batch.entries) send.fail(error)
  }

  /** Sends that still wait in the queue, in order. */
  *queued(): Iterable<Send> {
    for (let i = this.head; i < this.waiting.length; i++) yield this.waiting[i]!.send
  }

  /** Forgets queued records of sends that are over. */
  prune(): void {
    if (this.head === this.waiting.length) return
    this.waiting = this.waiting.slice(this.head).filter((entry) => !entry.send.settled)
    this.head = 0
  }
}
