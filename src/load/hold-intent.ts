/**
 * Holds the row lock of one intent while its rows are on their way. The lock belongs to a transaction that Postgres
 * ends by itself when it hears nothing for `LOCK_IDLE_MS`, so a paused or cut-off owner never blocks its heir for
 * longer; an awake one sends a `SELECT 1` every `KEEP_ALIVE_MS`.
 *
 * ```
 * lock ──▶ held ──work resolves──▶ committed
 *            ├───work throws─────▶ rolled back: the intent is open as before
 *            └───connection ends─▶ lost: `signal` aborts, nothing more may be written through `tx`
 * ```
 * The lock only saves double work. What makes double work harmless is the insert token, and asking for the sources. A token
 * is remembered for minutes, so nobody may begin to send long after the lock was his: who sends confirms it before, and
 * looks at the clock when the first bytes go, since he may have slept in between.
 */
import { classifyState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { loadError } from './errors.ts'
import { lockIntent, type StoredIntent } from './intent.ts'

const LOCK_IDLE_MS = 10_000
const KEEP_ALIVE_MS = 3_000
const SILENT = `Postgres did not answer for ${LOCK_IDLE_MS} ms`
const SLEPT = `it was confirmed ${LOCK_IDLE_MS} ms ago or more`
/** How long one try waits for another loader; the caller tries again. */
export const LOCK_WAIT_MS = 2_000

export type Hold = {
  intent: StoredIntent
  /** Aborts when the lock is lost. */
  signal: AbortSignal
  /** Runs `write` in the locking transaction. Throws HR_LOAD_LOCK_LOST once the lock is lost. */
  write<T>(write: (tx: Transaction) => Promise<T>): Promise<T>
  /**
   * Asks Postgres whether it is held still, which who has slept does not know. Throws HR_LOAD_LOCK_LOST, also when there is
   * no answer in time. What it gives throws the same when so much time has passed since that it may be lost.
   */
  confirm(): Promise<() => void>
}

/**
 * Runs `work` while the lock of intent `id` is held, then commits. Resolves with undefined, without running it, when
 * the intent is settled already. Throws HR_LOAD_LOCK_LOST, HR_STATE_* or what `work` throws.
 */
export async function holdIntent<T>(
  sql: Sql,
  id: string,
  work: (hold: Hold) => Promise<T>,
): Promise<T | undefined> {
  const lost = new AbortController()
  const whenLost = new Promise<never>((_, reject) => {
    lost.signal.addEventListener('abort', () => reject(lockLost(id, lost.signal.reason)))
  })
  whenLost.catch(() => {})
  // The driver can end the transaction while `work` still runs: it is awaited too, so that nothing runs on unseen.
  let running: Promise<unknown> = Promise.resolve()
  try {
    return (await transaction(sql, async (tx) => {
      await tx`SELECT set_config('idle_in_transaction_session_timeout', ${`${LOCK_IDLE_MS}ms`}, true)`
      const intent = await lockIntent(tx, id, LOCK_WAIT_MS)
      if (!intent) return undefined
      const write = async <W>(write: (tx: Transaction) => Promise<W>) => {
        if (lost.signal.aborted) throw lockLost(id, lost.signal.reason)
        // The driver may never answer a query whose connection ended in the same moment.
        return Promise.race([write(tx), whenLost])
      }
      const confirm = async () => {
        const askedMs = performance.now()
        const late = setTimeout(() => lost.abort(new Error(SILENT)), LOCK_IDLE_MS)
        try {
          await write((tx) => tx`SELECT 1`)
        } catch (error) {
          if (!lost.signal.aborted) lost.abort(error)
          throw lockLost(id, error)
        } finally {
          clearTimeout(late)
        }
        return () => {
          if (performance.now() - askedMs >= LOCK_IDLE_MS) throw lockLost(id, new Error(SLEPT))
        }
      }
      const keepAlive = setInterval(() => void confirm().catch(() => {}), KEEP_ALIVE_MS)
      const done = work({ intent, signal: lost.signal, write, confirm }).finally(() =>
        clearInterval(keepAlive),
      )
      running = done.catch(() => {})
      const result = await done
      // Whatever it made of that: there is nothing to commit.
      if (lost.signal.aborted) throw lockLost(id, lost.signal.reason)
      return result
    })) as T | undefined
  } catch (error) {
    if (!lost.signal.aborted) lost.abort(error)
    await running
    // That the transaction is no more: 25P03 is the goodbye when it was idle for too long, others say it afterwards.
    if (String((error as { code?: unknown }).code).startsWith('25P')) throw lockLost(id, error)
    throw classifyState(`hold load intent ${id}`, error)
  }
}

function lockLost(id: string, cause: unknown) {
  return loadError(
    'HR_LOAD_LOCK_LOST',
    `the lock on load intent ${id} was lost while its rows were sent`,
    cause,
  )
}
