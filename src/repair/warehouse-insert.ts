/**
 * Brings made rows into ClickHouse, each once: promised, sent under a token of its own, settled. A row that ClickHouse
 * refuses is found by halving, and left to the caller; between two tries is asked what is there, since an insert that
 * fails on a row may leave blocks behind. Throws retriable errors; the attempt then stays open for the next repair.
 */
import {
  DEAD_LETTERS,
  EVENTS,
  type HeadraceError,
  INGESTION_WARNINGS,
  isRejected,
  OUTCOMES,
  type Table,
} from '../event/index.ts'
import type { RemakeDeps } from '../ingest/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { Lane } from './lost-receipts.ts'
import { openAttempts, settleAttempt, writeAttempt } from './warehouse-attempts.ts'
import { type LaneOf, type MadeRow, makeRows } from './warehouse-make.ts'
import { stillMissing } from './warehouse-places.ts'
import { ROW_KINDS } from './warehouse-plan.ts'

/** Where a test may cut the repair off. */
export type RepairStep =
  | 'fenced'
  | 'promised'
  | 'inserted'
  | 'settled'
  | 'chosen'
  | 'copied'
  | 'deleted'
  | 'given_up'

export type InsertDeps = RemakeDeps & {
  warehouse: Warehouse
  /** Throws once another repair may be at work. */
  hold: () => Promise<void>
  reached: (step: RepairStep) => Promise<void> | void
}

export type RefusedRow = MadeRow & { why: string }

/** Past this age an insert that was cut off cannot be on its way any more. */
const ATTEMPT_AGE_MS_MAX = 600_000

/** The rows that ClickHouse refuses, each alone. */
export async function insertMade(
  deps: InsertDeps,
  table: Table,
  lane: Lane,
  rows: readonly MadeRow[],
): Promise<RefusedRow[]> {
  if (rows.length === 0) return []
  await deps.hold()
  const token = await writeAttempt(deps.sql, table.name, lane, rows)
  await deps.reached('promised')
  try {
    await deps.warehouse.insertRows({ table, rows: rows.map(({ row }) => row), token })
  } catch (error) {
    if (!isRejected(error)) throw error
    await settleAttempt(deps.sql, token, 'refused')
    return insertHalves(deps, table, lane, rows, error as HeadraceError)
  }
  await deps.reached('inserted')
  await settleAttempt(deps.sql, token, 'done')
  await deps.reached('settled')
  return []
}

async function insertHalves(
  deps: InsertDeps,
  table: Table,
  lane: Lane,
  rows: readonly MadeRow[],
  error: HeadraceError,
): Promise<RefusedRow[]> {
  if (rows.length === 1) return [{ ...rows[0]!, why: error.message }]
  const left = await stillMissing(deps.warehouse, table, lane, rows)
  const middle = (left.length + 1) >> 1
  return [
    ...(await insertMade(deps, table, lane, left.slice(0, middle))),
    ...(await insertMade(deps, table, lane, left.slice(middle))),
  ]
}

const TABLES = new Map<string, Table>(
  [EVENTS, OUTCOMES, DEAD_LETTERS, INGESTION_WARNINGS].map((table) => [table.name, table]),
)

/**
 * Closes what earlier repairs left open: nothing of it can land after this. Rows that can be made no more cannot be sent
 * again; their insert is older than that, or was never sent.
 */
export async function settleOpenAttempts(deps: InsertDeps, lanes: readonly LaneOf[]): Promise<number> {
  const open = await openAttempts(deps.sql)
  for (const { id, table: name, logId, partition, places, ageMs } of open) {
    const table = TABLES.get(name)
    const lane = lanes.find((one) => one.logId === logId && one.partition === partition)
    const kind = ROW_KINDS.find((one) => one.table === table)
    let refused = false
    if (table && lane && kind && ageMs < ATTEMPT_AGE_MS_MAX) {
      await deps.hold()
      const rows: MadeRow[] = []
      for await (const made of makeRows(deps, lane, kind, places))
        if (made.table === table) rows.push(...made.rows)
      refused = await isRefused(deps, table, rows, id)
    }
    await settleAttempt(deps.sql, id, refused ? 'refused' : 'done')
  }
  return open.length
}

async function isRefused(
  { warehouse }: InsertDeps,
  table: Table,
  rows: readonly MadeRow[],
  token: string,
): Promise<boolean> {
  try {
    await warehouse.insertRows({ table, rows: rows.map(({ row }) => row), token })
    return false
  } catch (error) {
    if (!isRejected(error)) throw error
    return true
  }
}
