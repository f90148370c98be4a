/**
 * One supervisor per data folder: a lock on `headrace.lock`, which holds the pid of its owner, for the sentence that
 * refuses the second one.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { FileLock, noteOfHolder } from '../platform/index.ts'
import { supervisorError } from './errors.ts'

/** Takes the folder, or throws HR_SUPERVISOR_ALREADY_RUNNING with the pid of who has it. */
export function lockDataFolder(dataDir: string): { release(): void } {
  const path = lockPath(dataDir)
  const lock = FileLock.try(path)
  if (!lock) {
    const pid = readFileSync(path, 'utf8').trim()
    throw supervisorError(
      'HR_SUPERVISOR_ALREADY_RUNNING',
      `process ${pid || '(unknown)'} already runs Headrace on the data folder ${dataDir}; stop it first, or give another folder with --data-dir`,
    )
  }
  lock.note(`${process.pid}\n`)
  return lock
}

/** The pid of the supervisor that has the folder now, or undefined. */
export function dataFolderOwner(dataDir: string): number | undefined {
  return Number(noteOfHolder(lockPath(dataDir))) || undefined
}

function lockPath(dataDir: string): string {
  return join(dataDir, 'headrace.lock')
}
