/**
 * How often which outcome, by hour of capture, project and SDK: the receipts, rolled up. In: receipts below what the
 * audit has compared, so that no amendment comes any more. Out: sums in `receipt_hourly`, and a watermark per raw
 * partition that moves in the same transaction: each receipt counts once, whatever is repeated.
 *
 * A receipt's outcomes have the last word. What its counts do not say (a lost range, an older version's receipt) is
 * counted under no project and the hour of the decision; a row that ClickHouse refused after ingest had stored it, or that a
 * repair gave up, is moved from stored to its new end, under its project when the batch was of one alone, else under none.
 * Cost: about 20 µs per receipt, once.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { decodeRuns, LOST, type OutcomeCode, type ReceiptCount, STORED } from '../event/index.ts'

/** Receipts per transaction. */
const PAGE_RECEIPTS = 500
/** SDKs per hour and project; further ones are counted together. */
const SDKS_MAX = 100
const OTHER_SDK = '(other)'
const HOUR_S = 3_600

type Row = {
  from_offset: number
  to_offset: number
  outcomes: Uint8Array
  counts: ReceiptCount[] | null
  hour: number
}

/** Rolls up what is new; gives how many receipts. */
export async function rollUp(sql: Sql, detailHours: number): Promise<number> {
  const lanes = await guardState(
    'read what was rolled up',
    () => sql<{ log_id: string; partition: number }[]>`
    SELECT log_id, partition FROM audit_progress WHERE rolled_through < audited_through`,
  )
  let receipts = 0
  const failures: unknown[] = []
  for (const { log_id, partition } of lanes) {
    try {
      for (;;) {
        const done = await guardState('roll receipts up', () =>
          transaction(sql, (tx) => rollUpPage(tx, log_id, partition)),
        )
        receipts += done
        if (done < PAGE_RECEIPTS) break
      }
    } catch (error) {
      // A receipt that cannot be read (the audit names it) must not keep the other partitions waiting.
      failures.push(error)
    }
  }
  await guardState('roll old hours up', () => transaction(sql, (tx) => toDays(tx, detailHours)))
  if (failures.length > 0) throw failures[0]
  return receipts
}

async function rollUpPage(tx: Transaction, logId: string, partition: number): Promise<number> {
  // The lock makes two that roll up at once wait for each other.
  const [progress] = await tx<{ rolled_through: number; audited_through: number }[]>`
    SELECT rolled_through, audited_through FROM audit_progress
    WHERE log_id = ${logId} AND partition = ${partition} FOR UPDATE`
  if (!progress) return 0
  const rows = await tx<Row[]>`
    SELECT from_offset, to_offset, outcomes, counts,
      floor(extract(epoch FROM created_at) / ${HOUR_S}::int)::int AS hour
    FROM receipt WHERE log_id = ${logId} AND partition = ${partition}
      AND from_offset >= ${progress.rolled_through} AND from_offset < ${progress.audited_through}
      AND to_offset <= ${progress.audited_through}
    ORDER BY from_offset LIMIT ${PAGE_RECEIPTS}`
  if (rows.length === 0) return 0
  const sums = new Map<string, ReceiptCount>()
  for (const row of rows) {
    for (const [hour, teamId, sdk, code, events] of countsOf(row)) {
      const key = JSON.stringify([hour, teamId, sdk, code])
      const sum = sums.get(key)
      if (sum) sum[4] += events
      else sums.set(key, [hour, teamId, sdk, code, events])
    }
  }
  await addCounts(
    tx,
    [...sums.values()].filter((count) => count[4] !== 0),
  )
  await tx`
    UPDATE audit_progress SET rolled_through = ${rows.at(-1)!.to_offset}
    WHERE log_id = ${logId} AND partition = ${partition}`
  return rows.length
}

