/**
 * Failed deliveries, sent again by hand. In: a destination and a time. Out: the events, from ClickHouse, among those that
 * are tried again alone; each in the partition it came by. Idempotent: one that waits already is left as it is.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { EVENTS, type EventRow } from '../event/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { Destination } from './destination.ts'
import { EVENT_SELECT, viewOfRow } from './history.ts'

const AT_ONCE = 500

type Place = { log_id: string; partition: number; offset: number; sub: number }

/** How many were put in. */
export async function sendAgain(
  { sql, warehouse }: { sql: Sql; warehouse: Warehouse },
  { id, teamId, config }: Destination,
  eventsLogId: string,
  sinceMs: number,
): Promise<number> {
  let put = 0
  let after: Place = { log_id: '00000000-0000-0000-0000-000000000000', partition: 0, offset: 0, sub: 0 }
  for (let first = true; ; first = false) {
    const places = await warehouse.query<Place>(
      `SELECT _log_id AS log_id, _partition AS partition, _offset AS offset, _sub AS sub FROM deliveries FINAL
       WHERE team_id = {teamId:Int64} AND destination_id = {id:UUID} AND state = 'failed'
         AND timestamp >= fromUnixTimestamp64Milli({sinceMs:Int64})
         AND ({first:Bool} OR (toString(_log_id), _partition, _offset, _sub) > ({log_id:String}, {partition:UInt16}, {offset:UInt64}, {sub:UInt16}))
       ORDER BY toString(_log_id), _partition, _offset, _sub LIMIT {limit:UInt32}`,
      { teamId, id, sinceMs, first, ...after, limit: AT_ONCE },
    )
    if (places.length === 0) return put
    for (const group of byPartition(places))
      put += await putGroup({ sql, warehouse }, { id, config }, eventsLogId, group)
    after = places.at(-1)!
  }
}

async function putGroup(
  { sql, warehouse }: { sql: Sql; warehouse: Warehouse },
  { id, config }: Pick<Destination, 'id' | 'config'>,
  eventsLogId: string,
  places: readonly Place[],
): Promise<number> {
  const [{ log_id: logId, partition }] = places as [Place]
  const rows = await warehouse.query<EventRow>(
    `${EVENT_SELECT} WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16}
       AND _offset IN {offsets:Array(UInt64)} ORDER BY _offset, _sub LIMIT 1 BY _offset, _sub`,
    { logId, partition, offsets: places.map(({ offset }) => offset) },
  )
  const wanted = new Set(places.map(({ offset, sub }) => `${offset}/${sub}`))
  const values = JSON.stringify(
    rows
      .map(viewOfRow)
      .filter(({ source }) => wanted.has(`${source.offset}/${source.sub}`))
      .map((view) => ({
        raw_offset: view.source.offset,
        sub: view.source.sub,
        order_key: config.ordered ? view.row.distinct_id : null,
        event_row: Buffer.from(EVENTS.encode(view.row)).toString('base64'),
      })),
  )
  const made = await guardState(
    'putting failed deliveries among those to be tried again',
    () => sql`
      INSERT INTO delivery_retry (destination_id, log_id, partition, raw_log_id, raw_offset, sub, order_key, event_row,
        attempts, next_at, again)
      SELECT ${id}::uuid, ${eventsLogId}::uuid, ${partition}::integer, ${logId}::uuid, v.raw_offset, v.sub, v.order_key,
        decode(v.event_row, 'base64'), 0, now(), true
      FROM jsonb_to_recordset(${values}::text::jsonb)
        AS v(raw_offset bigint, sub integer, order_key text, event_row text)
      ON CONFLICT DO NOTHING RETURNING sub`,
  )
  return made.length
}

function byPartition(places: readonly Place[]): Place[][] {
  const groups = new Map<string, Place[]>()
  for (const place of places) {
    const key = `${place.log_id}/${place.partition}`
    groups.set(key, [...(groups.get(key) ?? []), place])
  }
  return [...groups.values()]
}
