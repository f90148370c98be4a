/** Transactions whose connection ends inside them, on a real Postgres. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import {
  startPostgresByUrl,
  startTestPostgres,
  type TestPostgres,
  type UrlPostgres,
} from '../../test/support/postgres.ts'
import { classifyState, openPostgres, type Transaction } from './postgres.ts'
import { transaction } from './transaction.ts'

setDefaultTimeout(60_000)

let server: TestPostgres
beforeAll(async () => {
  server = await startTestPostgres({ migrate: false })
  await server.sql`CREATE TABLE thing (id integer)`
})
afterAll(() => server.stop())

/** Postgres ends a transaction that is silent for this long. */
const IDLE_MS = 200
/** In which nothing else runs, as in a process that was stopped. */
const SLEEP_MS = 500

type Work = (tx: Transaction) => Promise<unknown>

/** Where the goodbye of Postgres finds the driver. */
const ENDS: Record<string, Work> = {
  'with a query that is about to be sent': async (tx) => {
    Bun.sleepSync(SLEEP_MS)
    await tx`SELECT 1`
  },
  'with a query under way': async (tx) => {
    const asked = tx`SELECT 1`.then(() => {})
    Bun.sleepSync(SLEEP_MS)
    await asked
  },
  'with a query sent in the turn in which it is read': async (tx) => {
    await afterSleep(0)
    await tx`SELECT 1`
  },
  'with queries sent after it': async (tx) => {
    await afterSleep(20)
    await Promise.allSettled([tx`SELECT 1`, tx.unsafe('SELECT 2')])
    await tx`SELECT 3`
  },
  'with work that makes an error of its own of it': async (tx) => {
    Bun.sleepSync(SLEEP_MS)
    await tx`SELECT 1`.catch((cause: unknown) => {
      throw new Error('the lock was lost', { cause })
    })
  },
  'with work that does not mind': async (tx) => {
    Bun.sleepSync(SLEEP_MS)
    await tx`SELECT 1`.catch(() => {})
  },
}

/** Resolves so many ms after a sleep in the middle of a turn. */
function afterSleep(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  setImmediate(() => {
    Bun.sleepSync(SLEEP_MS)
    setTimeout(resolve, ms)
  })
  return promise
}

describe('a transaction that Postgres ends because it slept', () => {
  let remote: UrlPostgres
  beforeAll(async () => {
    remote = await startPostgresByUrl()
  })
  afterAll(() => remote.stop())

  test.each(Object.entries(ENDS))(
    '%s: it fails, sends nothing into what is gone, and the next query is not told of it',
    async (_, work) => {
      const pool = openPostgres({ url: remote.url, name: 'sleeper', connectionsMax: 1 })
      for (let round = 0; round < 3; round++) {
        const ending = transaction(pool, async (tx) => {
          await tx`SELECT set_config('idle_in_transaction_session_timeout', ${String(IDLE_MS)}, true)`
          await work(tx)
        })
        const error = await ending.catch((reason: unknown) => reason)
        expect(classifyState('trying', error)).toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
        expect(await pool`SELECT 7 AS seven`).toMatchObject([{ seven: 7 }])
      }
      await pool.end({ timeout: 1 })
    },
  )
})

test('the end of another connection rolls back, and is thrown as it is', async () => {
  const other = openPostgres({ url: server.url, name: 'other', connectionsMax: 1 })
  const mine = new Error('mine')
  const ending = transaction(server.sql, async (tx) => {
    await tx`INSERT INTO thing VALUES (1)`
    const [row] = await other<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`
    await server.sql`SELECT pg_terminate_backend(${row!.pid})`
    try {
      await other`SELECT pg_sleep(10)`
    } catch (error) {
      mine.cause = error
    }
    throw mine
  })
  await expect(ending).rejects.toBe(mine)
  expect(mine.cause).toBeDefined()
  expect(await server.sql`SELECT id FROM thing`).toHaveLength(0)
  await other.end({ timeout: 1 })
})

test('an error that has nothing to do with an end rolls back at once', async () => {
  const from = performance.now()
  const ending = transaction(server.sql, async (tx) => {
    await tx`INSERT INTO thing VALUES (1)`
    throw new Error('mine')
  })
  await expect(ending).rejects.toThrow('mine')
  expect(performance.now() - from).toBeLessThan(1_500)
  expect(await server.sql`SELECT id FROM thing`).toHaveLength(0)
})
