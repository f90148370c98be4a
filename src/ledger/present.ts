/**
 * What ClickHouse holds of a range of raw offsets, in three numbers, all exact: rows, distinct places and the sum of
 * the places' hashes. Distinct places are counted in a bitmap, which a dense range fills nearly for nothing, so that
 * nothing is grouped: about 0.1 µs per row, read from the projection `by_source` in its order. Only where a row is
 * there more than once the places are grouped, since a copy must count once in the hash sum.
 */
import type { Table } from '../event/index.ts'
import { type PresentSources, presentSources, type SourceRange, type Warehouse } from '../warehouse/index.ts'

/** At most 2^32 offsets: a place is its row number above 32 bits of offset. */
export async function presentSums(
  warehouse: Warehouse,
  range: SourceRange,
  table: Table,
): Promise<PresentSources> {
  const [found] = await warehouse.query<{ rows: number; sources: number; hash_sum: string }>(
    `SELECT count() AS rows,
       groupBitmap(bitShiftLeft(toUInt64(_sub), 32) + toUInt64(_offset - {from:UInt64})) AS sources,
       toString(sum(xxHash32(concat(toString(_offset), ':', toString(_sub))))) AS hash_sum
     FROM ${table.name}
     WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16}
       AND _offset >= {from:UInt64} AND _offset < {to:UInt64}`,
    range,
  )
  const { rows, sources, hash_sum } = found!
  if (rows === sources) return { rows, sources, hashSum: BigInt(hash_sum) }
  const [distinct] = await presentSources(warehouse, [range], table)
  return distinct!
}
