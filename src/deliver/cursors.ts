/**
 * Fences and cursors in Postgres (0014_destinations.sql says what each column means). Every move names the place that it
 * begins at, so of two processes that hold one partition for a moment only one moves. Decides nothing; one statement
 * and one round trip per move.
 */
import { guardState, type Sql, type Transaction } from '../catalog/index.ts'
import type { LastPlaces, Spot } from './batch.ts'
import { deliverError } from './errors.ts'
import type { EventsTopic } from './events-topic.ts'

/** What became of the events that a cursor moved over. */
export type Counts = {
  seen: number
  filtered: number
  sampled_out: number
  delivered: number
  failed: number
  expired: number
}

export const NOTHING: Counts = { seen: 0, filtered: 0, sampled_out: 0, delivered: 0, failed: 0, expired: 0 }

/** An event that failed alone, to be tried again. */
export type Parked = {
  destinationId: string
  rawLogId: string
  rawOffset: number
  sub: number
  orderKey: string | undefined
  row: Uint8Array
  attempts: number
  nextInMs: number
  status: number
  response: string
}

/** A change of one cursor in a commit. `at` undefined: attached afterwards. */
export type CursorMove = { destinationId: string; at: Spot | undefined; counts: Counts }

export type Fence = Spot & { epoch: number }

export type StoredCursor = {
  destinationId: string
  /** Undefined: attached. */
  at: Spot | undefined
  /** Where a replay ends. */
  until: Spot | undefined
  /** It began in the middle, so the first row of each raw log says what came before. */
  adopt: boolean
}

export type PartitionKey = { logId: string; partition: number }

/** Where a cursor begins in a partition, and where a replay ends. `last`: as far as it is known. */
export type Start = { partition: number; from: number; last?: LastPlaces; until?: Spot }

/** A fence per partition where there is none: at the place of the load, which has read all that is in ClickHouse. */
export async function ensureFences(tx: Sql | Transaction, topic: EventsTopic): Promise<void> {
  await tx`
    INSERT INTO delivery_fence (log_id, partition, next_offset, last)
    SELECT ${topic.logId}, p.partition, coalesce(l.next_offset, p.start), coalesce(l.last, '{}')
    FROM jsonb_to_recordset(${JSON.stringify(topic.starts.map((start, partition) => ({ partition, start })))}::text::jsonb)
      AS p(partition integer, start bigint)
    LEFT JOIN load_fence l ON l.log_id = ${topic.logId} AND l.partition = p.partition
    ON CONFLICT DO NOTHING`
}

/** The cursors of a new destination: at the shared reader, or at `starts`. */
export async function writeCursors(
  tx: Transaction,
  destinationId: string,
  logId: string,
  starts: readonly Start[] | undefined,
): Promise<void> {
  if (!starts) {
    await tx`
      INSERT INTO delivery_cursor (destination_id, log_id, partition, next_offset, last, since_offset, since_last)
      SELECT ${destinationId}, log_id, partition, next_offset, last, next_offset, last FROM delivery_fence
      WHERE log_id = ${logId}`
    return
  }
  const rows = JSON.stringify(
    starts.map(({ partition, from, last = {}, until }) => ({
      partition,
      begin: from,
      last,
      until: until?.next ?? null,
      until_last: until?.last ?? null,
    })),
  )
  await tx`
    INSERT INTO delivery_cursor (destination_id, log_id, partition, next_offset, last, adopt, until_offset, until_last,
      since_offset, since_last)
    SELECT ${destinationId}, ${logId}, s.partition, s.begin, s.last, s.begin > 0, s.until, s.until_last, s.begin, s.last
    FROM jsonb_to_recordset(${rows}::text::jsonb)
      AS s(partition integer, begin bigint, last jsonb, until bigint, until_last jsonb)`
}

/** Where the shared readers stand, by partition. */
export async function readFences(sql: Sql, logId: string): Promise<Map<number, Spot>> {
  const rows = await guardState(
    'reading delivery fences',
    () => sql<{ partition: number; next_offset: number; last: LastPlaces }[]>`
      SELECT partition, next_offset, last FROM delivery_fence WHERE log_id = ${logId}`,
  )
  return new Map(rows.map(({ partition, next_offset, last }) => [partition, { next: next_offset, last }]))
}

/** Takes the partition over: whoever had it can record nothing any more. Throws HR_DELIVER_GAP for a topic made anew. */
export async function takeFence(sql: Sql, key: PartitionKey): Promise<Fence> {
  return guardState('taking a delivery fence', async () => {
    const [row] = await sql<{ next_offset: number; last: LastPlaces; epoch: number }[]>`
      UPDATE delivery_fence SET epoch = epoch + 1, updated_at = now()
      WHERE log_id = ${key.logId} AND partition = ${key.partition} RETURNING next_offset, last, epoch`
    if (!row) throw deliverError('HR_DELIVER_FENCE', `partition ${key.partition} has no delivery fence yet`)
    return { next: row.next_offset, last: row.last, epoch: row.epoch }
  })
}

