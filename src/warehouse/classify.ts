/**
 * What an error of ClickHouse, or of the way to it, means for the caller. Pure. The numbers are ClickHouse's own
 * (`system.error_codes`); only the ones listed are judged, any other answer to an insert is ours to look at.
 */
import { ClickHouseError } from '@clickhouse/client'
import { HeadraceError } from '../event/index.ts'
import { warehouseError } from './errors.ts'

/** Time-outs, limits of the moment, disks, replicas, Keeper, shutdown: wait and try again. */
const UNAVAILABLE = new Set([
  3, 74, 75, 76, 95, 96, 107, 159, 160, 164, 173, 198, 201, 202, 203, 209, 210, 215, 225, 235, 236, 240, 241,
  242, 243, 244, 252, 254, 265, 279, 285, 286, 290, 305, 319, 335, 341, 342, 364, 373, 394, 415, 416, 425,
  427, 439, 473, 478, 492, 499, 529, 573, 574, 579, 598, 612, 625, 636, 650, 659, 667, 677, 692, 697, 700,
  701, 705, 710, 722, 733, 999, 1000, 1001, 1002,
])
/** Who we are or what we may do. */
const DENIED = new Set([192, 193, 194, 195, 291, 497, 516, 519, 738])
/** A table, column or database that our migrations make. */
const SCHEMA_BEHIND = new Set([8, 10, 16, 47, 60, 81])
/** The bytes do not parse, do not fit their columns, or break a constraint. */
const ROWS_REFUSED = new Set([
  6, 7, 20, 25, 26, 27, 32, 33, 34, 36, 38, 41, 43, 53, 69, 70, 72, 117, 128, 130, 131, 190, 321, 349, 376,
  407, 441, 442, 467, 469, 489, 632, 675, 676, 691, 708,
])
/** Also sent, with another text, for an insert that touches too many partitions. */
const TOO_MANY_PARTS = 252

export type Doing = 'insert' | 'query'

/** The HeadraceError for whatever a call to ClickHouse threw; one that is already ours passes. */
export function classify(error: unknown, doing: Doing, what: string): HeadraceError {
  if (error instanceof HeadraceError) return error
  const text = error instanceof Error ? error.message : String(error)
  if (!(error instanceof ClickHouseError))
    return warehouseError('HR_WAREHOUSE_UNAVAILABLE', `${what}: ClickHouse did not answer: ${text}`, error)
  const code = Number(error.code)
  const sentence = `${what}: ClickHouse says ${code} ${error.type ?? ''}: ${text}`
  if (code === TOO_MANY_PARTS && text.includes('partitions for single INSERT block'))
    return warehouseError('HR_WAREHOUSE_TOO_MANY_MONTHS', sentence, error)
  if (UNAVAILABLE.has(code)) return warehouseError('HR_WAREHOUSE_UNAVAILABLE', sentence, error)
  if (DENIED.has(code)) return warehouseError('HR_WAREHOUSE_DENIED', sentence, error)
  if (doing === 'query')
    return SCHEMA_BEHIND.has(code) && code !== 47
      ? warehouseError('HR_WAREHOUSE_SCHEMA_BEHIND', sentence, error)
      : warehouseError('HR_WAREHOUSE_QUERY_REFUSED', sentence, error)
  if (SCHEMA_BEHIND.has(code)) return warehouseError('HR_WAREHOUSE_SCHEMA_BEHIND', sentence, error)
  if (ROWS_REFUSED.has(code)) return warehouseError('HR_WAREHOUSE_REFUSED', sentence, error)
  return warehouseError('HR_WAREHOUSE_UNEXPECTED', sentence, error)
}
