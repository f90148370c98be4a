/** Transactions whose connection ends inside them, on a real Postgres. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { openPostgres, type Sql } from './postgres.ts'
import { transaction } from './transaction.ts'

setDefaultTimeout(60_000)

let server: TestPostgres
beforeAll(async () => {
  server = await startTestPostgres({ migrate: false })
  await server.sql`CREATE TABLE thing (id integer)`
})
afterAll(() => server.stop())

/** The driver as far as it matters here: it rejects when the connection closes, and sends what ends the transaction. */
function driver() {
  const closed = Promise.withResolvers<never>()
  const sent: string[] = []
  const begin = (_: string, work: (tx: unknown) => Promise<unknown>) => {
    const scope = async () => {
      try {
        const result = await work({})
        sent.push('commit')
        return result
      } catch (error) {
        sent.push('rollback')
        throw error
      }
    }
    return Promise.race([scope(), closed.promise])
  }
  const close = () => closed.reject(Object.assign(new Error('closed'), { code: 'CONNECTION_CLOSED' }))
  return { sql: { begin } as unknown as Sql, sent, close }
}

describe('work that hears of the end of its connection sends nothing after it', () => {
  test.each([
    ['by the driver', { code: 'CONNECTION_CLOSED' }],
    ['by the socket', { code: 'ECONNRESET' }],
    ['by a socket that is gone', { code: 'ERR_SOCKET_CLOSED' }],
    ['by Postgres: it was idle for too long', { code: '25P03', severity: 'FATAL' }],
    ['by Postgres: its operator ends it', { code: '57P01', severity: 'FATAL' }],
  ])('%s, also as the cause of an error of its own', async (_, said) => {
    for (const depth of [0, 1, 2]) {
      const { sql, sent, close } = driver()
      const ending = transaction(sql, async () => {
        let error = Object.assign(new Error('end'), said) as Error
        for (let i = 0; i < depth; i++) error = new Error('the lock was lost', { cause: error })
        setTimeout(close, 5)
        throw error
      })
      await expect(ending).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
      expect(sent).toEqual([])
    }
  })
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