/** All cursors of a partition, or those of some destinations. */
export async function readCursors(
  sql: Sql,
  { logId, partition }: PartitionKey,
  only?: readonly string[],
): Promise<StoredCursor[]> {
  type Row = {
    destination_id: string
    next_offset: number | null
    last: LastPlaces
    until_offset: number | null
    until_last: LastPlaces | null
    adopt: boolean
  }
  const ids = only ? JSON.stringify(only) : null
  const rows = await guardState(
    'reading delivery cursors',
    () => sql<Row[]>`
      SELECT destination_id, next_offset, last, until_offset, until_last, adopt
      FROM delivery_cursor WHERE log_id = ${logId} AND partition = ${partition}
        AND (${ids}::text IS NULL OR destination_id::text IN (SELECT jsonb_array_elements_text(${ids}::text::jsonb)))`,
  )
  return rows.map((row) => ({
    destinationId: row.destination_id,
    at: row.next_offset === null ? undefined : { next: row.next_offset, last: row.last },
    until: row.until_offset === null ? undefined : { next: row.until_offset, last: row.until_last ?? {} },
    adopt: row.adopt,
  }))
}

/**
 * The commit of the shared reader: the fence from `fence` to `to`, what became of the events at each attached destination,
 * who is attached and detached from now on, and what is to be tried again. All of it or nothing. Throws HR_DELIVER_FENCE.
 */
export async function commitShared(
  sql: Sql,
  key: PartitionKey,
  fence: Fence,
  to: Spot,
  moves: readonly CursorMove[],
  parked: readonly Parked[],
): Promise<void> {
  const rows = await guardState(
    'committing a delivery fence',
    () => sql`
      WITH moved AS (
        UPDATE delivery_fence SET next_offset = ${to.next}, last = ${JSON.stringify(to.last)}::text::jsonb, updated_at = now()
        WHERE log_id = ${key.logId} AND partition = ${key.partition} AND epoch = ${fence.epoch} AND next_offset = ${fence.next}
        RETURNING partition
      ), counted AS (
        UPDATE delivery_cursor AS c SET next_offset = m.next_offset, last = coalesce(m.last, '{}'), seen = c.seen + m.seen,
          filtered = c.filtered + m.filtered, sampled_out = c.sampled_out + m.sampled_out,
          delivered = c.delivered + m.delivered, failed = c.failed + m.failed, expired = c.expired + m.expired,
          updated_at = now()
        FROM jsonb_to_recordset(${movesJson(moves)}::text::jsonb) AS m(id uuid, next_offset bigint, last jsonb,
          seen bigint, filtered bigint, sampled_out bigint, delivered bigint, failed bigint, expired bigint)
        WHERE c.destination_id = m.id AND c.log_id = ${key.logId} AND c.partition = ${key.partition}
          AND EXISTS (SELECT FROM moved)
        RETURNING c.destination_id
      ), parked AS (
        ${insertParked(sql, key, parked)} WHERE EXISTS (SELECT FROM moved) ON CONFLICT DO NOTHING
      )
      SELECT partition FROM moved`,
  )
  if (rows.length === 0) throw fenceMoved(key)
}

/** The commit of a detached destination. Throws HR_DELIVER_FENCE when its cursor is not at `from`, or the partition is another's. */
export async function commitDetached(
  sql: Sql,
  key: PartitionKey,
  epoch: number,
  move: CursorMove & { from: Spot; at: Spot },
  parked: readonly Parked[],
): Promise<void> {
  const { counts, from, at } = move
  const rows = await guardState(
    'committing a delivery cursor',
    () => sql`
      WITH moved AS (
        UPDATE delivery_cursor SET next_offset = ${at.next}, last = ${JSON.stringify(at.last)}::text::jsonb,
          seen = seen + ${counts.seen}, filtered = filtered + ${counts.filtered},
          sampled_out = sampled_out + ${counts.sampled_out}, delivered = delivered + ${counts.delivered},
          failed = failed + ${counts.failed}, expired = expired + ${counts.expired}, updated_at = now()
        WHERE destination_id = ${move.destinationId} AND log_id = ${key.logId} AND partition = ${key.partition}
          AND next_offset = ${from.next} AND last = ${JSON.stringify(from.last)}::text::jsonb
          AND EXISTS (SELECT FROM delivery_fence AS f WHERE f.log_id = ${key.logId} AND f.partition = ${key.partition} AND f.epoch = ${epoch})
        RETURNING partition
      ), parked AS (
        ${insertParked(sql, key, parked)} WHERE EXISTS (SELECT FROM moved) ON CONFLICT DO NOTHING
      )
      SELECT partition FROM moved`,
  )
  if (rows.length === 0) throw fenceMoved(key)
}