/** The counts of a receipt, made to come to its outcomes. */
function countsOf({ outcomes, counts, hour }: Row): ReceiptCount[] {
  const differs = new Map<OutcomeCode, number>()
  for (const { code, length } of decodeRuns(outcomes)) differs.set(code, (differs.get(code) ?? 0) + length)
  for (const [, , , code, events] of counts ?? []) differs.set(code, (differs.get(code) ?? 0) - events)
  const [ofHour, teamId, sdk] = storedUnder(counts, hour)
  const rest = [...differs].map(([code, events]): ReceiptCount => [ofHour, teamId, sdk, code, events])
  return [...(counts ?? []), ...rest]
}

/** Hour, project and SDK of a stored event of a receipt of which no more is known. */
function storedUnder(counts: ReceiptCount[] | null, hour: number): readonly [number, number, string] {
  const stored = (counts ?? []).filter(([, , , code]) => code === STORED)
  const [first] = stored
  if (!first || stored.some(([, teamId]) => teamId !== first[1])) return [hour, 0, '']
  const [ofHour, teamId, sdk] = first
  return [ofHour, teamId, sdk]
}

/**
 * Counts events of a receipt that were stored as lost, when they were rolled up already: to be called in the transaction
 * that changes the receipt, with what it was.
 */
export async function countLost(
  tx: Transaction,
  { logId, partition }: { logId: string; partition: number },
  receipt: { to: number; counts: ReceiptCount[] | null; decidedMs: number },
  events: number,
): Promise<void> {
  // Waits for a roll-up that may have read the receipt as it was.
  const [progress] = await tx<{ rolled_through: number }[]>`
    SELECT rolled_through FROM audit_progress WHERE log_id = ${logId} AND partition = ${partition} FOR UPDATE`
  if (events === 0 || !progress || receipt.to > progress.rolled_through) return
  const under = storedUnder(receipt.counts, Math.floor(receipt.decidedMs / 1000 / HOUR_S))
  await addCounts(tx, [
    [...under, STORED, -events],
    [...under, LOST, events],
  ])
}

async function addCounts(tx: Transaction, counts: readonly ReceiptCount[]): Promise<void> {
  if (counts.length === 0) return
  await tx`
    WITH given AS (
      SELECT to_timestamp((c ->> 0)::int * ${HOUR_S}::float8) AS hour, (c ->> 1)::int AS team_id, c ->> 2 AS sdk,
        (c ->> 3)::int AS code, (c ->> 4)::bigint AS events
      FROM jsonb_array_elements(${JSON.stringify(counts)}::text::jsonb) AS c
    ), full_hours AS (
      SELECT h.hour, h.team_id FROM receipt_hourly h JOIN (SELECT DISTINCT hour, team_id FROM given) g USING (hour, team_id)
      GROUP BY h.hour, h.team_id HAVING count(DISTINCT h.sdk) >= ${SDKS_MAX}
    ), placed AS (
      SELECT g.hour, g.team_id, g.code, g.events, CASE
        WHEN f.hour IS NULL OR EXISTS (
          SELECT FROM receipt_hourly h WHERE h.hour = g.hour AND h.team_id = g.team_id AND h.sdk = g.sdk)
        THEN g.sdk ELSE ${OTHER_SDK} END AS sdk
      FROM given g LEFT JOIN full_hours f USING (hour, team_id)
    )
    INSERT INTO receipt_hourly AS h (hour, team_id, sdk, code, events)
    SELECT hour, team_id, sdk, code, sum(events) FROM placed GROUP BY hour, team_id, sdk, code
    ON CONFLICT (hour, team_id, sdk, code) DO UPDATE SET events = h.events + excluded.events`
}

/** Hours of days that ended `detailHours` ago become one row per day. */
async function toDays(tx: Transaction, detailHours: number): Promise<void> {
  await tx`
    WITH old AS (
      DELETE FROM receipt_hourly
      WHERE hour < date_trunc('day', (now() - ${detailHours} * interval '1 hour') AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
        AND hour <> date_trunc('day', hour AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
      RETURNING *
    )
    INSERT INTO receipt_hourly AS h (hour, team_id, sdk, code, events)
    SELECT date_trunc('day', hour AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', team_id, sdk, code, sum(events)
    FROM old GROUP BY 1, 2, 3, 4
    ON CONFLICT (hour, team_id, sdk, code) DO UPDATE SET events = h.events + excluded.events`
}
