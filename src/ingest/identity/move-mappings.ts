/**
 * Moves the distinct ids that a merge left on its loser because they were many: one chunk per call, any number of
 * callers, restartable at any point. Until an id has moved, reads follow the pointer, so nothing waits for this;
 * but stored events of these ids are counted to the survivor only when their override rows are in the log.
 *
 *   pending ──chunk moved──▶ pending with outbox ──acknowledged──▶ pending … ──no id left──▶ gone
 *
 * The ids of a chunk stay in the row's outbox until the caller says that their rows were acknowledged; a call that
 * finds an outbox gives its rows again, and moves nothing.
 */
import { guardState, type Sql, type Transaction, transaction } from '../../catalog/index.ts'
import { readStateRows } from './state-rows.ts'
import type { Outbox, StateRows } from './types.ts'

export type MovedChunk = {
  /** To be sent to the log. */
  stateRows: StateRows
  moved: number
  /** To be called when the log has taken them. */
  acknowledge(): Promise<void>
}

type Pending = { person_id: number; team_id: number; outbox: Outbox['mappings'] | null }

/** Another batch holds a person for milliseconds. */
const LOCK_TIMEOUT_MS = 5_000

/** One chunk of at most `limit` ids; undefined when nothing is left to move, or others are at it. */
export async function moveMappings(sql: Sql, limit: number): Promise<MovedChunk | undefined> {
  for (;;) {
    const found = await guardState('moving distinct ids', () =>
      transaction(sql, (tx) => moveChunk(tx, limit), 'isolation level read committed'),
    )
    const { pending, mappings } = found
    if (!pending) return undefined
    if (mappings.length === 0) continue
    return {
      stateRows: await readStateRows(sql, { persons: [], mappings, groups: [] }),
      moved: mappings.length,
      acknowledge: () => acknowledge(sql, pending.person_id, mappings),
    }
  }
}

type Found = { pending: Pending | undefined; mappings: Outbox['mappings'] }

async function moveChunk(tx: Transaction, limit: number): Promise<Found> {
  await tx`SELECT set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true)`
  const [pending] = await tx<Pending[]>`
    SELECT person_id, team_id, outbox FROM pending_move ORDER BY since, person_id LIMIT 1
    FOR UPDATE SKIP LOCKED`
  if (!pending) return { pending, mappings: [] }
  if (pending.outbox) return { pending, mappings: pending.outbox }
  const home = await lockSurvivor(tx, pending.person_id)
  const moved = home === undefined ? [] : await move(tx, pending, home, limit)
  if (moved.length === 0) await tx`DELETE FROM pending_move WHERE person_id = ${pending.person_id}`
  else {
    await tx`
      UPDATE pending_move SET outbox = ${JSON.stringify(moved)}::text::jsonb
      WHERE person_id = ${pending.person_id}`
  }
  return { pending, mappings: moved }
}

/** Locks the living person at the end of the pointers; undefined when there is none but the loser itself. */
async function lockSurvivor(tx: Transaction, loser: number): Promise<number | undefined> {
  for (let at = loser; ; ) {
    const [row] = await tx<{ merged_into: number | null; dead: boolean }[]>`
      SELECT merged_into, deleted_at IS NOT NULL AS dead FROM person WHERE id = ${at}`
    if (row?.merged_into) {
      at = row.merged_into
      continue
    }
    if (!row || row.dead || at === loser) return undefined
    const [locked] = await tx<{ dead: boolean }[]>`
      SELECT deleted_at IS NOT NULL AS dead FROM person WHERE id = ${at} FOR NO KEY UPDATE`
    if (locked && !locked.dead) return at
    // It was merged away while this waited: its own pointer, read anew, leads on.
  }
}

async function move(
  tx: Transaction,
  { person_id: loser, team_id: teamId }: Pending,
  home: number,
  limit: number,
): Promise<Outbox['mappings']> {
  const rows = await tx<{ distinct_id: string }[]>`
    UPDATE person_distinct_id
    SET person_id = ${home},
      version = greatest(version + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    WHERE team_id = ${teamId} AND distinct_id IN (
      SELECT distinct_id FROM person_distinct_id WHERE team_id = ${teamId} AND person_id = ${loser}
      ORDER BY distinct_id LIMIT ${limit})
    RETURNING distinct_id`
  return rows.map((row) => [teamId, row.distinct_id])
}

async function acknowledge(sql: Sql, personId: number, mappings: Outbox['mappings']): Promise<void> {
  await guardState('acknowledging moved ids', async () => {
    await sql`
      UPDATE pending_move SET outbox = NULL
      WHERE person_id = ${personId} AND outbox = ${JSON.stringify(mappings)}::text::jsonb`
  })
}
