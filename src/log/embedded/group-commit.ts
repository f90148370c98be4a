/**
 * Group commit: all sends that arrive while a commit is in flight go together into the next one. No timer: at low
 * load a send is committed at once, at high load the batches fill themselves.
 *
 * One commit: for each partition with something queued, put together one frame and write it; then make them durable:
 * several partitions by one entry of the commit journal (commit-journal.ts), one alone, or more than the journal
 * takes, by an fdatasync of each segment, all at the same time; then publish the new ends; then answer.
 *
 * States: idle → committing → idle, and from any of them failed, for ever, after a failed fdatasync: the kernel may
 * have dropped the bytes and calls them clean, so nothing this process knows about its files holds any more.
 */
import type { HeadraceError } from '../../event/index.ts'
import { logError } from '../errors.ts'
import { CommitJournal, type Draft } from './commit-journal.ts'
import { type Content, FRAME_HEADER_BYTES } from './format.ts'
import type { Layout } from './layout.ts'
import { appendedBytes, appendedRecords, commitSeconds, queuedBytes, syncFailures } from './metrics.ts'
import type { FileOperations, Limits } from './options.ts'
import { type PartitionWriter, Scratch } from './partition-writer.ts'
import { worldError } from './world-error.ts'

/** The records of one send for one partition. */
export type Entry = {
  records: Content[]
  /** Bytes they take in a frame. */
  bytes: number
  /** True when nobody waits for it any more (deadline): it must not land. */
  abandoned(): boolean
  /** The records are durable; the first has this offset, the others follow. */
  landed(offset: number): void
  failed(error: unknown): void
}

type Part = { writer: PartitionWriter; entries: Entry[]; offset: number; records: number; bytes: number }

export class GroupCommit {
  private readonly queues = new Map<PartitionWriter, Entry[]>()
  private readonly tasks: (() => Promise<void>)[] = []
  private readonly scratch = new Scratch()
  private readonly journal: CommitJournal
  private committing: Promise<void> | undefined
  /** Set for ever when an fdatasync failed. */
  failure: HeadraceError | undefined
  queuedBytes = 0

  constructor(
    layout: Layout,
    private readonly limits: Limits,
    private readonly operations: FileOperations,
    /** Called between commits for writers that must go. */
    private readonly drop: (writer: PartitionWriter) => Promise<void>,
    warn: (sentence: string) => void,
  ) {
    this.journal = new CommitJournal(
      layout,
      limits,
      this.sync,
      () => this.failure !== undefined,
      this.scratch,
      warn,
    )
  }

  /**
   * The fdatasync of everything that holds records of this process: one that fails ends its writing for ever. Also
   * one that succeeds after that proves nothing: the kernel has told of the lost bytes already and calls them clean.
   */
  readonly sync = async (fd: number): Promise<void> => {
    if (this.failure) throw this.failure
    try {
      await this.operations.fdatasync(fd)
    } catch (error) {
      syncFailures.inc()
      this.failure ??= logError('HR_LOG_SYNC_FAILED', 'fdatasync failed; the process must stop', error)
      throw this.failure
    }
  }

  enqueue(writer: PartitionWriter, entry: Entry): void {
    const queue = this.queues.get(writer)
    if (queue) queue.push(entry)
    else this.queues.set(writer, [entry])
    this.queuedBytes += entry.bytes
    this.start()
  }

