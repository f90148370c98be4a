/**
 * Brings load fences of topic `events` to where ClickHouse's rows end, after Postgres was restored. In: fences as
 * restored, the log, ClickHouse. Out: moved fences; rows that lie between rows that are there, of an insert that was
 * under way, are inserted first. The other row topics need nothing while they
 * reach back so far: their rows replace themselves when they come twice.
 *
 * What must hold: a fence passes a row only when ClickHouse has it, or its dead letter does; exactly one copy of each.
 * The role load stands still on such a partition (HR_LOAD_STATE_BEHIND), and every move is from exactly where the fence
 * was read. Cost: one look-up per 2,000 records.
 */
import { guardState, type Sql, transaction } from '../catalog/index.ts'
import {
  Chain,
  decodeRowHeader,
  EVENTS,
  formatSource,
  type HeadraceError,
  isRejected,
  type Source,
  TOPICS,
} from '../event/index.ts'
import { amendReceipt, rawLogsKnown } from '../load/index.ts'
import type { Log, StoredRecord } from '../log/index.ts'
import { presentPlaces, type Warehouse } from '../warehouse/index.ts'
import { repairError } from './errors.ts'
import { behindCut, type Deps, type Fence, passRemoved } from './load-cut.ts'

export type LoadProgress = {
  partition: number
  /** Offsets of topic `events` that the fence passes. */
  from: number
  to: number
  /** Rows in between that were missing and are inserted. */
  inserted: number
}

type Row = { source: Source; timestampMs: number; value: Uint8Array }

const CHUNK_RECORDS = 2_000

/** `buried`: sources that are dead letters since ClickHouse refused their rows. */
export async function mendLoad(
  deps: Deps,
  buried: ReadonlySet<string>,
  apply: boolean,
): Promise<LoadProgress[]> {
  const [events] = await deps.log.describe([TOPICS.events])
  if (!events) return []
  const mended: LoadProgress[] = []
  for (let partition = 0; partition < deps.partitions; partition++) {
    const before = await readFence(deps.sql, events.logId, partition)
    // In this order: a loader at work moves its fence before it sends.
    const reached = await furthestPlaces(deps, partition, before)
    const fence = await readFence(deps.sql, events.logId, partition)
    if (!isBehind(fence, reached)) continue
    await refuseOpenIntent(deps.sql, events.logId, partition)
    mended.push(await mendPartition(deps, partition, fence, reached, buried, apply))
    if (apply) await passRemoved(deps, partition)
  }
  return mended
}

async function readFence(sql: Sql, logId: string, partition: number): Promise<Fence> {
  const [row] = await guardState(
    'read load fence',
    () => sql<{ next_offset: number; last: Fence['last'] }[]>`
      SELECT next_offset, last FROM load_fence WHERE log_id = ${logId} AND partition = ${partition}`,
  )
  return { logId, next: row?.next_offset ?? 0, last: row?.last ?? {} }
}

/** The newest place of each raw log that ClickHouse has of a partition number, topics that were recreated included. */
async function furthestPlaces(
  { sql, log, warehouse }: Deps,
  partition: number,
  { last }: Fence,
): Promise<Map<string, [number, number]>> {
  const furthest = new Map<string, [number, number]>()
  for (const logId of await rawLogsKnown({ sql, log }, partition, last)) {
    const [found] = await warehouse.query<{ offset: number; sub: number }>(
      `SELECT _offset AS offset, _sub AS sub FROM events WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16}
       ORDER BY _offset DESC, _sub DESC LIMIT 1`,
      { logId, partition },
    )
    if (found) furthest.set(logId, [found.offset, found.sub])
  }
  return furthest
}

function isBehind(fence: Fence, reached: ReadonlyMap<string, [number, number]>): boolean {
  for (const [logId, [offset, sub]] of reached) {
    const [lastOffset, lastSub] = fence.last[logId] ?? [-1, 0]
    if (offset > lastOffset || (offset === lastOffset && sub > lastSub)) return true
  }
  return false
}

async function refuseOpenIntent(sql: Sql, logId: string, partition: number): Promise<void> {
  const touching = JSON.stringify([{ logId, partition }])
  const open = await guardState(
    'list open load intents',
    () => sql`
      SELECT FROM load_intent WHERE state = 'open' AND table_name = 'events' AND ranges @> ${touching}::text::jsonb
      LIMIT 1`,
  )
  if (open.length === 0) return
  throw repairError(
    'HR_REPAIR_INTENT_OPEN',
    `an insert of events/${partition} is open still; let the role load settle it (it runs beside this), then look again`,
  )
}

