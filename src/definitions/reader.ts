/**
 * Reads definitions in the background, step by step: of each raw partition what was loaded since. Beside the load, off the way
 * of events. In: receipts and the load progress. Out: definitions. A step reads at most `RECEIPTS_MAX` batches of a
 * partition; one process does it, whoever has the lease. Cost: see docs/decisions/0024.
 *
 * Rows that the receipts promise and ClickHouse does not have are a matter of the audit, which tells of them until they are
 * mended; here they are counted and passed over.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { type LaneProgress, type Receipt, readProgress, readReceipts } from '../ledger/index.ts'
import { counter, gauge } from '../observe/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { collect } from './collect.ts'
import { addCollected, type DefinitionLimits, readCursors } from './store.ts'

export type ReaderDeps = { sql: Sql; warehouse: Warehouse; limits: DefinitionLimits }

/** Of one partition and step: 20 batches are about 100,000 events at full load. */
const RECEIPTS_MAX = 20
/** Of the clocks of ClickHouse and Postgres: what is found to be missing is looked for without a time. */
const CLOCK_SLACK_MS = 600_000
const LEASE_MS = 300_000

const rowsRead = counter('headrace_definitions_rows_total', 'Rows of events whose names were read.')
const rowsMissing = counter(
  'headrace_definitions_rows_missing_total',
  'Rows that were not in ClickHouse when their names were read; `headrace audit` says which.',
)
const behind = gauge(
  'headrace_definitions_behind_events',
  'Raw offsets that are loaded and whose names are not read yet, as far as the last step saw.',
)

export class DefinitionReader {
  private readonly id: string = crypto.randomUUID()

  constructor(
    private readonly deps: ReaderDeps,
    private readonly receiptsMax = RECEIPTS_MAX,
  ) {}

  /** One step of every partition; true when there is more. One call at a time. Retriable errors pass through. */
  async step(): Promise<boolean> {
    const { sql } = this.deps
    if (!(await this.holdLease())) return false
    const cursors = await readCursors(sql)
    let more = false
    let left = 0
    for (const lane of await readProgress(sql)) {
      const from = cursors.get(`${lane.logId}/${lane.partition}`) ?? 0
      const receipts = await this.nextReceipts(lane, from)
      const last = receipts.at(-1)
      if (!last) continue
      await this.read(lane, { from, to: last.to }, receipts)
      more ||= last.to < lane.loadedThrough
      left += lane.nextOffset - last.to
    }
    behind.set(more ? left : 0)
    return more
  }

  /** The first receipts behind the cursor that are loaded. */
  private async nextReceipts(lane: LaneProgress, from: number): Promise<Receipt[]> {
    if (lane.loadedThrough <= from) return []
    for await (const page of readReceipts(this.deps.sql, lane, from, lane.loadedThrough, this.receiptsMax))
      return page
    return []
  }

  private async read(
    { logId, partition }: LaneProgress,
    { from, to }: { from: number; to: number },
    receipts: readonly Receipt[],
  ): Promise<void> {
    const { sql, warehouse, limits } = this.deps
    const expected = receipts.reduce((sum, { storedRows }) => sum + storedRows, 0)
    const decidedMs = receipts.reduce((least, receipt) => Math.min(least, receipt.decidedMs), Infinity)
    const range = { logId, partition, from, to }
    let collected = await collect(warehouse, range, decidedMs - CLOCK_SLACK_MS)
    if (collected.rows < expected) collected = await collect(warehouse, range, 0)
    if (!(await addCollected(sql, range, collected, limits))) return
    rowsRead.inc(collected.rows)
    if (collected.rows < expected) rowsMissing.inc(expected - collected.rows)
  }

  private async holdLease(): Promise<boolean> {
    const { sql } = this.deps
    return guardState('take the lease of definitions', async () => {
      const done = await sql`
        INSERT INTO definition_reader AS r (reader, heard_at) VALUES (${this.id}, now())
        ON CONFLICT (only_one) DO UPDATE SET reader = excluded.reader, heard_at = now()
        WHERE r.reader = ${this.id} OR r.heard_at < now() - ${LEASE_MS} * interval '1 ms'`
      return done.count > 0
    })
  }
}