  /** Runs `task` when no commit is in flight, for work on the files of a writer. */
  between<T>(task: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.tasks.push(() => task().then(resolve, reject))
      this.start()
    })
  }

  /** Whether something waits for this partition. */
  isQueued(writer: PartitionWriter): boolean {
    return this.queues.has(writer)
  }

  /** Resolves when nothing is queued or in flight. */
  async idle(): Promise<void> {
    while (this.committing) await this.committing
  }

  /** For the end of the log: nothing is in flight, and the writers are closed. */
  async close(): Promise<void> {
    await this.journal.close()
  }

  private start(): void {
    this.committing ??= this.run().finally(() => {
      this.committing = undefined
      if (this.queues.size > 0 || this.tasks.length > 0) this.start()
    })
  }

  private async run(): Promise<void> {
    // Sends of the same turn of the event loop join the first commit.
    await new Promise((resolve) => setImmediate(resolve))
    while (this.queues.size > 0 || this.tasks.length > 0) {
      for (const task of this.tasks.splice(0)) await task()
      if (this.queues.size > 0) await this.commit()
      queuedBytes.set(this.queuedBytes)
    }
  }

  private async commit(): Promise<void> {
    const beganMs = performance.now()
    const taken = this.takeParts()
    const parts: Part[] = []
    try {
      if (this.failure) throw this.failure
      const draft = await this.journal.draft(
        taken.map(({ writer, bytes }) => ({ writer, length: FRAME_HEADER_BYTES + bytes })),
      )
      for (const part of taken) if (await this.write(part, draft)) parts.push(part)
      // One that failed in `write` may have been a sync.
      if (this.failure) throw this.failure
      if (parts.length === 0) return
      await this.makeDurable(parts, draft)
      for (const part of parts) part.writer.confirm()
    } catch (error) {
      if (!this.failure) throw error
      for (const part of taken) fail(part, this.failure)
      return
    }
    try {
      publish(parts)
    } catch (error) {
      // They are durable, but nobody can know; the next commit announces them.
      for (const part of parts) fail(part, appendError(part.writer, error))
      return
    }
    commitSeconds.observe((performance.now() - beganMs) / 1000)
    for (const part of parts) answer(part)
    for (const part of parts) if (part.writer.leaving) await this.drop(part.writer)
  }

  /** In the journal, or in the segments. Throws when a sync failed. */
  private async makeDurable(parts: Part[], draft: Draft | undefined): Promise<void> {
    if (draft && parts.length > 1 && (await this.journal.commit(draft))) return
    const synced = await Promise.allSettled(parts.map((part) => part.writer.sync()))
    for (const one of synced) if (one.status === 'rejected') throw one.reason
  }

  /** What goes into this commit: per partition the oldest entries, as many as its limit allows. */
  private takeParts(): Part[] {
    const parts: Part[] = []
    for (const [writer, queue] of [...this.queues]) {
      const part: Part = { writer, entries: [], offset: 0, records: 0, bytes: 0 }
      let taken = 0
      for (const entry of queue) {
        if (part.bytes > 0 && part.bytes + entry.bytes > this.limits.commitBytesMax) break
        taken++
        this.queuedBytes -= entry.bytes
        if (entry.abandoned()) continue
        part.entries.push(entry)
        part.records += entry.records.length
        part.bytes += entry.bytes
      }
      if (taken === queue.length) this.queues.delete(writer)
      else queue.splice(0, taken)
      if (part.entries.length > 0) parts.push(part)
    }
    return parts
  }

  private async write(part: Part, draft: Draft | undefined): Promise<boolean> {
    const { writer, entries, bytes } = part
    try {
      if (writer.leaving || writer.closed)
        throw logError('HR_LOG_UNAVAILABLE', `${writer.topic.name}/${writer.partition} was closed meanwhile`)
      if (writer.mustRoll(FRAME_HEADER_BYTES + bytes, this.limits.segmentBytes)) await writer.roll()
      const records = entries.length === 1 ? entries[0]!.records : entries.flatMap((entry) => entry.records)
      const length = FRAME_HEADER_BYTES + bytes
      if (draft) {
        part.offset = await writer.append(records, bytes, draft.bytes, draft.end)
        draft.add(writer, length)
      } else part.offset = await writer.append(records, bytes, this.scratch.take(length), 0)
      return true
    } catch (error) {
      if (writer.closed || writer.leaving || !writer.rollback()) await this.drop(writer)
      fail(part, appendError(writer, error))
      return false
    }
  }
}

/** Tells the readers: neighbouring partitions of a topic share one write. */
function publish(parts: Part[]): void {
  parts.sort((a, b) =>
    a.writer.topic === b.writer.topic
      ? a.writer.partition - b.writer.partition
      : a.writer.topic.name < b.writer.topic.name
        ? -1
        : 1,
  )
  for (let from = 0; from < parts.length; ) {
    const first = parts[from]!.writer
    let to = from + 1
    while (
      to < parts.length &&
      parts[to]!.writer.topic === first.topic &&
      parts[to]!.writer.partition === first.partition + to - from
    )
      to++
    first.topic.publish(
      first.partition,
      parts.slice(from, to).map((part) => part.writer.slot),
    )
    from = to
  }
}

function answer(part: Part): void {
  const topic = part.writer.topic.name
  appendedRecords.inc({ topic }, part.records)
  appendedBytes.inc({ topic }, part.bytes + FRAME_HEADER_BYTES)
  let offset = part.offset
  for (const entry of part.entries) {
    entry.landed(offset)
    offset += entry.records.length
  }
}

function fail(part: Part, error: unknown): void {
  for (const entry of part.entries) entry.failed(error)
}

function appendError(writer: PartitionWriter, error: unknown): unknown {
  return worldError(`${writer.topic.name}/${writer.partition} cannot be written`, error)
}
