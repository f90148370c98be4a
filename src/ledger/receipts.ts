/**
 * Receipts of one raw partition, read in pages, so that an audit's memory does not grow with the age of the deployment.
 * Beside a running reader old receipts may be merged into coarser ones: who misses one looks again with
 * `readReceipt`, which finds the one that covers an offset.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { decodeOutcomes, type OffsetOutcome, type Place } from '../event/index.ts'

/** One batch of ingest, or neighbouring ones merged, as its receipt tells it. */
export type Receipt = {
  from: number
  /** Exclusive. */
  to: number
  outcomes: Uint8Array
  stored: number
  duplicate: number
  dropped: number
  deadLettered: number
  storedRows: number
  hashSum: bigint
  prev: Place | undefined
  configVersion: number
  /** Epoch ms; of several merged, the last. */
  decidedMs: number
}

/** What a range of offsets comes to in one table: distinct places and the sum of their hashes. */
export type Sums = { rows: number; hashSum: bigint }

export type Lane = { logId: string; partition: number }

/** About 5 MB when no two neighbouring offsets became the same. */
const PAGE_RECEIPTS = 500

type ReceiptRow = {
  from_offset: number
  to_offset: number
  outcomes: Uint8Array
  stored: number
  duplicate: number
  dropped: number
  dead_lettered: number
  stored_rows: number
  hash_sum: string
  prev_offset: number | null
  prev_sub: number | null
  config_version: number
  decided_ms: number
}

/** Pages of the receipts that begin in [from, to), in order of offset. */
export async function* readReceipts(
  sql: Sql,
  { logId, partition }: Lane,
  from: number,
  to: number,
  pageReceipts = PAGE_RECEIPTS,
): AsyncGenerator<Receipt[]> {
  for (let next = from; ; ) {
    const rows = await guardState(
      'read receipts',
      () => sql<ReceiptRow[]>`
      SELECT from_offset, to_offset, outcomes, stored, duplicate, dropped, dead_lettered, stored_rows,
        hash_sum::text AS hash_sum, prev_offset, prev_sub, config_version,
        (extract(epoch FROM created_at) * 1000)::float8 AS decided_ms
      FROM receipt
      WHERE log_id = ${logId} AND partition = ${partition} AND from_offset >= ${next} AND from_offset < ${to}
      ORDER BY from_offset LIMIT ${pageReceipts}`,
    )
    if (rows.length > 0) yield rows.map(receiptOf)
    if (rows.length < pageReceipts) return
    next = rows.at(-1)!.from_offset + 1
  }
}

/** The receipt that covers an offset, read alone. */
export async function readReceipt(
  sql: Sql,
  logId: string,
  partition: number,
  offset: number,
): Promise<Receipt | undefined> {
  return guardState('read a receipt', async () => {
    const [row] = await sql<ReceiptRow[]>`
      SELECT from_offset, to_offset, outcomes, stored, duplicate, dropped, dead_lettered, stored_rows,
        hash_sum::text AS hash_sum, prev_offset, prev_sub, config_version,
        (extract(epoch FROM created_at) * 1000)::float8 AS decided_ms
      FROM receipt WHERE log_id = ${logId} AND partition = ${partition} AND from_offset <= ${offset}
      ORDER BY from_offset DESC LIMIT 1`
    return row && row.to_offset > offset ? receiptOf(row) : undefined
  })
}

/** What the receipt says of one of its offsets. */
export function outcomeAt(receipt: Receipt, offset: number): OffsetOutcome | undefined {
  return decodeOutcomes(receipt.outcomes)[offset - receipt.from]
}

function receiptOf(row: ReceiptRow): Receipt {
  return {
    from: row.from_offset,
    to: row.to_offset,
    outcomes: row.outcomes,
    stored: row.stored,
    duplicate: row.duplicate,
    dropped: row.dropped,
    deadLettered: row.dead_lettered,
    storedRows: row.stored_rows,
    hashSum: BigInt(row.hash_sum),
    prev: row.prev_offset === null ? undefined : { offset: row.prev_offset, sub: row.prev_sub! },
    configVersion: row.config_version,
    decidedMs: row.decided_ms,
  }
}
