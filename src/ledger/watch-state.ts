/**
 * What the running audit keeps in Postgres: per raw partition how far it has compared and where its pass over everything
 * stands (`audit_progress`), and the ranges that did not add up when they were last looked at (`audit_gap`).
 */
import { guardState, type Sql, transaction } from '../catalog/index.ts'
import type { OffsetRange, PartitionAudit } from './audit.ts'
import { united } from './findings.ts'

/** Ranges that are looked at again in each call. */
const GAPS_MAX = 64
/** What is no farther apart is looked at together. */
const NEAR_OFFSETS = 10_000
/** Of these the ranges are made: bounds what is read when very much does not add up. */
const GAP_ROWS_MAX = 10_000

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

/**
 * What did not add up, those first that were looked at the longest ago: at most `GAPS_MAX` ranges, of `offsetsMax` offsets
 * together. The others have their turn in the next calls.
 */
export async function readGaps(sql: Sql, offsetsMax: number): Promise<OffsetRange[]> {
  const rows = await guardState(
    'read what did not add up',
    () => sql<OffsetRange[]>`
    SELECT log_id AS "logId", partition, from_offset AS from, to_offset AS to FROM (
      SELECT * FROM audit_gap ORDER BY found_at, log_id, partition, from_offset LIMIT ${GAP_ROWS_MAX}
    ) AS oldest ORDER BY log_id, partition, from_offset`,
  )
  const gaps: OffsetRange[] = []
  let left = offsetsMax
  for (const row of rows) {
    const last = gaps.at(-1)
    const isNear =
      last?.logId === row.logId && last.partition === row.partition && row.from - last.to <= NEAR_OFFSETS
    if (left <= 0 || (!isNear && gaps.length === GAPS_MAX)) break
    const from = isNear ? last.to : row.from
    const to = Math.min(row.to, from + left)
    if (isNear) last.to = Math.max(last.to, to)
    else gaps.push({ ...row, to })
    left -= Math.max(0, to - from)
  }
  return gaps
}

/**
 * Replaces what is known of the compared range by what was found in it now, and moves on, in one transaction. Findings
 * of which there are too many replace nothing and move nothing: the range is looked at again until it is mended. `audited`:
 * it was new, and all there is that is new, or a piece of it.
 */
export async function noteCompared(
  sql: Sql,
  { logId, partition, from, outcomesCompared, outcomesThrough, findings, cut }: PartitionAudit,
  moved: { audited?: 'all' | 'piece'; passTo?: number | undefined },
): Promise<void> {
  const found = JSON.stringify(united(findings))
  await guardState('note what was audited', () =>
    transaction(sql, async (tx) => {
      if (!cut) {
        // What reaches over the end was looked at up to there only.
        await tx`
          WITH gone AS (
            DELETE FROM audit_gap WHERE log_id = ${logId} AND partition = ${partition}
              AND from_offset >= ${from} AND from_offset < ${outcomesThrough}
            RETURNING to_offset
          )
          INSERT INTO audit_gap AS g (log_id, partition, from_offset, to_offset, unaccounted)
          SELECT ${logId}::uuid, ${partition}::int, ${outcomesThrough}::bigint, max(to_offset),
            max(to_offset) - ${outcomesThrough}::bigint
          FROM gone HAVING max(to_offset) > ${outcomesThrough}::bigint
          ON CONFLICT (log_id, partition, from_offset) DO UPDATE
          SET to_offset = greatest(g.to_offset, excluded.to_offset),
            unaccounted = greatest(g.unaccounted, excluded.unaccounted)`
      }
      await tx`
        INSERT INTO audit_gap AS g (log_id, partition, from_offset, to_offset, unaccounted)
        SELECT ${logId}::uuid, ${partition}::int, f.from, f.to, f.to - f.from
        FROM jsonb_to_recordset(${found}::text::jsonb) AS f("from" bigint, "to" bigint)
        ON CONFLICT (log_id, partition, from_offset) DO UPDATE
        SET to_offset = excluded.to_offset, unaccounted = excluded.unaccounted, found_at = now()`
      if (moved.audited !== undefined && outcomesCompared) {
        await tx`
          UPDATE audit_progress
          SET audited_through = greatest(audited_through, ${cut ? 0 : outcomesThrough}::bigint),
            audited_at = CASE WHEN ${moved.audited === 'all'} THEN now() ELSE audited_at END
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

/** A raw partition that was never looked at waits since its first batch. */
export async function readTotals(sql: Sql): Promise<WatchTotals> {
  const [row] = await guardState(
    'read what was audited',
    () => sql<WatchTotals[]>`
    SELECT (SELECT coalesce(sum(unaccounted), 0)::float8 FROM audit_gap) AS unaccounted,
      coalesce(sum(audited_through), 0)::float8 AS audited,
      coalesce(extract(epoch FROM min(coalesce(audited_at, (
        SELECT created_at FROM receipt r WHERE r.log_id = f.log_id AND r.partition = f.partition
        ORDER BY from_offset LIMIT 1)))), 0)::float8 AS "auditedAtS",
      CASE WHEN bool_or(pass_ended_at IS NULL) THEN 0
        ELSE coalesce(extract(epoch FROM min(pass_ended_at)), 0) END::float8 AS "passEndedAtS"
    FROM ingest_fence f LEFT JOIN audit_progress USING (log_id, partition) WHERE closed_at IS NULL`,
  )
  return row!
}
