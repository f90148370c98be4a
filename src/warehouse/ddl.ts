/**
 * One set of SQL files, three deployments. In: a migration file written as plain ClickHouse SQL for a single node.
 * Out: the statements to send. Pure; a file that breaks the rules below is refused, never guessed at.
 *
 * - `single`: one node. The file as it stands, `@dedup` filled in.
 * - `replicated`: one shard, any number of replicas: every table Replicated, every statement `ON CLUSTER '{cluster}'`.
 * - `sharded`: several shards. A table marked `-- @sharded <key>` becomes `<name>_local` on every shard with a
 *   Distributed `<name>` over it, so that queries keep their name; one marked `-- @state` is whole on every node.
 *   A view marked `@sharded` is `<name>_local` beside the tables that it reads, again with a Distributed one over it:
 *   joins and aggregation then run where the events lie, and not on the node that was asked.
 *
 * In a view `@local(x)` is what holds x's rows on this node, and `@properties(e)` the promoted properties of alias e.
 *
 * Every statement must be safe to run twice, because two processes may migrate at the same time and ClickHouse has
 * no lock to hold: only `CREATE TABLE IF NOT EXISTS`, `CREATE OR REPLACE VIEW` and
 * `ALTER TABLE … ADD … IF NOT EXISTS` or `… MODIFY COLUMN` are accepted.
 * `{cluster}`, `{shard}`, `{replica}`, `{database}` are ClickHouse's own macros and stay as they are.
 */
import { quoteName } from './embedded/sql-text.ts'
import { warehouseError } from './errors.ts'

export type WarehouseVariant = 'single' | 'replicated' | 'sharded'
export const WAREHOUSE_VARIANTS: readonly WarehouseVariant[] = ['single', 'replicated', 'sharded']

export type MigrationFile = { readonly name: string; readonly text: string }

/** Insert tokens that a table remembers; a cut uses one per month and table, so this is hours at full load. */
const DEDUP_WINDOW_TOKENS = 10_000
/** How long replicas remember them; ClickHouse's own default is an hour. */
const DEDUP_WINDOW_SECONDS = 7 * 86_400

const SINGLE_DEDUP = `non_replicated_deduplication_window = ${DEDUP_WINDOW_TOKENS}`
const REPLICATED_DEDUP = `replicated_deduplication_window = ${DEDUP_WINDOW_TOKENS}, replicated_deduplication_window_seconds = ${DEDUP_WINDOW_SECONDS}`

/** The name to insert into: in a sharded deployment the local table of the shard that the client is connected to. */
export function insertTarget(table: string, variant: WarehouseVariant, sharded: boolean): string {
  return variant === 'sharded' && sharded ? `${table}_local` : table
}

/**
 * The statements of `file` for `variant`, in order, without a trailing semicolon. `promoted` are the columns of
 * promoted properties that `events` has: views show them.
 */
export function renderDdl(
  file: MigrationFile,
  variant: WarehouseVariant,
  promoted: readonly string[] = [],
): string[] {
  return splitStatements(file).flatMap((statement) => renderStatement(file, statement, variant, promoted))
}

/** The newest definition of every view in `files`, in the order in which they need each other. */
export function renderViews(
  files: readonly MigrationFile[],
  variant: WarehouseVariant,
  promoted: readonly string[],
): string[] {
  const views = new Map<string, string[]>()
  for (const file of files)
    for (const statement of splitStatements(file)) {
      const name = VIEW.exec(statement.sql)?.[1]
      if (name === undefined) continue
      // A view that is defined anew may need others that came after its first definition.
      views.delete(name)
      views.set(name, renderStatement(file, statement, variant, promoted))
    }
  return [...views.values()].flat()
}

type Statement = { kind: 'sharded'; key: string; sql: string } | { kind: 'state'; sql: string }

function splitStatements(file: MigrationFile): Statement[] {
  const statements: Statement[] = []
  for (const part of file.text.split(/;[ \t]*(?:\n|$)/)) {
    const sql = part
      .split('\n')
      .filter((line) => !line.startsWith('--'))
      .join('\n')
      .trim()
    if (sql === '') continue
    const sharded = /^-- @sharded (.+)$/m.exec(part)
    if (!sharded && !/^-- @state$/m.test(part))
      throw bad(file, `a statement is marked neither "-- @sharded <key>" nor "-- @state": ${head(sql)}`)
    statements.push(sharded ? { kind: 'sharded', key: sharded[1]!.trim(), sql } : { kind: 'state', sql })
  }
  return statements
}

const CREATE = /^CREATE TABLE IF NOT EXISTS (\w+)\n/
const ALTER =
  /^ALTER TABLE (\w+)\s+(?:ADD (COLUMN|INDEX|PROJECTION|CONSTRAINT) IF NOT EXISTS|MODIFY (COLUMN)) /
