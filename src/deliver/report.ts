/** What Postgres knows of a destination, for people: how far it is, what became of its events, and whether that adds up. */
import { guardState, type Sql } from '../catalog/index.ts'

export type DestinationReport = {
  seen: number
  filtered: number
  sampled_out: number
  delivered: number
  failed: number
  expired: number
  /** To be tried again, without those sent again by hand. */
  waiting: number
  /** Partitions in which it is detached. */
  detached: number
  partitions: number
  /** Of a replay: partitions in which it has come to its end. */
  finished: number
  /** When a cursor or an attempt was stored last. */
  moved_at: Date | null
  /** 0: every event has exactly one state. */
  unaccounted: number
}

export async function reportOf(sql: Sql, id: string): Promise<DestinationReport> {
  const [row] = await guardState(
    'reading how far a destination is',
    () => sql<Omit<DestinationReport, 'unaccounted'>[]>`
      SELECT coalesce(sum(seen), 0)::bigint AS seen, coalesce(sum(filtered), 0)::bigint AS filtered,
        coalesce(sum(sampled_out), 0)::bigint AS sampled_out, coalesce(sum(delivered), 0)::bigint AS delivered,
        coalesce(sum(failed), 0)::bigint AS failed, coalesce(sum(expired), 0)::bigint AS expired,
        (SELECT count(*) FROM delivery_retry WHERE destination_id = ${id} AND NOT again) AS waiting,
        count(next_offset) AS detached, count(*) AS partitions,
        count(*) FILTER (WHERE next_offset >= until_offset) AS finished, max(updated_at) AS moved_at
      FROM delivery_cursor WHERE destination_id = ${id}`,
  )
  const { seen, filtered, sampled_out, delivered, failed, expired, waiting } = row!
  return { ...row!, unaccounted: seen - filtered - sampled_out - delivered - failed - expired - waiting }
}

export type WaitingDelivery = {
  source: string
  attempts: number
  status: number
  response: string
  first_at: Date
  next_at: Date
}

export async function listWaiting(sql: Sql, id: string, limit: number): Promise<WaitingDelivery[]> {
  return guardState(
    'reading deliveries to be tried again',
    () => sql<WaitingDelivery[]>`
      SELECT raw_log_id || '/' || partition || '/' || raw_offset || '/' || sub AS source, attempts, status, response,
        first_at, next_at
      FROM delivery_retry WHERE destination_id = ${id} ORDER BY next_at LIMIT ${limit}`,
  )
}
