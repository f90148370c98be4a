/**
 * The rows of the state topics: from the write set right after a commit, or read anew for an outbox whose rows may
 * not have reached the log. Both are idempotent by version. An id sends an override row only when it has, or had,
 * another person than the one of its own name: its version says so.
 */
import { guardState, type Sql } from '../../catalog/index.ts'
import { GROUPS, PERSON, PERSON_DISTINCT_ID_OVERRIDES } from '../../event/index.ts'
import type { MovedMapping } from './apply.ts'
import { compactJson } from './property-limit.ts'
import type { Outbox, StateRows } from './types.ts'
import type { WriteSet } from './write-set.ts'

type PersonState = {
  teamId: number
  uuid: string
  propertiesJson: string
  createdAtMs: number
  isIdentified: boolean
  version: number
}

function personRow(person: PersonState, dead: boolean): Buffer {
  return PERSON.encode({
    id: person.uuid,
    created_at: person.createdAtMs,
    team_id: person.teamId,
    properties: dead ? '{}' : person.propertiesJson,
    is_identified: person.isIdentified ? 1 : 0,
    is_deleted: dead ? 1 : 0,
    version: person.version,
  })
}

function overrideRow(mapping: MovedMapping): Buffer {
  return PERSON_DISTINCT_ID_OVERRIDES.encode({
    team_id: mapping.teamId,
    distinct_id: mapping.distinctId,
    person_id: mapping.personUuid,
    is_deleted: 0,
    version: mapping.version,
  })
}

/** The rows of a batch that was just written. */
export function stateRowsOf(writeSet: WriteSet, moved: readonly MovedMapping[]): StateRows {
  const rows: StateRows = { persons: [], personDistinctIds: [], groups: [] }
  const losers = new Set(writeSet.merges.map((merge) => `${merge.teamId}:${merge.loserUuid}`))
  for (const person of writeSet.persons) {
    if (losers.has(`${person.teamId}:${person.uuid}`)) continue
    rows.persons.push(personRow({ ...person, propertiesJson: person.shownPropertiesJson }, false))
  }
  for (const merge of writeSet.merges) {
    rows.persons.push(personRow({ ...merge, uuid: merge.loserUuid, propertiesJson: '{}' }, true))
  }
  for (const mapping of writeSet.mappings) {
    if (mapping.version > 0) rows.personDistinctIds.push(overrideRow(mapping))
  }
  for (const mapping of moved) rows.personDistinctIds.push(overrideRow(mapping))
  for (const group of writeSet.groups) {
    rows.groups.push(
      GROUPS.encode({
        group_type_index: group.index,
        group_key: group.key,
        created_at: group.createdAtMs,
        team_id: group.teamId,
        group_properties: group.propertiesJson,
        _version: group.version,
      }),
    )
  }
  return rows
}

/** The rows of `outbox` as they are now. */
export async function readStateRows(sql: Sql, outbox: Outbox): Promise<StateRows> {
  return guardState('reading state rows', async () => {
    const [persons, personDistinctIds, groups] = await Promise.all([
      readPersons(sql, outbox.persons),
      readMappings(sql, outbox.mappings),
      readGroups(sql, outbox.groups),
    ])
    return { persons, personDistinctIds, groups }
  })
}

async function readPersons(sql: Sql, persons: Outbox['persons']): Promise<Buffer[]> {
  if (persons.length === 0) return []
  const keys = JSON.stringify(persons.map(([teamId, uuid]) => ({ team_id: teamId, uuid })))
  const rows = await sql<(Omit<PersonState, 'uuid'> & { uuid: string; dead: boolean })[]>`
    SELECT p.team_id AS "teamId", p.uuid, p.properties::text AS "propertiesJson",
      round(extract(epoch FROM p.created_at) * 1000)::bigint AS "createdAtMs",
      p.is_identified AS "isIdentified", p.version, p.deleted_at IS NOT NULL AS dead
    FROM jsonb_to_recordset(${keys}::text::jsonb) AS w(team_id int, uuid uuid)
    JOIN person p ON p.team_id = w.team_id AND p.uuid = w.uuid`
  return rows.map((row) => personRow({ ...row, propertiesJson: compactJson(row.propertiesJson) }, row.dead))
}

async function readMappings(sql: Sql, mappings: Outbox['mappings']): Promise<Buffer[]> {
  if (mappings.length === 0) return []
  const keys = JSON.stringify(mappings.map(([teamId, id]) => ({ team_id: teamId, distinct_id: id })))
  const rows = await sql<MovedMapping[]>`
    SELECT m.team_id AS "teamId", m.distinct_id AS "distinctId", coalesce(s.uuid, p.uuid) AS "personUuid", m.version
    FROM jsonb_to_recordset(${keys}::text::jsonb) AS w(team_id int, distinct_id text)
    JOIN person_distinct_id m ON m.team_id = w.team_id AND m.distinct_id = w.distinct_id
    JOIN person p ON p.id = m.person_id
    LEFT JOIN LATERAL (
      WITH RECURSIVE chain AS (
        SELECT n.id, n.uuid, n.merged_into FROM person n WHERE n.id = p.merged_into
        UNION
        SELECT n.id, n.uuid, n.merged_into FROM chain c JOIN person n ON n.id = c.merged_into
      )
      SELECT c.uuid FROM chain c WHERE c.merged_into IS NULL
    ) s ON true
    WHERE m.version > 0`
  return rows.map((row) => overrideRow(row))
}

async function readGroups(sql: Sql, groups: Outbox['groups']): Promise<Buffer[]> {
  if (groups.length === 0) return []
  const keys = JSON.stringify(
    groups.map(([teamId, index, key]) => ({ team_id: teamId, type_index: index, group_key: key })),
  )
  const rows = await sql<
    { team_id: number; index: number; key: string; properties: string; created_ms: number; version: number }[]
  >`
    SELECT g.team_id, g.type_index AS index, g.group_key AS key, g.properties::text AS properties,
      round(extract(epoch FROM g.created_at) * 1000)::bigint AS created_ms, g.version
    FROM jsonb_to_recordset(${keys}::text::jsonb) AS w(team_id int, type_index int, group_key text)
    JOIN group_state g
      ON g.team_id = w.team_id AND g.type_index = w.type_index AND g.group_key = w.group_key`
  return rows.map((row) =>
    GROUPS.encode({
      group_type_index: row.index,
      group_key: row.key,
      created_at: row.created_ms,
      team_id: row.team_id,
      group_properties: compactJson(row.properties),
      _version: row.version,
    }),
  )
}
