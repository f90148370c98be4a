/** One process per data folder. The engine locks its folder too, but tells why it did not open only on the console. */
import { join } from 'node:path'
import { FileLock } from '../../platform/index.ts'
import { warehouseError } from '../errors.ts'

/** Takes the lock. Throws HR_WAREHOUSE_FOLDER_IN_USE when another process, or this one, holds it. */
export function lockFolder(dir: string): { release(): void } {
  const lock = FileLock.try(join(dir, 'lock'))
  if (lock) return lock
  throw warehouseError(
    'HR_WAREHOUSE_FOLDER_IN_USE',
    `the warehouse folder ${dir} is in use by another process; stop that one or choose another folder`,
  )
}
