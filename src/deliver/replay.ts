/**
 * Where a replay begins: in each partition of `events` at the first row that came in at or after a time, and where it ends:
 * where the shared reader stands now. In: a time. Out: a start per partition, for a destination of its own that sends under
 * the ids of the original. What the log no longer has is found in ClickHouse. Cost: some 25 reads of one record per partition.
 */
import type { Sql } from '../catalog/index.ts'
import { decodeRowHeader, TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { LastPlaces } from './batch.ts'
import { readFences, type Start } from './cursors.ts'
import type { Destination } from './destination.ts'
import type { EventsTopic } from './events-topic.ts'

type Deps = { log: Log; sql: Sql; warehouse: Warehouse }

/** A row's place in the raw log comes before all of its subs. */
const SUB_BEFORE = 65_535

export async function startsAt(
  { log, sql, warehouse }: Deps,
  topic: EventsTopic,
  fromMs: number,
): Promise<Start[]> {
  const fences = await readFences(sql, topic.logId)
  const starts: Start[] = []
  for (let partition = 0; partition < topic.partitions; partition++) {
    const until = fences.get(partition)
    if (!until) continue
    const { start, end } = await log.bounds(TOPICS.events, partition)
    const firstMs = start < end ? await appendedMs(log, partition, start) : Number.POSITIVE_INFINITY
    if (start > 0 && fromMs < firstMs) {
      // Below the log: whoever follows it reads ClickHouse first.
      starts.push({
        partition,
        from: 0,
        last: await placesBefore(warehouse, partition, fromMs, until.last),
        until,
      })
      continue
    }
    const from = await firstAtOrAfter(log, partition, start, Math.min(end, until.next), fromMs)
    starts.push({ partition, from, last: await placeBefore(log, partition, from, until.next), until })
  }
  return starts
}

/** What is about to be sent, as far as ClickHouse has it: all of the project, and those whose name the filter wants. */
export async function countReplay(
  warehouse: Warehouse,
  { teamId, config }: Pick<Destination, 'teamId' | 'config'>,
  fromMs: number,
): Promise<{ events: number; named: number }> {
  const [row] = await warehouse.query<{ events: number; named: number }>(
    `SELECT count() AS events, countIf({all:Bool} OR event IN {names:Array(String)}) AS named FROM events
     WHERE team_id = {teamId:Int64} AND created_at >= fromUnixTimestamp64Milli({fromMs:Int64})`,
    { teamId, fromMs, all: config.filter.events === undefined, names: config.filter.events ?? [] },
  )
  return row!
}

/** Of the raw log whose row stands at an offset: the place in front of it, so that ClickHouse can be asked from there, too. */
async function placeBefore(log: Log, partition: number, offset: number, end: number): Promise<LastPlaces> {
  if (offset >= end) return {}
  for await (const [record] of log.read(TOPICS.events, partition, offset, offset + 1)) {
    const { source, prev } = decodeRowHeader(record!.header)
    return prev ? { [source.logId]: [prev.offset, prev.sub] } : {}
  }
  return {}
}

async function appendedMs(log: Log, partition: number, offset: number): Promise<number> {
  for await (const [record] of log.read(TOPICS.events, partition, offset, offset + 1))
    return record!.appendedMs
  return Number.POSITIVE_INFINITY
}

/** By halving: the log stamps records with rising times. */
async function firstAtOrAfter(
  log: Log,
  partition: number,
  start: number,
  end: number,
  fromMs: number,
): Promise<number> {
  let low = start
  let high = end
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if ((await appendedMs(log, partition, middle)) < fromMs) low = middle + 1
    else high = middle
  }
  return low
}

/** Per raw log the place in front of the first row that was received at or after the time. */
async function placesBefore(
  warehouse: Warehouse,
  partition: number,
  fromMs: number,
  until: LastPlaces,
): Promise<LastPlaces> {
  const rows = await warehouse.query<{ log_id: string; first: number }>(
    `SELECT _log_id AS log_id, min(_offset) AS first FROM events
     WHERE _partition = {partition:UInt16} AND created_at >= fromUnixTimestamp64Milli({fromMs:Int64}) GROUP BY _log_id`,
    { partition, fromMs },
  )
  const firsts = new Map(rows.map(({ log_id, first }) => [log_id, first]))
  // A raw log without a row since then has nothing to be sent again.
  return Object.fromEntries(
    Object.entries(until).map(([logId, place]) => {
      const first = firsts.get(logId)
      return [logId, first === undefined ? place : [first - 1, SUB_BEFORE]]
    }),
  )
}
