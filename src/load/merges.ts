/**
 * Waits for merges when ClickHouse has too many parts: what is refused for them would be refused again, and an insert is
 * a lot to send for that. In: the table. Out: nothing; the caller tries again then. Cost: one look at `system.parts` each
 * few seconds. When ClickHouse does not say how many there are, that is logged, and the insert itself has to ask.
 */
import { HeadraceError } from '../event/index.ts'
import type { Logger } from '../observe/index.ts'
import { backoffMs, pause } from '../platform/index.ts'
import type { Warehouse } from '../warehouse/index.ts'

/** Of the parts that there were: then an insert is worth a try. */
const LEFT = 0.8
/** Nobody knows the limits of the server better than itself: it is asked at last. */
const WAIT_MS_MAX = 10_000
const LOOK = { firstMs: 1_000, maxMs: 5_000 }

/** Resolves when a fifth of the parts is merged, after ten seconds, when nobody can tell, or when `signal` aborts. */
export async function untilMerged(deps: Deps, table: string, signal: AbortSignal): Promise<void> {
  const until = performance.now() + WAIT_MS_MAX
  const first = await countParts(deps, table)
  for (let look = 1; first !== undefined && performance.now() < until; look++) {
    await pause(backoffMs(look, LOOK), signal)
    if (signal.aborted) return
    const now = await countParts(deps, table)
    if (now === undefined || now.most <= first.most * LEFT || now.all <= first.all * LEFT) return
  }
}

type Deps = { warehouse: Warehouse; logger: Logger }
type Parts = { all: number; most: number }

/** In all months and in the fullest one, since ClickHouse limits both; undefined when it does not say. */
async function countParts({ warehouse, logger }: Deps, table: string): Promise<Parts | undefined> {
  try {
    const [parts] = await warehouse.query<Parts>(
      `SELECT sum(parts) AS all, max(parts) AS most FROM (
         SELECT count() AS parts FROM system.parts
         WHERE active AND database = currentDatabase() AND table IN ({table:String}, concat({table:String}, '_local'))
         GROUP BY partition_id)`,
      { table },
    )
    return parts
  } catch (error) {
    if (!(error instanceof HeadraceError)) throw error
    const { code, message } = error
    const docs = 'docs/runbooks/load.md#too-many-parts'
    logger.warn({ table, code, docs }, `ClickHouse does not say how many parts ${table} has: ${message}`)
    return undefined
  }
}
