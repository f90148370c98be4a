/**
 * Reads what the fold needs, without locks: one query for all distinct ids of the batch (read-persons.ts), and one more,
 * at the same time, when the batch speaks of groups. In: events. Out: a Snapshot.
 * Parameters go as a few texts: neither the driver's limit of 65,534 nor its table of array types is in the way.
 */
import type { Sql, Transaction } from '../../catalog/index.ts'
import type { WantedVisitors } from '../cookieless/index.ts'
import { mayMerge, otherIdOf } from './merge.ts'
import { compactJson } from './property-limit.ts'
import { LONG_BYTES_MAX, readPersons } from './read-persons.ts'
import { sanitiseText } from './sanitise.ts'
import { emptySnapshot, groupKey, idKey, type Snapshot } from './snapshot.ts'
import type { IdentityEvent } from './types.ts'

/** What a batch has to know, each thing once. */
export type Wanted = {
  /** `full`: properties are wanted too. */
  ids: { teamIds: number[]; distinctIds: string[]; full: boolean[] }
  groups: { teamIds: number[]; types: string[]; keys: string[] }
  /** The ids that they have now are wanted as well, whatever these are. */
  visitors: WantedVisitors
}

/** Collects the ids and groups that `events` name. */
export function wantedBy(events: readonly IdentityEvent[], visitors: WantedVisitors = []): Wanted {
  const wanted: Wanted = {
    ids: { teamIds: [], distinctIds: [], full: [] },
    groups: { teamIds: [], types: [], keys: [] },
    visitors,
  }
  const { ids } = wanted
  const seen = new Map<string, number>()
  const wantId = (teamId: number, rawId: string, full: boolean) => {
    const distinctId = sanitiseText(rawId)
    const key = idKey(teamId, distinctId)
    const at = seen.get(key)
    if (at !== undefined) {
      if (full) ids.full[at] = true
      return
    }
    seen.set(key, ids.teamIds.length)
    ids.teamIds.push(teamId)
    ids.distinctIds.push(distinctId)
    ids.full.push(full)
  }
  const seenGroups = new Set<string>()
  const wantGroup = (teamId: number, rawType: string, rawKey: string) => {
    const type = sanitiseText(rawType)
    const key = sanitiseText(rawKey)
    const id = JSON.stringify([teamId, type, key])
    if (seenGroups.has(id)) return
    seenGroups.add(id)
    wanted.groups.teamIds.push(teamId)
    wanted.groups.types.push(type)
    wanted.groups.keys.push(key)
  }
  for (const event of events) {
    const { groups, groupIdentify } = event
    if (groups) for (const type of Object.keys(groups)) wantGroup(event.teamId, type, groups[type]!)
    if (groupIdentify) wantGroup(event.teamId, groupIdentify.type, groupIdentify.key)
    if (event.personProcessing === 'forcedOff') continue
    wantId(event.teamId, event.distinctId, event.personProcessing === 'on')
    const otherId = otherIdOf(event)
    if (otherId !== undefined && mayMerge(event.distinctId, otherId)) wantId(event.teamId, otherId, true)
  }
  return wanted
}

/** The same without properties and groups: who has to be locked. */
export function idsOnly({ ids, visitors }: Wanted): Wanted {
  return {
    ids: { ...ids, full: ids.full.map(() => false) },
    groups: { teamIds: [], types: [], keys: [] },
    visitors,
  }
}

export type Queryable = Sql | Transaction

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