const VIEW = /^CREATE OR REPLACE VIEW (\w+) AS\n/
const ENGINE = /\nENGINE = (\w*MergeTree)(?:\(([^()]*)\))?\n/

function renderStatement(
  file: MigrationFile,
  statement: Statement,
  variant: WarehouseVariant,
  promoted: readonly string[],
): string[] {
  const { sql } = statement
  if (VIEW.test(sql)) return renderView(statement, variant, promoted)
  const create = CREATE.exec(sql)
  if (create) {
    if (!ENGINE.test(sql) || !sql.includes('SETTINGS @dedup'))
      throw bad(file, `a table needs an engine of the MergeTree family and "SETTINGS @dedup": ${head(sql)}`)
    if (variant === 'single') return [sql.replace('@dedup', SINGLE_DEDUP)]
    return renderCluster(statement, create[1]!, variant)
  }
  const alter = ALTER.exec(sql)
  if (!alter) throw bad(file, `a statement cannot be run twice in safety: ${head(sql)}`)
  const name = alter[1]!
  // An index or a projection lives in the local table only; a column must be known to the table over it as well.
  const isColumn = (alter[2] ?? alter[3]) === 'COLUMN'
  return alterTargets(name, variant, statement.kind === 'sharded', isColumn).map((target) =>
    sql.replace(`ALTER TABLE ${name}`, `ALTER TABLE ${target}`),
  )
}

/** What to ALTER so that a change of `table` is everywhere: what holds the rows first, then what is over it. */
export function alterTargets(
  table: string,
  variant: WarehouseVariant,
  sharded: boolean,
  isColumn: boolean,
): string[] {
  if (variant === 'single') return [table]
  const local = `${insertTarget(table, variant, sharded)} ON CLUSTER '{cluster}'`
  return variant === 'sharded' && sharded && isColumn ? [local, `${table} ON CLUSTER '{cluster}'`] : [local]
}

function renderView(statement: Statement, variant: WarehouseVariant, promoted: readonly string[]): string[] {
  const name = VIEW.exec(statement.sql)![1]!
  const sharded = variant === 'sharded' && statement.kind === 'sharded'
  const target = sharded ? `${name}_local` : name
  const cluster = variant === 'single' ? '' : ` ON CLUSTER '{cluster}'`
  const sql = statement.sql
    .replace(VIEW, `CREATE OR REPLACE VIEW ${target}${cluster} AS\n`)
    .replace(/@local\((\w+)\)/g, (_, table: string) => (sharded ? `${table}_local` : table))
    .replace(/^ *@properties\((\w+)\)\n/m, (_, alias: string) =>
      promoted.map((column) => `    ${alias}.${quoteName(column)} AS ${quoteName(column)},\n`).join(''),
    )
  if (!sharded) return [sql]
  return [
    sql,
    // Replaced as well, since its columns are a copy of the view's.
    `CREATE OR REPLACE TABLE ${name}${cluster} AS ${target}\n` +
      `ENGINE = Distributed('{cluster}', currentDatabase(), ${target})`,
  ]
}

function renderCluster(statement: Statement, name: string, variant: WarehouseVariant): string[] {
  const sharded = variant === 'sharded' && statement.kind === 'sharded'
  const local = sharded ? `${name}_local` : name
  // A state table of a sharded cluster is one set of replicas over all shards.
  const shard = variant === 'sharded' && !sharded ? 'all' : '{shard}'
  const replica = shard === 'all' ? '{shard}-{replica}' : '{replica}'
  const sql = statement.sql
    .replace(CREATE, `CREATE TABLE IF NOT EXISTS ${local} ON CLUSTER '{cluster}'\n`)
    .replace(ENGINE, (_, engine: string, args: string | undefined) => {
      const where = `'/clickhouse/tables/${shard}/{database}/${local}', '${replica}'`
      return `\nENGINE = Replicated${engine}(${args ? `${where}, ${args}` : where})\n`
    })
    .replace('@dedup', REPLICATED_DEDUP)
  if (!sharded || statement.kind !== 'sharded') return [sql]
  return [
    sql,
    `CREATE TABLE IF NOT EXISTS ${name} ON CLUSTER '{cluster}' AS ${local}\n` +
      `ENGINE = Distributed('{cluster}', currentDatabase(), ${local}, ${statement.key})`,
  ]
}

function head(sql: string): string {
  return `"${sql.slice(0, 60).replaceAll('\n', ' ')}"`
}

function bad(file: MigrationFile, what: string) {
  return warehouseError('HR_WAREHOUSE_BAD_MIGRATION', `migration ${file.name}: ${what}`)
}
