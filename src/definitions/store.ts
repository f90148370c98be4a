/**
 * Definitions in Postgres. One transaction adds what was collected of a range and moves the cursor of its raw partition
 * from exactly the range's start, so that a range is added once whoever reads it, and however often.
 *
 * Bounded per project: names beyond the limits are not kept, and how often they came is counted. Of new names that do
 * not all fit, those that came most often win. A name that is known is never dropped.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import type { Collected, Range, SeenEvent, SeenProperty } from './types.ts'

/** Per project. */
export type DefinitionLimits = { eventsMax: number; propertiesMax: number }

/** How far each raw partition was read, by `logId/partition`. */
export async function readCursors(sql: Sql): Promise<Map<string, number>> {
  return guardState('read how far definitions are', async () => {
    const rows = await sql<{ log_id: string; partition: number; next_offset: number }[]>`
      SELECT log_id, partition, next_offset FROM definition_cursor`
    return new Map(rows.map(({ log_id, partition, next_offset }) => [`${log_id}/${partition}`, next_offset]))
  })
}

/** False when another reader was there before: then nothing is added. */
export async function addCollected(
  sql: Sql,
  range: Range,
  collected: Collected,
  limits: DefinitionLimits,
): Promise<boolean> {
  return guardState('add definitions', () =>
    transaction(sql, async (tx) => {
      if (!(await moveCursor(tx, range))) return false
      const teams = new Set([
        ...[...collected.events, ...collected.properties].map(({ teamId }) => teamId),
        ...collected.eventsBeyond.keys(),
        ...collected.propertiesBeyond.keys(),
      ])
      for (const teamId of await deletedTeams(tx, teams)) teams.delete(teamId)
      // In order, so that two partitions cannot wait for each other in a circle.
      for (const teamId of [...teams].sort((a, b) => a - b)) await addTeam(tx, teamId, collected, limits)
      return true
    }),
  )
}

/** What was read of a project before it was deleted must not come back behind the deletion. */
async function deletedTeams(tx: Transaction, teams: ReadonlySet<number>): Promise<number[]> {
  const rows = await tx<{ team_id: number }[]>`
    SELECT team_id FROM deletion WHERE kind = 'project' AND state <> 'asked'
      AND team_id IN (SELECT value::int FROM jsonb_array_elements_text(${JSON.stringify([...teams])}::text::jsonb))`
  return rows.map(({ team_id }) => team_id)
}

async function moveCursor(tx: Transaction, { logId, partition, from, to }: Range): Promise<boolean> {
  const done = await tx`
    INSERT INTO definition_cursor AS c (log_id, partition, next_offset)
    SELECT ${logId}, ${partition}, ${to} WHERE ${from} = 0
      OR EXISTS (SELECT FROM definition_cursor WHERE log_id = ${logId} AND partition = ${partition})
    ON CONFLICT (log_id, partition) DO UPDATE SET next_offset = excluded.next_offset WHERE c.next_offset = ${from}`
  return done.count > 0
}

async function addTeam(
  tx: Transaction,
  teamId: number,
  collected: Collected,
  { eventsMax, propertiesMax }: DefinitionLimits,
): Promise<void> {
  await tx`INSERT INTO definition_count (team_id) VALUES (${teamId}) ON CONFLICT DO NOTHING`
  const [counts] = await tx<{ events: number; properties: number }[]>`
    SELECT events, properties FROM definition_count WHERE team_id = ${teamId} FOR UPDATE`
  const events = collected.events.filter((one) => one.teamId === teamId)
  const properties = collected.properties.filter((one) => one.teamId === teamId)
  const eventsNow = await addEvents(tx, teamId, events, eventsMax - counts!.events)
  const propertiesNow = await addProperties(tx, teamId, properties, propertiesMax - counts!.properties)
  await tx`
    UPDATE definition_count SET events = events + ${eventsNow.added}, properties = properties + ${propertiesNow.added},
      events_beyond = events_beyond + ${eventsNow.beyond + (collected.eventsBeyond.get(teamId) ?? 0)},
      properties_beyond = properties_beyond + ${propertiesNow.beyond + (collected.propertiesBeyond.get(teamId) ?? 0)}
    WHERE team_id = ${teamId}`
}

type Added = { added: number; beyond: number }

