/**
 * The partitions that this process writes: each is opened at its first send and held until the log or the producer is closed, the
 * topic is about to be deleted, or a partition number goes to another member of a group, who will write where we
 * wrote.
 */
import { logError } from '../errors.ts'
import type { GroupCommit } from './group-commit.ts'
import type { Limits } from './options.ts'
import { PartitionWriter } from './partition-writer.ts'
import type { Settlement } from './settlement.ts'
import type { TopicHandle } from './topic-handle.ts'

type Known = { open?: PartitionWriter; opening?: Promise<PartitionWriter> }

export class Writers {
  private readonly topics = new Map<TopicHandle, Known[]>()

  constructor(
    private readonly limits: Limits,
    private readonly settlement: Settlement,
    private readonly commit: () => GroupCommit,
    private readonly warn: (sentence: string) => void,
  ) {}

  /** The writer when it is open: what every send but the first finds. */
  peek(topic: TopicHandle, partition: number): PartitionWriter | undefined {
    const writer = this.topics.get(topic)?.[partition]?.open
    return writer && !writer.leaving && !writer.closed ? writer : undefined
  }

  /** The writer, opened when it is not. Throws HR_LOG_NOT_WRITER, HR_LOG_UNAVAILABLE, HR_LOG_CORRUPT. */
  async open(topic: TopicHandle, partition: number): Promise<PartitionWriter> {
    const slots = this.slots(topic)
    slots[partition] ??= {}
    const known = slots[partition]
    const writer = known.open
    if (writer && !writer.leaving && !writer.closed) return writer
    known.opening ??= PartitionWriter.open(
      topic,
      partition,
      this.limits.writerWaitMs,
      this.settlement,
      this.commit().sync,
    )
      .then(async (opened) => {
        if (!opened)
          throw logError('HR_LOG_NOT_WRITER', `another live process writes ${topic.name}/${partition}`)
        for (const sentence of opened.foundAtOpen()) this.warn(sentence)
        if (topic.state !== 'live') {
          await opened.close()
          throw logError('HR_LOG_UNAVAILABLE', `topic ${topic.name} is being deleted`)
        }
        known.open = opened
        return opened
      })
      .finally(() => {
        delete known.opening
      })
    return await known.opening
  }

  private slots(topic: TopicHandle): Known[] {
    let slots = this.topics.get(topic)
    if (!slots) {
      slots = []
      this.topics.set(topic, slots)
      topic.onLeave(() => void this.leave(topic))
    }
    return slots
  }

  /** Lets go of all partitions of a topic, after the commit in flight. */
  private async leave(topic: TopicHandle): Promise<void> {
    const writers = (this.topics.get(topic) ?? []).flatMap((known) => known?.open ?? [])
    for (const writer of writers) writer.leaving = true
    await this.commit().between(async () => {
      await Promise.all(writers.map((writer) => this.drop(writer)))
    })
    if (topic.state === 'gone') this.topics.delete(topic)
  }

  /**
   * Lets go of every partition (or those of `writers`) for which nothing waits, so that another process can write it.
   * The next send opens it again.
   */
  async letGo(writers?: Iterable<PartitionWriter>): Promise<void> {
    await this.commit().between(async () => {
      const idle = [...(writers ?? this.all())].filter((writer) => !this.commit().isQueued(writer))
      await Promise.all(idle.map((writer) => this.drop(writer)))
    })
  }

  /** Resolves when the partition is free. A sync that fails on the way is told by the commit loop. */
  async drop(writer: PartitionWriter): Promise<void> {
    const known = this.topics.get(writer.topic)?.[writer.partition]
    if (known?.open === writer) delete known.open
    await writer.close(this.commit().failure === undefined).catch((error) => {
      if (!this.commit().failure) throw error
    })
  }

  /** Every open writer. */
  all(): PartitionWriter[] {
    return [...this.topics.values()]
      .flatMap((slots) => slots.flatMap((known) => known?.open ?? []))
      .filter((writer) => !writer.closed)
  }

  /** Waits for openings in flight and closes everything. Nothing may be in a commit. */
  async close(): Promise<void> {
    for (const slots of this.topics.values()) for (const known of slots) await known?.opening?.catch(() => {})
    await Promise.all(this.all().map((writer) => this.drop(writer)))
    this.topics.clear()
  }
}
