/** What a batch may hold in memory (I6): large persons cut the batch, they do not fill the process. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import type { Sql } from '../../catalog/index.ts'
import { personUuid } from '../../event/index.ts'
import { fold } from './fold.ts'
import { dangerous, event, identify, Lane, livingPersons, store, wipe } from './identity.fixture.ts'
import { BatchTooLarge, createIdentity } from './index.ts'
import { readSnapshot } from './read.ts'
import { emptySnapshot } from './snapshot.ts'
import { wantedBy } from './wanted.ts'

let postgres: TestPostgres
let sql: Sql

beforeAll(async () => {
  postgres = await startTestPostgres()
  sql = postgres.sql
}, 60_000)
afterAll(() => postgres?.stop(), 60_000)
beforeEach(() => wipe(sql))

const LONG = 'x'.repeat(30_000)

test('the texts of a fold have a limit together; one event alone never meets it', () => {
  const events = Array.from({ length: 10 }, (_, i) => event('A', { set: { large: LONG, i } }))
  expect(() => fold(events, emptySnapshot(), undefined, 200_000)).toThrow(BatchTooLarge)
  expect(fold(events.slice(0, 6), emptySnapshot(), undefined, 200_000).stamps).toHaveLength(6)
  expect(fold(events.slice(0, 1), emptySnapshot(), undefined, 100).stamps).toHaveLength(1)
})

test('5,000 changes of one large person are refused before they are gigabytes', () => {
  const large = 'x'.repeat(500_000)
  const events = Array.from({ length: 5_000 }, (_, i) => event('A', { set: i === 0 ? { large } : { i } }))
  expect(() => fold(events, emptySnapshot())).toThrow(BatchTooLarge)
})

test('long properties are read with a second query, as they are then, and changed like others', async () => {
  const lane = await Lane.open(sql)
  const identity = createIdentity(sql)
  await store(sql, [
    { ids: ['A', 'A2'], props: { LONG } },
    { ids: ['B'], props: { b: 1 } },
  ])
  const { stamps } = await lane.commit(identity, [
    event('A', { set: { n: 1 } }),
    event('B'),
    event('A2', { set: { m: 1 } }),
  ])
  expect(JSON.parse(stamps[2]!.personPropertiesJson)).toEqual({ LONG, n: 1, m: 1 })
  expect(JSON.parse(stamps[1]!.personPropertiesJson)).toEqual({ b: 1 })
  const [size] = await sql`
    SELECT abs(properties_bytes - octet_length(properties::text)) < 20 AS right FROM person ORDER BY id LIMIT 1`
  expect(size).toEqual({ right: true })
  await lane.commit(identity, [dangerous('B', 'A')])
  expect((await livingPersons(sql))[0]!.properties).toMatchObject({ LONG, n: 1, b: 1 })
})

test('a person whose properties stay as they are keeps their size, alone in its batch', async () => {
  const lane = await Lane.open(sql)
  const identity = createIdentity(sql)
  await lane.commit(identity, [event('A', { set: { LONG } })])
  await lane.commit(identity, [identify('A', 'B')])
  const [person] = await sql`SELECT is_identified, properties_bytes > 30000 AS counted FROM person`
  expect(person).toEqual({ is_identified: true, counted: true })
})

test('numbers that Postgres writes out count with all their zeros', async () => {
  const lane = await Lane.open(sql)
  await lane.commit(createIdentity(sql), [event('A', { set: { n: Array(1_000).fill(1e300) } })])
  const [row] = await sql`SELECT properties_bytes > 150000 AS counted FROM person`
  expect(row).toEqual({ counted: true })
  const { stamps } = await lane.commit(createIdentity(sql), [event('A')])
  expect(stamps[0]!.personPropertiesJson.length).toBeLessThan(10_000)
})

test('persons that come to too much together are not read; a restamp takes them in parts', async () => {
  await store(
    sql,
    ['A', 'B', 'C', 'D'].map((id) => ({ ids: [id], props: { LONG } })),
  )
  const events = ['A', 'B', 'C', 'D'].map((id) => event(id))
  await expect(readSnapshot(sql, wantedBy(events), 100_000)).rejects.toThrow(BatchTooLarge)
  expect((await readSnapshot(sql, wantedBy(events), 200_000)).mappings.size).toBe(4)
  // Who is only looked at takes no room.
  const looks = events.map((e) => ({ ...e, personProcessing: 'off' as const }))
  expect((await readSnapshot(sql, wantedBy(looks), 0)).mappings.size).toBe(4)
})

test('a person that changes between the two queries is read again', async () => {
  await store(sql, [{ ids: ['A'], props: { LONG } }])
  let raced = false
  const racing = new Proxy(sql, {
    apply(target, self, args: unknown[]) {
      const query = Reflect.apply(target as never, self, args) as Promise<unknown>
      if (raced || !(args[0] as string[]).join('').includes('FROM person\n')) return query
      raced = true
      return sql`UPDATE person SET version = version + 1, properties = properties || '{"late": 1}'`.then(
        () => query,
      )
    },
  })
  const lane = await Lane.open(sql)
  let attempts = 0
  const identity = createIdentity(racing, { attempt: () => attempts++ })
  const { stamps } = await lane.commit(identity, [event('A', { set: { n: 1 } })])
  expect(raced).toBe(true)
  expect(attempts).toBe(2)
  expect(JSON.parse(stamps[0]!.personPropertiesJson)).toMatchObject({ late: 1, n: 1 })
  expect((await livingPersons(sql))[0]).toMatchObject({ uuid: personUuid(1, 'A'), properties: { late: 1 } })
})
