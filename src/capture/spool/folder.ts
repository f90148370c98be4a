/**
 * The folders of the spools of one machine, each held by one live process at a time.
 * ```
 * <spool dir>/<uuid>/owner.lock    held by the process whose spool it is; a death lets go of it
 * <spool dir>/<uuid>/spool.json    written last when a spool is made, removed first when it goes
 * <spool dir>/<uuid>/damaged.json  it holds records that cannot be read: left alone until a human removes this file
 * <spool dir>/<uuid>/too-large.json  it holds a record that the log does not take: left alone in the same way
 * <spool dir>/<uuid>/log/          an embedded log with one topic of one partition
 * ```
 * What must hold: a folder goes only when its holder has drained it; whoever locks a folder without `spool.json` holds
 * one that was never used or is drained, and clears it away. The ids are UUIDv7, so that names sort by age.
 */
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { FileLock, makeDir, writeDurably } from '../../platform/index.ts'

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/
const LOCK = 'owner.lock'
const MARKER = 'spool.json'
const DAMAGED = 'damaged.json'
const TOO_LARGE = 'too-large.json'
/** Another process may clear a folder away between its making and its locking. */
const MAKE_TRIES = 5

/** A spool's folder, held by this process. */
export class SpoolFolder {
  private constructor(
    readonly id: string,
    readonly path: string,
    /** True when it was here before: it may hold events. */
    readonly found: boolean,
    private readonly lock: FileLock,
  ) {}

  get logDir(): string {
    return join(this.path, 'log')
  }

  /** Makes a new one. Throws what the disk says. */
  static make(dir: string): SpoolFolder {
    makeDir(dir)
    for (let tries = 1; ; tries++) {
      const id = Bun.randomUUIDv7()
      const path = join(dir, id)
      try {
        makeDir(path)
        const lock = FileLock.try(join(path, LOCK))
        if (lock) {
          const marker = { version: 1, id, host: hostname(), madeAt: new Date().toISOString() }
          writeDurably(join(path, MARKER), Buffer.from(`${JSON.stringify(marker)}\n`))
          return new SpoolFolder(id, path, false, lock)
        }
      } catch (error) {
        if (tries >= MAKE_TRIES || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      }
    }
  }

  /** The oldest one that nobody holds; undefined when there is none. Clears away what is left of removed ones. */
  static claimOldest(dir: string): SpoolFolder | undefined {
    for (const id of listIds(dir)) {
      const folder = SpoolFolder.claim(dir, id)
      if (folder) return folder
    }
    return undefined
  }

  /** The one with this id; undefined when somebody holds it, or nobody may. Clears away what is left of a removed one. */
  static claim(dir: string, id: string): SpoolFolder | undefined {
    const path = join(dir, id)
    const lock = tryLock(join(path, LOCK))
    if (!lock) return undefined
    if (!existsSync(join(path, MARKER))) rmSync(path, { recursive: true, force: true })
    else if (!existsSync(join(path, DAMAGED)) && !existsSync(join(path, TOO_LARGE)))
      return new SpoolFolder(id, path, true, lock)
    lock.release()
    return undefined
  }

  /** Bytes of all files in it. */
  bytesOnDisk(): number {
    return bytesUnder(this.logDir)
  }

  /** Removes it with all it holds: only a drained one, with its log closed. */
  remove(): void {
    rmSync(join(this.path, MARKER), { force: true })
    rmSync(this.path, { recursive: true, force: true })
    this.lock.release()
  }

  /** Leaves it to a human: nobody claims it any more. */
  quarantine(why: string): void {
    this.leave(DAMAGED, why)
  }

  /** Leaves it to a human, who makes the log take larger records first. */
  setAside(why: string): void {
    this.leave(TOO_LARGE, why)
  }

  private leave(marker: string, why: string): void {
    const note = { why, at: new Date().toISOString() }
    writeDurably(join(this.path, marker), Buffer.from(`${JSON.stringify(note)}\n`))
    this.lock.release()
  }

  /** Leaves it to the next process. */
  release(): void {
    this.lock.release()
  }
}

/** How many folders hold damaged records and wait for a human. */
export function countDamaged(dir: string): number {
  return countMarked(dir, DAMAGED)
}

/** How many folders hold a record that the log does not take, and wait for a human. */
export function countTooLarge(dir: string): number {
  return countMarked(dir, TOO_LARGE)
}

function countMarked(dir: string, marker: string): number {
  let count = 0
  for (const id of listIds(dir)) if (existsSync(join(dir, id, marker))) count++
  return count
}

/** The ids of all folders, oldest first. */
export function listIds(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => ID.test(name))
      .sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Undefined also when the folder has gone meanwhile. */
function tryLock(path: string): FileLock | undefined {
  try {
    return FileLock.try(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function bytesUnder(dir: string): number {
  let bytes = 0
  for (const entry of entriesOf(dir)) {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) bytes += bytesUnder(path)
    else bytes += sizeOf(path)
  }
  return bytes
}

function entriesOf(dir: string) {
  try {
    return readdirSync(dir, { withFileTypes: true })
  } catch {
    return []
  }
}

/** 0 when retention was quicker. */
function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}
