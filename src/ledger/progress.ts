/**
 * How far each raw partition is decided and loaded, and its receipts: one consistent look at Postgres.
 *
 * "Below the load progress", exactly: ClickHouse has every row up to place X of a raw partition when the load fence
 * of its `events` partition says `last` = X; an open intent lowers that to the `last` in front of its range (an
 * intent under repair does not: what it lacks is missing). A receipt knows the last place emitted before its batch
 * (`prev`), so the batch in front of it ends at that place; the newest batch ends at the fence's last place. A batch
 * is covered when X has reached the place at which it ends: then each of its rows is loaded, and what it dropped or
 * found twice is covered with it, however many such offsets follow the last row. That needs no look at what is
 * produced or in flight, so live traffic never looks like a loss: what is on its way ends behind X.
 */
import { guardState, type Sql, transaction } from '../catalog/index.ts'
import { comparePlaces, decodeOutcomes, type OffsetOutcome, type Place, TOPICS } from '../event/index.ts'

/** One batch of ingest, as its receipt tells it. */
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
  /** Epoch ms. */
  decidedMs: number
}

export type LaneProgress = {
  logId: string
  topic: string
  partition: number
  /** Decided below. */
  nextOffset: number
  /** Acknowledged in the row topics below. */
  producedThrough: number
  /** Last row that is in ClickHouse, as far as the load knows. */
  loadedPlace: Place | undefined
  /** Below: every row of every offset is loaded. At the end of a receipt. */
  loadedThrough: number
  /** In order of offset; from `since` on. */
  receipts: Receipt[]
  /** Receipts that begin below were read: `nextOffset`, or the end of the last one when there are more. */
  receiptsThrough: number
}

type FenceRow = {
  log_id: string
  partition: number
  topic: string
  next_offset: number
  produced_through: number
  last_offset: number | null
  last_sub: number | null
}
type ReceiptRow = {
  log_id: string
  partition: number
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
type LastPlaces = Record<string, [number, number]>

/**
 * `since` per `logId/partition`: offsets below need no second look; receipts that begin there or later are read, per
 * lane at most `receiptsMax` of them.
 */
export async function readProgress(
  sql: Sql,
  since: ReadonlyMap<string, number> = new Map(),
  receiptsMax?: number,
): Promise<LaneProgress[]> {
  return guardState('read the ledger', () =>
    transaction(
      sql,
      async (tx) => {
        const fences = await tx<FenceRow[]>`
        SELECT log_id, partition, topic, next_offset, produced_through, last_offset, last_sub
        FROM ingest_fence ORDER BY topic, partition, log_id`
        const loaded = await tx<{ partition: number; last: LastPlaces }[]>`
        SELECT partition, last FROM load_fence WHERE topic = ${TOPICS.events}`
        const open = await tx<{ ranges: { topic: string; partition: number; last: LastPlaces }[] }[]>`
        SELECT ranges FROM load_intent WHERE state = 'open' AND table_name = 'events'`
        const openRanges = open.flatMap(({ ranges }) => ranges)
        const lanes: LaneProgress[] = []
        for (const fence of fences) {
          const loadedPlace = placeLoaded(fence, loaded, openRanges)
          const from = since.get(`${fence.log_id}/${fence.partition}`) ?? 0
          const rows = await tx<ReceiptRow[]>`
          SELECT log_id, partition, from_offset, to_offset, outcomes, stored, duplicate, dropped, dead_lettered,
            stored_rows, hash_sum::text AS hash_sum, prev_offset, prev_sub, config_version,
            (extract(epoch FROM created_at) * 1000)::float8 AS decided_ms
          FROM receipt WHERE log_id = ${fence.log_id} AND partition = ${fence.partition} AND from_offset >= ${from}
          ORDER BY from_offset LIMIT ${receiptsMax ?? null}`
          const receipts = rows.map(receiptOf)
          const end = place(fence.last_offset, fence.last_sub)
          lanes.push({
            logId: fence.log_id,
            topic: fence.topic,
            partition: fence.partition,
            nextOffset: fence.next_offset,
            producedThrough: fence.produced_through,
            loadedPlace,
            loadedThrough: throughOf(receipts, from, fence.next_offset, end, loadedPlace),
            receipts,
            receiptsThrough: receipts.length === receiptsMax ? receipts.at(-1)!.to : fence.next_offset,
          })
        }
        return lanes
      },
      'isolation level repeatable read read only',
    ),
  )
}

function placeLoaded(
  lane: { log_id: string; partition: number },
  loaded: { partition: number; last: LastPlaces }[],
  open: { topic: string; partition: number; last: LastPlaces }[],
): Place | undefined {
  let reached: Place | undefined
  for (const fence of loaded) {
    const at = placeIn(fence.last, lane.log_id)
    if (fence.partition === lane.partition && at && (!reached || comparePlaces(at, reached) > 0)) reached = at
  }
  for (const range of open) {
    if (range.topic !== TOPICS.events || range.partition !== lane.partition) continue
    const before = placeIn(range.last, lane.log_id)
    if (!before) return undefined
    if (reached && comparePlaces(before, reached) < 0) reached = before
  }
  return reached
}

function placeIn(last: LastPlaces, logId: string): Place | undefined {
  const entry = last[logId]
  return entry && { offset: entry[0], sub: entry[1] }
}

/** The end of the last receipt whose last row is loaded; see the module comment. */
export function throughOf(
  receipts: readonly Pick<Receipt, 'from' | 'to' | 'prev'>[],
  since: number,
  nextOffset: number,
  lastPlace: Place | undefined,
  loadedPlace: Place | undefined,
): number {
  let through = since
  for (let i = 0; i < receipts.length; i++) {
    const next = receipts[i + 1]
    // Without a successor it is the newest batch, unless its successor's receipt is missing: then its end is unknown.
    if (!next && receipts[i]!.to !== nextOffset) break
    const end = next ? next.prev : lastPlace
    if (end && (!loadedPlace || comparePlaces(end, loadedPlace) > 0)) break
    through = receipts[i]!.to
  }
  return through
}

/** The receipt that covers an offset, read alone: receipts lie side by side, so it is the last that begins at or below it. */
export async function readReceipt(
  sql: Sql,
  logId: string,
  partition: number,
  offset: number,
): Promise<Receipt | undefined> {
  return guardState('read a receipt', async () => {
    const [row] = await sql<ReceiptRow[]>`
      SELECT log_id, partition, from_offset, to_offset, outcomes, stored, duplicate, dropped, dead_lettered,
        stored_rows, hash_sum::text AS hash_sum, prev_offset, prev_sub, config_version,
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
    prev: place(row.prev_offset, row.prev_sub),
    configVersion: row.config_version,
    decidedMs: row.decided_ms,
  }
}

function place(offset: number | null, sub: number | null): Place | undefined {
  return offset === null || sub === null ? undefined : { offset, sub }
}
