/**
 * Drafts of transformations that run in shadow, and what was seen of them. In: a draft, then from ingest what it came to,
 * a little at a time. Out: the sums. Counting twice or not at all does no harm here: nothing rests on it.
 */
import { randomUUID } from 'node:crypto'
import { guardState, type Sql } from './postgres.ts'
import { transaction } from './transaction.ts'
import { transformationKey } from './transformations.ts'

export type ShadowSample = { uuid: string; event: string; became: string; differences: string[] }

export type ShadowCounts = {
  counts: Record<string, number>
  fields: Record<string, number>
  samples: ShadowSample[]
}

export type Shadow = { teamId: number; run: string; definition: unknown; key: Uint8Array }

export type ShadowReport = ShadowCounts & { startedAt: Date; stopsAt: Date; trouble: string }

export const SHADOW_SAMPLES_MAX = 20
/** Names of properties that a draft may differ in, each with its count. */
const FIELDS_MAX = 200

export async function startShadow(
  sql: Sql,
  teamId: number,
  definition: unknown,
  { hours, fallbackKey }: { hours: number; fallbackKey: string },
): Promise<void> {
  const key = (await transformationKey(sql, teamId)) ?? Buffer.from(fallbackKey)
  const json = JSON.stringify(definition)
  await guardState(
    'start a draft of transformations',
    () => sql`
      INSERT INTO transformation_shadow (team_id, run, definition, key, stops_at)
      VALUES (${teamId}, ${randomUUID()}, ${json}::text::jsonb, ${key}, now() + make_interval(hours => ${hours}))
      ON CONFLICT (team_id) DO UPDATE SET run = excluded.run, definition = excluded.definition, key = excluded.key,
        started_at = now(), stops_at = excluded.stops_at, trouble = '', counts = '{}', fields = '{}', samples = '[]'`,
  )
}

/** True when there was one. What was seen of it goes, too. */
export async function stopShadow(sql: Sql, teamId: number): Promise<boolean> {
  const rows = await guardState(
    'stop a draft of transformations',
    () => sql`DELETE FROM transformation_shadow WHERE team_id = ${teamId} RETURNING team_id`,
  )
  return rows.length > 0
}

export async function runningShadows(sql: Sql): Promise<Shadow[]> {
  const rows = await guardState(
    'read drafts of transformations',
    () => sql<{ team_id: number; run: string; definition: unknown; key: Uint8Array }[]>`
      SELECT team_id, run, definition, key FROM transformation_shadow WHERE stops_at > now() AND trouble = ''`,
  )
  return rows.map(({ team_id: teamId, ...rest }) => ({ teamId, ...rest }))
}

/** Adds what was seen, and why it is over if it is. What belongs to a draft that was replaced is let go. */
export async function addToShadow(
  sql: Sql,
  { teamId, run }: Pick<Shadow, 'teamId' | 'run'>,
  seen: ShadowCounts,
  trouble = '',
): Promise<void> {
  await guardState('note what a draft of transformations does', () =>
    transaction(sql, async (tx) => {
      const [row] = await tx<ShadowCounts[]>`
        SELECT counts, fields, samples FROM transformation_shadow
        WHERE team_id = ${teamId} AND run = ${run} FOR UPDATE`
      if (!row) return
      const counts = JSON.stringify(sums(row.counts, seen.counts, FIELDS_MAX))
      const fields = JSON.stringify(sums(row.fields, seen.fields, FIELDS_MAX))
      const samples = JSON.stringify([...row.samples, ...seen.samples].slice(0, SHADOW_SAMPLES_MAX))
      await tx`
        UPDATE transformation_shadow SET counts = ${counts}::text::jsonb, fields = ${fields}::text::jsonb,
          samples = ${samples}::text::jsonb, trouble = ${trouble}
        WHERE team_id = ${teamId}`
    }),
  )
}

function sums(
  one: Record<string, number>,
  other: Record<string, number>,
  namesMax: number,
): Record<string, number> {
  const all = new Map(Object.entries(one))
  for (const [name, count] of Object.entries(other))
    if (all.has(name) || all.size < namesMax) all.set(name, (all.get(name) ?? 0) + count)
  return Object.fromEntries(all)
}

export async function readShadow(sql: Sql, teamId: number): Promise<ShadowReport | undefined> {
  const [row] = await guardState(
    'read what a draft of transformations does',
    () => sql<(ShadowCounts & { started_at: Date; stops_at: Date; trouble: string })[]>`
      SELECT counts, fields, samples, started_at, stops_at, trouble FROM transformation_shadow
      WHERE team_id = ${teamId}`,
  )
  if (!row) return undefined
  const { started_at: startedAt, stops_at: stopsAt, ...rest } = row
  return { ...rest, startedAt, stopsAt }
}
