/**
 * Settles the commit journals of processes that are no more: writes their commits into the segments, makes them
 * durable there, and removes the journal. Runs before any partition is recovered, and so before a reader after a
 * power cut sees anything.
 *
 * Who waits for what: a journal whose lock is free is settled by whoever comes first, one process at a time (settle
 * lock). A process on its way out may let go of a partition before it lets go of its journal; the writer lock of the
 * partition names that journal, and its next holder waits until it is settled. After a power cut nobody lives, so
 * all journals are settled.
 *
 * Why writing again is safe, and may be done twice: a frame is written only where the segment of the same log has no
 * other whole frame header. The places of the frames of a partition never overlap between journals, because each
 * writer began behind what its predecessor's journal held, and nothing whole is ever cut. A segment that is missing
 * was removed by retention, for segments are made durably before a frame goes into them. A frame is written even
 * where it can be read: after a failed sync the kernel calls pages clean that never reached the disk.
 *
 * Only the last entry of a journal can be torn, and nobody was told of it. Anything else is damage: it is told, the
 * whole frames are written all the same, and the journal is kept as `journals/<id>.damaged`, the newest few. Blocks
 * that the disk cannot read count as damaged; any other error of the disk leaves the journal as it is, and the others
 * are settled before it is thrown.
 */
