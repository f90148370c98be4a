/**
 * Settles the intents that an earlier owner, or an earlier try of this one, left open: the heir's part. In: a
 * partition whose next cut waits. Out: no open intent touches it. For each: lock it, read its records again, bring
 * the rows in (`deliver.ts`). An intent can hold ranges of partitions that others own now; whoever gets the lock
 * settles it for all. Serial per table, so that at most one batch is in memory for it.
 */
import type { Sql } from '../catalog/index.ts'
import { HeadraceError } from '../event/index.ts'
import { type Batch, rebuildBatch } from './batch.ts'
import { type DeliverDeps, deliver } from './deliver.ts'
import { type Hold, holdIntent } from './hold-intent.ts'
import { markRepair, openIntents } from './intent.ts'
import { memoryOf } from './memory.ts'
import { loadMetrics } from './metrics.ts'

export type SettleDeps = DeliverDeps & {
  sql: Sql
  /** Topic → log id, as the log is now. */
  logIds: Map<string, string>
  /** Told what the rows of the intent at hand take in memory, 0 when there is none. */
  settling: (bytes: number) => void
}

/**
 * Resolves when no open intent of `table` touches the partition. Throws retriable errors (the caller waits and tries
 * again) and HR_LOAD_BYTES_DIFFER, after which the partition must stop.
 */
export async function settlePartition(
  deps: SettleDeps,
  table: string,
  of: { logId: string; partition: number },
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const ids = await openIntents(deps.sql, table, of)
    if (ids.length === 0) return
    for (const id of ids) {
      signal.throwIfAborted()
      const result = await settleIntent(deps, id, signal)
      loadMetrics.settled.inc({ table, result })
    }
  }
}

async function settleIntent(deps: SettleDeps, id: string, signal: AbortSignal): Promise<string> {
  let failure: unknown
  const result = await holdIntent(deps.sql, id, async (hold) => {
    const { rows, bytes } = hold.intent
    deps.settling(memoryOf(rows, bytes))
    let batch: Batch
    try {
      batch = await rebuildBatch(deps.log, hold.intent, deps.logIds)
    } catch (error) {
      if (!(error instanceof HeadraceError) || error.class === 'retriable') throw error
      // Thrown after the commit: the verdict must stay.
      failure = error
      return giveUp(deps, hold, error)
    }
    return deliver(deps, hold, batch, 'heir', signal)
  }).finally(() => deps.settling(0))
  if (failure) throw failure
  if (result) await deps.reached('committed')
  return result ?? 'settled by another'
}

/** Its records cannot be read as they were: nothing can be sent again. */
async function giveUp(deps: SettleDeps, hold: Hold, error: HeadraceError): Promise<'repair'> {
  const { id, table, rows } = hold.intent
  await hold.write((tx) => markRepair(tx, id, `${error.code}: ${error.message}`))
  deps.logger.error(
    { table, intent: id, rows, code: error.code, docs: 'docs/runbooks/load.md#repair' },
    `load intent ${id} goes to repair: ${error.message}`,
  )
  return 'repair'
}
