/**
 * Load fences and intents in Postgres: where the load of each row topic stands, and every INSERT that was promised.
 * An intent is written, with the advance of the fences that it covers, in one transaction before its rows are sent;
 * so at any moment each record is either at or above a fence, or in exactly one intent.
 *
 * ```
 *            write (fences move)                insert seen in ClickHouse
 *   (rows) ────────────────────▶ open ────────────────────────────────────▶ done ──a day──▶ (pruned)
 *                                 │ ├── ClickHouse refuses a row: children are written `open`, this is `done`
 *                                 │ ├── no memory for it: children are written `open` and wait; this keeps a few rows
 *                                 │ └── cannot be told what is in ClickHouse: repair (alarm; `headrace repair`)
 * ```
 * A child of an open intent waits until that is done: only then no insert of its rows under the other token can land.
 * Who works on an open intent holds its row lock (`hold-intent.ts`). Decides nothing; one round trip per statement.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { loadError } from './errors.ts'

/** As `Chain` stores them: per raw log id the last accepted place. */
export type LastPlaces = Record<string, [number, number]>

/** Records [from, to) of one partition of a row topic. */
export type IntentRange = {
  logId: string
  topic: string
  partition: number
  from: number
  to: number
  /** Topic `events`: the last accepted places in front of `from`. */
  last: LastPlaces
}

export type Intent = {
  /** Also the insert token. */
  id: string
  parent: string | undefined
  table: string
  ranges: IntentRange[]
  rows: number
  bytes: number
  /** From `finishChecksum`, over the rows in the order of the ranges. */
  checksum: number
}

export type StoredIntent = Intent & {
  ageMs: number
  /** Why ClickHouse refused the one row of this intent, once that is certain. */
  refused: string | undefined
}

export type Fence = { next: number; last: LastPlaces }

/** The move of one fence: from exactly `range.from`. */
export type FenceMove = { range: IntentRange; lastAfter: LastPlaces }

/**
 * The fence of one partition of a row topic; makes it at offset 0 when the topic is brand-new. A fence of an
 * earlier topic of the same name, or a log that no longer begins at 0, is a gap: throws HR_LOAD_GAP.
 */
export async function openFence(
  sql: Sql,
  at: { logId: string; topic: string; partition: number; logStart: number },
): Promise<Fence> {
  return guardState('read load fence', async () => {
    const rows = await sql<{ log_id: string; next_offset: number; last: LastPlaces }[]>`
      SELECT log_id, next_offset, last FROM load_fence WHERE topic = ${at.topic} AND partition = ${at.partition}`
    const own = rows.find((row) => row.log_id === at.logId)
    if (own) return { next: own.next_offset, last: own.last }
    const name = `${at.topic}/${at.partition}`
    if (rows[0]) {
      throw loadError(
        'HR_LOAD_GAP',
        `topic ${at.topic} was made anew: its id is ${at.logId}, but ${name} was loaded up to ${rows[0].next_offset} under id ${rows[0].log_id}`,
      )
    }
    if (at.logStart !== 0) {
      throw loadError(
        'HR_LOAD_GAP',
        `${name} was never loaded and begins at offset ${at.logStart}: what was before is no longer in the log`,
      )
    }
    await sql`
      INSERT INTO load_fence (log_id, partition, topic, next_offset) VALUES (${at.logId}, ${at.partition}, ${at.topic}, 0)
      ON CONFLICT DO NOTHING`
    const [made] = await sql<{ next_offset: number; last: LastPlaces }[]>`
      SELECT next_offset, last FROM load_fence WHERE log_id = ${at.logId} AND partition = ${at.partition}`
    return { next: made!.next_offset, last: made!.last }
  })
}

/**
 * Advances the fences and, when it has rows, writes the intent: both or nothing. Throws HR_LOAD_FENCE when a fence
 * is not where its range begins.
 */