/** Attaches a destination that stands where the fence stands. Throws HR_DELIVER_FENCE when either moved. */
export async function attach(
  sql: Sql,
  key: PartitionKey,
  fence: Fence,
  destinationId: string,
): Promise<void> {
  const rows = await guardState(
    'attaching a destination',
    () => sql`
      WITH held AS (
        UPDATE delivery_fence SET updated_at = now()
        WHERE log_id = ${key.logId} AND partition = ${key.partition} AND epoch = ${fence.epoch} AND next_offset = ${fence.next}
        RETURNING partition
      )
      UPDATE delivery_cursor SET next_offset = NULL, last = '{}', updated_at = now()
      WHERE destination_id = ${destinationId} AND log_id = ${key.logId} AND partition = ${key.partition}
        AND next_offset = ${fence.next} AND EXISTS (SELECT FROM held)
      RETURNING partition`,
  )
  if (rows.length === 0) throw fenceMoved(key)
}

/** Where the load of the partition stands; below it all rows are in ClickHouse, unless an insert is under way. */
export async function readLoaded(sql: Sql, { logId, partition }: PartitionKey): Promise<Spot | undefined> {
  return guardState('reading how far the load is', async () => {
    // The fence first: an insert that is promised in between is then behind it.
    const [fence] = await sql<{ next_offset: number; last: LastPlaces }[]>`
      SELECT next_offset, last FROM load_fence WHERE log_id = ${logId} AND partition = ${partition}`
    if (!fence) return undefined
    const touching = JSON.stringify([{ logId, partition }])
    const [open] = await sql<{ first: number; last: LastPlaces }[]>`
      SELECT (r->>'from')::bigint AS first, r->'last' AS last
      FROM load_intent AS i, jsonb_array_elements(i.ranges) AS r
      WHERE i.state IN ('open', 'repair') AND i.ranges @> ${touching}::text::jsonb
        AND r->>'logId' = ${logId} AND (r->>'partition')::integer = ${partition}
      ORDER BY 1 LIMIT 1`
    return open && open.first < fence.next_offset
      ? { next: open.first, last: open.last }
      : { next: fence.next_offset, last: fence.last }
  })
}

/** With nobody attached the fence follows the load, so that nothing is read for nobody; gives where it stands. */
export async function followLoad(sql: Sql, key: PartitionKey, fence: Fence): Promise<Fence> {
  const [row] = await guardState(
    'moving a delivery fence with the load',
    () => sql<{ next_offset: number; last: LastPlaces }[]>`
      UPDATE delivery_fence AS f SET next_offset = l.next_offset, last = l.last, updated_at = now()
      FROM load_fence AS l
      WHERE f.log_id = ${key.logId} AND f.partition = ${key.partition} AND f.epoch = ${fence.epoch}
        AND l.log_id = f.log_id AND l.partition = f.partition AND l.next_offset > f.next_offset
        AND NOT EXISTS (SELECT FROM delivery_cursor AS c WHERE c.log_id = f.log_id AND c.partition = f.partition AND c.next_offset IS NULL)
      RETURNING f.next_offset, f.last`,
  )
  return row ? { next: row.next_offset, last: row.last, epoch: fence.epoch } : fence
}

function movesJson(moves: readonly CursorMove[]): string {
  return JSON.stringify(
    moves.map(({ destinationId, at, counts }) => ({
      id: destinationId,
      next_offset: at?.next ?? null,
      last: at?.last ?? null,
      ...counts,
    })),
  )
}

/** Without its end: the caller says on which condition. A destination that was deleted meanwhile gets none. */
function insertParked(sql: Sql, key: PartitionKey, parked: readonly Parked[]) {
  const rows = JSON.stringify(
    parked.map((one) => ({
      id: one.destinationId,
      raw_log_id: one.rawLogId,
      raw_offset: one.rawOffset,
      sub: one.sub,
      order_key: one.orderKey ?? null,
      event_row: Buffer.from(one.row.buffer, one.row.byteOffset, one.row.byteLength).toString('base64'),
      attempts: one.attempts,
      next_ms: one.nextInMs,
      status: one.status,
      response: one.response,
    })),
  )
  return sql`
    INSERT INTO delivery_retry (destination_id, log_id, partition, raw_log_id, raw_offset, sub, order_key, event_row,
      attempts, next_at, status, response)
    SELECT r.id, ${key.logId}::uuid, ${key.partition}::integer, r.raw_log_id, r.raw_offset, r.sub, r.order_key,
      decode(r.event_row, 'base64'), r.attempts, now() + r.next_ms * interval '1 millisecond', r.status, r.response
    FROM jsonb_to_recordset(${rows}::text::jsonb) AS r(id uuid, raw_log_id uuid, raw_offset bigint, sub integer,
      order_key text, event_row text, attempts integer, next_ms float8, status integer, response text)
    JOIN delivery_cursor AS own ON own.destination_id = r.id AND own.log_id = ${key.logId} AND own.partition = ${key.partition}`
}

function fenceMoved(key: PartitionKey) {
  return deliverError(
    'HR_DELIVER_FENCE',
    `partition ${key.partition} of topic events is delivered by another process, or a destination was changed`,
  )
}
