/**
 * The embedded log: what one process holds of it. Wires the parts; each has its own file. Several processes may
 * have the same folder open; they meet only in the files (layout.ts).
 *
 * States: open → closed. After a failed fdatasync its producers refuse everything (group-commit.ts), and the
 * process is to be stopped.
 */
import { HeadraceError } from '../../event/index.ts'
import { logError } from '../errors.ts'
import type {
  Log,
  Member,
  MemberOptions,
  Producer,
  ProducerOptions,
  Reader,
  ReaderOptions,
  StoredRecord,
  TopicSpec,
  TopicState,
} from '../log.ts'
import { GroupCommit } from './group-commit.ts'
import { HeadBoard } from './head-board.ts'
import { BLOCK_BYTES } from './journal-format.ts'
import { Layout, makeDir } from './layout.ts'
import { EmbeddedMember } from './member.ts'
import { diskUsedRatio, retentionFailures } from './metrics.ts'
import { type EmbeddedLogOptions, type FileOperations, LIMITS, type Limits, OPERATIONS } from './options.ts'
import { lowestPosition, readPosition } from './positions.ts'
import { EmbeddedProducer } from './producer.ts'
import { EmbeddedReader, readRange } from './reader.ts'
import { readySlot } from './ready.ts'
import { retain, retainIdle } from './retention.ts'
import { Settlement } from './settlement.ts'
import type { TopicHandle } from './topic-handle.ts'
import { readTopic } from './topic-settings.ts'
import { createTopic, deleteTopic } from './topics.ts'
import { worldError } from './world-error.ts'
import { Writers } from './writers.ts'

const DISK_LOOK_EVERY_MS = 1_000

export class EmbeddedLog implements Log {
  readonly kind = 'embedded'
  private readonly layout: Layout
  private readonly limits: Limits
  private readonly operations: FileOperations
  private readonly board: HeadBoard
  private readonly settlement: Settlement
  private readonly commit: GroupCommit
  private readonly writers: Writers
  private readonly readers = new Set<EmbeddedReader>()
  private readonly members = new Set<EmbeddedMember>()
  private readonly producers = new Set<EmbeddedProducer>()
  private readonly warn: (sentence: string) => void
  private retention: NodeJS.Timeout | undefined
  private retaining: Promise<void> | undefined
  private diskLookedMs = Number.NEGATIVE_INFINITY
  private diskRatio = 0
  private closing: Promise<void> | undefined

  constructor(options: EmbeddedLogOptions) {
    const { dir, operations, warn = () => {}, ...limits } = options
    this.warn = warn
    this.limits = { ...LIMITS, ...limits }
    if (this.limits.journalHalfBytes % BLOCK_BYTES !== 0)
      throw new RangeError(
        `journalHalfBytes must be whole blocks of ${BLOCK_BYTES} bytes, not ${this.limits.journalHalfBytes}`,
      )
    this.operations = { ...OPERATIONS, ...operations }
    this.layout = new Layout(dir)
    makeDir(dir)
    this.board = new HeadBoard(this.layout, this.limits.pollMs, this.operations.bootId, warn)
    this.settlement = new Settlement(this.layout, this.operations, this.limits.writerWaitMs, warn)
    this.commit = new GroupCommit(
      this.layout,
      this.limits,
      this.operations,
      (writer) => this.writers.drop(writer),
      warn,
    )
    this.writers = new Writers(this.limits, this.settlement, () => this.commit, warn)
  }

  producer(options: ProducerOptions): Producer {
    this.requireOpen()
    this.retention ??= setInterval(() => this.retainSoon(), this.limits.retentionEveryMs)
    const { board, writers, commit, limits } = this
    const producer = new EmbeddedProducer(
      { board, writers, commit, limits, diskFull: () => this.diskFull(), isOpen: () => !this.closing },
      options,
    )
    this.producers.add(producer)
    return producer
  }

  reader(options: ReaderOptions): Reader {
    this.requireOpen()
    const reader = new EmbeddedReader(this.board, this.slotOf, options, (closed) =>
      this.readers.delete(closed),
    )
    this.readers.add(reader)
    return reader
  }

  async join(options: MemberOptions): Promise<Member> {
    this.requireOpen()
    try {
      const member = EmbeddedMember.join(
        this.board,
        options,
        this.limits,
        this.operations,
        () => this.writers.letGo(),
        (left) => this.members.delete(left),
      )
      this.members.add(member)
      return member
    } catch (error) {
      throw worldError(`group ${options.group} cannot be joined`, error)
    }
  }