export async function writeIntent(sql: Sql, intent: Intent, moves: FenceMove[]): Promise<void> {
  const wanted = JSON.stringify(
    moves.map(({ range, lastAfter }) => ({
      log_id: range.logId,
      partition: range.partition,
      from_offset: range.from,
      to_offset: range.to,
      last_after: lastAfter,
    })),
  )
  await guardState('write load intent', () =>
    transaction(sql, async (tx) => {
      const moved = await tx`
        UPDATE load_fence AS f SET next_offset = m.to_offset, last = m.last_after, updated_at = now()
        FROM jsonb_to_recordset(${wanted}::text::jsonb)
          AS m(log_id uuid, partition integer, from_offset bigint, to_offset bigint, last_after jsonb)
        WHERE f.log_id = m.log_id AND f.partition = m.partition AND f.next_offset = m.from_offset
        RETURNING f.partition`
      if (moved.length !== moves.length) {
        throw loadError(
          'HR_LOAD_FENCE',
          `${moves.length - moved.length} of ${moves.length} load fences of ${intent.table} are not where this loader left them: another one loads these partitions`,
        )
      }
      if (intent.rows > 0) await insertIntents(tx, [intent])
    }),
  )
}

async function insertIntents(tx: Transaction, intents: Intent[]): Promise<void> {
  const rows = JSON.stringify(
    intents.map(({ id, parent, table, ranges, rows, bytes, checksum }) => ({
      id,
      parent,
      table_name: table,
      ranges,
      rows,
      bytes,
      checksum,
    })),
  )
  await tx`
    INSERT INTO load_intent (id, parent, table_name, ranges, rows, bytes, checksum)
    SELECT id, parent, table_name, ranges, rows, bytes, checksum FROM jsonb_to_recordset(${rows}::text::jsonb)
      AS i(id uuid, parent uuid, table_name text, ranges jsonb, rows integer, bytes bigint, checksum bigint)`
}

/** Ids of the open intents of `table` that touch the partition and can be settled now, or must be before those; oldest first. */
export async function openIntents(
  sql: Sql,
  table: string,
  of: { logId: string; partition: number },
): Promise<string[]> {
  const touching = JSON.stringify([{ logId: of.logId, partition: of.partition }])
  return guardState('list open load intents', async () => {
    const rows = await sql<{ id: string }[]>`
      SELECT coalesce(p.id, i.id) AS id FROM load_intent AS i
      LEFT JOIN load_intent AS p ON p.id = i.parent AND p.state = 'open'
      WHERE i.state = 'open' AND i.table_name = ${table} AND i.ranges @> ${touching}::text::jsonb
      GROUP BY 1 ORDER BY min(coalesce(p.created_at, i.created_at)), 1`
    return rows.map(({ id }) => id)
  })
}

/**
 * Locks an open intent and reads it; undefined when it is settled already. Throws (lock time-out, retriable) when
 * another loader holds it for longer than `waitMs`.
 */
export async function lockIntent(
  tx: Transaction,
  id: string,
  waitMs: number,
): Promise<StoredIntent | undefined> {
  await tx`SELECT set_config('lock_timeout', ${`${waitMs}ms`}, true)`
  const [row] = await tx<
    {
      id: string
      parent: string | null
      table_name: string
      ranges: IntentRange[]
      rows: number
      bytes: number
      checksum: number
      error: string | null
      age_ms: number
    }[]
  >`
    SELECT id, parent, table_name, ranges, rows, bytes, checksum, error,
      (extract(epoch FROM clock_timestamp() - created_at) * 1000)::float8 AS age_ms
    FROM load_intent WHERE id = ${id} AND state = 'open' FOR UPDATE`
  if (!row) return undefined
  return {
    id: row.id,
    parent: row.parent ?? undefined,
    table: row.table_name,
    ranges: row.ranges,
    rows: row.rows,
    bytes: row.bytes,
    checksum: row.checksum,
    ageMs: row.age_ms,
    refused: row.error ?? undefined,
  }
}

/** All rows of the intent are in ClickHouse, or accounted for elsewhere in the same transaction. */
export async function markDone(tx: Transaction, id: string): Promise<void> {
  await tx`UPDATE load_intent SET state = 'done', settled_at = now() WHERE id = ${id} AND state = 'open'`
}

