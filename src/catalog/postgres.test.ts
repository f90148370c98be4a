import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { HeadraceError, isRetriable } from '../event/index.ts'
import { classifyState, guardState, openPostgres, type Sql } from './postgres.ts'

setDefaultTimeout(60_000)

let server: TestPostgres
let sql: Sql
beforeAll(async () => {
  server = await startTestPostgres({ migrate: false })
  sql = server.sql
  await sql`CREATE TABLE thing (id integer PRIMARY KEY, words text, document jsonb, small smallint)`
  await sql`INSERT INTO thing VALUES (1), (2)`
})
afterAll(() => server.stop())

const open = () => openPostgres({ url: server.url, name: 'test', connectionsMax: 1 })

/** What guardState makes of the error that `work` provokes. */
async function provoke(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await guardState('trying', work)
  } catch (error) {
    return error
  }
  throw new Error('nothing went wrong')
}

async function provokeWith(work: (sql: Sql) => Promise<unknown>): Promise<unknown> {
  const own = open()
  try {
    return await provoke(() => work(own))
  } finally {
    await own.end({ timeout: 1 })
  }
}

test.each([
  ['a unique violation', () => sql`INSERT INTO thing (id) VALUES (1)`],
  ['a zero byte in text', () => sql`INSERT INTO thing (id, words) VALUES (3, ${'a\0b'})`],
  [
    'a zero character in jsonb',
    () => sql`INSERT INTO thing (id, document) VALUES (3, ${'{"a":"\\u0000"}'}::text::jsonb)`,
  ],
  [
    'a lone surrogate in jsonb',
    () => sql`INSERT INTO thing (id, document) VALUES (3, ${'{"a":"\\ud800"}'}::text::jsonb)`,
  ],
  ['text that is no JSON', () => sql`INSERT INTO thing (id, document) VALUES (3, ${'{'}::text::jsonb)`],
  ['a number out of range', () => sql`INSERT INTO thing (id, small) VALUES (3, ${'40000'}::text::smallint)`],
  ['a missing value', () => sql`INSERT INTO thing (id) VALUES (NULL)`],
])('%s is HR_STATE_REFUSED: this statement can never succeed', async (_, statement) => {
  expect(await provoke(statement)).toMatchObject({ code: 'HR_STATE_REFUSED', class: 'rejected' })
})

test('a refused connection is HR_STATE_UNAVAILABLE', async () => {
  const nobody = openPostgres({ url: 'postgres://u:p@127.0.0.1:1/d', name: 'test', connectionsMax: 1 })
  const error = await provoke(() => nobody`SELECT 1`)
  expect(error).toMatchObject({ code: 'HR_STATE_UNAVAILABLE', class: 'retriable' })
  await nobody.end({ timeout: 1 })
})

test('a host without an address is HR_STATE_UNAVAILABLE', async () => {
  const nobody = openPostgres({
    url: 'postgres://u:p@no-such-host.invalid:1/d',
    name: 'test',
    connectionsMax: 1,
  })
  expect(await provoke(() => nobody`SELECT 1`)).toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
  await nobody.end({ timeout: 1 })
})

test('a socket that is not there is HR_STATE_UNAVAILABLE', async () => {
  const nobody = openPostgres({ url: { socketDir: server.dataDir }, name: 'test', connectionsMax: 1 })
  expect(await provoke(() => nobody`SELECT 1`)).toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
  await nobody.end({ timeout: 1 })
})

test('a connection that the operator ends in mid-query is HR_STATE_UNAVAILABLE', async () => {
  const error = await provokeWith(async (own) => {
    const [{ pid }] = (await own`SELECT pg_backend_pid() AS pid`) as unknown as [{ pid: number }]
    const query = own`SELECT pg_sleep(60)`.execute()
    await isRunning('pg_sleep')
    await sql`SELECT pg_terminate_backend(${pid})`
    return query
  })
  expect(error).toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
})

test('a statement that passes its time is HR_STATE_UNAVAILABLE', async () => {
  const error = await provokeWith((own) =>
    own.begin(async (tx) => {
      await tx`SET LOCAL statement_timeout = 20`
      await tx`SELECT pg_sleep(60)`
    }),
  )
  expect(error).toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
})

