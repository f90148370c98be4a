/**
 * A producer of the embedded log: checks the records, sorts them by partition and hands them to the group commit.
 * The order of sends holds: while a partition is being opened for one send, later ones of this producer wait behind
 * it. A send that passes its deadline before its commit begins never lands; one whose commit has begun lands in its
 * place, before any later one. A partition that was opened for nothing is let go of, and what a producer used when it
 * closes, so that no lock stays behind that nobody writes under; whoever else of this log writes there opens it again.
 */
import { logError } from '../errors.ts'
import type { Position, Producer, ProducerOptions, SendRecord } from '../log.ts'
import { type Content, RECORD_HEADER_BYTES } from './format.ts'
import type { GroupCommit } from './group-commit.ts'
import type { HeadBoard } from './head-board.ts'
import type { Limits } from './options.ts'
import { PartitionWriter } from './partition-writer.ts'
import type { TopicHandle } from './topic-handle.ts'
import { worldError } from './world-error.ts'
import type { Writers } from './writers.ts'

/** What producers of one log share. */
export type ProducerShared = {
  board: HeadBoard
  writers: Writers
  commit: GroupCommit
  limits: Limits
  /** Undefined, or one sentence why nothing may be stored now. */
  diskFull(): string | undefined
  /** False once the log is closed. */
  isOpen(): boolean
}

/** The records of one send for one partition, with their places in the send. */
type Lot = { topic: TopicHandle; partition: number; records: Content[]; places: number[]; bytes: number }

/** The lots of one topic, by partition. */
type TopicLots = { handle: TopicHandle; recordBytesMax: number; lots: (Lot | undefined)[] }

export class EmbeddedProducer implements Producer {
  private opening: Promise<void> = Promise.resolve()
  private openings = 0
  private inFlight = 0
  private closed = false
  private drained: (() => void) | undefined
  /** What it wrote to. */
  private readonly used = new Set<PartitionWriter>()

  constructor(
    private readonly shared: ProducerShared,
    private readonly options: ProducerOptions,
  ) {}

  async send(records: SendRecord[]): Promise<Position[]> {
    if (this.closed || !this.shared.isOpen())
      throw logError('HR_LOG_CLOSED', `producer ${this.options.name} is closed`)
    const { commit, limits } = this.shared
    if (commit.failure) throw commit.failure
    const lots = this.sort(records)
    const full = this.shared.diskFull()
    if (full) throw logError('HR_LOG_DISK_FULL', full)
    let bytes = 0
    for (const lot of lots) bytes += lot.bytes
    if (bytes + commit.queuedBytes > limits.queueBytesMax)
      throw logError(
        'HR_LOG_UNAVAILABLE',
        `${commit.queuedBytes} bytes wait for the disk already and ${bytes} more would pass ${limits.queueBytesMax}`,
      )
    if (lots.length === 0) return []
    this.inFlight++
    try {
      return await this.commitLots(records, lots)
    } finally {
      if (--this.inFlight === 0) this.drained?.()
    }
  }

  /** One lot per topic and partition, in order of first appearance. Refuses what could not be stored. */
  private sort(records: SendRecord[]): Lot[] {
    const lots: Lot[] = []
    const byTopic = new Map<string, TopicLots>()
    let topic: TopicLots | undefined
    for (let i = 0; i < records.length; i++) {
      const record = records[i]!
      if (record.topic !== topic?.handle.name) topic = this.lotsOf(record.topic, byTopic)
      const { handle, recordBytesMax } = topic
      const { partition } = record
      const size = record.header.length + record.value.length
      if (size > recordBytesMax)
        throw logError(
          'HR_LOG_RECORD_TOO_LARGE',
          `a record of ${size} bytes is larger than the ${recordBytesMax} that ${handle.name} allows`,
        )
      let lot = topic.lots[partition]
      if (lot === undefined) {
        if (!Number.isInteger(partition) || partition < 0 || partition >= handle.partitions)
          throw logError('HR_LOG_WRONG_TOPIC', `topic ${handle.name} has no partition ${partition}`)
        lot = { topic: handle, partition, records: [], places: [], bytes: 0 }
        topic.lots[partition] = lot
        lots.push(lot)
      }
      lot.records.push(record)
      lot.places.push(i)
      lot.bytes += RECORD_HEADER_BYTES + size
    }
    return lots
  }

  private lotsOf(name: string, byTopic: Map<string, TopicLots>): TopicLots {
    let known = byTopic.get(name)
    if (!known) {
      const handle = this.shared.board.open(name)
      known = { handle, recordBytesMax: handle.settings.recordBytesMax, lots: [] }
      byTopic.set(name, known)
    }
    return known
  }

  private commitLots(records: SendRecord[], lots: Lot[]): Promise<Position[]> {
    return new Promise((resolve, reject) => {
      const positions = new Array<Position>(records.length)
      let waiting = lots.length
      let settled = false
      const timer = setTimeout(() => {
        fail(
          logError(
            'HR_LOG_DEADLINE',
            `producer ${this.options.name}: not durable within ${this.options.deadlineMs} ms`,
          ),
        )
      }, this.options.deadlineMs)
      const fail = (error: unknown) => {
        if (settled) return
        settled = true
        clearTimeout(timer)
        reject(error)
      }
      const enqueue = (lot: Lot, writer: PartitionWriter) => {
        this.used.add(writer)
        this.shared.commit.enqueue(writer, {
          records: lot.records,
          bytes: lot.bytes,
          abandoned: () => settled,
          landed: (first) => {
            const { topic, partition } = lot
            for (let i = 0; i < lot.places.length; i++)
              positions[lot.places[i]!] = { topic: topic.name, partition, offset: first + i }
            if (--waiting > 0 || settled) return
            settled = true
            clearTimeout(timer)
            resolve(positions)
          },
          failed: fail,
        })
      }
      const writers = lots.map((lot) => this.shared.writers.peek(lot.topic, lot.partition))
      if (this.openings === 0 && writers.every((writer) => writer !== undefined)) {
        for (let i = 0; i < lots.length; i++) enqueue(lots[i]!, writers[i]!)
        return
      }
      this.openings++
      this.opening = this.opening.then(async () => {
        try {
          const before = new Set(lots.map((lot) => this.shared.writers.peek(lot.topic, lot.partition)))
          const opened = await this.openAll(lots, fail)
          // Failed, or past its deadline: whoever waits for one of these partitions must find it free.
          if (settled) await this.shared.writers.letGo(opened.filter((writer) => !before.has(writer)))
          else for (let i = 0; i < lots.length; i++) enqueue(lots[i]!, opened[i]!)
        } catch (error) {
          fail(worldError('a partition cannot be opened for writing', error))
        } finally {
          this.openings--
        }
      })
    })
  }

  /** The writers of `lots`, one each unless one `failed`. */
  private async openAll(lots: Lot[], failed: (error: unknown) => void): Promise<PartitionWriter[]> {
    for (const writer of this.used) if (writer.closed) this.used.delete(writer)
    const opened = await Promise.all(
      lots.map((lot) =>
        this.shared.writers.open(lot.topic, lot.partition).catch((error: unknown) => {
          failed(worldError('a partition cannot be opened for writing', error))
        }),
      ),
    )
    return opened.filter((writer) => writer instanceof PartitionWriter)
  }

  async close(): Promise<void> {
    this.closed = true
    if (this.inFlight > 0) await new Promise<void>((resolve) => (this.drained = resolve))
    await this.shared.writers.letGo(this.used)
  }
}
