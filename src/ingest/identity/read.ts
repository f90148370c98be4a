/**
 * Reads what the fold needs, without locks: one query for all distinct ids of the batch (read-persons.ts), and one more,
 * at the same time, when the batch speaks of groups. In: what the batch wants. Out: a Snapshot.
 * Parameters go as a few texts: neither the driver's limit of 65,534 nor its table of array types is in the way.
 */
import { compactJson } from './property-limit.ts'
import { LONG_BYTES_MAX, type Queryable, readPersons } from './read-persons.ts'
import { emptySnapshot, groupKey, type Snapshot } from './snapshot.ts'
import type { Wanted } from './wanted.ts'

/**
 * One round trip. Throws BatchTooLarge when the long properties come to over `longBytesMax` and there is more than one
 * event to blame, HR_STATE_CONFLICT when a person changed between two queries.
 */
export async function readSnapshot(
  sql: Queryable,
  wanted: Wanted,
  longBytesMax = LONG_BYTES_MAX,
): Promise<Snapshot> {
  const snapshot = emptySnapshot()
  await Promise.all([readPersons(sql, wanted, snapshot, longBytesMax), readGroups(sql, wanted, snapshot)])
  return snapshot
}

async function readGroups(sql: Queryable, { groups }: Wanted, snapshot: Snapshot): Promise<void> {
  if (groups.teamIds.length === 0) return
  const named = groups.teamIds.map((teamId, i) => ({
    team_id: teamId,
    group_type: groups.types[i],
    group_key: groups.keys[i],
  }))
  const rows = await sql<
    {
      team_id: number
      group_type: string
      type_index: number
      group_key: string | null
      properties: string
      created_ms: number
      version: number
    }[]
  >`
    SELECT t.team_id, t.group_type, t.type_index, g.group_key, g.properties::text AS properties,
      round(extract(epoch FROM g.created_at) * 1000)::bigint AS created_ms, g.version
    FROM group_type t
    LEFT JOIN jsonb_to_recordset(${JSON.stringify(named)}::text::jsonb)
      AS w(team_id int, group_type text, group_key text) ON w.team_id = t.team_id AND w.group_type = t.group_type
    LEFT JOIN group_state g
      ON g.team_id = t.team_id AND g.type_index = t.type_index AND g.group_key = w.group_key
    WHERE t.team_id = ANY (${`{${[...new Set(groups.teamIds)].join()}}`}::text::int[])`
  for (const row of rows) {
    let types = snapshot.groupTypes.get(row.team_id)
    if (!types) {
      types = new Map()
      snapshot.groupTypes.set(row.team_id, types)
    }
    types.set(row.group_type, row.type_index)
    if (row.group_key === null) continue
    snapshot.groups.set(groupKey(row.team_id, row.type_index, row.group_key), {
      propertiesJson: compactJson(row.properties),
      createdAtMs: row.created_ms,
      version: row.version,
    })
  }
}