test('a lock that is not given in time is HR_STATE_CONFLICT', async () => {
  await sql.begin(async (holder) => {
    await holder`SELECT * FROM thing WHERE id = 1 FOR UPDATE`
    const error = await provokeWith((own) =>
      own.begin(async (tx) => {
        await tx`SET LOCAL lock_timeout = 20`
        await tx`SELECT * FROM thing WHERE id = 1 FOR UPDATE`
      }),
    )
    expect(error).toMatchObject({ code: 'HR_STATE_CONFLICT', class: 'retriable' })
  })
})

test('one side of a deadlock is HR_STATE_CONFLICT, the other goes through', async () => {
  const [a, b] = [open(), open()]
  const bothHoldOne = Promise.withResolvers<void>()
  let holding = 0
  const crossing = (own: Sql, first: number, second: number) =>
    own.begin(async (tx) => {
      await tx`SELECT * FROM thing WHERE id = ${first} FOR UPDATE`
      if (++holding === 2) bothHoldOne.resolve()
      await bothHoldOne.promise
      await tx`SELECT * FROM thing WHERE id = ${second} FOR UPDATE`
    })
  const results = await Promise.allSettled([crossing(a, 1, 2), crossing(b, 2, 1)])
  const failed = results.filter((result) => result.status === 'rejected')
  expect(failed.length).toBe(1)
  expect(classifyState('trying', failed[0]!.reason)).toMatchObject({ code: 'HR_STATE_CONFLICT' })
  await Promise.all([a.end({ timeout: 1 }), b.end({ timeout: 1 })])
})

test('our own mistake stays as it is: unknown errors are fatal', async () => {
  const error = await provoke(() => sql`SELECT * FROM no_such_table`)
  expect(error).not.toBeInstanceOf(HeadraceError)
  expect(error).toMatchObject({ code: '42P01' })
})

test('the cause is kept, and a classified error is not classified again', async () => {
  const error = (await provoke(() => sql`INSERT INTO thing (id) VALUES (1)`)) as HeadraceError
  expect(error.message).toStartWith('trying: duplicate key')
  expect(error.cause).toMatchObject({ code: '23505' })
  expect(classifyState('again', error)).toBe(error)
})

test('big integers come back as numbers', async () => {
  const [row] = await sql`SELECT 9007199254740991::bigint AS most, ${2 ** 52}::bigint AS given`
  expect({ ...row }).toEqual({ most: Number.MAX_SAFE_INTEGER, given: 2 ** 52 })
})

async function isRunning(words: string): Promise<void> {
  const deadline = performance.now() + 10_000
  for (;;) {
    const [row] = await sql<{ there: boolean }[]>`
      SELECT count(*) > 0 AS there FROM pg_stat_activity
      WHERE state = 'active' AND query LIKE ${`%${words}%`} AND pid <> pg_backend_pid()`
    if (row?.there) return
    if (performance.now() > deadline) throw new Error(`no query with ${words} is running`)
  }
}

test('a connection that is cut while it writes fails its queries and comes back, each time', async () => {
  const own = open()
  try {
    for (let round = 0; round < 30; round++) {
      const [row] = await within(10_000, () =>
        untilAvailable(() => own<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`),
      )
      process.kill(row!.pid, 'SIGTERM')
      // The loop is held up, so that the end of the connection and the writes meet in the same turn.
      const until = performance.now() + (round % 4) * 3
      while (performance.now() < until);
      await within(10_000, () => Promise.allSettled([own`SELECT 1`, own`SELECT 2`]))
    }
  } finally {
    await own.end({ timeout: 1 })
  }
})

async function within<T>(ms: number, work: () => Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`a query hangs for ${ms} ms`)), ms)
  return Promise.race([work(), late.promise]).finally(() => clearTimeout(timer))
}

async function untilAvailable<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await guardState('trying', work)
    } catch (error) {
      if (!isRetriable(error)) throw error
    }
  }
}
