/**
 * A period of time, as the audit and the roll-up see it: the raw offsets that ingest decided in it, and what became of
 * the events that capture received in it, by project, SDK and reason.
 */
import { CANARY_TEAM_ID, guardState, type Sql } from '../catalog/index.ts'
import { describeOutcome, type EndState } from '../event/index.ts'
import type { OffsetRange } from './audit.ts'

/** Epoch ms; [fromMs, toMs). */
export type Period = { fromMs: number; toMs: number }

/** The offsets of each raw partition that were decided in the period, as whole receipts. */
export async function rangesDecidedIn(sql: Sql, { fromMs, toMs }: Period): Promise<OffsetRange[]> {
  // A merged receipt (it has no checksum) has the time of its last batch: that in which the period ends belongs to it.
  return guardState('find receipts by time', async () => [
    ...(await sql<OffsetRange[]>`
    WITH later AS (
      SELECT log_id, partition, from_offset, to_offset, checksum = 0 AS merged, created_at,
        lag(created_at) OVER (PARTITION BY log_id, partition ORDER BY from_offset) AS before
      FROM receipt WHERE created_at >= to_timestamp(${fromMs / 1000}::float8)
    )
    SELECT log_id AS "logId", partition, min(from_offset) AS from, max(to_offset) AS to FROM later
    WHERE created_at < to_timestamp(${toMs / 1000}::float8)
      OR (merged AND coalesce(before < to_timestamp(${toMs / 1000}::float8), true))
    GROUP BY log_id, partition ORDER BY log_id, partition`),
  ])
}

export type OutcomeCount = {
  /** Epoch ms: the hour of capture; the day, of what is older than the detail of receipts. */
  hourMs: number
  /** Undefined where no project is known: the token was unknown, or the raw record is lost. */
  project: string | undefined
  teamId: number
  sdk: string
  state: EndState
  reason: string
  events: number
}

/** What became of the events captured in the period, of one project or all; sorted by hour, project, SDK, reason. */
export async function readOutcomeCounts(
  sql: Sql,
  { fromMs, toMs }: Period,
  teamId?: number,
): Promise<OutcomeCount[]> {
  const rows = await guardState(
    'read the roll-up',
    () => sql<
      { hour_ms: number; name: string | null; team_id: number; sdk: string; code: number; events: number }[]
    >`
    SELECT (extract(epoch FROM hour) * 1000)::float8 AS hour_ms, p.name, team_id, sdk, code, events
    FROM receipt_hourly LEFT JOIN project p USING (team_id)
    WHERE hour > to_timestamp(${fromMs / 1000}::float8) - interval '1 hour' AND hour < to_timestamp(${toMs / 1000}::float8)
      AND team_id <> ${CANARY_TEAM_ID} AND (${teamId ?? null}::int IS NULL OR team_id = ${teamId ?? null}::int)
      AND events <> 0
    ORDER BY hour, team_id, sdk, code`,
  )
  return rows.map((row) => ({
    hourMs: row.hour_ms,
    project: row.name ?? undefined,
    teamId: row.team_id,
    sdk: row.sdk,
    ...describeOutcome(row.code),
    events: row.events,
  }))
}
