/**
 * Who is meant: the person that a uuid or a distinct id leads to, all that were merged into it, and their distinct ids. In:
 * what was asked for. Out: before the deletion what there is now; from then on what it took, as it is on record. An
 * id without a person (its events are personless) is one, too: it has the uuid that it gives by itself.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { personUuid } from '../event/index.ts'
import type { TargetId, TargetPerson, Targets } from './conditions.ts'
import { deletionError } from './errors.ts'
import type { Subject } from './orders.ts'

export type PersonKey = { uuid: string | null; distinctId: string | null; uuidOfId: string | null }

/** Throws HR_DELETION_REFUSED for the empty id: rows without an id have it, and they are many persons'. */
export function personKey(teamId: number, subject: Subject): PersonKey {
  if ('uuid' in subject) return { uuid: subject.uuid, distinctId: null, uuidOfId: null }
  if (!('distinctId' in subject)) throw new TypeError('a project is no person')
  const { distinctId } = subject
  if (distinctId === '') throw deletionError('HR_DELETION_REFUSED', 'an empty distinct id is nobody’s')
  return { uuid: null, distinctId, uuidOfId: personUuid(teamId, distinctId) }
}

/** As things are now, for a look beforehand. */
export async function currentTargets(sql: Sql, teamId: number, key: PersonKey): Promise<Targets> {
  const { uuid, distinctId, uuidOfId } = key
  return guardState('look for a person', async () => {
    const persons = await sql<TargetPerson[]>`
      SELECT uuid, round(extract(epoch FROM created_at) * 1000)::bigint AS "createdMs" FROM person
      WHERE id = ANY (persons_behind(${teamId}, ${uuid}::uuid, ${distinctId}::text)) ORDER BY uuid`
    const ids = await sql<TargetId[]>`
      SELECT distinct_id AS "distinctId", version > 0 AS overridden FROM person_distinct_id
      WHERE team_id = ${teamId}
        AND person_id = ANY (persons_behind(${teamId}, ${uuid}::uuid, ${distinctId}::text)) ORDER BY distinct_id`
    for (const name of [uuid, uuidOfId])
      if (name !== null && !persons.some((person) => person.uuid === name))
        persons.push({ uuid: name, createdMs: undefined })
    if (distinctId !== null && !ids.some((id) => id.distinctId === distinctId))
      ids.push({ distinctId, overridden: false })
    return { persons: [...persons], ids: [...ids] }
  })
}

/** Those of a deletion, always in the same order. */
export async function recordedTargets(sql: Sql, deletionId: string): Promise<Targets> {
  return guardState('read whom a deletion is about', async () => {
    const rows = await sql<{ kind: string; key: string; created_ms: number | null; overridden: boolean }[]>`
      SELECT kind, key, created_ms, overridden FROM deletion_target WHERE deletion_id = ${deletionId}
      ORDER BY kind, key COLLATE "C"`
    const targets: Targets = { persons: [], ids: [] }
    for (const { kind, key, created_ms, overridden } of rows) {
      if (kind === 'person') targets.persons.push({ uuid: key, createdMs: created_ms ?? undefined })
      else targets.ids.push({ distinctId: key, overridden })
    }
    return targets
  })
}
