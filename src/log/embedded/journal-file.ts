/**
 * The file of a commit journal, made so that an entry costs one fdatasync which moves nothing but data: it is
 * written full of zeros and synced before it gets its name, so no later write changes its size or its extents.
 * Its lock is held from before it has a name until its process ends: a journal whose lock is free is a dead one.
 *
 * Measured on the reference machine, one commit of 120 events over 8 partitions: fdatasync of 8 growing files 1.9 ms
 * CPU and 4.8 ms, of this file 0.17 ms and 0.5 ms. Making one of 16 MiB takes 28 ms, once per process.
 */
import { randomUUID } from 'node:crypto'
import { closeSync, constants, fsync, openSync, renameSync, rmSync } from 'node:fs'
import { uuidBytes } from '../../event/index.ts'
import { FileLock } from '../../platform/index.ts'
import { encodeJournalHeader, JOURNAL_HEADER_BYTES } from './journal-format.ts'
import { type Layout, makeDir, syncDir, writeBytes } from './layout.ts'

const ZEROS_BYTES = 2 ** 20

export class JournalFile {
  readonly idBytes: Buffer
  private left = false

  private constructor(
    private readonly layout: Layout,
    readonly id: string,
    readonly halfBytes: number,
    readonly fd: number,
    private readonly lock: FileLock,
  ) {
    this.idBytes = Buffer.from(uuidBytes(id)!)
  }

  /**
   * Makes a journal with two clean halves, durably. Undefined when another process is settling dead journals, which
   * must not take this one for dead. Throws what the disk says, and leaves nothing behind then.
   */
  static async create(layout: Layout, halfBytes: number): Promise<JournalFile | undefined> {
    makeDir(layout.journals)
    const id = randomUUID()
    const unnamed = layout.unnamedJournal(id)
    const settling = FileLock.try(layout.settleLock)
    if (!settling) return undefined
    let lock: FileLock | undefined
    try {
      lock = FileLock.try(unnamed)!
    } finally {
      settling.release()
    }
    let fd = -1
    try {
      fd = openSync(unnamed, constants.O_RDWR)
      const header = encodeJournalHeader(id)
      await writeBytes(fd, header, 0, header.length, 0)
      const zeros = Buffer.alloc(Math.min(ZEROS_BYTES, 2 * halfBytes))
      const end = JOURNAL_HEADER_BYTES + 2 * halfBytes
      for (let at = JOURNAL_HEADER_BYTES; at < end; at += zeros.length)
        await writeBytes(fd, zeros, 0, Math.min(zeros.length, end - at), at)
      await new Promise<void>((resolve, reject) => fsync(fd, (error) => (error ? reject(error) : resolve())))
      renameSync(unnamed, layout.journal(id))
      syncDir(layout.journals)
      return new JournalFile(layout, id, halfBytes, fd, lock)
    } catch (error) {
      if (fd >= 0) closeSync(fd)
      for (const path of [unnamed, layout.journal(id)]) rmSync(path, { force: true })
      lock.release()
      throw error
    }
  }

  /** Where half 0 or 1 begins. */
  halfFrom(half: number): number {
    return JOURNAL_HEADER_BYTES + half * this.halfBytes
  }

  /** Removes it: all that it holds is durable in the segments. Throws what the disk says. */
  remove(): void {
    try {
      rmSync(this.layout.journal(this.id), { force: true })
      syncDir(this.layout.journals)
    } finally {
      this.leave()
    }
  }

  /** Leaves it to whoever settles it. */
  leave(): void {
    if (this.left) return
    this.left = true
    closeSync(this.fd)
    this.lock.release()
  }
}
