/**
 * Changes or removes stored rows: an ALTER TABLE … DELETE or UPDATE, over one month where the table has months. In: the
 * change, of rows that its condition no longer holds of afterwards. Out: none is left; sentences of how far it is meanwhile.
 *
 *     rows left ──ALTER──▶ a mutation is at work ──done──▶ asked again ──none left──▶ done
 *
 * Must hold: may be repeated, and cut off at any point. What is done is asked of ClickHouse alone; a mutation outlives us,
 * so one that is at work is waited for and not started again. Cost: ClickHouse writes the parts anew that have such rows.
 */
import { SHARDED_TABLES, type Warehouse } from './client.ts'
import { alterTargets, insertTarget } from './ddl.ts'
import { quoteString } from './embedded/sql-text.ts'
import { warehouseError } from './errors.ts'
import { systemTable } from './property-columns.ts'

export type RowChange = {
  table: string
  /** As ClickHouse names its partition directory, such as 202611; undefined where the table has one only. */
  month?: string
  /** `DELETE`, or `UPDATE column = expression`. */
  what: string
  where: string
}

const POLL_MS_FIRST = 20
const POLL_MS_MAX = 500
/** Rows may come in between once or twice; more often something is wrong. */
const STARTS_WITHOUT_PROGRESS_MAX = 5

/** Throws HR_WAREHOUSE_MUTATION when mutations end and leave rows that they should have changed. */
export async function changeRows(
  warehouse: Warehouse,
  change: RowChange,
  says: (sentence: string) => void,
): Promise<void> {
  let fewest = Number.POSITIVE_INFINITY
  let starts = 0
  for (let waitMs = POLL_MS_FIRST; ; waitMs = Math.min(waitMs * 2, POLL_MS_MAX)) {
    const failure = await atWork(warehouse, change)
    // Asked after the mutations: when none is at work, what they did is seen.
    const now = await rowsLeft(warehouse, change)
    const where = `${change.table}${change.month === undefined ? '' : ` in month ${change.month}`}`
    if (failure) says(`${where}: ${now} rows left; ClickHouse tries again after: ${failure}`)
    else if (now > 0) says(`${where}: ${now} rows left`)
    // Not while a replica is still at it: what the change names (a dictionary) may go when this is over.
    if (now === 0 && failure === undefined) return
    if (failure === undefined) {
      if (now < fewest) starts = 0
      fewest = now
      if (++starts > STARTS_WITHOUT_PROGRESS_MAX)
        throw warehouseError(
          'HR_WAREHOUSE_MUTATION',
          `${now} rows of ${where} stay as they are after ${starts - 1} mutations; system.mutations says why`,
        )
      await start(warehouse, change)
      waitMs = POLL_MS_FIRST
    }
    await Bun.sleep(waitMs)
  }
}

async function rowsLeft(warehouse: Warehouse, { table, month, where }: RowChange): Promise<number> {
  const inMonth = month === undefined ? '' : ` AND toYYYYMM(timestamp) = ${month}`
  const [row] = await warehouse.query<{ n: number }>(
    `SELECT count() AS n FROM ${table} WHERE (${where})${inMonth}`,
  )
  return row!.n
}

async function start(warehouse: Warehouse, { table, month, what, where }: RowChange): Promise<void> {
  const inMonth = month === undefined ? '' : ` IN PARTITION ID ${quoteString(month)}`
  for (const target of alterTargets(table, warehouse.variant, SHARDED_TABLES.has(table), false))
    await warehouse.command(
      `ALTER TABLE ${target} ${what}${inMonth} WHERE ${where}
       SETTINGS mutations_sync = 0, allow_nondeterministic_mutations = 1`,
    )
}

/** Why the mutation that works on these rows last failed ('' when it did not); undefined when none is at work. */
async function atWork(warehouse: Warehouse, { table, month }: RowChange): Promise<string | undefined> {
  const rows = await warehouse.query<{ command: string; failure: string }>(
    `SELECT command, latest_fail_reason AS failure FROM ${systemTable(warehouse, 'mutations')}
     WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done`,
    { table: insertTarget(table, warehouse.variant, SHARDED_TABLES.has(table)) },
  )
  const ours = rows.filter(
    ({ command }) => month === undefined || command.includes(`IN PARTITION ID ${quoteString(month)}`),
  )
  return ours.find(({ failure }) => failure !== '')?.failure ?? ours[0]?.failure
}
