/**
 * Brings a ClickHouse to the schema of the SQL files. In: the files, numbered. Out: the tables, and one row per
 * applied file in `headrace_migrations`. Forward only. A file that was changed after it was applied is refused.
 *
 * ClickHouse has no lock that two processes could share, so the files hold only statements that can run twice
 * (ddl.ts refuses others), and both processes may well run them at once: the result is the same.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { failpoint } from '../platform/index.ts'
import type { Warehouse } from './client.ts'
import { type MigrationFile, renderDdl, type WarehouseVariant } from './ddl.ts'
import { warehouseError } from './errors.ts'
import { promotedColumns } from './property-columns.ts'
import { checkVersion } from './version.ts'

const SQL_FOLDER = join(import.meta.dir, 'sql')

/** The SQL files of this version, in order. */
export function migrationFiles(folder = SQL_FOLDER): MigrationFile[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => ({ name, text: readFileSync(join(folder, name), 'utf8') }))
}

export type MigrationReport = { applied: string[]; alreadyThere: string[] }

/** The table that remembers; a replica of it is on every node of a cluster. */
const LEDGER: MigrationFile = {
  name: 'headrace_migrations',
  text: `-- @state
CREATE TABLE IF NOT EXISTS headrace_migrations
(
    \`number\` UInt32,
    \`name\` String,
    \`checksum\` String,
    \`variant\` String,
    \`applied_at\` DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY number
SETTINGS @dedup, fsync_after_insert = 1, fsync_part_directory = 1;
`,
}

/**
 * Applies what is missing. Safe to run twice, and by two processes at once. Throws HR_WAREHOUSE_BAD_MIGRATION for a
 * changed file, a gap in the numbers, or a database that was made for another variant; HR_WAREHOUSE_TOO_OLD.
 */
export async function migrateWarehouse(
  warehouse: Warehouse,
  variant: WarehouseVariant = warehouse.variant,
  files: readonly MigrationFile[] = migrationFiles(),
): Promise<MigrationReport> {
  checkNumbers(files)
  await checkVersion(warehouse)
  await run(warehouse, LEDGER, variant)
  type Applied = { number: number; name: string; checksum: string; variant: string }
  const rows = await warehouse.query<Applied>(
    'SELECT number, name, checksum, variant FROM headrace_migrations FINAL ORDER BY number',
  )
  const known = new Map(rows.map((row) => [row.number, row]))
  const report: MigrationReport = { applied: [], alreadyThere: [] }
  for (const file of files) {
    const number = numberOf(file)
    const checksum = createHash('sha256').update(file.text).digest('hex')
    const before = known.get(number)
    if (before) {
      checkUnchanged(file, checksum, before)
      if (before.variant !== variant)
        throw warehouseError(
          'HR_WAREHOUSE_BAD_MIGRATION',
          `this ClickHouse database was made for the variant "${before.variant}" and cannot become "${variant}"; use a new database`,
        )
      report.alreadyThere.push(file.name)
      continue
    }
    await run(warehouse, file, variant)
    await warehouse.command(
      'INSERT INTO headrace_migrations (number, name, checksum, variant) SELECT {number:UInt32}, {name:String}, {checksum:String}, {variant:String}',
      { number, name: file.name, checksum, variant },
    )
    failpoint('migration_noted')
    report.applied.push(file.name)
  }
  return report
}

async function run(warehouse: Warehouse, file: MigrationFile, variant: WarehouseVariant): Promise<void> {
  const promoted = file.text.includes('@properties(') ? await promotedColumns(warehouse) : []
  for (const statement of renderDdl(file, variant, promoted)) {
    await warehouse.command(statement)
    failpoint('migration_statement')
  }
}

function checkUnchanged(
  file: MigrationFile,
  checksum: string,
  before: { name: string; checksum: string },
): void {
  if (before.checksum === checksum && before.name === file.name) return
  throw warehouseError(
    'HR_WAREHOUSE_BAD_MIGRATION',
    `migration ${file.name} differs from ${before.name} as it was applied; put the file back and write a new one`,
  )
}

function numberOf(file: MigrationFile): number {
  return Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(file.name)?.[1] ?? Number.NaN)
}

function checkNumbers(files: readonly MigrationFile[]): void {
  files.forEach((file, index) => {
    if (numberOf(file) !== index + 1)
      throw warehouseError(
        'HR_WAREHOUSE_BAD_MIGRATION',
        `migration ${file.name} should be number ${String(index + 1).padStart(4, '0')}: numbers run from 0001 without a gap`,
      )
  })
}
