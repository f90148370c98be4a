/**
 * The commit journal of one writing process: makes a commit over several partitions durable with one fdatasync of
 * one preallocated file. The frames go to their segments too, at first only into the kernel's memory; there they are
 * synced in the background, a whole half of the journal at a time, and settlement.ts writes them again from the
 * journal when the process or the machine died before.
 *
 * States: none → open, at the first commit of several partitions → none again (for `journalRetryMs`), when it could
 * not be made or written. What is in it stays good until the segments are synced and it is removed. A failed sync,
 * of the journal or of a segment, ends this process's writing for ever (group-commit.ts).
 *
 * Halves: filling → cleaning, when the next entry does not fit → clean → filling. An entry goes only into a half that
 * is clean: each segment that was written through it has been synced since. Before the first one goes over what the
 * half held, an entry of the other half has told durably that this is no longer needed; so whoever reads the journal
 * after a crash knows which numbers must be there.
 *
 * Limits: two halves of `journalHalfBytes`; at most one of them waits to be cleaned.
 */

import { frameSum } from './format.ts'
import { JournalFile } from './journal-file.ts'
import { BLOCK_BYTES, encodeEntry, framesFrom, inBlocks, type JournalPart } from './journal-format.ts'
import { type Layout, writeBytes } from './layout.ts'
import { journalBytes, journalEntries, journalFailures, journalWaits } from './metrics.ts'
import type { Limits } from './options.ts'
import type { PartitionWriter, Scratch } from './partition-writer.ts'

/**
 * Segments that are synced at the same time: the commits need threads too. Batches of 50 took 10.6 µs per event with 4
 * and 9.7 with 1, which would make a half of many partitions wait for the disk.
 */
const CLEANING_AT_ONCE = 2

/** An entry on its way: frames are encoded where they go into the journal, and written to the segments from there. */
export class Draft {
  readonly parts: JournalPart[] = []
  readonly writers: PartitionWriter[] = []

  constructor(
    readonly bytes: Buffer,
    /** Where the next frame goes. */
    public end: number,
  ) {}

  /** The frame of `length` at `end` was written to the segment of `writer`. */
  add(writer: PartitionWriter, length: number): void {
    const { segment, bytes: position } = writer.slot
    const sum = frameSum(this.bytes, this.end)
    this.parts.push({ label: writer.label, segment, position, at: this.end, length, sum })
    this.writers.push(writer)
    this.end += length
  }
}

/** Those whose segments hold frames of this half that were not synced there. */
type Half = { from: number; used: number; writers: Set<PartitionWriter> }

export class CommitJournal {
  private file: JournalFile | undefined
  private filling: Half = { from: 0, used: 0, writers: new Set() }
  private other: Half = { from: 0, used: 0, writers: new Set() }
  /** Number of the next entry, and of the first one in the half that is filling. */
  private next = 1
  private firstFilling = 1
  /** Entries before `clean` are durable in their segments; `toldClean` is what a durable entry says of it. */
  private clean = 1
  private toldClean = 1
  /** The half that was left is being cleaned, or a journal that was given up. Never rejects: `sync` tells. */
  private cleaning: Promise<void> | undefined
  /** When a journal was last given up, or could not be made or noted. */
  private failedMs = Number.NEGATIVE_INFINITY

  constructor(
    private readonly layout: Layout,
    private readonly limits: Limits,
    private readonly sync: (fd: number) => Promise<void>,
    private readonly failed: () => boolean,
    private readonly scratch: Scratch,
    private readonly warn: (sentence: string) => void,
  ) {}

  /**
   * Room for a commit with these frames; undefined when its segments are to be synced one by one: it is of one
   * partition, larger than a half, or there is no journal now. Throws when a sync failed.
   */
  async draft(frames: { writer: PartitionWriter; length: number }[]): Promise<Draft | undefined> {
    if (frames.length < 2 || this.pausing()) return undefined
    const from = framesFrom(frames.map(({ writer }) => writer.label))
    let bytes = from
    for (const { length } of frames) bytes += length
    const blocks = inBlocks(bytes)
    if (blocks + BLOCK_BYTES > this.limits.journalHalfBytes) return undefined
    const file = this.file ?? (await this.make())
    if (!file) return undefined
    try {
      for (const { writer } of frames) if (!writer.closed) writer.dependOn(file.id)
    } catch (error) {
      this.without('the journal cannot be noted', error)
      this.failedMs = performance.now()
      return undefined
    }
    // One block stays for the entry that tells that the other half is clean.
    if (this.filling.used + blocks + BLOCK_BYTES > file.halfBytes && !(await this.turn(file)))
      return undefined
    return new Draft(this.scratch.take(blocks), from)
  }

