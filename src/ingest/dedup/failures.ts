/**
 * What a failing dedup index means. The index is only a copy of what the raw log and the receipts say, so nothing is
 * lost with it: a full disk is waited for, and a damaged file is put aside and built anew.
 */
import { existsSync, renameSync } from 'node:fs'
import { errorTable } from '../../event/index.ts'

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
} as const

const dedupError = errorTable(DEDUP_ERRORS)

const UNAVAILABLE = /^SQLITE_(FULL|IOERR|BUSY|LOCKED|CANTOPEN|READONLY|PROTOCOL)/
const DAMAGED = /^SQLITE_(CORRUPT|NOTADB)/

/** One of DEDUP_ERRORS; any other error stays as it is, because it is our own. */
export function classifyDedup(path: string, error: unknown): unknown {
  const code = String((error as { code?: unknown }).code ?? '')
  const said = `dedup index ${path}: ${(error as Error).message}`
  if (DAMAGED.test(code)) return dedupError('HR_DEDUP_DAMAGED', said, error)
  if (UNAVAILABLE.test(code)) return dedupError('HR_DEDUP_UNAVAILABLE', said, error)
  return error
}

/** Moves the files of an index away; of several damaged ones the last is kept. */
export function putAside(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) {
    if (existsSync(path + suffix)) renameSync(path + suffix, `${path}.damaged${suffix}`)
  }
}
