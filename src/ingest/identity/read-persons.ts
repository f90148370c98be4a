/**
 * The persons of a batch: one query for all its ids. Three rare things take a query after it: persons whose properties
 * are long (read only when all of them together are not too much), ids of a merged person that have not moved yet, and,
 * after a conflict, namesakes. An id of which there are only personless events costs a look into the mapping; no property
 * is read for it.
 *
 * The answer is one row, a column per field with all ids in it: of 1,000 rows with ten fields each the driver makes
 * 10,000 strings, and that took a third of this step (measured: 31 µs per event in this process, now 20; in Postgres 9 µs
 * less, because no chain of merges is looked for where none is).
 *
 * Of cookieless visitors nobody knows here which ids they have now. Postgres does: their persons are read by the same
 * query, and it tells by which ids.
 */
import { type Sql, stateError, type Transaction } from '../../catalog/index.ts'
import { personUuid } from '../../event/index.ts'
import { visitorsJson } from '../cookieless/index.ts'
import { BatchTooLarge } from './errors.ts'
import { compactJson } from './property-limit.ts'
import { idKey, type PersonRow, type Snapshot } from './snapshot.ts'
import type { Wanted } from './wanted.ts'

export type Queryable = Sql | Transaction

/** Bytes of JSON up to which properties come with the first query. */
const INLINE_BYTES_MAX = 16_384
/** Bytes of JSON of one batch beyond that. */
export const LONG_BYTES_MAX = 64 * 2 ** 20

type PersonColumns = {
  id: number
  team_id: number
  uuid: string
  properties: string
  times: string | null
  /** Seconds. */
  created: number
  is_identified: boolean
  version: number
  dead: boolean
}

function personRow(row: PersonColumns): PersonRow {
  return {
    id: row.id,
    teamId: row.team_id,
    uuid: row.uuid,
    propertiesJson: compactJson(row.properties),
    timesJson: row.times ?? undefined,
    createdAtMs: Math.round(row.created * 1000),
    isIdentified: row.is_identified,
    version: row.version,
    dead: row.dead,
  }
}

/** A column per field, in the order of the ids that were found; null when there are none. */
type Found = {
  i: string | null
  mapping_version: string
  id: string
  uuid: string
  created: string
  is_identified: string
  version: string
  dead: string
  merged_into: string | null
  long: string | null
  properties: string
  times: string | null
  /** "team id,…" of the visitors, in the order of their ordinals behind those of the named ids. */
  visitors?: string | null
}

/** Fills `snapshot.mappings`; see readSnapshot. */
export async function readPersons(
  sql: Queryable,
  { ids: named, visitors }: Wanted,
  snapshot: Snapshot,
  longBytesMax: number,
): Promise<void> {
  if (named.teamIds.length === 0) return
  const some = visitors.length > 0
  const wanted = some ? visitorsJson(visitors) : ''
  // What JSON spells holds no line feed, so one can stand between two. `merged_into`, `long` and `times` are mostly
  // null for all: then they come as one null.
  const [found] = await sql<[Found]>`
    SELECT array_agg(w.i)::text AS i, array_agg(m.version)::text AS mapping_version, array_agg(p.id)::text AS id,
      array_agg(p.uuid)::text AS uuid, array_agg(date_part('epoch', p.created_at))::text AS created,
      array_agg(p.is_identified)::text AS is_identified, array_agg(p.version)::text AS version,
      array_agg(p.deleted_at IS NOT NULL)::text AS dead,
      string_agg(w.i || ' ' || p.merged_into, ',') AS merged_into,
      string_agg(CASE WHEN w.f AND p.properties_bytes > ${INLINE_BYTES_MAX}::int
        THEN p.id || ' ' || p.properties_bytes END, ',') AS long,
      string_agg(CASE WHEN w.f AND p.properties_bytes <= ${INLINE_BYTES_MAX}::int
        THEN p.properties::text ELSE '' END, E'\n') AS properties,
      string_agg(CASE WHEN w.f THEN w.i || ' ' || p.property_times::text END, E'\n') AS times
      ${some ? visitorIds(sql, wanted) : sql``}
    FROM (
      SELECT n.team_id, n.distinct_id, n.f, n.i FROM ROWS FROM (
        unnest(${`{${named.teamIds.join()}}`}::text::int[]),
        jsonb_array_elements_text(${JSON.stringify(named.distinctIds)}::text::jsonb),
        unnest(${`{${named.full.join()}}`}::text::boolean[])
      ) WITH ORDINALITY AS n(team_id, distinct_id, f, i)
      ${some ? orVisitors(sql, wanted, named) : sql``}
    ) AS w
    JOIN person_distinct_id m ON m.team_id = w.team_id AND m.distinct_id = w.distinct_id
    JOIN person p ON p.id = m.person_id`
  const ids = some ? withVisitors(named, found.visitors, snapshot) : named
  if (found.i === null) return
  const rows = rowsOf(ids, found as Found & { i: string })
  if (found.long !== null) await readLong(sql, rows, found.long, longBytesMax)
  if (found.merged_into !== null) await followMerges(sql, rows, found.merged_into)
  for (const [i, { mappingVersion, person }] of rows) {
    snapshot.mappings.set(idKey(ids.teamIds[i]!, ids.distinctIds[i]!), { version: mappingVersion, person })
    snapshot.persons.set(person.id, person)
  }
}

