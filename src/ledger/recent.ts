/**
 * The newest events of a distinct id, or the newest that were not stored: where a trace begins when there is no uuid.
 * Looks back in steps (a day, a month, everything) and stops as soon as it has enough, so that what just happened is found by
 * reading little. Within a step the skip index `by_distinct_id` leaves out the granules that do not hold the id.
 */
import type { Warehouse } from '../warehouse/index.ts'
import { SOURCE_COLUMNS, type SourceColumns } from './trace-rows.ts'

export type RecentEvent = {
  /** The time of the event when it is stored, else when capture received it; epoch ms. */
  atMs: number
  teamId: number
  uuid: string
  event: string
  distinctId: string
  /** stored, dropped, duplicate or dead_lettered. */
  state: string
  reason: string
  /** `log id/partition/offset/sub`. */
  source: string
}

export type RecentOptions = {
  teamIds: readonly number[]
  limit: number
  /** Epoch ms; undefined = from the beginning. */
  sinceMs?: number | undefined
  nowMs: number
}

const DAY_MS = 86_400_000
const LOOK_BACK_MS = [DAY_MS, 31 * DAY_MS, Number.POSITIVE_INFINITY]
/** Beyond what a DateTime64 with microseconds can hold nothing can be. */
const FIRST_MS = Date.UTC(1900, 0, 1)
const LAST_MS = Date.UTC(2262, 0, 1)

export async function recentOf(
  warehouse: Warehouse,
  distinctId: string,
  options: RecentOptions,
): Promise<RecentEvent[]> {
  return lookBack(options, async (window) => {
    const params = { ...window, id: distinctId }
    const rows = await Promise.all([
      warehouse.query<Row>(EVENTS_OF_ID, params),
      warehouse.query<Row>(OUTCOMES_OF_ID, params),
    ])
    return rows.flat()
  })
}

/** Dropped or dead-lettered; a duplicate is no error. */
export async function lastErrors(warehouse: Warehouse, options: RecentOptions): Promise<RecentEvent[]> {
  return lookBack(options, (window) => warehouse.query<Row>(LAST_ERRORS, window))
}

type Row = SourceColumns & {
  at_ms: number
  team_id: number
  uuid: string
  event: string
  distinct_id: string
  state: string
  reason: string
}
type Window = { teams: number[]; from: number; to: number; limit: number }

async function lookBack(
  { teamIds, limit, sinceMs = FIRST_MS, nowMs }: RecentOptions,
  ask: (window: Window) => Promise<Row[]>,
): Promise<RecentEvent[]> {
  const found: Row[] = []
  let to = LAST_MS
  for (const backMs of LOOK_BACK_MS) {
    const from = Math.max(sinceMs, nowMs - backMs, FIRST_MS)
    if (from < to) found.push(...(await ask({ teams: [...teamIds], from, to, limit })))
    to = Math.min(to, from)
    if (found.length >= limit || from <= sinceMs) break
  }
  return found
    .sort((a, b) => b.at_ms - a.at_ms)
    .slice(0, limit)
    .map((row) => ({
      atMs: row.at_ms,
      teamId: row.team_id,
      uuid: row.uuid,
      event: row.event,
      distinctId: row.distinct_id,
      state: row.state,
      reason: row.reason,
      source: `${row.log_id}/${row.partition}/${row.offset}/${row.sub}`,
    }))
}

const WITHIN =
  'team_id IN {teams:Array(Int64)} AND timestamp >= fromUnixTimestamp64Milli({from:Int64}) AND timestamp < fromUnixTimestamp64Milli({to:Int64})'
const WHO = 'team_id, uuid, event, distinct_id'
const NEWEST = 'ORDER BY timestamp DESC LIMIT 1 BY _log_id, _partition, _offset, _sub LIMIT {limit:UInt32}'

export const EVENTS_OF_ID = `
  SELECT ${SOURCE_COLUMNS}, toUnixTimestamp64Milli(timestamp) AS at_ms, ${WHO}, 'stored' AS state, '' AS reason
  FROM events WHERE ${WITHIN} AND cityHash64(distinct_id) = cityHash64({id:String}) AND distinct_id = {id:String} ${NEWEST}`

export const OUTCOMES_OF_ID = `
  SELECT ${SOURCE_COLUMNS}, toUnixTimestamp64Milli(timestamp) AS at_ms, ${WHO}, state, reason
  FROM outcomes WHERE ${WITHIN} AND distinct_id = {id:String} ${NEWEST}`

const LAST_ERRORS = `
  SELECT ${SOURCE_COLUMNS}, toUnixTimestamp64Milli(timestamp) AS at_ms, ${WHO}, state, reason
  FROM outcomes WHERE ${WITHIN} AND state IN ('dropped', 'dead_lettered') ${NEWEST}`
