/**
 * Squash of overrides. A room of its own and not a part of the warehouse, which knows ClickHouse only: when an override may
 * go is told by the raw log, ingest and load, and how far a squash is stands in Postgres. `squash.ts` is the procedure
 * and the rule, `runs.ts` the record, `snapshot.ts` what ClickHouse holds meanwhile.
 */
export { SQUASH_ERRORS } from './errors.ts'
export { doneText, previewText, type SquashPreview } from './format.ts'
export type { Squash } from './runs.ts'
export { forgetSnapshot, previewSnapshot } from './snapshot.ts'
export { runSquash, type SquashDeps } from './squash.ts'