/** A column more: both fragments number the visitors in the order of their ids. */
function visitorIds(sql: Queryable, wanted: string) {
  return sql`,
      (SELECT string_agg(v.team_id || ' ' || v.distinct_id, ',' ORDER BY v.team_id, v.distinct_id)
        FROM visitor_distinct_ids(${wanted}::text::jsonb) v) AS visitors`
}

function orVisitors(sql: Queryable, wanted: string, named: Wanted['ids']) {
  return sql`
      UNION ALL
      SELECT v.team_id, v.distinct_id, ${named.full.includes(true)}::boolean,
        ${named.teamIds.length}::bigint + row_number() OVER (ORDER BY v.team_id, v.distinct_id)
      FROM visitor_distinct_ids(${wanted}::text::jsonb) v`
}

/** The named ids and those of the visitors behind them; notes the latter in `snapshot`. */
function withVisitors(
  named: Wanted['ids'],
  visitors: string | null | undefined,
  snapshot: Snapshot,
): Pick<Wanted['ids'], 'teamIds' | 'distinctIds'> {
  const ids = { teamIds: [...named.teamIds], distinctIds: [...named.distinctIds] }
  const keys = new Set<string>()
  for (const visitor of visitors?.split(',') ?? []) {
    const [teamId, distinctId] = visitor.split(' ') as [string, string]
    ids.teamIds.push(Number(teamId))
    ids.distinctIds.push(distinctId)
    keys.add(idKey(Number(teamId), distinctId))
  }
  snapshot.visitorIds = keys
  return ids
}

/** By the index of the id. */
type FoundRows = Map<number, { mappingVersion: number; person: PersonRow }>

function rowsOf(ids: Pick<Wanted['ids'], 'teamIds'>, found: Found & { i: string }): FoundRows {
  const at = listOf(found.i)
  const [mappingVersions, personIds, uuids] = [found.mapping_version, found.id, found.uuid].map(listOf)
  const [created, identified, versions, dead] = [
    found.created,
    found.is_identified,
    found.version,
    found.dead,
  ].map(listOf)
  const properties = found.properties.split('\n')
  const times = new Map<number, string>()
  for (const line of found.times?.split('\n') ?? []) {
    const blank = line.indexOf(' ')
    times.set(Number(line.slice(0, blank)), line.slice(blank + 1))
  }
  const rows: FoundRows = new Map()
  const byId = new Map<number, PersonRow>()
  for (let k = 0; k < at.length; k++) {
    const ordinal = Number(at[k])
    const id = Number(personIds![k])
    let person = byId.get(id)
    if (!person) {
      person = {
        id,
        teamId: ids.teamIds[ordinal - 1]!,
        uuid: uuids![k]!,
        propertiesJson: undefined,
        timesJson: undefined,
        createdAtMs: Math.round(Number(created![k]) * 1000),
        isIdentified: identified![k] === 't',
        version: Number(versions![k]),
        dead: dead![k] === 't',
      }
      byId.set(id, person)
    }
    if (properties[k] !== '') person.propertiesJson = properties[k]
    person.timesJson ??= times.get(ordinal)
    rows.set(ordinal - 1, { mappingVersion: Number(mappingVersions![k]), person })
  }
  return rows
}

/** The items of an array as Postgres spells it; none of ours needs quotes. */
function listOf(array: string): string[] {
  return array.slice(1, -1).split(',')
}

