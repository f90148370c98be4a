/**
 * Sends persons, distinct ids and groups again whose newest rows in the log may not be what Postgres says, because
 * Postgres was restored or a batch could not be produced. Each gets a version above every row that was sent before;
 * what is not there any more is sent as deleted. Waits until no partition has anything to decide once more
 * (ingest_redo), since only then the state is whole again.
 *
 *   listed ──versions raised, rows given──▶ listed ──acknowledged──▶ gone
 *
 * Safe to repeat, and by several at once: the higher version wins.
 */
import { guardState, type Sql, type Transaction, transaction } from '../../catalog/index.ts'
import { GROUPS, NIL_UUID, PERSON_DISTINCT_ID_OVERRIDES } from '../../event/index.ts'
import type { MovedChunk } from './move-mappings.ts'
import { readStateRows } from './state-rows.ts'
import type { Outbox, StateRows } from './types.ts'

type Listed = {
  kind: 'person' | 'mapping' | 'group'
  team_id: number
  type_index: number
  key: string
  above: number
}

/** Another batch holds a person for milliseconds. */
const LOCK_TIMEOUT_MS = 5_000

/** One chunk of at most `limit`; undefined when nothing is listed, or it must wait. */
export async function republishState(sql: Sql, limit: number): Promise<MovedChunk | undefined> {
  const work = await guardState('sending state again', () =>
    transaction(sql, (tx) => raise(tx, limit), 'isolation level read committed'),
  )
  if (!work) return undefined
  const { listed, gone } = work
  const stateRows = await readStateRows(sql, outboxOf(listed))
  stateRows.personDistinctIds.push(...gone.personDistinctIds)
  stateRows.groups.push(...gone.groups)
  return { stateRows, moved: listed.length, acknowledge: () => acknowledge(sql, listed) }
}

async function raise(
  tx: Transaction,
  limit: number,
): Promise<{ listed: Listed[]; gone: Omit<StateRows, 'persons'> } | undefined> {
  await tx`SELECT set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true)`
  const listed = await tx<Listed[]>`
    SELECT kind, team_id, type_index, key, above FROM state_republish
    WHERE NOT EXISTS (SELECT FROM ingest_redo r JOIN ingest_fence f
      ON f.log_id = r.log_id AND f.partition = r.partition AND f.next_offset < r.to_offset AND f.closed_at IS NULL)
    ORDER BY kind DESC, team_id, type_index, key LIMIT ${limit} FOR UPDATE SKIP LOCKED`
  if (listed.length === 0) return undefined
  const keys = JSON.stringify(listed)
  // In the order of locks that 0007_identity_options.sql states: persons by id, mappings, groups.
  await tx`
    SELECT FROM person WHERE id IN (
      SELECT p.id FROM jsonb_to_recordset(${keys}::text::jsonb) AS w(kind text, team_id int, key text)
        JOIN person p ON p.team_id = w.team_id AND p.uuid = CASE WHEN w.kind = 'person' THEN w.key::uuid END
      UNION SELECT d.person_id FROM jsonb_to_recordset(${keys}::text::jsonb) AS w(kind text, team_id int, key text)
        JOIN person_distinct_id d ON w.kind = 'mapping' AND d.team_id = w.team_id AND d.distinct_id = w.key)
    ORDER BY id FOR NO KEY UPDATE`
  await tx`
    INSERT INTO person AS p (team_id, uuid, created_at, version, deleted_at)
    SELECT w.team_id, w.key::uuid, now(), w.above + 1, now()
    FROM jsonb_to_recordset(${keys}::text::jsonb) AS w(kind text, team_id int, key text, above bigint)
    WHERE w.kind = 'person' ORDER BY w.team_id, w.key::uuid
    ON CONFLICT (team_id, uuid) DO UPDATE SET version = greatest(p.version, excluded.version - 1) + 1`
  const mappings = await tx<{ team_id: number; distinct_id: string }[]>`
    UPDATE person_distinct_id d SET version = greatest(d.version, w.above) + 1
    FROM jsonb_to_recordset(${keys}::text::jsonb) AS w(kind text, team_id int, key text, above bigint)
    WHERE w.kind = 'mapping' AND d.team_id = w.team_id AND d.distinct_id = w.key
    RETURNING d.team_id, d.distinct_id`
  const groups = await tx<{ team_id: number; type_index: number; group_key: string }[]>`
    UPDATE group_state g SET version = greatest(g.version, w.above) + 1
    FROM jsonb_to_recordset(${keys}::text::jsonb) AS w(kind text, team_id int, type_index int, key text, above bigint)
    WHERE w.kind = 'group' AND g.team_id = w.team_id AND g.type_index = w.type_index AND g.group_key = w.key
    RETURNING g.team_id, g.type_index, g.group_key`
  const there = new Set([
    ...mappings.map((row) => JSON.stringify(['mapping', row.team_id, 0, row.distinct_id])),
    ...groups.map((row) => JSON.stringify(['group', row.team_id, row.type_index, row.group_key])),
  ])
  const gone = listed.filter(
    ({ kind, team_id, type_index, key }) =>
      kind !== 'person' && !there.has(JSON.stringify([kind, team_id, type_index, key])),
  )
  return { listed, gone: goneRows(gone) }
}

function goneRows(gone: readonly Listed[]): Omit<StateRows, 'persons'> {
  const rows: Omit<StateRows, 'persons'> = { personDistinctIds: [], groups: [] }
  for (const { kind, team_id, type_index, key, above } of gone) {
    const version = above + 1
    if (kind === 'mapping') {
      rows.personDistinctIds.push(
        PERSON_DISTINCT_ID_OVERRIDES.encode({
          team_id,
          distinct_id: key,
          person_id: NIL_UUID,
          is_deleted: 1,
          version,
        }),
      )
    } else {
      rows.groups.push(
        GROUPS.encode({
          group_type_index: type_index,
          group_key: key,
          created_at: 0,
          team_id,
          group_properties: '{}',
          _version: version,
        }),
      )
    }
  }
  return rows
}

function outboxOf(listed: readonly Listed[]): Outbox {
  const outbox: Outbox = { persons: [], mappings: [], groups: [] }
  for (const { kind, team_id, type_index, key } of listed) {
    if (kind === 'person') outbox.persons.push([team_id, key])
    else if (kind === 'mapping') outbox.mappings.push([team_id, key])
    else outbox.groups.push([team_id, type_index, key])
  }
  return outbox
}

async function acknowledge(sql: Sql, listed: readonly Listed[]): Promise<void> {
  await guardState('acknowledging state that was sent again', async () => {
    await sql`
      DELETE FROM state_republish s
      USING jsonb_to_recordset(${JSON.stringify(listed)}::text::jsonb)
        AS w(kind text, team_id int, type_index int, key text, above bigint)
      WHERE s.kind = w.kind AND s.team_id = w.team_id AND s.type_index = w.type_index AND s.key = w.key
        AND s.above <= w.above`
  })
}
