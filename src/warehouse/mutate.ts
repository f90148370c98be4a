/**
 * Changes or removes stored rows: an ALTER TABLE … DELETE or UPDATE, over one month where the table has months. In: the
 * change, of rows that its condition no longer holds of afterwards. Out: none is left; sentences of how far it is meanwhile.
 *
 *     nothing at work ──asked: rows left──ALTER──▶ a mutation is at work ──done on every replica──▶ nothing at work
 *            └──asked: none left──▶ done
 *
 * Must hold: may be repeated, and cut off at any point. A mutation outlives us, so one that is at work is waited for and not
 * started again: it has a mark of the change in its condition, by which it is told from those of others. Cost: ClickHouse
 * writes the parts anew that have such rows; the rows are counted once before and once after, not while it is at work.
 */
import { createHash } from 'node:crypto'
import { SHARDED_TABLES, type Warehouse } from './client.ts'
import { alterTargets } from './ddl.ts'
import { quoteString } from './embedded/sql-text.ts'
import { warehouseError } from './errors.ts'
import { everyCopy, localName, syncReplicas, systemTable } from './replicas.ts'

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
/** A mutation that has done nothing for so long is told; it goes on by itself, and whoever comes again waits for it again. */
const STALLED_MS_MAX = 600_000
/** A server that has not heard of a mutation by then has rows to be asked for, or came to the cluster afterwards. */
const UNHEARD_OF_SECONDS_MAX = 600
/** Of another's mutation, told to a person. */
const COMMAND_CHARS_TOLD = 80

/**
 * Gives how many rows there were to change, of a change that was cut off those of the rest. Throws HR_WAREHOUSE_MUTATION when
 * mutations end and leave rows that they should have changed, and HR_WAREHOUSE_WAITS when one does nothing for `stalledMs`.
 */
export async function changeRows(
  warehouse: Warehouse,
  change: RowChange,
  says: (sentence: string) => void,
  stalledMs = STALLED_MS_MAX,
): Promise<number> {
  const where = `${change.table}${change.month === undefined ? '' : ` in month ${change.month}`}`
  let first: number | undefined
  let fewest = Number.POSITIVE_INFINITY
  for (let starts = 1; ; starts++) {
    await untilNoneAtWork(warehouse, change, (state) => says(`${where}: ${state}`), stalledMs)
    const left = await rowsLeft(warehouse, change)
    first ??= warehouse.variant === 'single' ? left : await countIn(warehouse, change, change.table)
    if (left === 0) return first
    says(`${where}: ${left} rows left`)
    if (left < fewest) starts = 1
    fewest = left
    if (starts > STARTS_WITHOUT_PROGRESS_MAX)
      throw warehouseError(
        'HR_WAREHOUSE_MUTATION',
        `${left} rows of ${where} stay as they are after ${starts - 1} mutations; system.mutations says why`,
      )
    await start(warehouse, change)
  }
}

async function untilNoneAtWork(
  warehouse: Warehouse,
  change: RowChange,
  says: (state: string) => void,
  stalledMs: number,
): Promise<void> {
  let before = ''
  let written = ''
  let sinceMs = performance.now()
  for (let waitMs = POLL_MS_FIRST; ; waitMs = Math.min(waitMs * 2, POLL_MS_MAX)) {
    const work = await atWork(warehouse, change)
    if (!work) return
    const state = stateOf(work)
    says(state)
    const parts = `${work.parts} ${work.hosts}`
    const isStill = parts === before
    before = parts
    // Within one large part. One that fails begins again and again, and what it writes then is no progress.
    const rows = isStill && work.failure === '' ? await rowsWritten(warehouse, change) : written
    if (!isStill || rows !== written) sinceMs = performance.now()
    written = rows
    if (performance.now() - sinceMs >= stalledMs)
      throw warehouseError(
        'HR_WAREHOUSE_WAITS',
        `the change of ${change.table} has come no further for ${Math.round(stalledMs / 1000)} s (${state}); system.mutations says more`,
      )
    await Bun.sleep(waitMs)
  }
}

/** On every replica: one that does not know of the mutation yet has its rows still. */
async function rowsLeft(warehouse: Warehouse, change: RowChange): Promise<number> {
  const name = change.table
  await syncReplicas(warehouse, { name })
  return countIn(warehouse, change, everyCopy(warehouse, { name }))
}

