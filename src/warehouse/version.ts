/**
 * The oldest ClickHouse that this version works with. In: what the server says of itself. Out: nothing, or one sentence.
 *
 * It is 24.8 for the sake of insert tokens. Before (until the change that came as ClickHouse/ClickHouse#66144 in July 2024) a
 * table without replicas numbered the months of an insert, and remembered the token with that number: the same month under
 * the same token was then another entry, depending on which other months the insert had, and stored once more. Load sends the
 * months of an insert together or alone, as there is memory, and relies on each being remembered by itself. The projection of
 * `events`, too, needs a setting that came with 24.8. Only the node that one is connected to is asked: it is the one that
 * inserts.
 */
import type { Warehouse } from './client.ts'
import { warehouseError } from './errors.ts'

const OLDEST = { year: 24, month: 8 }

/** Throws HR_WAREHOUSE_TOO_OLD, HR_WAREHOUSE_UNAVAILABLE. Gives the version. */
export async function checkVersion(warehouse: Warehouse): Promise<string> {
  const [said] = await warehouse.query<{ version: string }>('SELECT version() AS version')
  const version = said?.version ?? ''
  if (!isNewEnough(version))
    throw warehouseError(
      'HR_WAREHOUSE_TOO_OLD',
      `ClickHouse says that its version is "${version}"; needed is ${OLDEST.year}.${OLDEST.month} or newer, since an older one would store rows twice when an insert is tried again`,
    )
  return version
}

/** Whether `version`, such as `24.8.4.13` or `25.3.2.39.altinitystable`, is new enough. */
export function isNewEnough(version: string): boolean {
  const [, year, month] = /^(\d+)\.(\d+)(?:\.|$)/.exec(version) ?? []
  if (year === undefined) return false
  return Number(year) > OLDEST.year || (Number(year) === OLDEST.year && Number(month) >= OLDEST.month)
}
