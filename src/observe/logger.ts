/**
 * One JSON line per message on standard output (pino); the supervisor makes them readable. Never called per event.
 */
import pino from 'pino'

export type Logger = pino.Logger

/** `role` is on every line. A warning that advises carries `docs`, a page of ours. */
export function createLogger(role: string, level: string): Logger {
  return pino(
    { base: { role }, level, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 1, sync: true }),
  )
}
