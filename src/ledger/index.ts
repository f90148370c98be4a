/**
 * The ledger: proof that every event that was accepted is accounted for (I4), and the life of a single one. Reads
 * receipts and fences in Postgres, the log and ClickHouse; writes nothing. `audit` compares, `trace` tells,
 * `spools.ts` judges what waits before the raw log, `UnaccountedWatch` repeats the audit for a metric; `format.ts`
 * prints.
 */
export { type AuditDeps, type AuditOptions, type AuditReport, audit, type PartitionAudit } from './audit.ts'
export { FINDING_KINDS, type Finding, type FindingKind } from './findings.ts'
export { formatAudit, formatTrace } from './format.ts'
export type { AcceptedLoss } from './losses.ts'
export { type LaneProgress, readProgress } from './progress.ts'
export {
  type Trace,
  type TraceDeps,
  type TracedSource,
  type TraceEntry,
  type TraceOptions,
  trace,
} from './trace.ts'
export { UnaccountedWatch } from './watch.ts'
