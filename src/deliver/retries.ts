/**
 * Events that failed alone, in Postgres (`delivery_retry`). In: what is due in the partitions of this process. Out: what
 * became of an attempt. A row is removed by exactly one statement, which counts it, so of two processes that send the same
 * one only one counts; both sent it under the same id.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import type { Source } from '../event/index.ts'
import type { PartitionKey } from './cursors.ts'

export type DueRetry = {
  destinationId: string
  partition: number
  source: Source
  orderKey: string | undefined
  row: Uint8Array
  attempts: number
  /** Since its first attempt. */
  ageMs: number
}

/** What an attempt came to. `end`: it is over; else it is tried again. */
export type RetryResult = DueRetry & {
  end: 'delivered' | 'failed' | undefined
  status: number
  response: string
  nextInMs: number
}

/**
 * At most `limit` that are due, and `bytesMax` of them or one, oldest first; of those that keep the order of a distinct_id only the first. `skip`:
 * destinations that take nothing now.
 */
export async function dueRetries(
  sql: Sql,
  logId: string,
  partitions: readonly number[],
  skip: readonly string[],
  limit: number,
  bytesMax: number,
): Promise<DueRetry[]> {
  type Row = {
    destination_id: string
    partition: number
    raw_log_id: string
    raw_partition: number
    raw_offset: number
    sub: number
    order_key: string | null
    event_row: Uint8Array
    attempts: number
    age_ms: number
  }
  const wanted = JSON.stringify(partitions)
  const left = JSON.stringify(skip)
  const rows = await guardState(
    'reading deliveries to try again',
    () => sql<Row[]>`
      WITH due AS (SELECT r.destination_id, r.partition, r.raw_log_id, r.raw_offset, r.sub, r.order_key, r.event_row,
        r.attempts, (extract(epoch FROM now() - r.first_at) * 1000)::float8 AS age_ms, r.next_at
      FROM delivery_retry AS r
      WHERE r.log_id = ${logId} AND r.next_at <= now()
        AND r.partition IN (SELECT jsonb_array_elements(${wanted}::text::jsonb)::integer)
        AND r.destination_id::text NOT IN (SELECT jsonb_array_elements_text(${left}::text::jsonb))
        AND (r.order_key IS NULL OR NOT EXISTS (
          SELECT FROM delivery_retry AS e
          WHERE e.destination_id = r.destination_id AND e.log_id = r.log_id AND e.partition = r.partition
            AND e.order_key = r.order_key AND (e.first_at, e.raw_offset, e.sub) < (r.first_at, r.raw_offset, r.sub)))
      ORDER BY r.next_at LIMIT ${limit}),
      summed AS (SELECT *, sum(length(event_row)) OVER (ORDER BY next_at ROWS UNBOUNDED PRECEDING) AS bytes FROM due)
      SELECT * FROM summed WHERE bytes <= ${bytesMax} OR bytes = length(event_row)`,
  )
  return rows.map((row) => ({
    destinationId: row.destination_id,
    partition: row.partition,
    source: { logId: row.raw_log_id, partition: row.partition, offset: row.raw_offset, sub: row.sub },
    orderKey: row.order_key ?? undefined,
    row: row.event_row,
    attempts: row.attempts,
    ageMs: row.age_ms,
  }))
}

/** Stores what attempts came to; those that another process has settled meanwhile are left out. */
export async function settleRetries(
  sql: Sql,
  key: PartitionKey,
  results: readonly RetryResult[],
): Promise<void> {
  const rows = JSON.stringify(
    results.map((one) => ({
      id: one.destinationId,
      raw_log_id: one.source.logId,
      raw_offset: one.source.offset,
      sub: one.source.sub,
      attempts: one.attempts,
      ended: one.end ?? null,
      status: one.status,
      response: one.response,
      next_ms: one.nextInMs,
    })),
  )
  await guardState(
    'storing deliveries that were tried again',
    () => sql`
      WITH tried AS (
        SELECT * FROM jsonb_to_recordset(${rows}::text::jsonb) AS t(id uuid, raw_log_id uuid, raw_offset bigint,
          sub integer, attempts integer, ended text, status integer, response text, next_ms float8)
      ), over AS (
        DELETE FROM delivery_retry AS r USING tried AS t
        WHERE r.destination_id = t.id AND r.log_id = ${key.logId} AND r.partition = ${key.partition}
          AND r.raw_log_id = t.raw_log_id AND r.raw_offset = t.raw_offset AND r.sub = t.sub AND t.ended IS NOT NULL
        RETURNING t.id, t.ended, r.again
      ), sums AS (
        SELECT id, count(*) FILTER (WHERE ended = 'delivered') AS delivered,
          count(*) FILTER (WHERE ended = 'failed') - count(*) FILTER (WHERE again) AS failed
        FROM over GROUP BY id
      ), counted AS (
        UPDATE delivery_cursor AS c SET delivered = c.delivered + s.delivered, failed = c.failed + s.failed, updated_at = now()
        FROM sums AS s WHERE c.destination_id = s.id AND c.log_id = ${key.logId} AND c.partition = ${key.partition}
      )
      UPDATE delivery_retry AS r SET attempts = t.attempts + 1, status = t.status, response = t.response,
        next_at = now() + t.next_ms * interval '1 millisecond'
      FROM tried AS t
      WHERE r.destination_id = t.id AND r.log_id = ${key.logId} AND r.partition = ${key.partition}
        AND r.raw_log_id = t.raw_log_id AND r.raw_offset = t.raw_offset AND r.sub = t.sub AND t.ended IS NULL`,
  )
}

/** How many wait, per destination, and per key of those that keep an order. */
export async function countWaiting(
  sql: Sql,
  { logId, partition }: PartitionKey,
): Promise<Map<string, { count: number; keys: Map<string, number> }>> {
  const rows = await guardState(
    'counting deliveries to try again',
    () => sql<{ destination_id: string; order_key: string | null; n: number }[]>`
      SELECT destination_id, order_key, count(*) AS n FROM delivery_retry
      WHERE log_id = ${logId} AND partition = ${partition} GROUP BY destination_id, order_key`,
  )
  const waiting = new Map<string, { count: number; keys: Map<string, number> }>()
  for (const { destination_id, order_key, n } of rows) {
    const of = waiting.get(destination_id) ?? { count: 0, keys: new Map() }
    waiting.set(destination_id, of)
    of.count += n
    if (order_key !== null) of.keys.set(order_key, n)
  }
  return waiting
}
