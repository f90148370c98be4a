/**
 * What the log no longer has, from ClickHouse. In: a cursor in front of the begin of the log. Out: the next rows of its raw
 * partitions, in the order of their sources, copies left out; behind the last of them the cursor goes on in the log where
 * the load stands. Must hold: only what is below every insert that is not settled is asked for, so nothing that is
 * still on its way is passed. Rows are asked for by source, on the projection by source.
 */
import type { Sql } from '../catalog/index.ts'
import { type ColumnType, EVENTS, type EventRow } from '../event/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { Batch } from './batch.ts'
import { type PartitionKey, readLoaded, type StoredCursor } from './cursors.ts'
import { deliverError } from './errors.ts'
import { EventView } from './event-view.ts'

const ROWS_MAX = 1_000

/** As our rows have it: times in epoch ms. */
function selected(name: string, type: ColumnType): string {
  if (type === 'dateTimeMs') return `toUnixTimestamp64Milli(e.${name}) AS ${name}`
  if (type === 'dateTimeUs') return `toUnixTimestamp64Micro(e.${name}) / 1000 AS ${name}`
  if (type === 'personMode') return `toString(e.${name}) AS ${name}`
  return name
}

const COLUMNS = EVENTS.columns.map(({ name, type }) => selected(name, type)).join(', ')
/** Rows of `events` as `viewOfRow` takes them; conditions are about the table's columns, not about what is made of them. */
export const EVENT_SELECT = `SELECT ${COLUMNS} FROM events AS e`

/** The next batch of a cursor that stands below `start`, the begin of the log. Throws HR_DELIVER_GAP. */
export async function readHistory(
  { sql, warehouse }: { sql: Sql; warehouse: Warehouse },
  key: PartitionKey,
  cursor: Pick<StoredCursor, 'at' | 'until'>,
  start: number,
): Promise<Batch> {
  const at = cursor.at!
  const loaded = await readLoaded(sql, key)
  if (!loaded || loaded.next < start)
    throw deliverError(
      'HR_DELIVER_GAP',
      `the log begins at offset ${start} of events/${key.partition}, the cursor stands at ${at.next}, and the load has only read up to ${loaded?.next ?? 0}`,
    )
  const end = cursor.until && cursor.until.next <= loaded.next ? cursor.until : loaded
  for (const [logId, to] of Object.entries(end.last)) {
    const from = at.last[logId] ?? [0, -1]
    if (!isBefore(from, to)) continue
    const views = await readViews(warehouse, logId, key.partition, from, to)
    if (views.length > 0) return Batch.ofHistory(at, views)
  }
  return Batch.ofHistory(at, [], end)
}

/** Of sources behind `from` up to and with `to`. */
async function readViews(
  warehouse: Warehouse,
  logId: string,
  partition: number,
  [fromOffset, fromSub]: [number, number],
  [toOffset, toSub]: [number, number],
): Promise<EventView[]> {
  const rows = await warehouse.query<EventRow>(
    `${EVENT_SELECT}
     WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16}
       AND _offset >= {fromOffset:UInt64} AND _offset <= {toOffset:UInt64}
       AND (_offset > {fromOffset:UInt64} OR _sub > {fromSub:Int32})
       AND (_offset < {toOffset:UInt64} OR _sub <= {toSub:Int32})
     ORDER BY _offset, _sub LIMIT 1 BY _offset, _sub LIMIT {limit:UInt32}`,
    { logId, partition, fromOffset, fromSub, toOffset, toSub, limit: ROWS_MAX },
  )
  return rows.map(viewOfRow)
}

export function viewOfRow(row: EventRow): EventView {
  const { _log_id, _partition, _offset, _sub } = row
  const source = { logId: _log_id, partition: _partition, offset: _offset, sub: _sub }
  return new EventView(EVENTS.encode(row), source, row.team_id)
}

function isBefore([offset, sub]: [number, number], to: [number, number]): boolean {
  return offset < to[0] || (offset === to[0] && sub < to[1])
}
