/**
 * One process per data folder. The engine locks its folder too, but tells why it did not open only on the console.
 * The lock is SQLite's exclusive one on a file in the folder: held by the operating system for the process, so it
 * goes with it, however it ends.
 */
import { Database } from 'bun:sqlite'
import { join } from 'node:path'
import { warehouseError } from '../errors.ts'

/** Takes the lock. Throws HR_WAREHOUSE_FOLDER_IN_USE when another process, or this one, holds it. */
export function lockFolder(dir: string): { release(): void } {
  const database = new Database(join(dir, 'lock'), { create: true })
  try {
    database.run('PRAGMA busy_timeout = 0')
    database.run('BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if ((error as { code?: string }).code !== 'SQLITE_BUSY') throw error
    throw warehouseError(
      'HR_WAREHOUSE_FOLDER_IN_USE',
      `the warehouse folder ${dir} is in use by another process; stop that one or choose another folder`,
      error,
    )
  }
  return { release: () => database.close() }
}
