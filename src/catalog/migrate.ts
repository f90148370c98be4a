/**
 * Brings the state's schema to the one that this version needs: numbered SQL files, each applied once, in a
 * transaction of its own together with its record. Any number of processes may do so at once: each step is taken
 * under one lock, so they take turns. A step that is recorded is never edited again; its checksum says so.
 *
 * A step that waits for a table keeps everybody else who comes after it waiting, too: behind one long transaction all
 * writers would stand still. So it waits shortly, lets them pass, and tries again, and in the end says who is in the way.
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

/** How long a step waits for a lock, how long it then lets others pass, and how often. */
export type LockWaits = { waitMs: number; pauseMs: number; tries: number }
const LOCK_WAITS: LockWaits = { waitMs: 2_000, pauseMs: 3_000, tries: 24 }
const LOCK_NOT_AVAILABLE = '55P03'

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
 * or the schema is a newer version's, or a step that was applied has been edited; HR_STATE_CONFLICT (retriable) when other
 * transactions hold what a step needs for two minutes.
 */
export async function migrateState(
  sql: Sql,
  migrations = readMigrations(),
  waits: LockWaits = LOCK_WAITS,
): Promise<number> {
  return guardState('migrating the state', async () => {
    await refuseOldServer(sql)
    for (let applied = 0; ; applied++) {
      if (!(await applyBetween(sql, migrations, waits))) return applied
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

/** One step, as soon as nobody is in its way; false when there is none left. */
async function applyBetween(sql: Sql, migrations: Migration[], waits: LockWaits): Promise<boolean> {
  let blockers: Promise<string> | undefined
  for (let attempt = 1; ; attempt++) {
    let timer: Timer | undefined
    try {
      return await transaction(sql, (tx) =>
        applyNext(tx, migrations, async ({ number, name }) => {
          const [row] = await tx<{ pid: number }[]>`
            SELECT pg_backend_pid() AS pid, set_config('lock_timeout', ${`${waits.waitMs}ms`}, true)`
          // By another connection, while this one waits: afterwards nobody knows any more.
          timer = setTimeout(() => {
            blockers = blockersOf(sql, row!.pid).then(
              (who) => `migration ${number} (${name}) waits for ${who}`,
            )
          }, waits.waitMs / 2)
        }),
      )
    } catch (error) {
      if ((error as { code?: unknown }).code !== LOCK_NOT_AVAILABLE) throw error
      if (attempt === waits.tries)
        throw stateError(
          'HR_STATE_CONFLICT',
          `${(await blockers) ?? 'a migration waits for another transaction'}; end it, or start again later: nothing was changed, and writers were not kept waiting`,
          error,
        )
      await Bun.sleep(waits.pauseMs)
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Who keeps the backend `pid` waiting, in words. */
async function blockersOf(sql: Sql, pid: number): Promise<string> {
  try {
    const rows = await sql<{ pid: number; user: string; name: string; state: string; seconds: number }[]>`
      SELECT pid, usename AS user, rtrim(application_name) AS name, state,
        coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::int AS seconds
      FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(${pid})) ORDER BY xact_start`
    if (rows.length === 0) return 'another transaction'
    return rows
      .map(
        ({ pid, user, name, state, seconds }) =>
          `process ${pid} of Postgres (user ${user}, application "${name}", ${state}, its transaction is ${seconds} s old)`,
      )
      .join(' and ')
  } catch {
    // The sentence is poorer then; what it is about is said by the lock time-out itself.
    return 'another transaction'
  }
}

/** One step, or false when there is none left. `begins` is called when it has its turn. */
async function applyNext(
  tx: Transaction,
  migrations: Migration[],
  begins: (step: Migration) => Promise<void>,
): Promise<boolean> {
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
  await begins(next)
  await tx.unsafe(next.text)
  await tx`
    INSERT INTO schema_migration (number, name, checksum) VALUES (${next.number}, ${next.name}, ${next.checksum})`
  return true
}
