/**
 * Advisory whole-file locks (flock) through libc. The kernel drops a lock when its process dies, however it dies,
 * which is what makes "one live writer" and "one live owner" true without clocks or leases in time. A stopped
 * process keeps its locks; its supervisor kills it. Two descriptors conflict within one process as well, and a child
 * does not inherit a lock: descriptors are opened to be closed on exec.
 * Cost: one open and one system call, about 10 µs.
 */
import { dlopen, FFIType } from 'bun:ffi'
import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { platformError } from './errors.ts'

const LOCK_SH = 1
const LOCK_EX = 2
const LOCK_NB = 4
/** How often a lock that another process holds is tried again. */
const RETRY_MS = 20

type Flock = (fd: number, operation: number) => number
let flock: Flock | undefined

function libcFlock(): Flock {
  if (flock) return flock
  const names =
    process.platform === 'darwin'
      ? ['libSystem.B.dylib']
      : ['libc.so.6', `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`, 'libc.so']
  let cause: unknown
  for (const name of names) {
    try {
      const library = dlopen(name, {
        flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
      })
      flock = library.symbols.flock
      return flock
    } catch (error) {
      cause = error
    }
  }
  throw platformError(
    'HR_PLATFORM_NO_LOCK',
    `no C library with flock was found (tried ${names.join(', ')})`,
    cause,
  )
}

/** A held lock. */
export class FileLock {
  private constructor(private fd: number) {}

  /** Locks `path` (made when it is missing) alone; undefined when somebody else holds it. */
  static try(path: string): FileLock | undefined {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o644)
    if (libcFlock()(fd, LOCK_EX | LOCK_NB) === 0) return new FileLock(fd)
    closeSync(fd)
    return undefined
  }

  /** Like `try`, but waits up to `waitMs` for the holder to let go. */
  static async within(path: string, waitMs: number): Promise<FileLock | undefined> {
    const deadline = performance.now() + waitMs
    for (;;) {
      const lock = FileLock.try(path)
      if (lock || performance.now() >= deadline) return lock
      await delay(RETRY_MS)
    }
  }

  /** Replaces what the file says, for `noteOfHolder` and for whoever is refused. */
  note(text: string): void {
    ftruncateSync(this.fd, 0)
    writeSync(this.fd, text, 0)
  }

  /** Lets go. The file stays, for a file that is removed and made again could be locked twice. */
  release(): void {
    if (this.fd < 0) return
    closeSync(this.fd)
    this.fd = -1
  }
}

/**
 * Whether a live process holds `path`. Asks with a shared lock, so that two who ask at once do not take each other
 * for the holder. False when the file is gone.
 */
export function isLocked(path: string): boolean {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
  try {
    return libcFlock()(fd, LOCK_SH | LOCK_NB) !== 0
  } finally {
    closeSync(fd)
  }
}

/** What the live holder of `path` noted; undefined when nobody holds it. */
export function noteOfHolder(path: string): string | undefined {
  return isLocked(path) ? readFileSync(path, 'utf8') : undefined
}
