/**
 * Of an event that became several rows one may be a dead letter while the others are stored. Sent again it would become
 * all of them again, so such a letter is kept. In: places of one raw partition. Out: those with a stored row, by their
 * receipts; where these are gone ClickHouse is asked, which has had the rows for long. Two queries at most.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { decodeRuns } from '../event/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { LetterPart } from './jobs.ts'

export const STORED_BESIDE =
  "other rows that its project's transformations made of the same event are stored: sent again it would store these twice"

export async function storedBeside(
  { sql, warehouse }: { sql: Sql; warehouse: Warehouse },
  { logId, partition }: LetterPart,
  offsets: readonly number[],
): Promise<Set<number>> {
  const receipts = await guardState(
    'read receipts of dead letters',
    () => sql<{ from: number; to: number; outcomes: Uint8Array; own: string }[]>`
      SELECT r.from_offset AS from, r.to_offset AS to, r.outcomes, string_agg(o.at::text, ',') AS own
      FROM unnest(${`{${offsets.join()}}`}::text::bigint[]) AS o(at)
      CROSS JOIN LATERAL (
        SELECT from_offset, to_offset, outcomes FROM receipt
        WHERE log_id = ${logId} AND partition = ${partition} AND from_offset <= o.at
        ORDER BY from_offset DESC LIMIT 1) r
      WHERE o.at < r.to_offset GROUP BY 1, 2, 3`,
  )
  const stored = new Set<number>()
  const unknown = new Set(offsets)
  for (const { from, outcomes, own } of receipts) {
    const wanted = new Set(own.split(',').map(Number))
    let at = from
    for (const { length, rows } of decodeRuns(outcomes)) {
      if (rows > 0) for (const offset of wanted) if (offset >= at && offset < at + length) stored.add(offset)
      at += length
    }
    for (const offset of wanted) unknown.delete(offset)
  }
  if (unknown.size === 0) return stored
  const rows = await warehouse.query<{ offset: number }>(
    `SELECT DISTINCT _offset AS offset FROM events
     WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset IN {offsets:Array(UInt64)}`,
    { logId, partition, offsets: [...unknown] },
  )
  for (const { offset } of rows) stored.add(offset)
  return stored
}
