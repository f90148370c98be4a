/** Waiting until ingest has sent the rows that say so of a deleted person, and of ids that are nobody's any more. */
import { guardState } from '../catalog/index.ts'
import { type SettleDeps, until } from '../repair/index.ts'

/** They are acknowledged by the log. Throws HR_REPAIR_WAITS. */
export async function untilSent(
  { sql, says }: SettleDeps,
  deletionId: string,
  deadlineMs: number,
): Promise<void> {
  await until(deadlineMs, says, async () => {
    const [row] = await guardState(
      'look for state to be sent',
      () => sql<{ left: number }[]>`
        SELECT count(*)::int AS left FROM state_republish s
        JOIN deletion d ON d.id = ${deletionId} AND d.team_id = s.team_id
        JOIN deletion_target t ON t.deletion_id = d.id AND t.key = s.key
          AND t.kind = CASE s.kind WHEN 'person' THEN 'person' WHEN 'mapping' THEN 'distinct_id' END`,
    )
    return row!.left === 0 ? undefined : `ingest has ${row!.left} state rows of the deletion to send`
  })
}
