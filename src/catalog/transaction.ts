/**
 * A transaction that survives the end of its connection. The driver rejects `begin` when the connection ends, but
 * would still send `commit` or `rollback` when the work inside ends later, write into a socket that is gone, and so
 * bring the process down. Here such work is never told to have ended: its result is of no use to anybody.
 */
import type { Sql, Transaction } from './postgres.ts'

const CONNECTION_ENDED = /^(CONNECTION_|ECONN|EPIPE)/

/**
 * As `sql.begin`, with `options` such as `isolation level read committed`. Every transaction goes through here. Work
 * that goes on after a rejection must not use its transaction any more.
 */
export async function transaction<T>(
  sql: Sql,
  work: (tx: Transaction) => Promise<T>,
  options = '',
): Promise<T> {
  let over = false
  try {
    return (await sql.begin(options, async (tx) => {
      try {
        const result = await work(tx)
        if (over) await never()
        return result
      } catch (error) {
        if (over || CONNECTION_ENDED.test(String((error as { code?: unknown })?.code ?? ''))) await never()
        throw error
      }
    })) as T
  } finally {
    over = true
  }
}

function never(): Promise<never> {
  return new Promise(() => {})
}
