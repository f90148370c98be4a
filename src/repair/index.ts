/**
 * Repair: the way out of halts that no waiting mends, as an operator decides it. In: Postgres, the log and ClickHouse,
 * out of step. Out: rows in Postgres, and in ClickHouse below the load progress only; the roles, which look again every
 * 10 s, do the rest. `gap` gives up what the raw log lost; `rewind` goes on with a Postgres that was restored
 * to an earlier state; `rows` makes ClickHouse agree with the receipts. A room of its own beside ingest and load, since it looks at both through their doors, and at what
 * they wrote. Everything is a dry run until told otherwise, and safe to repeat.
 */
export { REPAIR_ERRORS } from './errors.ts'
export { formatGaps, formatInspection, formatRewind } from './format.ts'
export { type GapOptions, type GapRepair, type LostRange, type RepairDeps, repairGaps } from './gap.ts'
export { type Inspection, inspect, isOutOfStep } from './inspect.ts'
export type { LoadProgress } from './load-progress.ts'
export { type LaneRewind, type Rewind, type RewindDeps, rewind } from './rewind.ts'
export { formatRows } from './rows-format.ts'
export {
  nothingMissing,
  type RawEnd,
  rawEnds,
  type SettleDeps,
  until,
  untilIngested,
  untilLoaded,
} from './settled.ts'
export { countedRows } from './warehouse-places.ts'
export { type RowsDeps, type RowsOptions, type RowsRepair, repairRows } from './warehouse-rows.ts'
