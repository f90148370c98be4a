/**
 * Several owners of partitions change the same persons at once, connections die in the middle: on a real Postgres.
 * Nothing may be lost, doubled or half there.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { openPostgres, type Sql } from '../../catalog/index.ts'
import { isRetriable } from '../../event/index.ts'
import { alias, event, identify, Lane, livingPersons, T0, wipe } from './identity.fixture.ts'
import { createIdentity, type Identity, type IdentityEvent } from './index.ts'

const DEADLINE_MS = 20_000
const KILLS = 12

let postgres: TestPostgres
let sql: Sql
const pools: Sql[] = []

beforeAll(async () => {
  postgres = await startTestPostgres()
  sql = postgres.sql
}, 60_000)
afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end({ timeout: 1 })))
  await postgres?.stop()
}, 60_000)
beforeEach(() => wipe(sql))

/** An ingest process: its own connections, its own partition. */
async function worker(partition: number): Promise<{ identity: Identity; lane: Lane; locked: () => number }> {
  const pool = openPostgres({ url: postgres.url, name: `worker-${partition}`, connectionsMax: 2 })
  pools.push(pool)
  let locked = 0
  const identity = createIdentity(pool, {
    attempt: (_, path) => {
      if (path === 'locked') locked++
    },
  })
  return { identity, lane: await Lane.open(sql, partition), locked: () => locked }
}

const workers = (n: number) => Promise.all(Array.from({ length: n }, (_, i) => worker(i)))

