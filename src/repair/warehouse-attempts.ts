/**
 * The inserts of a repair, each promised in Postgres before it is sent, and the lock by which one repair at a time does
 * them. An attempt that was cut off is closed by the next repair: the same places under the same token, after which the
 * first one cannot land any more, whatever became of it; what is there is asked anew then.
 *
 *   written ──▶ open ──answered──▶ done            open ──ClickHouse refuses a row──▶ refused
 *                └──cut off──▶ sent again by the next repair, under its token ──▶ done
 */
import { guardState, type Sql, withRowsLock } from '../catalog/index.ts'
import type { Place } from '../event/index.ts'
import { repairError } from './errors.ts'
import type { Lane } from './lost-receipts.ts'
import { type PlaceRuns, placesOf, runsOf } from './warehouse-plan.ts'

export type Attempt = {
  id: string
  table: string
  logId: string
  partition: number
  places: Place[]
  ageMs: number
}

/** Runs `work` as the only repair of rows. `hold` throws once the lock is lost. Throws HR_REPAIR_BUSY. */
export function withRepairLock<T>(sql: Sql, work: (hold: () => Promise<void>) => Promise<T>): Promise<T> {
  const busy = () =>
    repairError('HR_REPAIR_BUSY', 'another process repairs rows, or takes some out; wait for its end')
  return withRowsLock(sql, busy, work)
}

export async function writeAttempt(
  sql: Sql,
  table: string,
  { logId, partition }: Lane,
  places: readonly Place[],
): Promise<string> {
  const id = Bun.randomUUIDv7()
  await guardState(
    'write an attempt of the repair',
    () => sql`
      INSERT INTO repair_attempt (id, table_name, log_id, partition, places, rows)
      VALUES (${id}, ${table}, ${logId}, ${partition}, ${JSON.stringify(runsOf(places))}::text::jsonb, ${places.length})`,
  )
  return id
}

export async function settleAttempt(sql: Sql, id: string, state: 'done' | 'refused'): Promise<void> {
  await guardState(
    'settle an attempt of the repair',
    () =>
      sql`UPDATE repair_attempt SET state = ${state}, settled_at = now() WHERE id = ${id} AND state = 'open'`,
  )
}

/** What earlier repairs left open, oldest first. */
export async function openAttempts(sql: Sql): Promise<Attempt[]> {
  type Row = Omit<Attempt, 'places'> & { places: PlaceRuns }
  const rows = await guardState(
    'read open attempts of the repair',
    () => sql<Row[]>`
      SELECT id, table_name AS table, log_id AS "logId", partition, places,
        (extract(epoch FROM clock_timestamp() - created_at) * 1000)::float8 AS "ageMs"
      FROM repair_attempt WHERE state = 'open' ORDER BY created_at, id`,
  )
  return rows.map((row) => ({ ...row, places: placesOf(row.places) }))
}
