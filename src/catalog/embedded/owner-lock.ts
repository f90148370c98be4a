/**
 * One process at a time runs the Postgres of a data folder. The kernel holds the lock (SQLite's, on a file without
 * content) and drops it however the process dies, so it is never stale.
 */
import { Database } from 'bun:sqlite'
import { join } from 'node:path'
import { postgresError } from './errors.ts'

/** Throws HR_POSTGRES_IN_USE when a live process has it. */
export function lockOwner(dataDir: string): { release(): void } {
  const database = new Database(join(dataDir, 'owner.lock'), { create: true })
  try {
    database.run('BEGIN EXCLUSIVE')
  } catch (cause) {
    database.close()
    if ((cause as { code?: unknown }).code !== 'SQLITE_BUSY') throw cause
    throw postgresError(
      'HR_POSTGRES_IN_USE',
      `another live process runs the Postgres of ${dataDir}; stop it first, or use another data folder`,
      cause,
    )
  }
  return { release: () => database.close() }
}
