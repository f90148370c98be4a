/**
 * What the running audit keeps in Postgres: per raw partition how far it has compared and where its pass over everything
 * stands (`audit_progress`), and the ranges that did not add up when they were last looked at (`audit_gap`).
 */
import { guardState, type Sql, transaction } from '../catalog/index.ts'
import type { OffsetRange, PartitionAudit } from './audit.ts'
import { united } from './findings.ts'

/** Ranges that are looked at again in each call; those nearest to each other are taken together. */
const GAPS_MAX = 64

export type Watched = {
  logId: string
  partition: number
  /** Everything below was compared. */
  auditedThrough: number
  /** Where the pass over everything goes on. */
  passNext: number
  /** It has begun, or a day has gone by. */
  passDue: boolean
}

/** Every raw partition; those that wait longest for a pass first. */
export async function readWatched(sql: Sql, passEveryS: number): Promise<Watched[]> {
  return guardState('read what was audited', () =>
    transaction(sql, async (tx) => {
      await tx`
        INSERT INTO audit_progress (log_id, partition) SELECT log_id, partition FROM ingest_fence
        ON CONFLICT DO NOTHING`
      return await tx<Watched[]>`
        SELECT p.log_id AS "logId", p.partition, p.audited_through AS "auditedThrough", p.pass_next AS "passNext",
          p.audited_through > 0 AND (p.pass_next > 0 OR p.pass_began_at <= now() - ${passEveryS}::float8 * interval '1 s')
            AS "passDue"
        FROM audit_progress p JOIN ingest_fence f USING (log_id, partition)
        ORDER BY p.pass_next > 0 DESC, p.pass_began_at, p.log_id, p.partition`
    }),
  )
}

/** What did not add up, as at most `GAPS_MAX` ranges. */
export async function readGaps(sql: Sql): Promise<OffsetRange[]> {
  const rows = await guardState(
    'read what did not add up',
    () => sql<OffsetRange[]>`
    SELECT log_id AS "logId", partition, from_offset AS from, to_offset AS to FROM audit_gap
    ORDER BY log_id, partition, from_offset`,
  )
  const gaps = [...rows]
  while (gaps.length > GAPS_MAX) {
    let nearest = 0
    let distance = Number.POSITIVE_INFINITY
    for (let i = 1; i < gaps.length; i++) {
      const [before, gap] = [gaps[i - 1]!, gaps[i]!]
      const isSame = before.logId === gap.logId && before.partition === gap.partition
      if (!isSame || gap.from - before.to >= distance) continue
      nearest = i
      distance = gap.from - before.to
    }
    if (nearest === 0) break
    gaps[nearest - 1]!.to = Math.max(gaps[nearest - 1]!.to, gaps[nearest]!.to)
    gaps.splice(nearest, 1)
  }
  return gaps
}

/**
 * Replaces what is known of the compared range by what was found in it now, and moves on, in one transaction. Findings
 * of which there are too many replace nothing and move nothing: the range is looked at again until it is mended.
 */
export async function noteCompared(
  sql: Sql,
  { logId, partition, from, outcomesCompared, outcomesThrough, findings, cut }: PartitionAudit,
  moved: { audited: boolean; passTo: number | undefined },
): Promise<void> {
  await guardState('note what was audited', () =>
    transaction(sql, async (tx) => {
      if (!cut) {
        await tx`
          DELETE FROM audit_gap WHERE log_id = ${logId} AND partition = ${partition}
            AND from_offset >= ${from} AND from_offset < ${outcomesThrough}`
      }
      for (const gap of united(findings)) {
        await tx`
          INSERT INTO audit_gap AS g (log_id, partition, from_offset, to_offset, unaccounted)
          VALUES (${logId}, ${partition}, ${gap.from}, ${gap.to}, ${gap.to - gap.from})
          ON CONFLICT (log_id, partition, from_offset) DO UPDATE
          SET to_offset = excluded.to_offset, unaccounted = excluded.unaccounted`
      }
      if (moved.audited && outcomesCompared) {
        await tx`
          UPDATE audit_progress
          SET audited_through = greatest(audited_through, ${cut ? 0 : outcomesThrough}::bigint), audited_at = now()
          WHERE log_id = ${logId} AND partition = ${partition}`
      }
      if (moved.passTo !== undefined) {
        await tx`
          UPDATE audit_progress SET
            pass_began_at = CASE WHEN pass_next = 0 THEN now() ELSE pass_began_at END,
            pass_ended_at = CASE WHEN ${moved.passTo}::bigint >= audited_through THEN now() ELSE pass_ended_at END,
            pass_next = CASE WHEN ${moved.passTo}::bigint >= audited_through THEN 0 ELSE ${moved.passTo}::bigint END
          WHERE log_id = ${logId} AND partition = ${partition}`
      }
    }),
  )
}

export type WatchTotals = { unaccounted: number; audited: number; auditedAtS: number; passEndedAtS: number }

export async function readTotals(sql: Sql): Promise<WatchTotals> {
  const [row] = await guardState(
    'read what was audited',
    () => sql<WatchTotals[]>`
    SELECT (SELECT coalesce(sum(unaccounted), 0)::float8 FROM audit_gap) AS unaccounted,
      coalesce(sum(audited_through), 0)::float8 AS audited,
      coalesce(extract(epoch FROM min(audited_at)), 0)::float8 AS "auditedAtS",
      CASE WHEN bool_or(pass_ended_at IS NULL) THEN 0
        ELSE coalesce(extract(epoch FROM min(pass_ended_at)), 0) END::float8 AS "passEndedAtS"
    FROM audit_progress JOIN ingest_fence USING (log_id, partition) WHERE closed_at IS NULL`,
  )
  return row!
}
