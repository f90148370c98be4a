/**
 * Where a lane stands, in Postgres: the fence, and the receipts that a replay needs. The fence itself is advanced
 * by the identity step, in the statement that applies the batch.
 */
import { fromCovering, guardState, type Sql, type Transaction } from '../catalog/index.ts'
import type { Place } from '../event/index.ts'
import type { Log, StoredRecord } from '../log/index.ts'
import { rangeChecksum } from './checksum.ts'
import { ingestError } from './errors.ts'
import { identityError } from './identity/errors.ts'
import type { Outbox } from './identity/types.ts'

export type LanePosition = {
  nextOffset: number
  producedThrough: number
  /** The place emitted last below nextOffset. */
  last: Place | undefined
}

export type StoredReceipt = {
  fromOffset: number
  toOffset: number
  checksum: number
  outcomes: Uint8Array
  prev: Place | undefined
  configVersion: number
  outbox: Outbox | undefined
}

export type LaneId = { logId: string; topic: string; partition: number }

/**
 * Makes `owner` the only one whose batches the fences of these lanes take, from now on. All lanes at once and before any
 * of them is read: they share the dedup index, so what a former owner applies must be known, or refused, on each.
 * Gives where they stand, but for those that nobody has opened yet.
 */
export async function takeOver(
  sql: Sql,
  lanes: readonly LaneId[],
  owner: string,
): Promise<{ topic: string; producedThrough: number }[]> {
  const logIds = `{${lanes.map((lane) => lane.logId).join()}}`
  const rows = await guardState(
    `fences of partition ${lanes[0]!.partition}`,
    () => sql<{ topic: string; produced_through: number }[]>`
    UPDATE ingest_fence SET owner = ${owner}
    WHERE log_id = ANY (${logIds}::text::uuid[]) AND partition = ${lanes[0]!.partition}
    RETURNING topic, produced_through`,
  )
  return rows.map((row) => ({ topic: row.topic, producedThrough: row.produced_through }))
}

/**
 * Reads the fence of a lane, creating it for a topic that nobody has read yet. Throws HR_INGEST_GAP when the log
 * does not continue at the fence: nothing resets an offset silently.
 */
export async function openFence(sql: Sql, log: Log, lane: LaneId, owner?: string): Promise<LanePosition> {
  // The offsets of another log mean other records.
  const [topic] = await log.describe([lane.topic])
  if (topic && topic.logId !== lane.logId) {
    throw ingestError(
      'HR_INGEST_GAP',
      `${name(lane)} was recreated while this process ran (log id ${topic.logId}, before ${lane.logId}); it is read again after a restart`,
    )
  }
  const { start, end } = await log.bounds(lane.topic, lane.partition)
  return guardState(`fence of ${name(lane)}`, async () => {
    const [fence] = await sql`
      SELECT next_offset, produced_through, last_offset, last_sub, owner FROM ingest_fence
      WHERE log_id = ${lane.logId} AND partition = ${lane.partition}`
    if (!fence) return createFence(sql, lane, start, owner)
    if (owner !== undefined && fence.owner !== owner) throw takenOver(lane)
    const { next_offset: nextOffset, produced_through: producedThrough } = fence
    if (nextOffset > end) {
      throw ingestError(
        'HR_INGEST_GAP',
        `${name(lane)} ends at offset ${end}, but ${nextOffset} was read before: the log lost records`,
      )
    }
    if (producedThrough < start) {
      throw ingestError(
        'HR_INGEST_GAP',
        `${name(lane)} begins at offset ${start}, but ${producedThrough} is to be read next: retention passed it`,
      )
    }
    return { nextOffset, producedThrough, last: place(fence.last_offset, fence.last_sub) }
  })
}

async function createFence(
  sql: Sql,
  lane: LaneId,
  start: number,
  owner: string | undefined,
): Promise<LanePosition> {
  const [other] = await sql`
    SELECT log_id, next_offset FROM ingest_fence
    WHERE topic = ${lane.topic} AND partition = ${lane.partition} AND log_id <> ${lane.logId}
      AND closed_at IS NULL LIMIT 1`
  if (other) {
    throw ingestError(
      'HR_INGEST_GAP',
      `${name(lane)} was recreated (log id ${lane.logId}, before ${other.log_id}); what the old one still held is missing`,
    )
  }
  if (start > 0) {
    throw ingestError(
      'HR_INGEST_GAP',
      `${name(lane)} begins at offset ${start}, but nothing of it was read yet: retention passed unread records`,
    )
  }
  const created = await sql`
    INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through, owner)
    VALUES (${lane.logId}, ${lane.partition}, ${lane.topic}, 0, 0, ${owner ?? null}) ON CONFLICT DO NOTHING`
  if (created.count === 0) throw takenOver(lane)
  return { nextOffset: 0, producedThrough: 0, last: undefined }
}

