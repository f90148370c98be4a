/**
 * Storing what receivers have answered. While Postgres or the log is away it is tried again in place: starting anew would send
 * everything once more. Ends when it is stored, when somebody else has moved the place (HR_DELIVER_FENCE), when something
 * is wrong that waiting does not mend, or when `signal` aborts.
 */
import { type HeadraceError, isRetriable } from '../event/index.ts'
import type { Logger } from '../observe/index.ts'
import { type Backoff, backoffMs, pause } from '../platform/index.ts'

const BACKOFF: Backoff = { firstMs: 100, maxMs: 3_000 }
const SAID_EVERY = 20

export async function untilStored<T>(
  work: () => Promise<T>,
  signal: AbortSignal,
  logger: Logger,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await work()
    } catch (error) {
      const { code, message } = error as HeadraceError
      if (!isRetriable(error) || code === 'HR_DELIVER_FENCE' || signal.aborted) throw error
      if (failures % SAID_EVERY === 1)
        logger.warn({ code }, `what was delivered waits to be stored: ${message}`)
      await pause(backoffMs(failures, BACKOFF), signal)
    }
  }
}
