/**
 * Brings the state's schema to the one that this version needs: numbered SQL files, each applied once, in a
 * transaction of its own together with its record. Any number of processes may do so at once: each step is taken
 * under one lock, so they take turns. A step that is recorded is never edited again; its checksum says so.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { guardState, type Sql, stateError, type Transaction } from './postgres.ts'
import { transaction } from './transaction.ts'

export type Migration = { number: number; name: string; text: string; checksum: string }

const FOLDER = join(import.meta.dirname, 'migrations')
/** Any number, the same in all versions. */
const MIGRATION_LOCK = 7_251_846_301
const SERVER_VERSION_MIN = 160_000

/** Reads `0001_name.sql`, `0002-…`; the numbers must be dense, so that none can slip in behind those applied. */
export function readMigrations(folder = FOLDER): Migration[] {
  const files = readdirSync(folder).filter((name) => name.endsWith('.sql'))
  return files.sort().map((file, index) => {
    const match = /^(\d{4})_([a-z0-9_]+)\.sql$/.exec(file)
    if (!match || Number(match[1]) !== index + 1) {
      throw stateError(
        'HR_STATE_SCHEMA',
        `${file} is not migration ${String(index + 1).padStart(4, '0')}_name.sql`,
      )
    }
    const text = readFileSync(join(folder, file), 'utf8').replaceAll('\r\n', '\n')
    return {
      number: index + 1,
      name: match[2]!,
      text,
      checksum: createHash('sha256').update(text).digest('hex'),
    }
  })
}

/**
 * Applies what is missing and returns how many steps that were. Throws HR_STATE_SCHEMA when the server is too old,
 * or the schema is a newer version's, or a step that was applied has been edited.
 */
export async function migrateState(sql: Sql, migrations = readMigrations()): Promise<number> {
  return guardState('migrating the state', async () => {
    await refuseOldServer(sql)
    for (let applied = 0; ; applied++) {
      if (!(await transaction(sql, (tx) => applyNext(tx, migrations)))) return applied
    }
  })
}

async function refuseOldServer(sql: Sql): Promise<void> {
  const [row] = await sql<{ number: number; version: string }[]>`
    SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version`
  if (row && row.number < SERVER_VERSION_MIN) {
    throw stateError(
      'HR_STATE_SCHEMA',
      `the server is Postgres ${row.version}; this version needs 16 or newer`,
    )
  }
}

/** One step, or false when there is none left. */
async function applyNext(tx: Transaction, migrations: Migration[]): Promise<boolean> {
  await tx`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`
  await tx`
    CREATE TABLE IF NOT EXISTS schema_migration (
      number     integer PRIMARY KEY,
      name       text NOT NULL,
      checksum   text NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now()
    )`
  const applied = await tx<{ number: number; name: string; checksum: string }[]>`
    SELECT number, name, checksum FROM schema_migration ORDER BY number`
  for (const { number, name, checksum } of applied) {
    const known = migrations[number - 1]
    if (!known) {
      throw stateError(
        'HR_STATE_SCHEMA',
        `the state has migration ${number} (${name}), which this version does not know; start the newer version that made it`,
      )
    }
    if (known.checksum !== checksum) {
      throw stateError(
        'HR_STATE_SCHEMA',
        `migration ${number} (${name}) was edited after it had been applied; restore the file and add a new one`,
      )
    }
  }
  const next = migrations[applied.length]
  if (!next) return false
  await tx.unsafe(next.text)
  await tx`
    INSERT INTO schema_migration (number, name, checksum) VALUES (${next.number}, ${next.name}, ${next.checksum})`
  return true
}
