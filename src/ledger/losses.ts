/** What was acknowledged and can be read no more, as operators accepted it with `headrace repair`. */
import { guardState, type Sql } from '../catalog/index.ts'

export type AcceptedLoss = {
  topic: string
  partition: number
  logId: string
  from: number
  /** Exclusive; undefined when the log is gone and its end is not known. */
  to: number | undefined
  /** `warehouse`: it was stored, and ClickHouse lost it. */
  cause: 'retention' | 'recreated' | 'warehouse'
  acceptedMs: number
}

export async function readLosses(sql: Sql): Promise<AcceptedLoss[]> {
  return guardState('read accepted losses', async () => {
    const rows = await sql<(Omit<AcceptedLoss, 'to'> & { to: number | null })[]>`
      SELECT topic, partition, log_id AS "logId", from_offset AS from, to_offset AS to, cause,
        (extract(epoch FROM accepted_at) * 1000)::float8 AS "acceptedMs"
      FROM ingest_loss ORDER BY accepted_at, topic, partition, from_offset`
    return rows.map((row) => ({ ...row, to: row.to ?? undefined }))
  })
}