async function mendPartition(
  deps: Deps,
  partition: number,
  start: Fence,
  reached: ReadonlyMap<string, [number, number]>,
  buried: ReadonlySet<string>,
  apply: boolean,
): Promise<LoadProgress> {
  const progress: LoadProgress = { partition, from: start.next, to: start.next, inserted: 0 }
  const { start: first, end } = await deps.log.bounds(TOPICS.events, partition)
  let fence = start
  if (first > start.next) {
    fence = await behindCut(deps, partition, start, first, reached)
    if (apply) await moveFence(deps.sql, partition, start, fence, [], buried)
    progress.to = first
  }
  while (fence.next < end && isBehind(fence, reached)) {
    const records = await readSome(deps.log, partition, fence.next, Math.min(end, fence.next + CHUNK_RECORDS))
    const { passed, after, missing } = await judge(deps, partition, fence, records, reached)
    const alive = missing.filter(({ source }) => !buried.has(formatSource(source)))
    if (apply) {
      await insertMissing(deps.warehouse, alive)
      await moveFence(deps.sql, partition, fence, after, missing, buried)
    }
    fence = after
    progress.to = passed
    progress.inserted += alive.length
  }
  if (isBehind(fence, reached)) {
    // The topic ends, and nothing in it comes behind what it held of these logs.
    const after = { ...fence, last: { ...fence.last, ...Object.fromEntries(reached) } }
    if (apply) await moveFence(deps.sql, partition, fence, after, [], buried)
  }
  return progress
}

async function readSome(log: Log, partition: number, from: number, to: number): Promise<StoredRecord[]> {
  const records: StoredRecord[] = []
  for await (const some of log.read(TOPICS.events, partition, from, to)) records.push(...some)
  return records
}

/** How far the fence may go in `records`: behind the last row up to which ClickHouse has anything. */
async function judge(
  deps: Deps,
  partition: number,
  fence: Fence,
  records: readonly StoredRecord[],
  reached: ReadonlyMap<string, [number, number]>,
): Promise<{ passed: number; after: Fence; missing: Row[] }> {
  const chain = new Chain(fence.last)
  const rows: Row[] = []
  let passed = fence.next
  let last = fence.last
  for (const { header, value, offset } of records) {
    // The rest was never loaded: the role load goes on there.
    if (!isBehind({ ...fence, last }, reached)) break
    const { source, prev, timestampMs } = decodeRowHeader(header)
    const verdict = chain.take(source, prev)
    if (verdict === 'gap') {
      throw repairError(
        'HR_REPAIR_OUTPUT_GONE',
        `events/${partition} has a gap at offset ${offset}, in front of rows that ClickHouse has`,
      )
    }
    if (verdict === 'accept') rows.push({ source, timestampMs, value })
    last = chain.toJSON()
    passed = offset + 1
  }
  const missing = await missingOf(deps.warehouse, rows)
  return { passed, after: { ...fence, next: passed, last }, missing }
}

async function missingOf(warehouse: Warehouse, rows: readonly Row[]): Promise<Row[]> {
  const byLog = Map.groupBy(rows, ({ source }) => source.logId)
  const missing: Row[] = []
  for (const [logId, some] of byLog) {
    const { partition, offset } = some[0]!.source
    const range = { logId, partition, from: offset, to: some.at(-1)!.source.offset + 1 }
    const places = await presentPlaces(warehouse, range, Number.MAX_SAFE_INTEGER)
    const present = new Set(places.map((place) => `${place.offset}/${place.sub}`))
    missing.push(...some.filter(({ source }) => !present.has(`${source.offset}/${source.sub}`)))
  }
  return missing
}

/** One insert per month, since each has blocks of its own; a row that is refused was refused before. */
async function insertMissing(warehouse: Warehouse, rows: readonly Row[]): Promise<void> {
  const months = Map.groupBy(rows, ({ timestampMs }) => new Date(timestampMs).toISOString().slice(0, 7))
  for (const some of months.values()) {
    try {
      await warehouse.insertRows({
        table: EVENTS,
        rows: some.map(({ value }) => value),
        token: Bun.randomUUIDv7(),
      })
    } catch (error) {
      if (!isRejected(error)) throw error
      throw repairError(
        'HR_REPAIR_ROW_REFUSED',
        `ClickHouse refuses one of the rows ${formatSource(some[0]!.source)} to ${formatSource(some.at(-1)!.source)}, which lie between rows that it has: ${(error as HeadraceError).message}`,
        error,
      )
    }
  }
}

/** Dead letters of the lost time, of events whose receipts were there before, are amended once more. */
async function moveFence(
  sql: Sql,
  partition: number,
  from: Fence,
  to: Fence,
  missing: readonly Row[],
  buried: ReadonlySet<string>,
): Promise<void> {
  await guardState('move load fence', () =>
    transaction(sql, async (tx) => {
      await tx`
        INSERT INTO load_fence (log_id, partition, topic, next_offset)
        VALUES (${from.logId}, ${partition}, ${TOPICS.events}, 0) ON CONFLICT DO NOTHING`
      const moved = await tx`
        UPDATE load_fence SET next_offset = ${to.next}, last = ${JSON.stringify(to.last)}::text::jsonb, updated_at = now()
        WHERE log_id = ${from.logId} AND partition = ${partition} AND next_offset = ${from.next} RETURNING partition`
      if (moved.length === 0)
        throw repairError(
          'HR_REPAIR_MOVED',
          `the load fence of events/${partition} moved meanwhile; look again`,
        )
      for (const { source } of missing) if (buried.has(formatSource(source))) await amendReceipt(tx, source)
    }),
  )
}