  /** Makes it durable. False when it could not be written: the segments are to be synced. Throws when a sync failed. */
  async commit(draft: Draft): Promise<boolean> {
    const file = this.file!
    for (const writer of draft.writers) this.filling.writers.add(writer)
    if (!(await this.write(file, draft.bytes, draft.parts, draft.end))) return false
    journalEntries.inc()
    return true
  }

  private async write(file: JournalFile, bytes: Buffer, parts: JournalPart[], end: number): Promise<boolean> {
    const { filling, clean } = this
    encodeEntry(bytes, { id: file.idBytes, number: this.next, clean, parts, bytes: end })
    const length = inBlocks(end)
    try {
      await writeBytes(file.fd, bytes, 0, length, filling.from + filling.used)
    } catch (error) {
      this.giveUp(file, error)
      return false
    }
    filling.used += length
    this.next++
    await this.sync(file.fd)
    this.toldClean = clean
    journalBytes.inc(length)
    return true
  }

  /** Goes on in the other half. False when the journal had to be given up. */
  private async turn(file: JournalFile): Promise<boolean> {
    if (this.cleaning) {
      journalWaits.inc()
      await this.cleaning
    }
    if (this.failed()) throw new Error('a sync failed')
    if (this.toldClean < this.firstFilling) {
      const block = this.scratch.take(BLOCK_BYTES)
      if (!(await this.write(file, block, [], framesFrom([])))) return false
    }
    const left = this.filling
    this.filling = this.other
    this.other = left
    this.filling.used = 0
    const first = this.next
    this.firstFilling = first
    void this.cleanUp([left], () => {
      this.clean = first
    })
    return true
  }

  /** Syncs the segments that were written through `halves`, after what is being cleaned already; then `done`. */
  private cleanUp(halves: Half[], done: () => void): Promise<void> {
    const clean = async () => {
      await this.cleaning
      const writers = halves.flatMap((half) => [...half.writers])
      const worker = async () => {
        for (let writer = writers.pop(); writer; writer = writers.pop()) await writer.sync()
      }
      await Promise.all(Array.from({ length: CLEANING_AT_ONCE }, worker))
      // One of these segments may have failed in another's hands: a later sync of it says nothing then.
      if (this.failed()) throw new Error('a sync failed')
      for (const half of halves) half.writers.clear()
      done()
    }
    const cleaning = clean()
      .catch((error) => {
        if (!this.failed()) this.without('a journal cannot be let go of', error)
      })
      .finally(() => {
        if (this.cleaning === cleaning) this.cleaning = undefined
      })
    this.cleaning = cleaning
    return cleaning
  }

  /** After a failure, so that an ill disk is not asked, and told of, at every commit. */
  private pausing(): boolean {
    return performance.now() - this.failedMs < this.limits.journalRetryMs
  }

  private async make(): Promise<JournalFile | undefined> {
    if (this.cleaning) return undefined
    try {
      this.file = await JournalFile.create(this.layout, this.limits.journalHalfBytes)
    } catch (error) {
      this.without('no journal can be made', error)
      this.failedMs = performance.now()
      return undefined
    }
    // Another process is settling: a moment later there will be room.
    if (!this.file) return undefined
    this.filling = { from: this.file.halfFrom(0), used: 0, writers: new Set() }
    this.other = { from: this.file.halfFrom(1), used: 0, writers: new Set() }
    this.firstFilling = this.next
    this.clean = this.next
    this.toldClean = this.next
    return this.file
  }

  /** What it holds stays good until the segments are synced; then it is removed. */
  private giveUp(file: JournalFile, error: unknown): void {
    this.without('the journal cannot be written', error)
    this.file = undefined
    this.failedMs = performance.now()
    void this.cleanUp([this.filling, this.other], () => file.remove()).then(() => {
      if (this.failed()) file.leave()
    })
  }

  private without(what: string, error: unknown): void {
    journalFailures.inc()
    this.warn(`${what}; commits are synced file by file: ${error}`)
  }

  /** For the end of the log: all writers are closed, and with them their segments synced unless a sync failed. */
  async close(): Promise<void> {
    await this.cleaning
    const { file } = this
    this.file = undefined
    if (!file) return
    if (this.failed()) file.leave()
    else file.remove()
  }
}
