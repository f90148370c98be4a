import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { withoutHoles } from './dense-results.ts'
import { openPostgres } from './postgres.ts'

setDefaultTimeout(60_000)

describe('results without holes', () => {
  let server: TestPostgres
  beforeAll(async () => {
    server = await startTestPostgres({ migrate: false })
  })
  afterAll(() => server.stop())

  test.each([
    [[undefined, undefined, 'a', 'b'], 2, ['a', 'b']],
    [['a'], 1, ['a']],
    [[], 7, []],
  ])('%j with %i rows', (rows, count, expected) => {
    expect([...withoutHoles(Object.assign(rows as unknown[], { count }))]).toEqual(expected)
  })

  test('a statement that fails among its rows leaves none for the next one', async () => {
    const sql = openPostgres({ url: server.url, name: 'holes', connectionsMax: 1 })
    const failing = sql`SELECT 1000 / (900 - i) AS n FROM generate_series(1, 2000) i`
    expect(failing).rejects.toThrow('division by zero')
    await failing.catch(() => {})
    expect([...(await sql`SELECT 1 AS n`)]).toEqual([{ n: 1 }])
    const inTransaction = await sql.begin(async (tx) => {
      await tx
        .savepoint((nested) => nested`SELECT 1000 / (900 - i) AS n FROM generate_series(1, 2000) i`)
        .catch(() => {})
      return [...(await tx`SELECT 2 AS n`)]
    })
    expect(inTransaction).toEqual([{ n: 2 }])
    await sql.end()
  })
})
