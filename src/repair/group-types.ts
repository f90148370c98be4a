/** Group types that rows use and a restored Postgres lacks: they get the index that the rows have. */
import { guardState, type Sql, type Transaction } from '../catalog/index.ts'
import { repairError } from './errors.ts'
import type { LostTimeline } from './lost-timeline.ts'

export type GroupType = { team: number; type: string; index: number }

/** Throws HR_REPAIR_GROUP_TYPES when Postgres gave the index to another type. */
export async function newGroupTypes(
  sql: Sql | Transaction,
  { groupTypes }: LostTimeline,
): Promise<GroupType[]> {
  const missing: GroupType[] = []
  for (const [team, types] of groupTypes) {
    const rows = await guardState(
      'read group types',
      () => sql<{ group_type: string; type_index: number }[]>`
        SELECT group_type, type_index FROM group_type WHERE team_id = ${team}`,
    )
    for (const [type, index] of types) {
      const own = rows.find((row) => row.group_type === type)
      if (own?.type_index === index) continue
      const other = own ?? rows.find((row) => row.type_index === index)
      if (other) {
        throw repairError(
          'HR_REPAIR_GROUP_TYPES',
          `project ${team}: rows have group type "${type}" at index ${index}, but the restored Postgres has "${other.group_type}" at ${other.type_index}`,
        )
      }
      missing.push({ team, type, index })
    }
  }
  return missing
}

export async function makeGroupTypes(tx: Transaction, types: readonly GroupType[]): Promise<void> {
  for (const { team, type, index } of types)
    await tx`INSERT INTO group_type (team_id, group_type, type_index) VALUES (${team}, ${type}, ${index})`
}
