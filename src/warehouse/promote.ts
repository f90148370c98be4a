/**
 * Gives a property of `events` a column of its own, while the table is in use. In: its name and type. Out: a
 * materialised column that new rows fill, that all views show, and that stored rows get in the background.
 *
 *     missing ──ALTER──▶ answers (computed at each read where a part lacks it) ──fill, month by month──▶ stored
 *
 * Must hold: every step can be repeated, so that a run that was killed anywhere is mended by the next; queries are
 * right at any time in between. What is done is read from ClickHouse alone: which columns there are, which parts have
 * them, which mutations wait. A mutation outlives us: the next run waits for it and does not start it again.
 * Cost: the fill reads `properties` once; one month at a time, so that merges keep their turn.
 */
import type { Warehouse } from './client.ts'
import { alterTargets, insertTarget, renderViews } from './ddl.ts'
import { quoteName, quoteString } from './embedded/sql-text.ts'
import { warehouseError } from './errors.ts'
import { migrationFiles } from './migrate.ts'
import {
  checkPropertyName,
  columnDefinition,
  columnExpression,
  columnOfProperty,
  OWN_COLUMNS,
  ownExpression,
  type PromotedProperty,
} from './promoted.ts'
import { fillState, promotedColumns, readColumns } from './property-columns.ts'
import { systemTable } from './replicas.ts'

const POLL_MS = 250
/** Parts of inserts that began before the column was there may turn up once or twice; more often something is wrong. */
const MUTATIONS_WITHOUT_PROGRESS_MAX = 5
/** Two that promote at the same time see each other in the second round. */
const ALTER_ROUNDS_MAX = 5

export type FillProgress = { month: string; rowsFilled: number; rows: number; failure: string }

/**
 * Adds the column when it is missing and shows it in the views. Safe to repeat. Throws HR_WAREHOUSE_PROPERTY for a
 * name that cannot be a column, another type than the column has, or a schema of a newer version.
 */
export async function addProperty(warehouse: Warehouse, wanted: PromotedProperty): Promise<void> {
  checkPropertyName(wanted.name)
  await refuseNewerSchema(warehouse)
  for (let round = 1; await alterOnce(warehouse, wanted); round++)
    if (round === ALTER_ROUNDS_MAX)
      throw warehouseError('HR_WAREHOUSE_PROPERTY', 'other promotions keep coming in between; run it again')
  await showInViews(warehouse)
}

/** Brings the tables to all promoted properties and the wanted one; false when there was nothing to do. */
async function alterOnce(warehouse: Warehouse, wanted: PromotedProperty): Promise<boolean> {
  const { properties } = await readColumns(warehouse)
  const there = properties.find(({ name }) => name === wanted.name)
  if (there && there.type !== wanted.type)
    throw warehouseError(
      'HR_WAREHOUSE_PROPERTY',
      `${wanted.name} is promoted as ${there.type} and cannot become ${wanted.type}: rows are stored under that type`,
    )
  const all = there ? properties : [...properties, wanted]
  const columns = [
    ...OWN_COLUMNS.map((column) => ({ column, property: undefined, expression: ownExpression(column, all) })),
    ...all.map((property) => ({
      column: columnOfProperty(property.name),
      property,
      expression: columnExpression(property, all),
    })),
  ]
  const wantedText = await normalised(
    warehouse,
    columns.map(({ expression }) => expression),
  )
  let altered = false
  // Each for itself: a run that was killed may have changed the local table and not yet the one over it.
  for (const target of alterTargets('events', warehouse.variant, true, true)) {
    const { expressions } = await readColumns(warehouse, target.split(' ')[0])
    const changes = columns.flatMap(({ column, property, expression }, i) => {
      const now = expressions.get(column)
      if (now === wantedText[i]) return []
      return now === undefined && property
        ? [`ADD COLUMN IF NOT EXISTS ${quoteName(column)} ${columnDefinition(property, all)}`]
        : [`MODIFY COLUMN ${quoteName(column)} MATERIALIZED ${expression}`]
    })
    if (changes.length === 0) continue
    await warehouse.command(`ALTER TABLE ${target} ${changes.join(', ')}`)
    altered = true
  }
  return altered
}

