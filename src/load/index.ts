/**
 * Load: rows from the log into ClickHouse, each once (architecture: Load). `startLoad` is the role; the rest of the
 * folder is how: `loader.ts` owns partition numbers, `input-reader.ts` reads, `lane.ts` cuts and sends per table,
 * `intent.ts` is what Postgres knows, `deliver.ts` and `settle.ts` bring an intent to its end whatever happened.
 */

export { rawLogsKnown } from './behind.ts'
export { amendReceipt } from './dead-letter.ts'
export type { StepHook } from './deliver.ts'
export { LOAD_ERRORS } from './errors.ts'
export { neededFrom } from './intent.ts'
export { type Load, type LoadDeps, startLoad } from './loader.ts'
