/**
 * A transaction that survives the end of its connection. The driver rejects `begin` when the connection ends, but
 * would still send `commit` or `rollback` when the work inside ends later, write into a socket that is gone, and so
 * bring the process down. Here such work is never told to have ended: its result is of no use to anybody. The queries that
 * it still asks go into the same socket, and are refused here.
 *
 * That the connection ended, the work may hear first, and make an error of its own of it. So an error is looked through, down
 * to what caused it; and since that may be of another connection, such work waits for the end of its own, but not for ever.
 */
import { endsWithin } from '../platform/index.ts'
import type { Sql, Transaction } from './postgres.ts'

const CONNECTION_ENDED = /^(CONNECTION_|ECONN|EPIPE|ERR_SOCKET_|ERR_STREAM_)/
/** Of errors, each the cause of the one before. */
const CAUSES_MAX = 10
/** From the last words of Postgres, or of the socket, to its close. */
const CLOSE_MS_MAX = 2_000

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
  const ended = Promise.withResolvers<void>()
  try {
    return (await sql.begin(options, async (tx) => {
      try {
        const result = await work(refusing(tx, () => over))
        if (over) await never()
        return result
      } catch (error) {
        if (!over && isOfAnEnd(error)) await endsWithin(ended.promise, CLOSE_MS_MAX)
        if (over) await never()
        throw error
      }
    })) as T
  } finally {
    over = true
    ended.resolve()
  }
}

/** `tx`, until its connection has ended. */
function refusing(tx: Transaction, isOver: () => boolean): Transaction {
  const refuse = () => {
    const refused = Promise.reject(
      Object.assign(new Error('the connection of this transaction has ended'), { code: 'CONNECTION_ENDED' }),
    )
    // As a part of another query nobody waits for it.
    refused.catch(() => {})
    return refused
  }
  return new Proxy(tx, {
    apply: (target, self, args) => (isOver() ? refuse() : Reflect.apply(target, self, args)),
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name)
      return isOver() && typeof value === 'function' ? refuse : value
    },
  })
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | undefined)?.code ?? '')
}

/** It, or what caused it, says that a connection ended, or is what Postgres says before it closes one. */
function isOfAnEnd(error: unknown): boolean {
  let cause = error
  for (let depth = 0; cause instanceof Error && depth < CAUSES_MAX; depth++) {
    if (CONNECTION_ENDED.test(codeOf(cause))) return true
    if ((cause as { severity?: unknown }).severity === 'FATAL') return true
    cause = cause.cause
  }
  return false
}

function never(): Promise<never> {
  return new Promise(() => {})
}
