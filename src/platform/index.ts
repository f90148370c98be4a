/**
 * What every room needs of the machine it runs on: locks between processes, and waiting between tries. Knows nothing
 * of events; anything that decides something about them belongs elsewhere.
 */
export { type Backoff, backoffMs, pause } from './backoff.ts'
export { makeDir, syncDir, writeDurably, writeFully } from './durable-file.ts'
export { endsWithin } from './ends-within.ts'
export { PLATFORM_ERRORS } from './errors.ts'
export {
  type CaptureFailpoint,
  FAILPOINTS,
  type Failpoint,
  failpoint,
  type IngestFailpoint,
  type LoadFailpoint,
} from './failpoint.ts'
export { FileLock, isLocked, noteOfHolder } from './file-lock.ts'
export { Signal } from './signal.ts'
