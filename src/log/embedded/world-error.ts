/** What the operating system says, as an error of the log: the disk is full, or something can be tried again. */
import { HeadraceError } from '../../event/index.ts'
import { logError } from '../errors.ts'

/** Errors of ours stay; those without a system code are bugs and stay too. `what` is the sentence for the rest. */
export function worldError(what: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  if (error instanceof HeadraceError || code === undefined) return error
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? logError('HR_LOG_DISK_FULL', `${what}: the disk is full`, error)
    : logError('HR_LOG_UNAVAILABLE', `${what}: ${code}`, error)
}
