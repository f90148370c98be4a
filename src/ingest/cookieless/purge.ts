/**
 * Deletes what belongs to closed days: their salts first, then the rows of their visitors, in chunks. Any number of
 * processes may do it at once, and it may stop anywhere: the next run finds the rest. Idle cost: four small queries an
 * hour.
 *
 * A deleted row stays in its page until something else overwrites it, and the salt is what must be gone. So the table's
 * file is written anew (VACUUM FULL: five rows) after each deletion, and once more every hour for a day, because a
 * transaction of somebody else that is still open makes Postgres keep what it could see.
 */
import { guardState, type Sql } from '../../catalog/index.ts'
import { isRetriable } from '../../event/index.ts'
import type { Logger } from '../../observe/index.ts'
import { lastClosedDay } from './calendar-day.ts'
import type { Salts } from './salts.ts'

const LOOK_MS = 60 * 60_000
const DAY_MS = 24 * LOOK_MS
const CHUNK_ROWS = 5_000
/** Longer than any clock is wrong. */
const TOMBSTONE_DAYS = 30
/** The rewrite needs the table alone; salts are read for milliseconds, a few times a day. */
const LOCK_TIMEOUT_MS = 2_000

export type Purged = { salts: number; visitors: number }

/** One run at `nowMs`. Throws retriable state errors. `stopped` is asked between two chunks. */
export async function purgeClosedDays(
  sql: Sql,
  nowMs: number,
  stopped: () => boolean = () => false,
  chunkRows = CHUNK_ROWS,
): Promise<Purged> {
  return guardState('deleting closed cookieless days', async () => {
    const last = lastClosedDay(nowMs)
    const salts = await deleteSalts(sql, last, nowMs)
    await rewriteSalts(sql, nowMs)
    let visitors = 0
    for (let rows = chunkRows; rows === chunkRows && !stopped(); visitors += rows) {
      const deleted = await sql`
        DELETE FROM cookieless_visitor WHERE ctid = ANY (ARRAY(
          SELECT ctid FROM cookieless_visitor WHERE day <= ${last}::date LIMIT ${chunkRows} FOR UPDATE SKIP LOCKED))`
      rows = deleted.count
    }
    return { salts, visitors }
  })
}

async function deleteSalts(sql: Sql, last: string, nowMs: number): Promise<number> {
  const deleted = await sql`
    UPDATE cookieless_salt SET salt = NULL, deleted_at = to_timestamp(${nowMs / 1000}::float8)
    WHERE salt IS NOT NULL AND day <= ${last}::date`
  await sql`DELETE FROM cookieless_salt WHERE salt IS NULL AND day < ${last}::date - ${TOMBSTONE_DAYS}::int`
  return deleted.count
}

async function rewriteSalts(sql: Sql, nowMs: number): Promise<void> {
  const at = (ms: number) => ms / 1000
  const [due] = await sql`
    SELECT FROM cookieless_salt
    WHERE deleted_at > to_timestamp(${at(nowMs - DAY_MS)}::float8)
      AND coalesce(rewritten_at, '-infinity') <= to_timestamp(${at(nowMs - LOOK_MS)}::float8) LIMIT 1`
  if (!due) return
  const connection = await sql.reserve()
  try {
    await connection`SELECT set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, false)`
    // Not in a transaction, so the time-out cannot be its own.
    await connection
      .unsafe('VACUUM FULL cookieless_salt')
      .finally(() => connection`SELECT set_config('lock_timeout', '0', false)`)
  } finally {
    connection.release()
  }
  await sql`
    UPDATE cookieless_salt SET rewritten_at = to_timestamp(${at(nowMs)}::float8) WHERE deleted_at IS NOT NULL`
}

export type PurgeDeps = {
  sql: Sql
  salts: Salts
  logger: Logger
  /** Epoch ms. */
  now(): number
  fatal(error: unknown): void
  /** How often it looks. */
  lookMs?: number
}

/** Looks every hour, beginning now; `stop` resolves when it is not at work any more. */
export function startPurge(deps: PurgeDeps): { stop(): Promise<void> } {
  let stopping = false
  let working = Promise.resolve()
  const look = () => {
    working = working.then(() => (stopping ? undefined : run(deps, () => stopping)))
  }
  const timer = setInterval(look, deps.lookMs ?? LOOK_MS)
  look()
  return {
    async stop() {
      stopping = true
      clearInterval(timer)
      await working
    },
  }
}

async function run({ sql, salts, logger, now, fatal }: PurgeDeps, stopped: () => boolean): Promise<void> {
  try {
    salts.forgetClosed(now())
    const purged = await purgeClosedDays(sql, now(), stopped)
    if (purged.salts > 0 || purged.visitors > 0) logger.info(purged, 'closed cookieless days deleted')
  } catch (error) {
    if (isRetriable(error))
      logger.warn(`closed cookieless days wait to be deleted: ${(error as Error).message}`)
    else fatal(error)
  }
}
