/**
 * Lanes that change the same persons, in one process and in two: on a real Postgres, where each case is held in the very
 * moment in which one write is under way and the other batch has read.
 */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { openPostgres, type Sql } from '../../catalog/index.ts'
import { dangerous, event, identify, Lane, livingPersons, store, T0, wipe } from './identity.fixture.ts'
import { createIdentity, DEFAULT_OPTIONS, type IdentityEvent } from './index.ts'

const WITHIN_MS = 10_000
const TEST_MS_MAX = 30_000

let postgres: TestPostgres
let sql: Sql
const pools: Sql[] = []

beforeAll(async () => {
  postgres = await startTestPostgres()
  sql = postgres.sql
}, 60_000)
afterAll(() => postgres?.stop(), 60_000)
beforeEach(() => wipe(sql))
afterEach(async () => {
  await Promise.all(pools.splice(0).map((one) => one.end({ timeout: 1 })))
})

/** An ingest process with lanes of its own, and what it has noted. */
async function processOf(name: string, lanes: number[]) {
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
  const identity = createIdentity(counting, {
    attempt: (_, path) => noted.tries.push(path),
    conflict: () => noted.conflicts++,
    waited: () => noted.turns++,
  })
  return { identity, noted, lanes: await Promise.all(lanes.map((partition) => Lane.open(sql, partition))) }
}

/**
 * `first` is held before its write, by a lock on the person of `heldId`; `second` begins, and when it has read, the lock
 * is let go, or the connection of `first` cut.
 */
async function overlapping(
  { identity, noted, lanes }: Awaited<ReturnType<typeof processOf>>,
  heldId: string,
  first: IdentityEvent[],
  second: IdentityEvent[],
  cut = false,
) {
  const holder = await sql.reserve()
  await holder`BEGIN`
  await holder`
    SELECT FROM person p JOIN person_distinct_id m ON m.person_id = p.id WHERE m.distinct_id = ${heldId} FOR UPDATE OF p`
  const one = lanes[0]!.commit(identity, first).catch((error: unknown) => error as Error)
  let pid = 0
  const waits = async () => {
    const [row] = await sql<{ pid: number }[]>`
      SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%apply_batch%'`
    pid = row?.pid ?? 0
    return pid > 0
  }
  await waitFor('write under way', waits, WITHIN_MS)
  const { reads } = noted
  const two = lanes[1]!.commit(identity, second)
  await waitFor('read of the second', () => noted.reads > reads, WITHIN_MS)
  if (cut) await sql`SELECT pg_terminate_backend(${pid})`
  await holder`ROLLBACK`
  holder.release()
  return [await one, await two] as const
}

const mine = { ids: ['hot', 'also-hot'], props: { a: 1 } }

test(
  'one person over two ids: the second waits for the first, and nothing is done twice',
  async () => {
    await store(sql, [mine])
    const process = await processOf('one', [0, 1])
    const [, two] = await overlapping(
      process,
      'hot',
      [event('hot', { set: { b: 2 } })],
      [event('also-hot', { set: { c: 3 } })],
    )
    expect(process.noted).toEqual({ tries: ['optimistic', 'optimistic'], conflicts: 0, turns: 1, reads: 2 })
    expect(await livingPersons(sql)).toMatchObject([{ properties: { a: 1, b: 2, c: 3 } }])
    expect(JSON.parse(two.stamps[0]!.personPropertiesJson)).toEqual({ a: 1, b: 2, c: 3 })
  },
  TEST_MS_MAX,
)

test(
  'times of properties come along, so that an older value does not win',
  async () => {
    await store(sql, [mine])
    const process = await processOf('one', [0, 1])
    for (const lane of process.lanes)
      lane.context = { optionsOf: () => ({ ...DEFAULT_OPTIONS, propertyOrder: 'eventTime' }) }
    await overlapping(
      process,
      'hot',
      [event('hot', { set: { b: 'newer' }, timestampMs: T0 + 9 })],
      [event('also-hot', { set: { b: 'older' }, timestampMs: T0 + 8 })],
    )
    expect(process.noted).toMatchObject({ conflicts: 0, turns: 1 })
    expect((await livingPersons(sql))[0]!.properties).toEqual({ a: 1, b: 'newer' })
  },
  TEST_MS_MAX,
)

test(
  'an id that the first makes a person of is read again by the second, which merges it',
  async () => {
    await store(sql, [mine, { ids: ['known'] }])
    const process = await processOf('one', [0, 1])
    await overlapping(
      process,
      'hot',
      [event('hot', { set: { b: 2 } }), event('visitor', { set: { seen: 1 } })],
      [identify('known', 'visitor')],
    )
    expect(process.noted).toEqual({ tries: ['optimistic', 'optimistic'], conflicts: 0, turns: 1, reads: 3 })
    const known = (await livingPersons(sql)).find(({ ids }) => ids.includes('known'))!
    expect(known).toMatchObject({ ids: ['known', 'visitor'], properties: { seen: 1 }, is_identified: true })
  },
  TEST_MS_MAX,
)

