/** Cookieless visitors at the identity step, on a real Postgres: what a batch costs, and what may meet it. */
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import type { Sql } from '../catalog/index.ts'
import { personUuid, type RawHeader } from '../event/index.ts'
import { batchRequests } from './batch-requests.ts'
import { Lane, livingPersons, plainReceipt, wipe } from './identity/identity.fixture.ts'
import { createIdentity, type Stamp } from './identity/index.ts'
import { NOW_MS, rawRecord, throughSteps } from './steps/steps.fixture.ts'

setDefaultTimeout(60_000)

let postgres: TestPostgres
let lane: Lane
let tries: string[]
beforeAll(async () => {
  postgres = await startTestPostgres()
})
afterAll(() => postgres.stop())
beforeEach(async () => {
  await wipe(postgres.sql)
  await postgres.sql`TRUNCATE cookieless_visitor`
  lane = await Lane.open(postgres.sql)
  tries = []
})

const PLACEHOLDER = '$posthog_cookieless'
const PROPERTIES = { $cookieless_mode: true, $host: 'a.example', $raw_user_agent: 'UA' }
type Header = Partial<RawHeader>
const visit = (ip: string, header: Header = {}): Header => ({
  ip,
  distinctId: PLACEHOLDER,
  cookieless: true,
  ...header,
})
const identify = (ip: string, distinctId: string) => visit(ip, { event: '$identify', distinctId })

/** One batch on `at`; per event the distinct id that it got, and its stamp. */
async function commit(
  headers: Header[],
  sql: Sql = postgres.sql,
  at: Lane = lane,
  properties: object = PROPERTIES,
) {
  const slots = throughSteps(
    headers.map((header, i) => rawRecord({ properties }, header, i)),
    { cookieless: 'stateful' },
  )
  const { events, visitors } = batchRequests(slots)
  const identity = createIdentity(sql, { attempt: (_, path) => tries.push(path) })
  const { stamps } = await identity.commit(
    events,
    at.position(events.length),
    () => plainReceipt(events.length),
    { visitors },
  )
  at.next += events.length
  return slots.map((slot, i) => ({ id: slot.draft!.header.distinctId, stamp: stamps[i] as Stamp }))
}

/** `seen` is told of each statement; what it gives back is awaited before the statement runs. */
function watched(seen: (text: string) => Promise<unknown> | undefined): Sql {
  return new Proxy(postgres.sql, {
    apply(target, self, args: unknown[]) {
      const query = Reflect.apply(target as never, self, args) as Promise<unknown>
      const text = (args[0] as string[]).join('?').trim()
      // What is none is a fragment of one.
      return (text.startsWith('SELECT') ? seen(text)?.then(() => query) : undefined) ?? query
    },
  }) as Sql
}

const personsOf = async () => (await livingPersons(postgres.sql, 7)).map(({ ids }) => [...ids].sort())

test('two reads at once and one write, also where persons are found by ids that only Postgres knows', async () => {
  const [first, , next] = await commit([visit('1.1.1.1'), identify('1.1.1.1', 'alice'), visit('1.1.1.1')])
  expect(await personsOf()).toEqual(expect.arrayContaining([['alice', first!.id], [next!.id]]))
  const texts: string[] = []
  const counting = watched((text) => void texts.push(text))
  const later = await commit(
    [visit('1.1.1.1'), visit('2.2.2.2'), visit('3.3.3.3', { distinctId: 'bob' })],
    counting,
  )
  expect(texts.map((text) => /apply_batch|v\.identifies|JOIN person/.exec(text)![0])).toEqual([
    'JOIN person',
    'v.identifies',
    'apply_batch',
  ])
  expect(tries).toEqual(['optimistic', 'optimistic'])
  expect([later[0]!.id, later[0]!.stamp.personUuid]).toEqual([next!.id, next!.stamp.personUuid])
  expect(new Set(later.map(({ stamp }) => stamp.personUuid)).size).toBe(3)
})

test('a batch without such visitors asks for none', async () => {
  const texts: string[] = []
  const counting = watched((text) => void texts.push(text))
  await commit([{ distinctId: 'bob' }], counting, lane, {})
  expect(texts).toHaveLength(2)
  expect(texts.join()).not.toContain('visitor')
})

test.each([
  ['persons are looked up by what it was called before', 'v.identifies'],
  ['persons are looked up by what it is called since', 'JOIN person'],
])('a visitor that says who it is between the two reads: %s', async (_, later) => {
  await commit([identify('1.1.1.1', 'alice'), visit('1.1.1.1')])
  const other = await Lane.open(postgres.sql, 1)
  let next: { id: string } | undefined
  const racing = watched((text) => {
    if (next || !text.includes(later)) return undefined
    next = { id: '' }
    return commit([identify('1.1.1.1', 'bob'), visit('1.1.1.1')], postgres.sql, other).then(([, last]) => {
      next = last
    })
  })
  tries = []
  // Nothing is written for it, so nothing but the reads themselves can tell.
  const [late] = await commit([visit('1.1.1.1', { personProcessing: 'off' })], racing)
  expect(tries).toEqual(['optimistic', 'optimistic', 'locked'])
  expect(late!.id).toBe(next!.id)
  // It has the person of that id, who was born with the visit.
  expect(late!.stamp.personCreatedAtMs).toBe(NOW_MS)
})

test('a visitor that says who it is between read and write: neither $identify is lost', async () => {
  const other = await Lane.open(postgres.sql, 1)
  let raced = false
  const racing = watched((text) => {
    if (raced || !text.includes('apply_batch')) return undefined
    raced = true
    return commit([identify('1.1.1.1', 'alice'), visit('1.1.1.1')], postgres.sql, other)
  })
  const [bob, next] = await commit([identify('1.1.1.1', 'bob'), visit('1.1.1.1')], racing)
  expect(tries).toEqual(['optimistic', 'optimistic', 'locked'])
  const [visitor] = await postgres.sql`SELECT identifies, version FROM cookieless_visitor`
  expect(visitor).toEqual({ identifies: 2, version: 2 } as never)
  const persons = await personsOf()
  // Who was anonymous after alice is bob.
  expect(persons).toHaveLength(3)
  expect(bob!.id).toBe('bob')
  expect(persons.find((ids) => ids.includes('bob'))).toHaveLength(2)
  expect(persons).toContainEqual([next!.id])
  const receipts = await postgres.sql`SELECT FROM receipt`
  expect(receipts).toHaveLength(2)
})

test('events without a person, or forced so, need none of the ids', async () => {
  await commit([identify('1.1.1.1', 'alice')])
  const [off, forced] = await commit([
    visit('1.1.1.1', { personProcessing: 'off' }),
    visit('1.1.1.1', { personProcessing: 'forcedOff' }),
  ])
  expect(off!.id).toBe(forced!.id)
  expect(off!.stamp).toMatchObject({ mode: 'propertyless', personUuid: personUuid(7, off!.id) })
  const [alone] = await commit([visit('1.1.1.1', { personProcessing: 'forcedOff' })])
  expect(alone!.stamp).toEqual(forced!.stamp)
  expect(await personsOf()).toHaveLength(1)
})
