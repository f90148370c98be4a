/**
 * The world at fault, made on purpose: whatever Postgres does, a batch is there once or not at all, what failed can be
 * tried again and then passes, and no event is blamed (failure classes of docs/invariants.md).
 */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'bun:test'
import { randomBytes } from 'node:crypto'
import { chownSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { openPostgres, type Sql } from '../../catalog/index.ts'
import { isRetriable } from '../../event/index.ts'
import { event, identify, Lane, livingPersons, store, wipe } from './identity.fixture.ts'
import { createIdentity, type Identity } from './index.ts'

const WITHIN_MS = 10_000
const TEST_MS_MAX = 30_000

let postgres: TestPostgres
let sql: Sql
let lane: Lane
let identity: Identity
let tries: string[] = []
const pools: Sql[] = []

beforeAll(async () => {
  postgres = await startTestPostgres()
  sql = postgres.sql
}, 60_000)
afterAll(() => postgres?.stop(), 60_000)
beforeEach(async () => {
  await wipe(sql)
  lane = await Lane.open(sql)
  tries = []
  identity = createIdentity(pool('victim'), { attempt: (_, path) => tries.push(path) })
  await store(sql, [
    { ids: ['a'], props: { a: 1 } },
    { ids: ['b'], props: { b: 1 } },
  ])
})
afterEach(async () => {
  await Promise.all(pools.splice(0).map((one) => one.end({ timeout: 1 })))
})

function pool(name: string, connectionsMax = 3): Sql {
  const one = openPostgres({ url: postgres.url, name, connectionsMax })
  pools.push(one)
  return one
}

/** One connection, for a transaction over several statements. A pool that never connected has none to reserve. */
async function connection(name: string) {
  const one = pool(name, 1)
  await one`SELECT 1`
  return one.reserve()
}

const batch = () => [event('a', { set: { n: 1 } }), identify('b', 'a', { set: { m: 2 } })]

async function expectApplied(): Promise<void> {
  expect(await livingPersons(sql)).toMatchObject([
    { ids: ['a', 'b'], properties: { a: 1, b: 1, n: 1, m: 2 } },
  ])
  const [row] = await sql`SELECT (SELECT count(*) FROM receipt) AS receipts, next_offset FROM ingest_fence`
  expect(row).toMatchObject({ receipts: 1, next_offset: 2 })
}

async function expectUntouched(): Promise<void> {
  expect(await livingPersons(sql)).toMatchObject([
    { properties: { a: 1 }, version: 1 },
    { properties: { b: 1 }, version: 1 },
  ])
  const [row] = await sql`SELECT (SELECT count(*) FROM receipt) AS receipts, next_offset FROM ingest_fence`
  expect(row).toMatchObject({ receipts: 0, next_offset: 0 })
}

/** The backend that waits for a lock with a statement like `query`. */
async function waiting(query: string): Promise<number> {
  let pid = 0
  await waitFor(
    `victim that waits with ${query}`,
    async () => {
      const [row] = await sql<{ pid: number }[]>`
        SELECT pid FROM pg_stat_activity
        WHERE application_name LIKE 'victim%' AND wait_event_type = 'Lock' AND query LIKE ${`%${query}%`}`
      pid = row?.pid ?? 0
      return pid !== 0
    },
    WITHIN_MS,
  )
  return pid
}

test(
  '40P01: the victim of a deadlock takes its batch up again',
  async () => {
    const holder = await connection('holder')
    // The other side waits longer before it looks, so the batch is the victim.
    await holder`SET deadlock_timeout = '20s'`
    await holder`BEGIN`
    await holder`SELECT FROM person WHERE properties ? 'b' FOR UPDATE`
    const done = lane.commit(identity, batch())
    await waiting('apply_batch')
    await holder`SELECT FROM person WHERE properties ? 'a' FOR UPDATE`
    // Only the end of the batch's own try has let this pass: it held that person.
    await holder`COMMIT`
    holder.release()
    await done
    expect(tries).toEqual(['optimistic', 'locked'])
    await expectApplied()
    const counted = async () => {
      const [row] = await sql<{ deadlocks: number }[]>`
        SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`
      return row!.deadlocks > 0
    }
    await waitFor('deadlock in the statistics', counted, WITHIN_MS)
  },
  TEST_MS_MAX,
)

test(
  '40001: where the server makes all transactions stricter, a conflict is tried again under our own level',
  async () => {
    const strict = pool('victim')
    await sql`ALTER DATABASE headrace SET default_transaction_isolation = 'repeatable read'`
    try {
      identity = createIdentity(strict, { attempt: (_, path) => tries.push(path) })
      const holder = await connection('holder')
      await holder`BEGIN`
      await holder`UPDATE person SET version = version + 1, properties = properties || '{"late": 1}' WHERE properties ? 'b'`
      const done = lane.commit(identity, batch())
      await waiting('apply_batch')
      await holder`COMMIT`
      holder.release()
      await done
      expect(tries).toEqual(['optimistic', 'locked'])
      await expectApplied()
      expect((await livingPersons(sql))[0]!.properties).toMatchObject({ late: 1 })
    } finally {
      await sql`ALTER DATABASE headrace RESET default_transaction_isolation`
    }
  },
  TEST_MS_MAX,
)

test(
  'a connection that is cut in the middle of the locked way leaves nothing; the same batch passes then',
  async () => {
    const holder = await connection('holder')
    const next = await connection('holder')
    await holder`BEGIN`
    await holder`UPDATE person SET version = version + 1 WHERE properties ? 'b'`
    const failed = lane.commit(identity, batch()).catch((error: unknown) => error)
    await waiting('apply_batch')
    // The next in the queue gets the person when the batch has found that it changed.
    await next`BEGIN`
    const queued = next`SELECT FROM person WHERE properties ? 'b' FOR UPDATE`.execute()
    await holder`COMMIT`
    await queued
    const pid = await waiting('FOR NO KEY UPDATE')
    await sql`SELECT pg_terminate_backend(${pid})`
    const error = await failed
    expect(error).toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
    expect(isRetriable(error)).toBe(true)
    await next`ROLLBACK`
    holder.release()
    next.release()
    const [row] = await sql`SELECT count(*) AS n FROM receipt`
    expect(row!.n).toBe(0)
    expect(tries).toEqual(['optimistic', 'locked'])
    await lane.commit(identity, batch())
    await expectApplied()
  },
  TEST_MS_MAX,
)

test(
  '53300: out of connections is a wait, and passes when there are some again',
  async () => {
    const hogs: Sql[] = []
    let refused: unknown
    while (!refused) {
      const hog = openPostgres({ url: postgres.url, name: 'hog', connectionsMax: 1 })
      hogs.push(hog)
      await hog`SELECT 1`.catch((error) => {
        refused = error
      })
    }
    expect(refused).toMatchObject({ code: '53300' })
    const starved = createIdentity(pool('victim', 1))
    const error = await lane.commit(starved, batch()).catch((failure: unknown) => failure)
    expect(error).toMatchObject({ code: 'HR_STATE_UNAVAILABLE', class: 'retriable' })
    await Promise.all(hogs.map((hog) => hog.end({ timeout: 1 })))
    await expectUntouched()
    await lane.commit(starved, batch())
    await expectApplied()
  },
  TEST_MS_MAX,
)

test.each([
  ['53100', 'disk full', 'HR_STATE_UNAVAILABLE'],
  ['53200', 'out of memory', 'HR_STATE_UNAVAILABLE'],
  ['58030', 'an error of the disk', 'HR_STATE_UNAVAILABLE'],
  ['57014', 'a statement that took too long', 'HR_STATE_UNAVAILABLE'],
  ['25006', 'a server that turned into a standby', 'HR_STATE_UNAVAILABLE'],
])(
  '%s: %s on the last write of the batch undoes all of it, and blames no event',
  async (sqlstate, said, code) => {
    // What a full disk says, at the last table that a batch writes: the real one would take this machine with it.
    await sql.unsafe(`
    CREATE FUNCTION fail_write() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION '${said}' USING ERRCODE = '${sqlstate}'; END $$;
    CREATE TRIGGER fail_write BEFORE INSERT ON receipt EXECUTE FUNCTION fail_write()`)
    try {
      const error = await lane.commit(identity, batch()).catch((failure: unknown) => failure)
      expect(error).toMatchObject({ code, class: 'retriable' })
      await expectUntouched()
    } finally {
      await sql.unsafe('DROP TRIGGER fail_write ON receipt; DROP FUNCTION fail_write')
    }
    await lane.commit(identity, batch())
    await expectApplied()
  },
)

/** A file system of 6 MB, where this process may mount one; else the test is skipped. */
const small = mkdtempSync(join(tmpdir(), 'headrace-small-disk-'))
const mounted = Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'size=6m', 'headrace-test', small]).success
afterAll(() => {
  if (mounted) Bun.spawnSync(['umount', '-l', small])
  rmSync(small, { recursive: true, force: true })
})

