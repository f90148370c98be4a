/**
 * Copies of dedup indexes, for a move to another machine: `snapshotDedup` writes them into a folder while ingest runs,
 * `restoreDedup` brings them to where ingest will open them, which then reads only what came since from the raw log.
 *
 * A copy is one moment of its partition: under the manifest's write lock its runs get second names and the manifest,
 * a few MB, is copied; the runs never change, so they are copied after, and ingest waits for milliseconds only. A
 * folder is there with everything in it or not at all.
 */
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { FileLock, makeDir, syncDir } from '../../platform/index.ts'
import { classifyDedup, dedupError, runsFolder } from './failures.ts'
import { isCurrent, Manifest } from './manifest.ts'

export type CopiedIndex = { partition: number; bytes: number }

/** Where the indexes of a data folder are. */
export function dedupFolder(dataDir: string): string {
  return join(dataDir, 'dedup')
}

/** Writes the indexes of `dataDir` into `target`, which must not be there. Throws DEDUP_ERRORS. */
export function snapshotDedup(dataDir: string, target: string): CopiedIndex[] {
  const folder = dedupFolder(dataDir)
  const names = indexesIn(folder)
  if (existsSync(target))
    throw dedupError('HR_DEDUP_SNAPSHOT', `${target} is there already; name a new folder`)
  const lock = FileLock.try(join(folder, 'snapshot.lock'))
  if (!lock) throw dedupError('HR_DEDUP_UNAVAILABLE', `another snapshot of ${folder} is being made`)
  const staging = join(folder, 'snapshot.staging')
  try {
    rmSync(staging, { recursive: true, force: true })
    mkdirSync(staging)
    for (const name of names) stage(join(folder, name), join(staging, name))
    makeDir(dirname(target))
    return bringTo(staging, target, names)
  } catch (error) {
    throw classifyDedup(folder, error)
  } finally {
    rmSync(staging, { recursive: true, force: true })
    lock.release()
  }
}

/** Brings the indexes of a snapshot into `dataDir`, where ingest must have none of them. Throws DEDUP_ERRORS. */
export function restoreDedup(source: string, dataDir: string): CopiedIndex[] {
  const folder = dedupFolder(dataDir)
  const names = indexesIn(source)
  // Also what is left of one: SQLite would play an older write-ahead log into the index beside which it finds it.
  const there = names
    .flatMap((name) => ['', '-wal', '-shm'].map((suffix) => name + suffix))
    .find((file) => existsSync(join(folder, file)))
  if (there !== undefined) {
    throw dedupError(
      'HR_DEDUP_SNAPSHOT',
      `${join(folder, there)} is there already; stop ingest on this machine and remove ${folder} first`,
    )
  }
  for (const name of names) refuseOtherFormat(join(source, name))
  try {
    makeDir(folder)
    return names.map((name) => {
      const path = join(folder, name)
      rmSync(runsFolder(path), { recursive: true, force: true })
      // The manifest last and at once: until then there is no index.
      if (existsSync(runsFolder(join(source, name))))
        copyFolder(runsFolder(join(source, name)), runsFolder(path))
      rmSync(`${path}.restored`, { force: true })
      copyDurably(join(source, name), `${path}.restored`)
      // A link, unlike a rename, never replaces an index that ingest has made meanwhile.
      linkSync(`${path}.restored`, path)
      rmSync(`${path}.restored`)
      syncDir(folder)
      return copied(folder, name)
    })
  } catch (error) {
    throw classifyDedup(folder, error)
  }
}

/** Throws HR_DEDUP_SNAPSHOT when there is none. */
function indexesIn(folder: string): string[] {
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => /^\d+\.sqlite$/.test(name)) : []
  if (names.length === 0) throw dedupError('HR_DEDUP_SNAPSHOT', `no dedup index is in ${folder}`)
  return names.sort((a, b) => partitionOf(a) - partitionOf(b))
}

function stage(path: string, to: string): void {
  refuseOtherFormat(path)
  const manifest = new Manifest(path)
  const reader = new Manifest(path)
  try {
    manifest.write(() => {
      const runs = manifest.runs()
      if (runs.length > 0) mkdirSync(runsFolder(to))
      for (const { file } of runs) linkSync(join(runsFolder(path), file), join(runsFolder(to), file))
      // By another connection: this one is in a transaction, and nobody else can write meanwhile.
      reader.copyTo(to)
    })
  } finally {
    reader.close()
    manifest.close()
  }
}

/** Opened as ours, an index of another version would be made anew: its claims would be gone. */
function refuseOtherFormat(path: string): void {
  if (isCurrent(path)) return
  throw dedupError(
    'HR_DEDUP_SNAPSHOT',
    `${path} was made by another version of Headrace; snapshot and restore with the version that made it`,
  )
}

/** Renamed when it is on the same disk, and copied otherwise. */
function bringTo(staging: string, target: string, names: readonly string[]): CopiedIndex[] {
  for (const name of names) syncFile(join(staging, name))
  syncDir(staging)
  const all = names.map((name) => copied(staging, name))
  try {
    renameSync(staging, target)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
    const partial = `${target}.partial`
    rmSync(partial, { recursive: true, force: true })
    copyFolder(staging, partial)
    renameSync(partial, target)
  }
  syncDir(dirname(target))
  return all
}

function copyFolder(from: string, to: string): void {
  mkdirSync(to)
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (entry.isDirectory()) copyFolder(join(from, entry.name), join(to, entry.name))
    else copyDurably(join(from, entry.name), join(to, entry.name))
  }
  syncDir(to)
}

function copyDurably(from: string, to: string): void {
  copyFileSync(from, to)
  syncFile(to)
}

function syncFile(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function copied(folder: string, name: string): CopiedIndex {
  const runs = runsFolder(join(folder, name))
  const files = [
    join(folder, name),
    ...(existsSync(runs) ? readdirSync(runs).map((file) => join(runs, file)) : []),
  ]
  return { partition: partitionOf(name), bytes: files.reduce((sum, file) => sum + statSync(file).size, 0) }
}

function partitionOf(name: string): number {
  return Number.parseInt(name, 10)
}
