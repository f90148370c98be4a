/**
 * What people decided about dead letters: one row per letter, in Postgres. A letter without one is open.
 *
 * ```
 *   (open) ──plan──▶ planned ──▶ sending ──▶ replayed
 *     │                 ▲           │  └────▶ failed ──plan──▶ planned
 *     └──discard──▶ discarded ──plan┘(a sender died and the log does not have it: planned again)
 * ```
 * A letter is planned by one order only: whoever comes second finds it decided. What was decided before stays in
 * `history`. The letter's end state in the ledger is none of this table's business: a dead letter stays one.
 */
import { guardState, type Sql, type Transaction } from '../catalog/index.ts'
import type { Decision, Letter, LetterKey } from './letter.ts'

type DecisionRow = {
  place: number
  state: Decision['state']
  job_id: string | null
  decided_by: string
  why: string
  decided_at: Date
  partition: number
  sent_log_id: string | null
  sent_offset: number | null
  detail: string
  history: unknown[]
}

/** Parallel to `keys`. */
export async function readDecisions(sql: Sql, keys: readonly LetterKey[]): Promise<(Decision | undefined)[]> {
  if (keys.length === 0) return []
  const rows = await guardState(
    'read what was decided about dead letters',
    () => sql<DecisionRow[]>`
      SELECT k.place, d.state, d.job_id, d.decided_by, d.why, d.decided_at, d.partition, d.sent_log_id, d.sent_offset,
        d.detail, d.history
      FROM ${keysOf(sql, keys)}
      JOIN dead_letter_decision d USING (log_id, partition, raw_offset, sub, step)`,
  )
  const decisions: (Decision | undefined)[] = keys.map(() => undefined)
  for (const row of rows) decisions[row.place] = decisionOf(row)
  return decisions
}

export type Decided = { by: string; why: string }

/** Discards open and failed letters; gives how many were in time. Their bytes stay where they are. */
export async function discardLetters(
  sql: Sql,
  letters: readonly Letter[],
  { by, why }: Decided,
): Promise<number> {
  if (letters.length === 0) return 0
  return guardState('discard dead letters', async () => {
    const done = await sql`
      INSERT INTO dead_letter_decision AS d (log_id, partition, raw_offset, sub, step, team_id, letter_ms, bytes, state, decided_by, why)
      SELECT k.log_id, k.partition, k.raw_offset, k.sub, k.step, k.team_id, k.letter_ms, k.bytes, 'discarded', ${by}, ${why}
      FROM ${lettersOf(sql, letters)}
      ON CONFLICT (log_id, partition, raw_offset, sub, step) DO UPDATE
      SET state = 'discarded', decided_by = excluded.decided_by, why = excluded.why, decided_at = now(), changed_at = now(),
        job_id = NULL, detail = '', history = d.history || ${former(sql)}
      WHERE d.state = 'failed'`
    return done.count
  })
}

/** Gives letters to a job: open ones, and those decided already whose state is one of `again`. */
export async function planLetters(
  tx: Transaction,
  jobId: string,
  letters: readonly Letter[],
  { by, why }: Decided,
  again: readonly ('failed' | 'discarded')[],
): Promise<number> {
  if (letters.length === 0) return 0
  const done = await tx`
    INSERT INTO dead_letter_decision AS d (log_id, partition, raw_offset, sub, step, team_id, letter_ms, bytes, state, job_id, decided_by, why)
    SELECT k.log_id, k.partition, k.raw_offset, k.sub, k.step, k.team_id, k.letter_ms, k.bytes, 'planned', ${jobId}, ${by}, ${why}
    FROM ${lettersOf(tx, letters)}
    ON CONFLICT (log_id, partition, raw_offset, sub, step) DO UPDATE
    SET state = 'planned', job_id = excluded.job_id, decided_by = excluded.decided_by, why = excluded.why,
      decided_at = now(), changed_at = now(), detail = '', sent_log_id = NULL, sent_from = NULL, sent_offset = NULL,
      history = d.history || ${former(tx)}
    WHERE d.state IN (SELECT jsonb_array_elements_text(${JSON.stringify(again)}::text::jsonb))`
  return done.count
}

/**
 * Those of `letters` that nobody is about to delete: their bytes would come back as events of somebody new. Shares the lock of
 * their projects with who orders a deletion, so that one planned later than the order knows of it.
 */
export async function lettersToKeep(tx: Transaction, letters: readonly Letter[]): Promise<Letter[]> {
  const teams = [...Map.groupBy(letters, ({ teamId }) => teamId)].sort(([a], [b]) => a - b)
  const going = new Set<string>()
  for (const [teamId, ofTeam] of teams) {
    await tx`SELECT FROM project WHERE team_id = ${teamId} FOR SHARE`
    const ids = JSON.stringify([...new Set(ofTeam.map(({ distinctId }) => distinctId))])
    const rows = await tx<{ id: string }[]>`
      SELECT id FROM ids_being_deleted(${teamId}, ARRAY(SELECT jsonb_array_elements_text(${ids}::text::jsonb))) id`
    for (const { id } of rows) going.add(`${teamId}/${id}`)
  }
  return letters.filter(({ teamId, distinctId }) => !going.has(`${teamId}/${distinctId}`))
}

function former(sql: Sql | Transaction) {
  return sql`jsonb_build_object('state', d.state, 'by', d.decided_by, 'why', d.why, 'at', d.decided_at, 'detail', d.detail)`
}

function keysOf(sql: Sql, keys: readonly LetterKey[]) {
  const json = keys.map(({ logId, partition, offset, sub, step }, place) => ({
    place,
    log_id: logId,
    partition,
    raw_offset: offset,
    sub,
    step,
  }))
  return sql`jsonb_to_recordset(${JSON.stringify(json)}::text::jsonb)
    AS k(place integer, log_id uuid, partition integer, raw_offset bigint, sub integer, step text)`
}

function lettersOf(sql: Sql | Transaction, letters: readonly Letter[]) {
  const json = letters.map((letter) => ({
    log_id: letter.logId,
    partition: letter.partition,
    raw_offset: letter.offset,
    sub: letter.sub,
    step: letter.step,
    team_id: letter.teamId,
    letter_ms: letter.atMs,
    bytes: letter.bytes,
  }))
  return sql`jsonb_to_recordset(${JSON.stringify(json)}::text::jsonb)
    AS k(log_id uuid, partition integer, raw_offset bigint, sub integer, step text, team_id bigint, letter_ms bigint, bytes integer)`
}

function decisionOf(row: DecisionRow): Decision {
  return {
    state: row.state,
    jobId: row.job_id ?? undefined,
    by: row.decided_by,
    why: row.why,
    atMs: row.decided_at.getTime(),
    sent:
      row.sent_log_id === null || row.sent_offset === null
        ? undefined
        : { logId: row.sent_log_id, partition: row.partition, offset: row.sent_offset },
    detail: row.detail,
    history: row.history,
  }
}
