/**
 * One supervisor per data folder: an flock on `headrace.lock`, which the kernel drops when its process dies, however
 * it dies. The file holds the pid of its owner, for the sentence that refuses the second one.
 */
import { dlopen, FFIType } from 'bun:ffi'
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { supervisorError } from './errors.ts'

const LOCK_EX = 2
const LOCK_NB = 4

/** Takes the folder, or throws HR_SUPERVISOR_ALREADY_RUNNING with the pid of who has it. */
export function lockDataFolder(dataDir: string): { release(): void } {
  const path = join(dataDir, 'headrace.lock')
  const fd = openSync(path, 'a+', 0o644)
  if (flock()(fd, LOCK_EX | LOCK_NB) !== 0) {
    closeSync(fd)
    const pid = readFileSync(path, 'utf8').trim()
    throw supervisorError(
      'HR_SUPERVISOR_ALREADY_RUNNING',
      `process ${pid || '(unknown)'} already runs Headrace on the data folder ${dataDir}; stop it first, or give another folder with --data-dir`,
    )
  }
  ftruncateSync(fd, 0)
  writeSync(fd, `${process.pid}\n`)
  return { release: () => closeSync(fd) }
}

/** The pid of the supervisor that has the folder now, or undefined. */
export function dataFolderOwner(dataDir: string): number | undefined {
  let fd: number
  try {
    fd = openSync(join(dataDir, 'headrace.lock'), 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    if (flock()(fd, LOCK_EX | LOCK_NB) === 0) return undefined
    return Number(readFileSync(fd, 'utf8')) || undefined
  } finally {
    closeSync(fd)
  }
}

function flock(): (fd: number, operation: number) => number {
  const names =
    process.platform === 'darwin'
      ? ['libSystem.B.dylib']
      : ['libc.so.6', `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`]
  let cause: unknown
  for (const name of names) {
    try {
      return dlopen(name, { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } }).symbols.flock
    } catch (error) {
      cause = error
    }
  }
  throw supervisorError(
    'HR_SUPERVISOR_NO_LOCK',
    `no C library with flock was found (tried ${names.join(', ')})`,
    cause,
  )
}
