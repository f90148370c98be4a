/** One process at a time runs the Postgres of a data folder. */
import { join } from 'node:path'
import { FileLock } from '../../platform/index.ts'
import { postgresError } from './errors.ts'

/** Throws HR_POSTGRES_IN_USE when a live process has it. */
export function lockOwner(dataDir: string): { release(): void } {
  const lock = FileLock.try(join(dataDir, 'owner.lock'))
  if (lock) return lock
  throw postgresError(
    'HR_POSTGRES_IN_USE',
    `another live process runs the Postgres of ${dataDir}; stop it first, or use another data folder`,
  )
}