/**
 * Stores the column in parts that lack it, newest month first. Resolves when every part has it. `report` hears of
 * progress about four times a second; `stopped` ends the wait early (what was started goes on in ClickHouse).
 */
export async function fillProperty(
  warehouse: Warehouse,
  name: string,
  report: (progress: FillProgress) => void = () => {},
  stopped: () => boolean = () => false,
): Promise<void> {
  const column = columnOfProperty(name)
  const months = (await fillState(warehouse, column)).filter((month) => month.rows_filled < month.rows)
  for (const { month } of months) await fillMonth(warehouse, column, month, report, stopped)
}

async function fillMonth(
  warehouse: Warehouse,
  column: string,
  month: string,
  report: (progress: FillProgress) => void,
  stopped: () => boolean,
): Promise<void> {
  const command = `MATERIALIZE COLUMN ${column} IN PARTITION ID '${month}'`
  let started = 0
  let best = -1
  while (!stopped()) {
    const waiting = await unfinished(warehouse, command)
    // Asked after the mutations: when none waits any more, what it did is seen.
    const [state] = await fillState(warehouse, column, month)
    report({
      month,
      rowsFilled: state?.rows_filled ?? 0,
      rows: state?.rows ?? 0,
      failure: waiting?.failure ?? '',
    })
    if (!state || state.rows_filled === state.rows) return
    if (!waiting) {
      if (state.rows_filled > best) started = 0
      best = state.rows_filled
      if (++started > MUTATIONS_WITHOUT_PROGRESS_MAX)
        throw warehouseError(
          'HR_WAREHOUSE_PROPERTY',
          `${column} does not fill in month ${month}: ${state.rows - state.rows_filled} rows are in parts without it; system.mutations says why`,
        )
      for (const target of alterTargets('events', warehouse.variant, true, false))
        await warehouse.command(
          `ALTER TABLE ${target} MATERIALIZE COLUMN ${quoteName(column)} IN PARTITION ID ${quoteString(month)} SETTINGS mutations_sync = 0`,
        )
    }
    await Bun.sleep(POLL_MS)
  }
}

/** All views anew, with the columns that are there now. */
async function showInViews(warehouse: Warehouse): Promise<void> {
  for (let round = 0; round < ALTER_ROUNDS_MAX; round++) {
    const columns = await promotedColumns(warehouse)
    for (const statement of renderViews(migrationFiles(), warehouse.variant, columns))
      await warehouse.command(statement)
    // Another promotion in between would have put its column in, and we would have taken it out again.
    const after = await promotedColumns(warehouse)
    if (after.join('\n') === columns.join('\n')) return
  }
}

/** Expressions as ClickHouse writes them down, so that they can be compared with those of columns. */
async function normalised(warehouse: Warehouse, expressions: string[]): Promise<string[]> {
  const rows = await warehouse.query<{ text: string }>(
    "SELECT formatQuerySingleLine(concat('SELECT ', arrayJoin({expressions:Array(String)}))) AS text",
    { expressions },
  )
  return rows.map(({ text }) => text.slice('SELECT '.length))
}

/** The mutation that runs `command`, when one is not done yet, with the reason why it last failed. */
async function unfinished(warehouse: Warehouse, command: string): Promise<{ failure: string } | undefined> {
  const rows = await warehouse.query<{ command: string; failure: string }>(
    `SELECT command, latest_fail_reason AS failure FROM ${systemTable(warehouse, 'mutations')}
     WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done`,
    { table: insertTarget('events', warehouse.variant, true) },
  )
  return rows.find((row) => row.command.replaceAll('`', '').includes(command))
}

async function refuseNewerSchema(warehouse: Warehouse): Promise<void> {
  const known = migrationFiles().length
  const [row] = await warehouse.query<{ newest: number }>(
    'SELECT max(number) AS newest FROM headrace_migrations',
  )
  if (row!.newest > known)
    throw warehouseError(
      'HR_WAREHOUSE_PROPERTY',
      `this ClickHouse has migration ${row!.newest}, which this version does not know (${known} is its last); promote with the newer version`,
    )
}