async function addEvents(tx: Transaction, teamId: number, seen: SeenEvent[], room: number): Promise<Added> {
  const json = JSON.stringify(
    seen.map(({ event, volume, firstMs, lastMs }) => ({ e: event, v: volume, f: firstMs, l: lastMs })),
  )
  const known = await tx<{ event: string }[]>`
    SELECT d.event FROM jsonb_to_recordset(${json}::text::jsonb) AS s(e text)
    JOIN event_definition d ON d.team_id = ${teamId} AND d.event = s.e`
  const names = new Set(known.map(({ event }) => event))
  const { kept, added, beyond } = choose(seen, ({ event }) => names.has(event), room)
  const keptJson = JSON.stringify(
    kept.map(({ event, volume, firstMs, lastMs }) => ({ e: event, v: volume, f: firstMs, l: lastMs })),
  )
  await tx`
    INSERT INTO event_definition AS d (team_id, event, volume, first_seen, last_seen)
    SELECT ${teamId}, s.e, s.v, to_timestamp(s.f / 1000.0), to_timestamp(s.l / 1000.0)
    FROM jsonb_to_recordset(${keptJson}::text::jsonb) AS s(e text, v bigint, f float8, l float8)
    ON CONFLICT (team_id, event) DO UPDATE SET volume = d.volume + excluded.volume,
      first_seen = least(d.first_seen, excluded.first_seen), last_seen = greatest(d.last_seen, excluded.last_seen)`
  return { added, beyond }
}

async function addProperties(
  tx: Transaction,
  teamId: number,
  seen: SeenProperty[],
  room: number,
): Promise<Added> {
  const keys = JSON.stringify(seen.map(({ kind, owner, name }) => ({ k: kind, o: owner, n: name })))
  const known = await tx<{ kind: string; owner: string; name: string }[]>`
    SELECT d.kind, d.owner, d.name FROM jsonb_to_recordset(${keys}::text::jsonb) AS s(k text, o text, n text)
    JOIN property_definition d ON d.team_id = ${teamId} AND d.kind = s.k AND d.owner = s.o AND d.name = s.n`
  const keyOf = (one: { kind: string; owner: string; name: string }) =>
    JSON.stringify([one.kind, one.owner, one.name])
  const names = new Set(known.map(keyOf))
  const { kept, added, beyond } = choose(seen, (one) => names.has(keyOf(one)), room)
  const json = JSON.stringify(
    kept.map(({ kind, owner, name, types, volume, firstMs, lastMs }) => ({
      k: kind,
      o: owner,
      n: name,
      t: types,
      v: volume,
      f: firstMs,
      l: lastMs,
    })),
  )
  await tx`
    INSERT INTO property_definition AS d (team_id, kind, owner, name, types, volume, first_seen, last_seen)
    SELECT ${teamId}, s.k, s.o, s.n, s.t, s.v, to_timestamp(s.f / 1000.0), to_timestamp(s.l / 1000.0)
    FROM jsonb_to_recordset(${json}::text::jsonb) AS s(k text, o text, n text, t jsonb, v bigint, f float8, l float8)
    ON CONFLICT (team_id, kind, owner, name) DO UPDATE SET volume = d.volume + excluded.volume,
      types = (SELECT jsonb_object_agg(key, n) FROM (
        SELECT key, sum(value::bigint) AS n
        FROM (SELECT * FROM jsonb_each_text(d.types) UNION ALL SELECT * FROM jsonb_each_text(excluded.types)) both_types
        GROUP BY key) sums),
      first_seen = least(d.first_seen, excluded.first_seen), last_seen = greatest(d.last_seen, excluded.last_seen)`
  return { added, beyond }
}

/** All that is known, and of the rest as many as there is room for: those that came most often. */
function choose<T extends { volume: number }>(
  seen: readonly T[],
  isKnown: (one: T) => boolean,
  room: number,
): Added & { kept: T[] } {
  const kept = seen.filter(isKnown)
  const fresh = seen.filter((one) => !isKnown(one)).sort((a, b) => b.volume - a.volume)
  const taken = fresh.slice(0, Math.max(0, room))
  const beyond = fresh.slice(taken.length).reduce((sum, { volume }) => sum + volume, 0)
  return { kept: [...kept, ...taken], added: taken.length, beyond }
}