/** `long`: "id bytes,…" of persons whose properties were too long to come along; a person may stand there twice. */
async function readLong(sql: Queryable, rows: FoundRows, long: string, longBytesMax: number): Promise<void> {
  const bytes = new Map(long.split(',').map((item) => item.split(' ').map(Number) as [number, number]))
  const total = [...bytes.values()].reduce((sum, some) => sum + some, 0)
  if (total > longBytesMax && rows.size > 2)
    throw new BatchTooLarge(`the persons of the batch hold ${total} bytes of long properties`)
  const read = await sql<{ id: number; version: number; properties: string; times: string | null }[]>`
    SELECT id, version, properties::text AS properties, property_times::text AS times FROM person
    WHERE id = ANY (${`{${[...bytes.keys()].join()}}`}::text::bigint[])`
  const byId = new Map(read.map((row) => [row.id, row]))
  for (const { person } of rows.values()) {
    const row = byId.get(person.id)
    if (!bytes.has(person.id)) continue
    if (row?.version !== person.version) throw changedMeanwhile(person.uuid)
    person.propertiesJson = compactJson(row.properties)
    person.timesJson = row.times ?? undefined
  }
}

/** `merged`: "i id,…" of ids whose person is merged into the one with this id, and has not handed them over yet. */
async function followMerges(sql: Queryable, rows: FoundRows, merged: string): Promise<void> {
  const into = merged.split(',').map((item) => item.split(' ').map(Number) as [number, number])
  const ends = await sql<(PersonColumns & { start: number })[]>`
    WITH RECURSIVE chain AS (
      SELECT p.id AS start, p.id, p.merged_into FROM person p
      WHERE p.id = ANY (${`{${[...new Set(into.map(([, id]) => id))].join()}}`}::text::bigint[])
      UNION
      SELECT c.start, n.id, n.merged_into FROM chain c JOIN person n ON n.id = c.merged_into
    )
    SELECT c.start, p.id, p.team_id, p.uuid, p.properties::text AS properties, p.property_times::text AS times,
      date_part('epoch', p.created_at) AS created, p.is_identified, p.version, p.deleted_at IS NOT NULL AS dead
    FROM chain c JOIN person p ON p.id = c.id WHERE c.merged_into IS NULL`
  const known = new Map([...rows.values()].map(({ person }) => [person.id, person]))
  const survivors = new Map<number, PersonRow>()
  for (const row of ends) {
    const person = known.get(row.id)
    if (person && person.version !== row.version) throw changedMeanwhile(row.uuid)
    // One object per person, whichever ids lead to it; the personless ones asked for no properties.
    const survivor = person ?? personRow(row)
    survivor.propertiesJson ??= compactJson(row.properties)
    survivor.timesJson ??= row.times ?? undefined
    known.set(row.id, survivor)
    survivors.set(row.start, survivor)
  }
  for (const [ordinal, id] of into) {
    const survivor = survivors.get(id)
    if (!survivor) throw changedMeanwhile(String(id))
    rows.get(ordinal - 1)!.person = survivor
  }
}

function changedMeanwhile(person: string): Error {
  return stateError('HR_STATE_CONFLICT', `person ${person} changed while its batch was read`)
}

/**
 * Adds to `snapshot`, for ids that lead to no living person, the row that holds the uuid they would be given: the
 * person was deleted, or its id taken away. Rare, so it is asked only when an insert has met such a row.
 */
export async function readNamesakes(sql: Queryable, { ids }: Wanted, snapshot: Snapshot): Promise<void> {
  const names: { team_id: number; uuid: string }[] = []
  const keyOf = new Map<string, string>()
  ids.teamIds.forEach((teamId, i) => {
    const key = idKey(teamId, ids.distinctIds[i]!)
    const mapping = snapshot.mappings.get(key)
    if (mapping && !mapping.person.dead) return
    const uuid = personUuid(teamId, ids.distinctIds[i]!)
    names.push({ team_id: teamId, uuid })
    keyOf.set(idKey(teamId, uuid), key)
  })
  if (names.length === 0) return
  const rows = await sql<PersonColumns[]>`
    SELECT p.id, p.team_id, p.uuid, p.properties::text AS properties, p.property_times::text AS times,
      date_part('epoch', p.created_at) AS created, p.is_identified, p.version, p.deleted_at IS NOT NULL AS dead
    FROM jsonb_to_recordset(${JSON.stringify(names)}::text::jsonb) AS w(team_id int, uuid uuid)
    JOIN person p ON p.team_id = w.team_id AND p.uuid = w.uuid`
  for (const row of rows) {
    // A living namesake may be known already, by another id; both must be the same object.
    const person = snapshot.persons.get(row.id) ?? personRow(row)
    if (person.version !== row.version) throw changedMeanwhile(row.uuid)
    person.propertiesJson ??= compactJson(row.properties)
    person.timesJson ??= row.times ?? undefined
    snapshot.namesakes.set(keyOf.get(idKey(row.team_id, row.uuid))!, person)
  }
}
