/**
 * Which missing rows must stay missing: those that a deletion erased, and those that retention has expired. The one place
 * to ask, before a row is brought back, whether it was taken out of ClickHouse on purpose.
 *
 * What was erased is on record by place (ledger/erasures.ts), also while the deletion is under way.
 *
 * Retention is what the table itself says (its TTL), evaluated by ClickHouse for the time of each row, so it cannot
 * differ from what a merge does. A TTL that needs more than the times of a row cannot be told here: then nothing is
 * brought back, and a sentence says so.
 */
import type { Sql } from '../catalog/index.ts'
import type { Place, Table } from '../event/index.ts'
import { placesErased } from '../ledger/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { repairError } from './errors.ts'
import type { Lane } from './lost-receipts.ts'

/** For each of some missing rows of one raw partition: may it be brought back. */
export type Keeps = (lane: Lane, rows: readonly KeptRow[]) => Promise<boolean[]>
type KeptRow = Place & { timestampMs: number }

const TIMES_MAX = 2_000

export async function keepsOf(sql: Sql, warehouse: Warehouse, table: Table): Promise<Keeps> {
  const expires = await expiresOf(warehouse, table)
  return async (lane, rows) => {
    if (rows.length === 0) return []
    const offsets = rows.map(({ offset }) => offset)
    const from = offsets.reduce((a, b) => Math.min(a, b))
    const to = offsets.reduce((a, b) => Math.max(a, b)) + 1
    const erased = await placesErased(sql, lane, table.name, from, to)
    const expired = await expires(rows.map(({ timestampMs }) => timestampMs))
    return rows.map(({ offset, sub }, i) => !expired[i] && !erased.has(`${offset}/${sub}`))
  }
}

/** For each of some times: would a row of then be gone by now. */
async function expiresOf(
  warehouse: Warehouse,
  table: Table,
): Promise<(timesMs: readonly number[]) => Promise<boolean[]>> {
  const local = warehouse.variant === 'sharded' ? `${table.name}_local` : table.name
  const [found] = await warehouse.query<{ engine: string }>(
    `SELECT engine_full AS engine FROM system.tables WHERE database = currentDatabase() AND name IN ({local:String}, {name:String})
     ORDER BY name = {local:String} DESC LIMIT 1`,
    { local, name: table.name },
  )
  const ttl = / TTL (.+?)(?: SETTINGS .*)?$/s.exec(found?.engine ?? '')?.[1]
  if (ttl === undefined) return async (times) => times.map(() => false)
  return async (times) => {
    const expired: boolean[] = []
    for (let i = 0; i < times.length; i += TIMES_MAX)
      expired.push(...(await ask(warehouse, table, ttl, times.slice(i, i + TIMES_MAX))))
    return expired
  }
}

async function ask(
  warehouse: Warehouse,
  table: Table,
  ttl: string,
  times: readonly number[],
): Promise<boolean[]> {
  try {
    const rows = await warehouse.query<{ gone: number }>(
      `SELECT toDateTime(${ttl}) <= now() AS gone FROM (
         SELECT place, fromUnixTimestamp64Micro(toInt64(ms) * 1000, 'UTC') AS timestamp, timestamp AS created_at,
           now64(6) AS inserted_at, now() AS _timestamp
         FROM (SELECT arrayJoin(arrayEnumerate([${times.join()}]) AS places) AS place, [${times.join()}][place] AS ms)
       ) ORDER BY place`,
    )
    return rows.map(({ gone }) => gone === 1)
  } catch (error) {
    throw repairError(
      'HR_REPAIR_RETENTION',
      `table ${table.name} has the retention "${ttl}", which cannot be told of a row that is not there; nothing is brought back`,
      error,
    )
  }
}