async function countIn(warehouse: Warehouse, { month, where }: RowChange, from: string): Promise<number> {
  const inMonth = month === undefined ? '' : ` AND toYYYYMM(timestamp) = ${month}`
  const [row] = await warehouse.query<{ n: number }>(
    `SELECT count() AS n FROM ${from} WHERE (${where})${inMonth}`,
  )
  return row!.n
}

async function start(warehouse: Warehouse, change: RowChange): Promise<void> {
  const { table, month, what, where } = change
  const inMonth = month === undefined ? '' : ` IN PARTITION ID ${quoteString(month)}`
  for (const target of alterTargets(table, warehouse.variant, SHARDED_TABLES.has(table), false))
    await warehouse.command(
      `ALTER TABLE ${target} ${what}${inMonth} WHERE (${where}) AND notEmpty('${markOf(change)}')
       SETTINGS mutations_sync = 0, allow_nondeterministic_mutations = 1`,
    )
  // A replica lists it a moment after the answer; until then it would look as if there were none.
  if (warehouse.variant !== 'single') await Bun.sleep(POLL_MS_MAX)
}

/** Always the same of the same change: who goes on with it finds its mutation. */
function markOf({ table, month, what, where }: RowChange): string {
  const text = JSON.stringify([table, month, what, where])
  return `headrace-${createHash('sha256').update(text).digest('hex').slice(0, 32)}`
}

type Work = {
  /** Parts that are left to it, and replicas that are not through. */
  parts: number
  hosts: number
  /** Why it, or one in front of it, last failed. */
  failure: string
  /** Another's that fails: what is in front, or goes with ours in one step, keeps ours from its end. */
  other: string
}

/** Our mutation; undefined when none is at work on any replica, and none has still to hear of it. */
async function atWork(warehouse: Warehouse, change: RowChange): Promise<Work | undefined> {
  const table = localOf(warehouse, change)
  const [row] = await warehouse.query<Omit<Work, 'hosts'> & { open: number; known: number; fresh: number }>(
    `SELECT sumIf(parts_to_do, ours) AS parts, uniqExactIf(host, ours AND NOT is_done) AS open, uniqExactIf(host, ours) AS known,
       maxIf(create_time, ours) > now() - ${UNHEARD_OF_SECONDS_MAX} AS fresh,
       anyIf(latest_fail_reason, ours AND NOT is_done AND latest_fail_reason != '') AS own,
       argMinIf(latest_fail_reason, create_time, NOT ours AND NOT is_done AND latest_fail_reason != '') AS others,
       if(own != '', own, others) AS failure,
       argMinIf(command, create_time, NOT ours AND NOT is_done AND latest_fail_reason != '') AS other
     FROM (
       SELECT hostName() AS host, *, position(command, {mark:String}) > 0 AS ours
       FROM ${systemTable(warehouse, 'mutations')}
       WHERE database = currentDatabase() AND table = {table:String}
     )`,
    { table, mark: markOf(change) },
  )
  const { open, known, fresh, ...work } = row!
  // A replica that lags does not know of it yet, and has its rows still.
  const unaware = fresh === 0 ? 0 : Math.max(0, (await hostsOf(warehouse, table)) - known)
  const hosts = open + unaware
  return hosts === 0 ? undefined : { ...work, hosts }
}

/** How many servers have the table. */
async function hostsOf(warehouse: Warehouse, table: string): Promise<number> {
  if (warehouse.variant === 'single') return 1
  const [row] = await warehouse.query<{ hosts: number }>(
    `SELECT uniqExact(hostName()) AS hosts FROM ${systemTable(warehouse, 'tables')}
     WHERE database = currentDatabase() AND name = {table:String}`,
    { table },
  )
  return row!.hosts
}

/** Rises while a part is written anew, also a large one. */
async function rowsWritten(warehouse: Warehouse, change: RowChange): Promise<string> {
  const [row] = await warehouse.query<{ rows: string }>(
    `SELECT toString(sum(rows_written)) AS rows FROM ${systemTable(warehouse, 'merges')}
     WHERE is_mutation AND database = currentDatabase() AND table = {table:String}`,
    { table: localOf(warehouse, change) },
  )
  return row!.rows
}

function stateOf({ parts, failure, other }: Work): string {
  const left = `${parts} parts are left to be written anew`
  if (failure === '') return left
  const whose = other === '' ? '' : ` (another change is at work: ${other.slice(0, COMMAND_CHARS_TOLD)})`
  return `${left}; ClickHouse tries again after${whose}: ${failure}`
}

function localOf(warehouse: Warehouse, { table }: RowChange): string {
  return localName(warehouse, { name: table })
}
