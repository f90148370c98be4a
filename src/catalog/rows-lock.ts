/**
 * Who changes rows of ClickHouse beside load (a repair, a deletion, a squash) does it alone, in the whole deployment: what
 * one of them counts must not change under it. The lock is a transaction's, so it ends with its process.
 */
import { guardState, type Sql, type Transaction } from './postgres.ts'
import { transaction } from './transaction.ts'

/** Any number, the same in all versions. */
const ROWS_LOCK = 7_251_846_302

/** Runs `work` alone; throws what `busy` gives when another process is at it. `hold` throws once the lock is lost. */
export async function withRowsLock<T>(
  sql: Sql,
  busy: () => Error,
  work: (hold: () => Promise<void>) => Promise<T>,
): Promise<T> {
  return transaction(sql, async (tx: Transaction) => {
    // It is idle while rows are on their way; a server that ends such transactions would end the work.
    await tx`SELECT set_config('idle_in_transaction_session_timeout', '0', true)`
    const [row] = await tx<{ locked: boolean }[]>`SELECT pg_try_advisory_xact_lock(${ROWS_LOCK}) AS locked`
    if (!row!.locked) throw busy()
    return work(async () => {
      await guardState('hold the lock of rows', () => tx`SELECT 1`)
    })
  })
}
