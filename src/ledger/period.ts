/**
 * A period of time, as the audit and the roll-up see it: the raw offsets that ingest decided in it, and what became of
 * the events that capture received in it, by project, SDK and reason.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { describeOutcome, type EndState } from '../event/index.ts'
import type { OffsetRange } from './audit.ts'

/** Epoch ms; [fromMs, toMs). */
export type Period = { fromMs: number; toMs: number }

/** The offsets of each raw partition that were decided in the period; whole receipts, so a little more at its end. */
export async function rangesDecidedIn(sql: Sql, { fromMs, toMs }: Period): Promise<OffsetRange[]> {
  const rows = await guardState(
    'find receipts by time',
    () => sql<(Omit<OffsetRange, 'to'> & { end: number; next: number | null })[]>`
    SELECT log_id AS "logId", partition, min(from_offset) AS from, max(to_offset) AS end,
      min(from_offset) FILTER (WHERE created_at >= to_timestamp(${toMs / 1000}::float8)) AS next
    FROM receipt WHERE created_at >= to_timestamp(${fromMs / 1000}::float8)
    GROUP BY log_id, partition ORDER BY log_id, partition`,
  )
  // A merged receipt has the time of its last batch: that in which the period ends belongs to it.
  return rows.map(({ logId, partition, from, end, next }) => ({
    logId,
    partition,
    from,
    to: next === null ? end : next + 1,
  }))
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
      AND (${teamId ?? null}::int IS NULL OR team_id = ${teamId ?? null}::int) AND events <> 0
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