/** What is in ClickHouse cannot be told or mended by sending again; nor can it of children that wait for it. */
export async function markRepair(tx: Transaction, id: string, why: string): Promise<void> {
  await tx`
    UPDATE load_intent SET state = 'repair', error = ${why}, settled_at = now()
    WHERE (id = ${id} OR parent = ${id}) AND state = 'open'`
}

/** Remembers for good that ClickHouse refuses the one row of this intent, so that no heir offers it again. */
export async function markRefused(tx: Transaction, id: string, why: string): Promise<void> {
  await tx`UPDATE load_intent SET error = ${why} WHERE id = ${id} AND state = 'open'`
}

/** Replaces an intent by its children: no moment in which both, or neither, are open. */
export async function replaceByChildren(tx: Transaction, parent: string, children: Intent[]): Promise<void> {
  await insertIntents(tx, children)
  await markDone(tx, parent)
}

/** Lets an intent keep the rows of `kept`, which has its id, and gives all others to children, in the same way. */
export async function keepPart(tx: Transaction, kept: Intent, children: Intent[]): Promise<void> {
  const { id, ranges, rows, bytes, checksum } = kept
  await tx`
    UPDATE load_intent SET ranges = ${JSON.stringify(ranges)}::text::jsonb, rows = ${rows}, bytes = ${bytes},
      checksum = ${checksum}
    WHERE id = ${id} AND state = 'open'`
  await insertIntents(tx, children)
}

/**
 * Per `topic/partition` of the topics as they are now: the first offset that the load may still read, which is the
 * fence, or the begin of an open intent.
 */
export async function neededFrom(
  sql: Sql,
  logIds: ReadonlyMap<string, string>,
): Promise<Map<string, number>> {
  return guardState('read load fences', async () => {
    // Fences first: an intent that is written in between is then seen, or its fence was not yet moved.
    const fences = await sql<{ topic: string; log_id: string; partition: number; next_offset: number }[]>`
      SELECT topic, log_id, partition, next_offset FROM load_fence`
    const open = await sql<{ ranges: IntentRange[] }[]>`SELECT ranges FROM load_intent WHERE state = 'open'`
    const needed = new Map<string, number>()
    const lower = (topic: string, logId: string, partition: number, offset: number) => {
      if (logIds.get(topic) !== logId) return
      const key = `${topic}/${partition}`
      needed.set(key, Math.min(needed.get(key) ?? offset, offset))
    }
    for (const fence of fences) lower(fence.topic, fence.log_id, fence.partition, fence.next_offset)
    for (const { ranges } of open) {
      for (const range of ranges) lower(range.topic, range.logId, range.partition, range.from)
    }
    return needed
  })
}

/** How many intents are open and how many wait for a repair. */
export async function countIntents(sql: Sql): Promise<{ open: number; repair: number }> {
  return guardState('count load intents', async () => {
    const [row] = await sql<{ open: number; repair: number }[]>`
      SELECT (SELECT count(*) FROM load_intent WHERE state = 'open') AS open,
             (SELECT count(*) FROM load_intent WHERE state = 'repair') AS repair`
    return { open: row!.open, repair: row!.repair }
  })
}

/** Removes at most `limit` intents that were done before `olderThanMs` ago; a parent goes after its children. */
export async function pruneIntents(sql: Sql, olderThanMs: number, limit: number): Promise<number> {
  return guardState('prune load intents', async () => {
    const removed = await sql`
      DELETE FROM load_intent WHERE id IN (
        SELECT id FROM load_intent AS i
        WHERE state = 'done' AND settled_at < now() - ${olderThanMs} * interval '1 millisecond'
          AND NOT EXISTS (SELECT 1 FROM load_intent AS c WHERE c.parent = i.id)
        ORDER BY settled_at LIMIT ${limit} FOR UPDATE SKIP LOCKED)`
    return removed.count
  })
}
