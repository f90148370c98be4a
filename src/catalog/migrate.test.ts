import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPostgresByUrl, startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { type Migration, migrateState, readMigrations } from './migrate.ts'
import { openPostgres, type Sql } from './postgres.ts'

setDefaultTimeout(60_000)

let server: TestPostgres
beforeAll(async () => {
  server = await startTestPostgres({ migrate: false })
})
afterAll(() => server.stop())

let count = 0
/** A database of its own for each test. */
async function withDatabase(work: (open: (connectionsMax?: number) => Sql) => Promise<void>): Promise<void> {
  const name = `migrate_${++count}`
  await server.sql.unsafe(`CREATE DATABASE ${name}`)
  const opened: Sql[] = []
  const open = (connectionsMax = 1) => {
    const sql = openPostgres({ url: { ...server.url, database: name }, name: 'test', connectionsMax })
    opened.push(sql)
    return sql
  }
  try {
    await work(open)
  } finally {
    for (const sql of opened) await sql.end({ timeout: 1 })
  }
}

const step = (number: number, text: string, checksum = text): Migration => ({
  number,
  name: `step_${number}`,
  text,
  checksum,
})
const STEPS = [step(1, 'CREATE TABLE one (id integer)'), step(2, 'CREATE TABLE two (id integer)')]

describe('migrateState', () => {
  test('applies every file of this version once, in order', () =>
    withDatabase(async (open) => {
      const sql = open()
      const all = readMigrations()
      expect(await migrateState(sql)).toBe(all.length)
      expect(await migrateState(sql)).toBe(0)
      const recorded = await sql`SELECT number, name FROM schema_migration ORDER BY number`
      expect([...recorded]).toEqual(all.map(({ number, name }) => ({ number, name })))
      expect([...(await sql`SELECT * FROM project`)]).toEqual([])
    }))

  test('processes that start at once take turns, and each step is applied by one of them', () =>
    withDatabase(async (open) => {
      const pools = Array.from({ length: 6 }, () => open())
      const applied = await Promise.all(pools.map((sql) => migrateState(sql)))
      expect(applied.reduce((sum, steps) => sum + steps)).toBe(readMigrations().length)
    }))

  test('a step that fails leaves nothing behind, and the steps before it stay', () =>
    withDatabase(async (open) => {
      const sql = open()
      const broken = step(3, 'CREATE TABLE three (id integer); SELECT 1 / 0')
      await expect(migrateState(sql, [...STEPS, broken])).rejects.toThrow('division by zero')
      expect(await migrateState(sql, STEPS)).toBe(0)
      const [found] =
        await sql`SELECT to_regclass('two') IS NOT NULL AS two, to_regclass('three') IS NOT NULL AS three`
      expect({ ...found }).toEqual({ two: true, three: false })
      expect(await migrateState(sql, [...STEPS, step(3, 'CREATE TABLE three (id integer)')])).toBe(1)
    }))

  test('a step that another transaction is in the way of lets writers pass, says who it is, and comes later', () =>
    withDatabase(async (open) => {
      const [sql, reader, writer] = [open(2), open(), open()]
      await migrateState(sql, STEPS)
      const alter = step(3, 'ALTER TABLE one ADD COLUMN more integer')
      const { promise: holds, resolve: letGo } = Promise.withResolvers<void>()
      const { promise: locked, resolve: hasLocked } = Promise.withResolvers<number>()
      const holding = reader.begin(async (tx) => {
        const [row] = await tx<{ pid: number }[]>`SELECT pg_backend_pid() AS pid, count(*) FROM one`
        hasLocked(row!.pid)
        await holds
      })
      const pid = await locked
      await expect(
        migrateState(sql, [...STEPS, alter], { waitMs: 100, pauseMs: 1, tries: 2 }),
      ).rejects.toMatchObject({
        code: 'HR_STATE_CONFLICT',
        class: 'retriable',
        message: expect.stringMatching(
          new RegExp(
            `^migration 3 \\(step_3\\) waits for process ${pid} of Postgres \\(user .*"test", idle in transaction`,
          ),
        ),
      })
      // One that goes on trying keeps nobody waiting for longer than it waits itself.
      const trying = migrateState(sql, [...STEPS, alter], { waitMs: 50, pauseMs: 50, tries: 1_000 })
      for (let i = 0; i < 5; i++) await writer`INSERT INTO one VALUES (${i})`
      letGo()
      await holding
      expect(await trying).toBe(1)
      expect([...(await writer`SELECT count(more)::int AS n, count(*)::int AS rows FROM one`)]).toEqual([
        { n: 0, rows: 5 },
      ])
    }))

  test('refuses a step that was edited after it had been applied', () =>
    withDatabase(async (open) => {
      const sql = open()
      await migrateState(sql, STEPS)
      await expect(
        migrateState(sql, [STEPS[0]!, step(2, 'CREATE TABLE zwei (id integer)')]),
      ).rejects.toMatchObject({
        code: 'HR_STATE_SCHEMA',
        class: 'fatal',
        message:
          'migration 2 (step_2) was edited after it had been applied; restore the file and add a new one',
      })
    }))

  test("refuses a newer version's schema", () =>
    withDatabase(async (open) => {
      const sql = open()
      await migrateState(sql, STEPS)
      await expect(migrateState(sql, STEPS.slice(0, 1))).rejects.toMatchObject({
        code: 'HR_STATE_SCHEMA',
        message:
          'the state has migration 2 (step_2), which this version does not know; start the newer version that made it',
      })
    }))

  test('works on a server by URL, over TCP with a password', async () => {
    const other = await startPostgresByUrl()
    const sql = openPostgres({ url: other.url, name: 'test', connectionsMax: 2 })
    const wrong = openPostgres({
      url: other.url.replace(/:[^:@]+@/, ':wrong@'),
      name: 'test',
      connectionsMax: 1,
    })
    try {
      expect(await migrateState(sql)).toBe(readMigrations().length)
      await expect(migrateState(wrong)).rejects.toThrow('password authentication failed')
    } finally {
      await Promise.all([sql.end({ timeout: 1 }), wrong.end({ timeout: 1 })])
      await other.stop()
    }
  })
})

describe('readMigrations', () => {
  const cases: [string, string[], string][] = [
    ['a gap', ['0001_a.sql', '0003_c.sql'], '0003_c.sql is not migration 0002'],
    ['one number twice', ['0001_a.sql', '0001_b.sql'], '0001_b.sql is not migration 0002'],
    ['a name of another form', ['1-a.sql'], '1-a.sql is not migration 0001'],
  ]
  test.each(cases)('refuses %s', (_, files, sentence) => {
    const folder = mkdtempSync(join(tmpdir(), 'headrace-test-migrations-'))
    try {
      for (const file of files) writeFileSync(join(folder, file), 'SELECT 1')
      expect(() => readMigrations(folder)).toThrow(sentence)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('the checksum does not depend on how a checkout ends its lines', () => {
    const folder = mkdtempSync(join(tmpdir(), 'headrace-test-migrations-'))
    try {
      writeFileSync(join(folder, '0001_a.sql'), 'SELECT 1;\nSELECT 2;\n')
      const [unix] = readMigrations(folder)
      writeFileSync(join(folder, '0001_a.sql'), 'SELECT 1;\r\nSELECT 2;\r\n')
      expect(readMigrations(folder)).toEqual([unix!])
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
