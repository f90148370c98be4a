/**
 * Which sources are in the warehouse: what an audit and the heir of an insert ask. In: a table with source columns
 * and a range of raw offsets. Out: how many rows and distinct sources lie in it and the sum of their hashes, equal
 * to the sum of `sourceHash` over the same places. Copies of one source that a merge has not removed yet count in
 * `rows`, not in `sources` or `hashSum`. Cost: for `events` a read of its `by_source` projection, in source order.
 */
import { EVENTS, type Place, type Table } from '../event/index.ts'
import type { Warehouse } from './client.ts'

export type SourceRange = {
  logId: string
  partition: number
  /** First offset. */
  from: number
  /** Last offset plus one. */
  to: number
}

export type PresentSources = {
  /** Stored rows, copies included. */
  rows: number
  /** Distinct places. */
  sources: number
  /** Sum of `sourceHash` over the distinct places. */
  hashSum: bigint
}

const WHERE =
  '_log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset >= {from:UInt64} AND _offset < {to:UInt64}'

/** What `table` holds of each range, in the order of `ranges`; `only`: a condition of the rows that count. */
export async function presentSources(
  warehouse: Warehouse,
  ranges: readonly SourceRange[],
  table: Table = EVENTS,
  only = '1',
): Promise<PresentSources[]> {
  type Row = { rows: number; sources: number; hash_sum: string }
  const found: PresentSources[] = []
  for (const range of ranges) {
    const [row] = await warehouse.query<Row>(
      `SELECT sum(copies) AS rows, count() AS sources,
         toString(sum(xxHash32(concat(toString(_offset), ':', toString(_sub))))) AS hash_sum
       FROM (SELECT _offset, _sub, count() AS copies FROM ${table.name} WHERE ${WHERE} AND ${only} GROUP BY _offset, _sub)`,
      range,
    )
    found.push({ rows: row!.rows, sources: row!.sources, hashSum: BigInt(row!.hash_sum) })
  }
  return found
}

/** One place as a table holds it. */
export type PresentPlace = Place & { copies: number }

/** Every place of a short range, in order, and how many copies there are of each. */
export async function presentCopies(
  warehouse: Warehouse,
  range: SourceRange,
  table: Table,
  only = '1',
): Promise<PresentPlace[]> {
  return await warehouse.query<PresentPlace>(
    `SELECT _offset AS offset, _sub AS sub, count() AS copies FROM ${table.name} WHERE ${WHERE} AND ${only}
     GROUP BY _offset, _sub ORDER BY _offset, _sub`,
    range,
  )
}

/** The distinct places of one range that `table` holds, in order; at most `limit`. */
export async function presentPlaces(
  warehouse: Warehouse,
  range: SourceRange,
  limit: number,
  table: Table = EVENTS,
): Promise<Place[]> {
  return await warehouse.query<Place>(
    `SELECT _offset AS offset, _sub AS sub FROM ${table.name} WHERE ${WHERE}
     GROUP BY _offset, _sub ORDER BY _offset, _sub LIMIT {limit:UInt64}`,
    { ...range, limit },
  )
}

/**
 * Rows below an offset of each raw partition, as a condition; none of a partition that is not named. Numbers only, and no
 * comparison of texts for each row.
 */
export function belowOffsets(
  positions: readonly { logId: string; partition: number; offset: number }[],
): string {
  const logs = [...Map.groupBy(positions, ({ logId }) => logId)].map(([logId, some]) => {
    const offsets = Array<number>(Math.max(...some.map(({ partition }) => partition)) + 1).fill(0)
    for (const { partition, offset } of some) offsets[partition] = offset
    return `(_log_id = toUUID('${logId}') AND _offset < [${offsets.join()}][_partition + 1])`
  })
  return logs.length === 0 ? '0' : `(${logs.join(' OR ')})`
}