/** Commits until it is taken, as ingest does with what is retriable. */
async function insist(lane: Lane, identity: Identity, events: IdentityEvent[]): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS
  for (;;) {
    try {
      await lane.commit(identity, events)
      return
    } catch (error) {
      if (!isRetriable(error) || Date.now() > deadline) throw error
    }
  }
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${DEADLINE_MS} ms`)
  }
}

test('W-4: four writers of the same persons lose no update', async () => {
  const team = await workers(4)
  const rounds = 25
  const people = ['a', 'b', 'c']
  await Promise.all(
    team.map(async ({ identity, lane }, w) => {
      for (let round = 0; round < rounds; round++) {
        const order = (round + w) % 2 ? people : [...people].reverse()
        const events = order.map((id) => event(id, { set: { [`w${w}-${round}`]: round }, nowMs: T0 + round }))
        await insist(lane, identity, events)
      }
    }),
  )
  const living = await livingPersons(sql)
  expect(living.map((person) => person.ids)).toEqual(expect.arrayContaining(people.map((id) => [id])))
  for (const person of living) {
    // Every key that every writer set, and the creator.
    expect(Object.keys(person.properties)).toHaveLength(team.length * rounds + 1)
  }
  // The test is worth something only if they met.
  expect(team.reduce((sum, { locked }) => sum + locked(), 0)).toBeGreaterThan(0)
}, 60_000)

test('63: two workers join their anonymous ids to one person at the same time', async () => {
  const [one, two] = await workers(2)
  for (let round = 0; round < 15; round++) {
    const user = `A${round}`
    await Promise.all([
      insist(one!.lane, one!.identity, [event(`x${round}`, { set: { x: 1 } }), identify(user, `x${round}`)]),
      insist(two!.lane, two!.identity, [event(`y${round}`, { set: { y: 1 } }), identify(user, `y${round}`)]),
    ])
    const person = (await livingPersons(sql)).find(({ ids }) => ids.includes(user))!
    // Who comes second meets an identified user: its anonymous person merges, and its id with it.
    expect(person.ids).toContain(user)
    const together = (await livingPersons(sql))
      .flatMap(({ ids }) => ids)
      .filter((id) => id.endsWith(`${round}`))
    expect(new Set(together).size).toBe(together.length)
  }
}, 60_000)

test('64: A takes B while B takes A: one survivor with both ids and all properties', async () => {
  const [one, two] = await workers(2)
  for (let round = 0; round < 20; round++) {
    const a = `a-${round}`
    const b = `b-${round}`
    await insist(one!.lane, one!.identity, [event(a, { set: { a: 1 } }), event(b, { set: { b: 1 } })])
    await Promise.all([
      insist(one!.lane, one!.identity, [alias(a, b), event(a, { set: { one: 1 } })]),
      insist(two!.lane, two!.identity, [alias(b, a), event(b, { set: { two: 1 } })]),
    ])
    const mine = (await livingPersons(sql)).filter(({ ids }) => ids.includes(a) || ids.includes(b))
    expect(mine).toMatchObject([{ ids: [a, b], properties: { a: 1, b: 1, one: 1, two: 1 } }])
  }
}, 60_000)

test('many new ids in opposite order from three workers: everyone exists once', async () => {
  const team = await workers(3)
  const ids = Array.from({ length: 200 }, (_, i) => `new-${i}`)
  await Promise.all(
    team.map(({ identity, lane }, w) =>
      insist(
        lane,
        identity,
        (w === 1 ? [...ids].reverse() : ids).map((id) =>
          event(id, { set: { [`w${w}`]: 1 }, groups: { [`type-${w}`]: 'k' } }),
        ),
      ),
    ),
  )
  const living = await livingPersons(sql)
  expect(living).toHaveLength(ids.length)
  for (const person of living) expect(person.properties).toMatchObject({ w0: 1, w1: 1, w2: 1 })
  const types = await sql`SELECT type_index FROM group_type ORDER BY 1`
  expect(types.map((row) => row.type_index)).toEqual([0, 1, 2])
}, 60_000)

test('groups are changed by several writers without loss', async () => {
  const team = await workers(3)
  await Promise.all(
    team.map(async ({ identity, lane }, w) => {
      for (let round = 0; round < 10; round++) {
        const keys = (w + round) % 2 ? ['k1', 'k2'] : ['k2', 'k1']
        await insist(
          lane,
          identity,
          keys.map((key) =>
            event(`w${w}`, { groupIdentify: { type: 'company', key, set: { [`w${w}-${round}`]: 1 } } }),
          ),
        )
      }
    }),
  )
  const groups = await sql<{ properties: object }[]>`SELECT properties FROM group_state`
  expect(groups.map((group) => Object.keys(group.properties).length)).toEqual([30, 30])
}, 60_000)

test('merges of three workers over the same people never lose an id or a property', async () => {
  const team = await workers(3)
  const ids = Array.from({ length: 12 }, (_, i) => `p${i}`)
  await insist(
    team[0]!.lane,
    team[0]!.identity,
    ids.map((id) => event(id, { set: { [id]: 1 } })),
  )
  await Promise.all(
    team.map(async ({ identity, lane }, w) => {
      for (let round = 0; round < 12; round++) {
        const target = ids[(round * 5 + w * 3) % 12]!
        const source = ids[(round * 7 + w + 1) % 12]!
        await insist(lane, identity, [
          event(target, {
            name: '$merge_dangerously',
            merge: { kind: 'dangerous', otherId: source },
            set: { [`w${w}-${round}`]: 1 },
          }),
        ])
      }
    }),
  )
  const living = await livingPersons(sql)
  expect(living.flatMap((person) => person.ids).sort()).toEqual([...ids].sort())
  for (const person of living)
    for (const id of person.ids) expect(person.properties).toMatchObject({ [id]: 1 })
  const marks = living
    .flatMap((person) => Object.keys(person.properties))
    .filter((key) => key.startsWith('w'))
  expect(new Set(marks).size).toBe(36)
}, 60_000)

test('58: a connection that dies in the middle of the write leaves nothing; the same batch passes afterwards', async () => {
  const { identity, lane } = await worker(0)
  await lane.commit(identity, [event('old', { set: { a: 1 } }), event('new')])
  const before = await livingPersons(sql)
  const holder = await sql.reserve()
  await holder`BEGIN`
  await holder`SELECT FROM person WHERE team_id = 1 FOR UPDATE`
  const batch = [identify('new', 'old', { set: { b: 2 } }), event('third')]
  let outcome: unknown
  const failed = lane.commit(identity, batch).catch((error: unknown) => {
    outcome = error
    return error
  })
  // It has advanced the fence, not yet visible, and now waits for the persons.
  let pid = 0
  await until('the write waits', async () => {
    if (outcome) throw outcome
    const [row] = await sql<{ pid: number }[]>`
      SELECT pid FROM pg_stat_activity
      WHERE application_name LIKE 'worker-0%' AND wait_event_type = 'Lock' AND query LIKE '%apply_batch%'`
    pid = row?.pid ?? 0
    return pid !== 0
  })
  await sql`SELECT pg_terminate_backend(${pid})`
  const error = await failed
  expect(isRetriable(error)).toBe(true)
  await holder`ROLLBACK`
  holder.release()
  expect(await livingPersons(sql)).toEqual(before)
  const [fence] = await sql`SELECT next_offset FROM ingest_fence WHERE log_id = ${lane.logId}`
  expect(fence!.next_offset).toBe(2)
  const [receipts] = await sql`SELECT count(*) AS n FROM receipt`
  expect(receipts!.n).toBe(1)
  await insist(lane, identity, batch)
  expect((await livingPersons(sql)).map((person) => person.ids).sort()).toEqual([['new', 'old'], ['third']])
}, 60_000)

test('connections killed at random under load: every batch is there once or not at all', async () => {
  const team = await workers(2)
  const rounds = 40
  let done = false
  const killer = (async () => {
    for (let kills = 0; !done && kills < KILLS; ) {
      const cut = await sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name LIKE 'worker-%' AND state = 'active' AND query LIKE '%apply_batch%' LIMIT 1`
      kills += cut.length
    }
  })()
  let killed = 0
  await Promise.all(
    team.map(async ({ identity, lane }, w) => {
      for (let round = 0; round < rounds; ) {
        const at = lane.next
        try {
          await lane.commit(identity, [
            event('p', { set: { [`w${w}-${round}`]: 1 } }),
            event(`q${w}-${round}`),
          ])
          round++
        } catch (error) {
          if (!isRetriable(error)) throw error
          killed++
          // The answer may have been lost after the commit: the fence says which, as it does for ingest.
          const fence = await insistOn(
            () => sql<{ next_offset: number }[]>`
            SELECT next_offset FROM ingest_fence WHERE log_id = ${lane.logId}`,
          )
          if (fence[0]!.next_offset === at) continue
          lane.next = fence[0]!.next_offset
          round++
        }
      }
    }),
  )
  done = true
  await killer
  const living = await livingPersons(sql)
  expect(living).toHaveLength(1 + 2 * rounds)
  const shared = living.find((person) => person.ids.includes('p'))!
  expect(Object.keys(shared.properties)).toHaveLength(2 * rounds + 1)
  const [receipts] = await sql`SELECT count(*) AS n FROM receipt`
  expect(receipts!.n).toBe(2 * rounds)
  expect(killed).toBeGreaterThan(0)
}, 60_000)

async function insistOn<R>(query: () => PromiseLike<R>): Promise<R> {
  const deadline = Date.now() + DEADLINE_MS
  for (;;) {
    try {
      return await query()
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
  }
}