function takenOver(lane: LaneId) {
  return identityError('HR_INGEST_FENCE', `another process has opened ${name(lane)} at the same time`)
}

/**
 * Throws HR_INGEST_GAP when the newest batch below the fence reads other than it did: the log lost its newest records
 * and took others in their places, past the fence. A batch that is not known to be produced is left to its replay, which
 * reads it anyway; one that retention has begun to remove can no longer be told.
 */
export async function refuseOtherRecords(
  sql: Sql,
  log: Log,
  lane: LaneId,
  position: LanePosition,
): Promise<void> {
  if (position.producedThrough !== position.nextOffset) return
  const range = await otherRecords(sql, log, lane, position.nextOffset)
  if (!range) return
  throw ingestError(
    'HR_INGEST_GAP',
    `${name(lane)} holds other records at offsets ${range.from} to ${range.to - 1} than were read there: the log lost records, and took new ones in their places`,
  )
}

/** The range of the newest batch below `nextOffset` when the log now holds other bytes there. Reads that batch. */
export async function otherRecords(
  sql: Sql | Transaction,
  log: Log,
  lane: LaneId,
  nextOffset: number,
): Promise<{ from: number; to: number } | undefined> {
  const receipt = (await readReceipts(sql, lane, nextOffset - 1, nextOffset)).at(-1)
  if (!receipt) return undefined
  const { fromOffset: from, toOffset: to, checksum } = receipt
  // The ledger merged it with its neighbours, or a repair wrote it: there are no bytes to compare.
  if (checksum === 0) return undefined
  const { start, end } = await log.bounds(lane.topic, lane.partition)
  if (from < start || to > end) return undefined
  const records: StoredRecord[] = []
  for await (const some of log.read(lane.topic, lane.partition, from, to)) records.push(...some)
  return rangeChecksum(records) === checksum ? undefined : { from, to }
}

/** The batches that were applied but are not known to be in the log, oldest first. */
export async function unproducedReceipts(
  sql: Sql,
  lane: LaneId,
  position: LanePosition,
): Promise<StoredReceipt[]> {
  const receipts = await readReceipts(sql, lane, position.producedThrough, position.nextOffset)
  let expected = position.producedThrough
  for (const receipt of receipts) {
    if (receipt.fromOffset !== expected) break
    expected = receipt.toOffset
  }
  if (expected !== position.nextOffset) {
    throw ingestError(
      'HR_INGEST_CHANGED',
      `${name(lane)} has no receipt that begins at offset ${expected}, below its fence at ${position.nextOffset}`,
    )
  }
  return receipts
}

/** Receipts that touch [from, to), in order. */
export async function readReceipts(
  sql: Sql | Transaction,
  lane: LaneId,
  from: number,
  to: number,
): Promise<StoredReceipt[]> {
  if (from >= to) return []
  const rows = await guardState(
    `receipts of ${name(lane)}`,
    () => sql`
    SELECT from_offset, to_offset, checksum, outcomes, prev_offset, prev_sub, config_version, outbox FROM receipt
    WHERE log_id = ${lane.logId} AND partition = ${lane.partition} AND from_offset < ${to} AND to_offset > ${from}
      AND ${fromCovering(sql, lane.logId, lane.partition, from)}
    ORDER BY from_offset`,
  )
  return rows.map((row) => ({
    fromOffset: row.from_offset,
    toOffset: row.to_offset,
    checksum: row.checksum,
    outcomes: row.outcomes,
    prev: place(row.prev_offset, row.prev_sub),
    configVersion: row.config_version,
    outbox: row.outbox ?? undefined,
  }))
}

/** Notes that everything below `through` is in the log; the next batch does the same on its way. */
export async function markProduced(sql: Sql, lane: LaneId, through: number): Promise<void> {
  await guardState(
    `fence of ${name(lane)}`,
    () => sql`
    UPDATE ingest_fence SET produced_through = ${through}, updated_at = now()
    WHERE log_id = ${lane.logId} AND partition = ${lane.partition}
      AND produced_through < ${through} AND next_offset >= ${through}`,
  )
}

export function name(lane: LaneId): string {
  return `${lane.topic}/${lane.partition}`
}

function place(offset: number | null, sub: number | null): Place | undefined {
  return offset === null || sub === null ? undefined : { offset, sub }
}