test.skipIf(!mounted)(
  '53100: a disk that is really full: lag, and what failed passes when there is room',
  async () => {
    const owner = statSync(join(postgres.dataDir, 'cluster')).uid
    chownSync(small, owner, owner)
    // The postmaster's parents must be open to it; the folder of the test is.
    await sql.unsafe(`CREATE TABLESPACE small LOCATION '${small}'`)
    await sql`ALTER TABLE person SET TABLESPACE small`
    const filler = (n: number) =>
      Array.from({ length: 10 }, (_, i) =>
        event(`f-${n}-${i}`, { set: { f: randomBytes(30_000).toString('hex') } }),
      )
    let error: unknown
    let applied = 0
    while (!error && applied < 100) {
      await lane.commit(identity, filler(applied)).then(
        () => applied++,
        (failure) => {
          error = failure
        },
      )
    }
    expect(error).toMatchObject({ code: 'HR_STATE_UNAVAILABLE', class: 'retriable' })
    expect((error as { cause?: { code?: string } }).cause?.code).toBe('53100')
    const again = await lane.commit(identity, filler(applied)).catch((failure: unknown) => failure)
    expect(isRetriable(again)).toBe(true)
    expect(await livingPersons(sql)).toHaveLength(2 + 10 * applied)
    await sql`ALTER TABLE person SET TABLESPACE pg_default`
    await sql`DROP TABLESPACE small`
    await lane.commit(identity, filler(applied))
    expect(await livingPersons(sql)).toHaveLength(2 + 10 * (applied + 1))
    const [row] = await sql`SELECT count(*) AS n FROM receipt`
    expect(row!.n).toBe(applied + 1)
  },
  TEST_MS_MAX,
)

test(
  'conflicts without an end are given up as retriable, with nothing changed',
  async () => {
    await sql.unsafe(`
      CREATE FUNCTION fail_write() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not serialize' USING ERRCODE = '40001'; END $$;
      CREATE TRIGGER fail_write BEFORE INSERT ON receipt EXECUTE FUNCTION fail_write()`)
    try {
      await expect(lane.commit(identity, batch())).rejects.toMatchObject({
        code: 'HR_STATE_CONFLICT',
        class: 'retriable',
      })
      expect(tries).toHaveLength(8)
      await expectUntouched()
    } finally {
      await sql.unsafe('DROP TRIGGER fail_write ON receipt; DROP FUNCTION fail_write')
    }
    await lane.commit(identity, batch())
    await expectApplied()
  },
  TEST_MS_MAX,
)
