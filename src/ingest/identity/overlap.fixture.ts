/** Batches that overlap: an ingest process that notes what it does, and rows that stay locked until the test says so. */
import { afterAll, afterEach, beforeAll, beforeEach } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { openPostgres, type Sql } from '../../catalog/index.ts'
import { Lane, wipe } from './identity.fixture.ts'
import { createIdentity } from './index.ts'

export const WITHIN_MS = 10_000

export let sql: Sql
let postgres: TestPostgres
const pools: Sql[] = []

/** One Postgres for the tests of a file, each of which finds it empty. */
export function overlapForEachTest(): void {
  beforeAll(async () => {
    postgres = await startTestPostgres()
    sql = postgres.sql
  }, 60_000)
  afterAll(() => postgres?.stop(), 60_000)
  beforeEach(() => wipe(sql))
  afterEach(async () => {
    await Promise.all(pools.splice(0).map((one) => one.end({ timeout: 1 })))
  })
}

export type Process = Awaited<ReturnType<typeof processOf>>

/** An ingest process with lanes of its own, and what it has noted. Its connections end with the test. */
export async function processOf(name: string, lanes: number[], turnMsMax?: number) {
  const pool = openPostgres({ url: postgres.url, name, connectionsMax: 4 })
  pools.push(pool)
  const noted = { tries: [] as string[], conflicts: 0, turns: 0, reads: 0 }
  const counting = new Proxy(pool, {
    apply(target, self, args: unknown[]) {
      const query = Reflect.apply(target as never, self, args) as Promise<unknown>
      if (!(args[0] as string[]).join('').includes('AS mapping_version')) return query
      return query.then((rows) => {
        noted.reads++
        return rows
      })
    },
  }) as Sql
  const hooks = {
    attempt: (_: number, path: string) => noted.tries.push(path),
    conflict: () => noted.conflicts++,
    waited: () => noted.turns++,
  }
  const identity = createIdentity(counting, hooks, turnMsMax)
  return { identity, noted, lanes: await Promise.all(lanes.map((partition) => Lane.open(sql, partition))) }
}

/** Holds what `lock` locks, until `end`. */
export async function hold(sql: Sql, lock: (held: Sql) => Promise<unknown>) {
  const held = await sql.reserve()
  await held`BEGIN`
  await lock(held)
  return {
    end: async () => {
      await held`COMMIT`
      held.release()
    },
  }
}

/** Holds the person of `distinctId`. */
export function holdPerson(sql: Sql, distinctId: string) {
  return hold(
    sql,
    (held) => held`
      SELECT FROM person p JOIN person_distinct_id m ON m.person_id = p.id WHERE m.distinct_id = ${distinctId}
      FOR UPDATE OF p`,
  )
}

/** The backend that waits for a lock in a query that is `like`. */
export async function waiting(sql: Sql, like = '%'): Promise<number> {
  let pid = 0
  const waits = async () => {
    const [row] = await sql<{ pid: number }[]>`
      SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE ${like}`
    pid = row?.pid ?? 0
    return pid > 0
  }
  await waitFor(`backend that waits for a lock in ${like}`, waits, WITHIN_MS)
  return pid
}

/** `work` begins before `change` is committed, and waits for that with what it has read. */
export async function overtaken<T>(
  sql: Sql,
  change: (held: Sql) => Promise<unknown>,
  work: () => Promise<T>,
): Promise<T> {
  const held = await hold(sql, change)
  const done = work()
  await waiting(sql)
  await held.end()
  return done
}
