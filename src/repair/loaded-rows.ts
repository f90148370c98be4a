/**
 * What ClickHouse knows of raw offsets, for rows that the row topics no longer hold. In: a raw log and an offset. Out:
 * what became of each offset from there on that has a row, the projects and the group types of these rows. Reads only, in
 * pages, by the projection by source for `events`; of a deployment in step nothing lies there, but for the newest batch.
 */
import {
  type DeadLetterReason,
  type DropReason,
  DUPLICATE,
  deadLetterCode,
  dropCode,
  type OutcomeCode,
  type OutcomeRow,
  STORED,
} from '../event/index.ts'
import type { Warehouse } from '../warehouse/index.ts'

export type RowPlace = { logId: string; offset: number; sub: number }

export type LoadedRowTaker = {
  takeLoaded(row: RowPlace, teamId: number, code: OutcomeCode): void
  takeGroupType(teamId: number, type: string, index: number): void
}

type From = { logId: string; partition: number; from: number }

const PAGE_ROWS = 50_000
const WHERE = '_log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset >= {from:UInt64}'

export async function takeLoadedRows(warehouse: Warehouse, at: From, taker: LoadedRowTaker): Promise<void> {
  type Stored = { offset: number; sub: number; team: number }
  let found = false
  await inPages<Stored>(
    warehouse,
    at,
    `SELECT _offset AS offset, max(_sub) AS sub, any(team_id) AS team FROM events WHERE ${WHERE}
     GROUP BY _offset ORDER BY _offset LIMIT ${PAGE_ROWS}`,
    ({ offset, sub, team }) => {
      found = true
      taker.takeLoaded({ logId: at.logId, offset, sub }, team, STORED)
    },
  )
  // Where both tables know an offset, ClickHouse refused its row after it had been produced.
  await inPages<Stored & Pick<OutcomeRow, 'state' | 'reason'>>(
    warehouse,
    at,
    `SELECT _offset AS offset, min(_sub) AS sub, any(team_id) AS team, argMin(state, _sub) AS state,
       argMin(reason, _sub) AS reason FROM outcomes
     WHERE ${WHERE} GROUP BY _offset ORDER BY _offset LIMIT ${PAGE_ROWS}`,
    ({ offset, sub, team, ...outcome }) =>
      taker.takeLoaded({ logId: at.logId, offset, sub }, team, codeOf(outcome)),
  )
  if (found) await takeGroupTypes(warehouse, at, taker)
}

async function inPages<R extends { offset: number }>(
  warehouse: Warehouse,
  at: From,
  sql: string,
  take: (row: R) => void,
): Promise<void> {
  for (let from = at.from; ; ) {
    const rows = await warehouse.query<R>(sql, { ...at, from })
    for (const row of rows) take(row)
    if (rows.length < PAGE_ROWS) return
    from = rows.at(-1)!.offset + 1
  }
}

/** `$groups` names types and keys, `$group_<index>` the same keys by index; only where that tells exactly one index. */
async function takeGroupTypes(warehouse: Warehouse, at: From, taker: LoadedRowTaker): Promise<void> {
  const rows = await warehouse.query<{ team: number; type: string; index: number }>(
    `SELECT DISTINCT team, pair.1 AS type, indexes[1] AS index FROM (
       SELECT team_id AS team, arrayJoin(JSONExtractKeysAndValues(properties, '$groups', 'String')) AS pair,
         arrayFilter(i -> JSONExtractString(properties, concat('$group_', toString(i))) = pair.2, range(5)) AS indexes
       FROM events WHERE ${WHERE} AND position(properties, '"$groups"') > 0)
     WHERE length(indexes) = 1`,
    at,
  )
  for (const { team, type, index } of rows) taker.takeGroupType(team, type, index)
}

export function codeOf({ state, reason }: Pick<OutcomeRow, 'state' | 'reason'>): OutcomeCode {
  if (state === 'duplicate') return DUPLICATE
  return state === 'dropped' ? dropCode(reason as DropReason) : deadLetterCode(reason as DeadLetterReason)
}
