/**
 * Load progress that lies in front of what topic `events` still holds: retention removed rows that were loaded in the
 * time that a restored Postgres lost. In: the fence as restored, how far ClickHouse reaches. Out: the fence at the
 * beginning of the topic, with the place in front of the first record of each raw log. That place is taken only when
 * ClickHouse has its row; whether those before it are all there is for the audit to say, which has their receipts.
 * Cost: reads the topic until each raw log was met.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import {
  decodeRowHeader,
  formatSource,
  type Place,
  ROW_TOPICS,
  type RowTopic,
  TOPICS,
  writerPartition,
} from '../event/index.ts'
import type { Log } from '../log/index.ts'
import { presentPlaces, type Warehouse } from '../warehouse/index.ts'
import { repairError } from './errors.ts'

export type Deps = { sql: Sql; log: Log; warehouse: Warehouse; partitions: number }
export type Fence = { logId: string; next: number; last: Record<string, [number, number]> }

/** Throws HR_REPAIR_OUTPUT_GONE when ClickHouse lacks a row in front of the first that can be read. */
export async function behindCut(
  deps: Deps,
  partition: number,
  fence: Fence,
  first: number,
  reached: ReadonlyMap<string, [number, number]>,
): Promise<Fence> {
  const last: Fence['last'] = { ...fence.last, ...Object.fromEntries(reached) }
  for (const [logId, place] of await firstPlaces(deps, partition, first, new Set(reached.keys()))) {
    if (place === undefined) delete last[logId]
    else {
      await refuseAbsent(deps, { logId, partition, ...place }, first)
      last[logId] = [place.offset, place.sub]
    }
  }
  return { ...fence, next: first, last }
}

/** Per raw log the place in front of its first record at or behind `from`; none for a log without a record. */
async function firstPlaces(
  { log }: Deps,
  partition: number,
  from: number,
  wanted: Set<string>,
): Promise<Map<string, Place | undefined>> {
  const places = new Map<string, Place | undefined>()
  const { end } = await log.bounds(TOPICS.events, partition)
  for await (const records of log.read(TOPICS.events, partition, from, end)) {
    for (const { header } of records) {
      const { source, prev } = decodeRowHeader(header)
      if (!wanted.delete(source.logId)) continue
      places.set(source.logId, prev)
    }
    if (wanted.size === 0) break
  }
  return places
}

async function refuseAbsent(
  { warehouse }: Deps,
  source: Place & { logId: string; partition: number },
  first: number,
): Promise<void> {
  const { offset } = source
  const range = { logId: source.logId, partition: source.partition, from: offset, to: offset + 1 }
  const present = await presentPlaces(warehouse, range, Number.MAX_SAFE_INTEGER)
  if (present.some(({ sub }) => sub === source.sub)) return
  // Load had it, and ClickHouse refused it.
  const [refused] = await warehouse.query<{ n: number }>(
    `SELECT count() AS n FROM outcomes
     WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset = {offset:UInt64}
       AND state = 'dead_lettered' AND reason = 'refused_by_warehouse'`,
    { logId: source.logId, partition: source.partition, offset },
  )
  if (refused!.n > 0) return
  throw repairError(
    'HR_REPAIR_OUTPUT_GONE',
    `events/${source.partition} begins at offset ${first}, and ClickHouse does not have the row in front of it (${formatSource(source)}): nobody can tell what else is missing`,
  )
}

/**
 * The other row topics of a number whose load progress was behind: they go on where they begin. What was removed of
 * them was loaded, or is sent again with the state of the lost time, or is missed by the audit.
 */
export async function passRemoved({ sql, log, partitions }: Deps, number: number): Promise<void> {
  for (const { name, logId } of await log.describe(ROW_TOPICS.filter((topic) => topic !== TOPICS.events))) {
    for (const partition of new Set([
      number,
      writerPartition(name as RowTopic, 'load', number, partitions),
    ])) {
      const { start } = await log.bounds(name, partition)
      if (start === 0) continue
      await guardState(
        'move load fence',
        () => sql`
          INSERT INTO load_fence AS f (log_id, partition, topic, next_offset)
          VALUES (${logId}, ${partition}, ${name}, ${start})
          ON CONFLICT (log_id, partition) DO UPDATE SET next_offset = excluded.next_offset, updated_at = now()
          WHERE f.next_offset < excluded.next_offset`,
      )
    }
  }
}