import { closeSync, existsSync, openSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { FileLock } from '../../platform/index.ts'
import { logError } from '../errors.ts'
import {
  checkFrame,
  decodeFrameHeader,
  decodeSegmentHeader,
  FRAME_HEADER_BYTES,
  frameSum,
  logIdMark,
  SEGMENT_HEADER_BYTES,
} from './format.ts'
import { BLOCK_BYTES, isJournalHeader, openEntries, type ReadPart } from './journal-format.ts'
import { journalsIn, type Layout, syncDir, writeBytes } from './layout.ts'
import { journalDamage, settledJournals } from './metrics.ts'
import type { FileOperations } from './options.ts'
import { readAt } from './segment-file.ts'
import type { TopicHandle } from './topic-handle.ts'

const RETRY_MS = 20
const DAMAGED_KEPT = 4

/** A frame of a journal; `last` when its entry may have been cut off. */
type Frame = ReadPart & { last: boolean }

export class Settlement {
  private running: Promise<void> | undefined

  constructor(
    private readonly layout: Layout,
    readonly operations: FileOperations,
    private readonly waitMs: number,
    private readonly warn: (sentence: string) => void,
  ) {}

  /**
   * Resolves when no journal but that of the caller holds anything for this partition, whose writer lock the caller
   * has. Throws HR_LOG_UNAVAILABLE when another process is at it for too long, or what the disk says.
   */
  async before(topic: TopicHandle, partition: number): Promise<void> {
    await this.settleAll()
    const noted = readFileSync(topic.layout.writerLock(topic.name, partition), 'utf8')
    if (!/^[0-9a-f-]{36}$/.test(noted)) return
    const deadline = performance.now() + this.waitMs
    while (existsSync(this.layout.journal(noted))) {
      if (performance.now() > deadline)
        throw logError(
          'HR_LOG_UNAVAILABLE',
          `the process that wrote ${topic.name}/${partition} before still has its commit journal`,
        )
      await delay(RETRY_MS)
      await this.settleAll()
    }
  }

  /** Settles every journal whose process is no more. Calls that meet share one run. */
  private settleAll(): Promise<void> {
    this.running ??= this.run().finally(() => {
      this.running = undefined
    })
    return this.running
  }

  private async run(): Promise<void> {
    const { layout } = this
    const found = journalsIn(layout)
    if (found.ids.length === 0 && found.unnamed.length === 0) return
    const lock = await FileLock.within(layout.settleLock, this.waitMs)
    if (!lock) throw logError('HR_LOG_UNAVAILABLE', 'another process is settling commit journals')
    try {
      const { ids, unnamed } = journalsIn(layout)
      for (const name of unnamed) clearUnnamed(join(layout.journals, name))
      const failures: unknown[] = []
      for (const id of ids) await this.settle(id).catch((error) => failures.push(error))
      if (failures.length > 0) throw failures[0]
    } finally {
      lock.release()
    }
  }

  private async settle(id: string): Promise<void> {
    const { layout } = this
    const path = layout.journal(id)
    const lock = FileLock.try(path)
    if (!lock) return
    try {
      // Its process may remove it while we ask for its lock.
      if (!existsSync(path)) return
      const damage = await this.redo(id, await readJournal(path))
      if (damage.length > 0) {
        journalDamage.inc()
        this.warn(
          `commit journal ${id} is damaged and kept as ${layout.damagedJournal(id)}: ${damage.join('; ')}; all else in it is in the segments`,
        )
        renameSync(path, layout.damagedJournal(id))
        forgetDamaged(layout)
      } else rmSync(path, { force: true })
      syncDir(layout.journals)
      settledJournals.inc()
    } finally {
      lock.release()
    }
  }

  /** Writes what the journal holds into the segments, durably. Gives what is damaged. */
  private async redo(id: string, bytes: Buffer): Promise<string[]> {
    // Removed by its process just before we asked for its lock, which made it anew.
    if (bytes.length === 0) return []
    const damage: string[] = []
    if (!isJournalHeader(bytes, id)) damage.push('its header')
    const { entries, missing } = openEntries(bytes, id)
    if (missing.length > 0)
      damage.push(
        `${missing.length} commits of ${missing.length + entries.length}, the first is number ${missing[0]}`,
      )
    const segments = new Map<string, Frame[]>()
    for (const entry of entries)
      for (const part of entry.parts) {
        const key = `${part.logId} ${part.topic}/${part.partition} ${part.segment}`
        const frames = segments.get(key) ?? []
        segments.set(key, frames)
        frames.push({ ...part, last: entry === entries.at(-1) })
      }
    for (const frames of segments.values()) damage.push(...(await this.redoSegment(frames, bytes)))
    return damage
  }

  /** Writes the frames of one segment, unless it is gone. */
  private async redoSegment(frames: Frame[], bytes: Buffer): Promise<string[]> {
    const { logId, topic, partition, segment } = frames[0]!
    const fd = openExisting(this.layout.segment(topic, partition, segment))
    if (fd === undefined) return []
    try {
      const header = decodeSegmentHeader(await readAt(fd, SEGMENT_HEADER_BYTES, 0))
      // The topic was deleted and made again.
      if (header && header.logId !== logId) return []
      if (!header)
        return [
          `the header of segment ${segment} of ${topic}/${partition}, which has no commits written into`,
        ]
      const damage: string[] = []
      for (const frame of frames) {
        const image = wholeFrame(frame, bytes)
        const where = `${topic}/${partition}, byte ${frame.position} of segment ${segment}`
        if (!image) {
          if (!frame.last) damage.push(`${where}: the commit in the journal is damaged`)
        } else if (await isOther(fd, frame, image)) {
          // What follows in the journal followed something else than what is here.
          damage.push(`${where}: another commit is in its place`)
          break
        } else await writeBytes(fd, image, 0, image.length, frame.position)
      }
      await this.operations.fdatasync(fd)
      return damage
    } finally {
      closeSync(fd)
    }
  }
}

/** The frame as it was written; undefined when the journal does not have it whole. */
function wholeFrame(frame: Frame, bytes: Buffer): Buffer | undefined {
  const image = bytes.subarray(frame.at, frame.at + frame.length)
  const header = decodeFrameHeader(image, 0, logIdMark(frame.logId))
  if (!header || checkFrame(image, 0, header) !== frame.length) return undefined
  return frameSum(image, 0) === frame.sum ? image : undefined
}

/** Whether the segment has the header of another frame there. */
async function isOther(fd: number, frame: Frame, image: Buffer): Promise<boolean> {
  const there = await readAt(fd, FRAME_HEADER_BYTES, frame.position)
  if (there.equals(image.subarray(0, FRAME_HEADER_BYTES))) return false
  return decodeFrameHeader(there, 0, logIdMark(frame.logId)) !== undefined
}

function openExisting(path: string): number | undefined {
  try {
    return openSync(path, 'r+')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** A journal that was never finished holds nothing. */
function clearUnnamed(path: string): void {
  const lock = FileLock.try(path)
  if (!lock) return
  try {
    rmSync(path, { force: true })
  } finally {
    lock.release()
  }
}

/** The bytes of a journal; zeros where the disk cannot read them, which no entry consists of. */
async function readJournal(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error
  }
  const bytes = Buffer.alloc(statSync(path).size)
  const fd = openSync(path, 'r')
  try {
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
      const block = await readAt(fd, Math.min(BLOCK_BYTES, bytes.length - at), at).catch((error) => {
        if (error.code !== 'EIO') throw error
      })
      block?.copy(bytes, at)
    }
  } finally {
    closeSync(fd)
  }
  return bytes
}

/** Somebody may want to look at them, but they take room. */
function forgetDamaged(layout: Layout): void {
  const paths = journalsIn(layout).damaged.map((name) => join(layout.journals, name))
  const newestFirst = paths.map((path) => ({ path, ms: statSync(path).mtimeMs })).sort((a, b) => b.ms - a.ms)
  for (const { path } of newestFirst.slice(DAMAGED_KEPT)) rmSync(path, { force: true })
}
