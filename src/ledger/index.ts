/**
 * The ledger: proof that every event that was accepted is accounted for (I4), and the life of a single one. Reads
 * receipts and fences in Postgres, the log and ClickHouse; writes only what it knows itself. `audit` compares, `trace`
 * tells, `spools.ts` judges what waits before the raw log, `UnaccountedWatch` repeats the audit for a metric; `rollUp`
 * counts receipts by hour and project, `mergeReceipts` keeps them few; `canary.ts` measures how fresh ClickHouse is;
 * `format.ts` prints.
 */
export {
  type AuditDeps,
  type AuditOptions,
  type AuditReport,
  audit,
  type OffsetRange,
  type PartitionAudit,
} from './audit.ts'
export { Canary } from './canary.ts'
export {
  ERASURE_CELL_OFFSETS,
  type ErasureRun,
  finishErasures,
  placesErased,
  recordErasures,
} from './erasures.ts'
export { FINDING_KINDS, type Finding, type FindingKind } from './findings.ts'
export { formatAudit, formatOutcomeCounts, formatTrace, recentTable } from './format.ts'
export { Lease } from './lease.ts'
export type { AcceptedLoss } from './losses.ts'
export { mergeReceipts } from './merge-receipts.ts'
export { type OutcomeCount, type Period, rangesDecidedIn, readOutcomeCounts } from './period.ts'
export { type LaneProgress, readProgress } from './progress.ts'
export { type Receipt, readReceipts } from './receipts.ts'
export { lastErrors, type RecentEvent, type RecentOptions, recentOf } from './recent.ts'
export { countLost, rollUp } from './roll-up.ts'
export { type Trace, type TraceDeps, type TracedSource, type TraceOptions, trace } from './trace.ts'
export type { TraceEntry } from './trace-entries.ts'
export { showAudit, UnaccountedWatch } from './watch.ts'
