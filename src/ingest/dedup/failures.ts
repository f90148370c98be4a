/**
 * What a failing dedup index means. The index is only a copy of what the raw log and the receipts say, so nothing is
 * lost with it: a full disk is waited for, and a damaged file is put aside and built anew.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { errorTable, HeadraceError } from '../../event/index.ts'

export const DEDUP_ERRORS = {
  HR_DEDUP_UNAVAILABLE: {
    class: 'retriable',
    meaning: 'The dedup index cannot be read or written now: disk full, input/output error, or in use.',
  },
  HR_DEDUP_DAMAGED: {
    class: 'retriable',
    meaning:
      'The file of a dedup index is damaged; it was put aside as `<partition>.sqlite.damaged` and is built anew.',
  },
  HR_DEDUP_SNAPSHOT: {
    class: 'rejected',
    meaning:
      'A snapshot of dedup indexes cannot be made or restored: something is there already, or nothing is.',
  },
} as const

export const dedupError = errorTable(DEDUP_ERRORS)

const UNAVAILABLE =
  /^(SQLITE_(FULL|IOERR|BUSY|LOCKED|CANTOPEN|READONLY|PROTOCOL)|ENOSPC$|EDQUOT$|EIO$|EROFS$|EACCES$|EMFILE$|ENFILE$|ENOMEM$|ESTALE$)/
const DAMAGED = /^SQLITE_(CORRUPT|NOTADB)/

/** What was read is not what was written. `path`: of the file of a run, when it is one. */
export class DamagedIndex extends Error {
  constructor(
    message: string,
    readonly path?: string,
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause })
  }
}

/** One of DEDUP_ERRORS; any other error stays as it is, because it is our own. */
export function classifyDedup(path: string, error: unknown): unknown {
  const code = String((error as { code?: unknown }).code ?? '')
  const said = `dedup index ${path}: ${(error as Error).message}`
  if (error instanceof HeadraceError) return error
  if (error instanceof DamagedIndex || DAMAGED.test(code)) return dedupError('HR_DEDUP_DAMAGED', said, error)
  if (UNAVAILABLE.test(code)) return dedupError('HR_DEDUP_UNAVAILABLE', said, error)
  return error
}

/** Where the runs of the index at `path` are. */
export function runsFolder(path: string): string {
  return `${path}.runs`
}

/**
 * Moves the files of an index away; of several damaged ones the last is kept. Of its runs only a damaged one is kept,
 * so that the disk need not hold the window twice.
 */
export function putAside(path: string, damagedRun?: string): void {
  for (const suffix of ['', '-wal', '-shm']) {
    if (existsSync(path + suffix)) renameSync(path + suffix, `${path}.damaged${suffix}`)
    else rmSync(`${path}.damaged${suffix}`, { force: true })
  }
  rmSync(runsFolder(`${path}.damaged`), { recursive: true, force: true })
  if (damagedRun !== undefined && existsSync(damagedRun)) {
    mkdirSync(runsFolder(`${path}.damaged`))
    renameSync(damagedRun, join(runsFolder(`${path}.damaged`), basename(damagedRun)))
  }
  rmSync(runsFolder(path), { recursive: true, force: true })
}
