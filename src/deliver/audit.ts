/**
 * Whether every event is accounted for at every destination. In: cursors with their counts. Out: per destination how many events
 * its cursors passed, how many of them ClickHouse has between the same places, whether their states add up, and whether
 * `deliveries` has a row for each that should have one. Compares only what the load has passed. Cost: one count by source per
 * destination, partition and raw log; one count of rows per destination.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { LastPlaces } from './batch.ts'
import { readLoaded } from './cursors.ts'
import { reportOf } from './report.ts'

export type DeliveryAudit = {
  id: string
  name: string
  seen: number
  /** Of the partitions that could be compared: passed by its cursors, and in ClickHouse. */
  compared: { partitions: number; seen: number; stored: number }
  /** Events in no state, or in more than one. */
  unaccounted: number
  /** Ends that have a row, and rows; the newest may still be on their way. */
  ended: number
  rows: number
}

type Stretch = { log_id: string; partition: number; seen: number; from: LastPlaces; to: LastPlaces }

export async function auditDeliveries(
  { sql, warehouse }: { sql: Sql; warehouse: Warehouse },
  destinations: readonly { id: string; name: string; teamId: number }[],
): Promise<DeliveryAudit[]> {
  const audits: DeliveryAudit[] = []
  for (const { id, name, teamId } of destinations) {
    const report = await reportOf(sql, id)
    const compared = { partitions: 0, seen: 0, stored: 0 }
    for (const stretch of await stretchesOf(sql, id)) {
      const stored = await storedIn({ sql, warehouse }, teamId, stretch)
      if (stored === undefined) continue
      compared.partitions++
      compared.seen += stretch.seen
      compared.stored += stored
    }
    const [found] = await warehouse.query<{ rows: number }>(
      'SELECT count() AS rows FROM deliveries FINAL WHERE team_id = {teamId:Int64} AND destination_id = {id:UUID}',
      { teamId, id },
    )
    const { seen, delivered, failed, expired, unaccounted } = report
    audits.push({
      id,
      name,
      seen,
      compared,
      unaccounted,
      ended: delivered + failed + expired,
      rows: found!.rows,
    })
  }
  return audits
}

/** What is wrong, in words; rows that are missing may come with the next load, those that are too many never go. */
export function findingsOf({ name, compared, unaccounted, ended, rows }: DeliveryAudit): string[] {
  const { seen, stored } = compared
  const difference = seen - stored
  return [
    ...(unaccounted === 0 ? [] : [`${name}: ${unaccounted} events are in no state, or in more than one`]),
    ...(difference === 0 ? [] : [`${name}: passed ${seen} events where ClickHouse has ${stored}`]),
    ...(rows <= ended ? [] : [`${name}: ${rows} rows in deliveries for ${ended} events that ended`]),
  ]
}

/** Where each cursor began and stands, with what it counted, read at one moment. A cursor that began in the middle has no begin to compare. */
async function stretchesOf(sql: Sql, id: string): Promise<Stretch[]> {
  return guardState(
    'reading delivery cursors',
    () => sql<Stretch[]>`
      SELECT c.log_id, c.partition, c.seen, c.since_last AS "from",
        CASE WHEN c.next_offset IS NULL THEN f.last ELSE c.last END AS "to"
      FROM delivery_cursor AS c JOIN delivery_fence AS f ON f.log_id = c.log_id AND f.partition = c.partition
      WHERE c.destination_id = ${id} AND NOT c.adopt`,
  )
}

/** Undefined when the load has not passed all of it. */
async function storedIn(
  { sql, warehouse }: { sql: Sql; warehouse: Warehouse },
  teamId: number,
  { log_id, partition, from, to }: Stretch,
): Promise<number | undefined> {
  const loaded = await readLoaded(sql, { logId: log_id, partition })
  let stored = 0
  for (const [logId, [toOffset, toSub]] of Object.entries(to)) {
    const [loadedOffset, loadedSub] = loaded?.last[logId] ?? [-1, 0]
    if (loadedOffset < toOffset || (loadedOffset === toOffset && loadedSub < toSub)) return undefined
    const [fromOffset, fromSub] = from[logId] ?? [0, -1]
    const [row] = await warehouse.query<{ n: number }>(
      `SELECT uniqExact(_offset, _sub) AS n FROM events
       WHERE team_id = {teamId:Int64} AND _log_id = {logId:UUID} AND _partition = {partition:UInt16}
         AND _offset >= {fromOffset:UInt64} AND _offset <= {toOffset:UInt64}
         AND (_offset > {fromOffset:UInt64} OR _sub > {fromSub:Int32})
         AND (_offset < {toOffset:UInt64} OR _sub <= {toSub:Int32})`,
      { teamId, logId, partition, fromOffset, fromSub, toOffset, toSub },
    )
    stored += row!.n
  }
  return stored
}
