/**
 * Guards against a trap of the driver (postgres 3.4.9): after a connection died, or a statement failed, in the middle
 * of its rows, the next result on that connection begins with as many holes as rows had come before; then
 * `const [row] = await sql…` is undefined although the row exists. A result's `count` is right and its rows stand at
 * the end, so the holes are cut off before anybody sees it: for every query of every pool, also within transactions.
 */
import type postgres from 'postgres'

type Result = unknown[] & { count?: number | null }
type Query = { executed: boolean; resolve: (result: Result) => void }
type QueryPrototype = { handle(this: Query): Promise<void>; [DENSE]?: true }

const DENSE = Symbol('headrace.dense')

/** Makes the driver of `sql` give whole results. Doing it twice does nothing. */
export function keepResultsDense(sql: postgres.Sql): void {
  // The class is not exported; a query that nobody awaits is never sent.
  const prototype = Object.getPrototypeOf(sql`SELECT`) as QueryPrototype
  if (prototype[DENSE]) return
  prototype[DENSE] = true
  const { handle } = prototype
  prototype.handle = function () {
    if (!this.executed) {
      const { resolve } = this
      this.resolve = (result) => resolve(withoutHoles(result))
    }
    return handle.call(this)
  }
}

/** In place, because a result carries more than its rows. */
export function withoutHoles(result: Result): Result {
  const { count } = result
  if (Array.isArray(result) && typeof count === 'number' && result.length > count)
    result.splice(0, result.length - count)
  return result
}
