/**
 * Rows of ClickHouse that are written anew from rows that are there (`INSERT … SELECT`): such a statement outlives the process
 * that sent it, and what it writes late would be there again after a deletion, or old after a squash. So each is marked and
 * ends by itself, and whoever changes rows waits at its begin until none is under way.
 */
import type { Warehouse } from './client.ts'
import { systemTable } from './replicas.ts'

/** In front, since ClickHouse may show only the begin of a query. */
const MARK = '/* headrace copies rows */'
const SECONDS_MAX = 50
const LOOK_AGAIN_MS = 500

/** `statement` is an `INSERT … SELECT … SETTINGS …`. */
export function markedCopy(statement: string): string {
  return `${MARK} ${statement}, max_execution_time = ${SECONDS_MAX}`
}

/** Resolves when no node copies rows any more. `hold` is called in between, and ends the wait with what it throws. */
export async function untilNothingIsCopied(warehouse: Warehouse, hold: () => Promise<void>): Promise<void> {
  for (;;) {
    await hold()
    const [row] = await warehouse.query<{ busy: number }>(
      `SELECT count() AS busy FROM ${systemTable(warehouse, 'processes')}
       WHERE query_kind = 'Insert' AND position(query, {mark:String}) > 0`,
      { mark: MARK },
    )
    if (row!.busy === 0) return
    await Bun.sleep(LOOK_AGAIN_MS)
  }
}