test(
  'a person that the first merges away is found under its survivor by the second',
  async () => {
    await store(sql, [mine, { ids: ['other', 'another'], props: { o: 1 } }])
    const process = await processOf('one', [0, 1])
    await overlapping(
      process,
      'hot',
      [dangerous('hot', 'other', { set: { b: 2 } })],
      [event('another', { set: { c: 3 } }), event('also-hot', { set: { d: 4 } })],
    )
    expect(process.noted).toEqual({ tries: ['optimistic', 'optimistic'], conflicts: 0, turns: 1, reads: 3 })
    expect(await livingPersons(sql)).toMatchObject([
      { ids: ['also-hot', 'another', 'hot', 'other'], properties: { a: 1, o: 1, b: 2, c: 3, d: 4 } },
    ])
  },
  TEST_MS_MAX,
)

test(
  'a write that fails leaves the second with what it has read',
  async () => {
    await store(sql, [mine])
    const process = await processOf('one', [0, 1])
    const [one] = await overlapping(
      process,
      'hot',
      [event('hot', { set: { b: 2 } })],
      [event('also-hot', { set: { c: 3 } })],
      true,
    )
    expect(one).toMatchObject({ code: 'HR_STATE_UNAVAILABLE' })
    expect(process.noted).toMatchObject({ conflicts: 0, turns: 1 })
    expect(await livingPersons(sql)).toMatchObject([{ properties: { a: 1, c: 3 } }])
  },
  TEST_MS_MAX,
)

test(
  'who has nothing in common with the write under way does not wait, nor does a personless event',
  async () => {
    await store(sql, [mine, { ids: ['apart'] }])
    const process = await processOf('one', [0, 1])
    const holder = await sql.reserve()
    await holder`BEGIN`
    await holder`
      SELECT FROM person p JOIN person_distinct_id m ON m.person_id = p.id WHERE m.distinct_id = 'hot' FOR UPDATE OF p`
    const held = process.lanes[0]!.commit(process.identity, [event('hot', { set: { b: 2 } })])
    const looks = event('also-hot', { personProcessing: 'off' })
    await process.lanes[1]!.commit(process.identity, [event('apart', { set: { c: 3 } }), looks])
    expect(process.noted.turns).toBe(0)
    await holder`ROLLBACK`
    holder.release()
    await held
  },
  TEST_MS_MAX,
)

test(
  'a person that another process changes too is locked before the fold, until nobody does any more',
  async () => {
    await store(sql, [mine])
    const here = await processOf('here', [0])
    const there = await processOf('there', [1])
    const next = (process: typeof here, n: number) =>
      process.lanes[0]!.commit(process.identity, [
        event('also-hot', { personProcessing: 'off' }),
        event('hot', { set: { [`n${n}`]: n } }),
      ])
    const overtaken = async (n: number, query: string) => {
      const holder = await sql.reserve()
      await holder`BEGIN`
      await holder`UPDATE person SET version = version + 1, properties = properties || ${`{"h${n}": 1}`}::text::jsonb`
      const done = next(here, n)
      const waits = async () => {
        const rows = await sql`
          SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE ${`%${query}%`}`
        return rows.length > 0
      }
      await waitFor(`batch that waits with ${query}`, waits, WITHIN_MS)
      await holder`COMMIT`
      holder.release()
      await done
    }
    await overtaken(0, 'apply_batch')
    expect(here.noted).toMatchObject({ tries: ['optimistic', 'locked'], conflicts: 1 })
    await overtaken(1, 'FOR NO KEY UPDATE')
    expect(here.noted).toMatchObject({
      tries: ['optimistic', 'locked', 'optimistic', 'locked'],
      conflicts: 1,
    })
    for (let n = 2; n < 20; n++) {
      await next(here, n)
      await next(there, 100 + n)
    }
    expect(here.noted.conflicts).toBe(1)
    expect(here.noted.tries.at(-1)).toBe('optimistic')
    const [person] = await livingPersons(sql)
    expect(Object.keys(person!.properties)).toHaveLength(1 + 2 + 20 + 18)
  },
  TEST_MS_MAX,
)

test(
  'four lanes of one person at full speed: every update is there, and none was done twice',
  async () => {
    await store(sql, [mine])
    const process = await processOf('one', [0, 1, 2, 3])
    const rounds = 30
    await Promise.all(
      process.lanes.map(async (lane, l) => {
        for (let round = 0; round < rounds; round++) {
          const id = (l + round) % 2 ? 'hot' : 'also-hot'
          await lane.commit(process.identity, [event(id, { set: { [`l${l}-${round}`]: 1 } })])
        }
      }),
    )
    expect(Object.keys((await livingPersons(sql))[0]!.properties)).toHaveLength(1 + 4 * rounds)
    expect(process.noted.conflicts).toBe(0)
    expect(process.noted.turns).toBeGreaterThan(0)
  },
  TEST_MS_MAX,
)