  async *read(topic: string, partition: number, from: number, to: number): AsyncIterable<StoredRecord[]> {
    this.requireOpen()
    yield* readRange(this.board.open(topic), this.slotOf, partition, from, to)
  }

  async bounds(topic: string, partition: number): Promise<{ start: number; end: number }> {
    this.requireOpen()
    const handle = this.board.open(topic)
    handle.refresh()
    const { start, end } = await this.slotOf(handle, partition)
    return { start, end }
  }

  async committed(group: string, topic: string, partition: number): Promise<number | undefined> {
    this.requireOpen()
    const { logId } = this.board.open(topic)
    return readPosition(this.layout, group, topic, logId, partition)
  }

  async describe(topics: string[]): Promise<TopicState[]> {
    this.requireOpen()
    return topics.flatMap((name) => readTopic(this.layout, name) ?? [])
  }

  async createTopic(spec: TopicSpec): Promise<TopicState> {
    this.requireOpen()
    return await createTopic(this.layout, spec, this.limits)
  }

  async deleteTopic(topic: string): Promise<void> {
    this.requireOpen()
    await deleteTopic(this.board, topic, this.limits)
  }

  async notReady(): Promise<string | undefined> {
    if (this.closing) return 'The log is closed.'
    return this.commit.failure?.message ?? this.diskFull()
  }

  /** Undefined, or why new records are refused. Looks at the disk at most once a second. */
  private diskFull(): string | undefined {
    const now = performance.now()
    if (now - this.diskLookedMs >= DISK_LOOK_EVERY_MS) {
      this.diskRatio = this.operations.diskUsedRatio(this.layout.dir)
      this.diskLookedMs = now
      diskUsedRatio.set(this.diskRatio)
    }
    if (this.diskRatio <= this.limits.diskUsedRatioMax) return undefined
    const percent = (ratio: number) => `${(ratio * 100).toFixed(1)} %`
    return `The disk of ${this.layout.dir} is ${percent(this.diskRatio)} full, new records are refused above ${percent(this.limits.diskUsedRatioMax)}.`
  }

  private readonly slotOf = (topic: TopicHandle, partition: number) =>
    readySlot(topic, partition, this.limits, this.settlement)

  private retainSoon(): void {
    if (this.closing) return
    this.retaining ??= this.retainAll().finally(() => {
      this.retaining = undefined
    })
  }

  /**
   * Retention over every partition that this process writes, and those that nobody writes. None after a failed sync:
   * frames that nobody was told of may lie behind the ends, and would be sealed with the segment.
   */
  async retainAll(): Promise<void> {
    const stopped = () => this.closing !== undefined || this.commit.failure !== undefined
    const lowest = (topic: TopicHandle, partition: number) =>
      lowestPosition(this.layout, topic.name, topic.logId, partition)
    for (const writer of this.writers.all())
      await this.commit
        .between(async () => {
          if (!stopped()) await retain(writer, lowest, Date.now())
        })
        .catch((error) => this.retentionFailed(error))
    for (const topic of this.board.all())
      for (let p = 0; p < topic.partitions && !stopped(); p++)
        if (topic.state === 'live' && !this.writers.peek(topic, p))
          await retainIdle(topic, p, lowest, this.settlement, Date.now()).catch((error) =>
            this.retentionFailed(error),
          )
  }

  /** The disk or damage kept retention from a partition: told, and tried again at the next run. */
  private retentionFailed(error: unknown): void {
    const told = worldError('retention', error)
    if (!(told instanceof HeadraceError)) throw told
    retentionFailures.inc()
    this.warn(`retention left out a partition: ${told.message}`)
  }

  private requireOpen(): void {
    if (this.closing) throw logError('HR_LOG_CLOSED', 'the log is closed')
  }

  close(): Promise<void> {
    this.closing ??= this.shut()
    return this.closing
  }

  private async shut(): Promise<void> {
    clearInterval(this.retention)
    await Promise.all([...this.members].map((member) => member.leave()))
    await Promise.all([...this.readers].map((reader) => reader.close()))
    await Promise.all([...this.producers].map((producer) => producer.close()))
    await this.retaining
    await this.commit.idle()
    await this.writers.close()
    await this.commit.close()
    this.board.close()
  }
}
