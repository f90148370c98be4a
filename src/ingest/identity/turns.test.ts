/**
 * Lanes that change the same persons, in one process and in two: on a real Postgres, where each case is held in the very
 * moment in which one write is under way and the other batch has read.
 */
import { expect, test } from 'bun:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import { ApplyConflict } from './apply.ts'
import { dangerous, event, identify, livingPersons, store, T0 } from './identity.fixture.ts'
import { DEFAULT_OPTIONS, type IdentityEvent } from './index.ts'
import {
  holdPerson,
  overlapForEachTest,
  type Process,
  processOf,
  sql,
  WITHIN_MS,
  waiting,
} from './overlap.fixture.ts'
import { emptySnapshot, idKey, type PersonRow } from './snapshot.ts'
import { Turns } from './turns.ts'
import { wantedBy } from './wanted.ts'

const TEST_MS_MAX = 30_000

overlapForEachTest()

/**
 * `first` is held before its write, by a lock on the person of `heldId`; `second` begins, and when it has read, the lock
 * is let go, or the connection of `first` cut.
 */
async function overlapping(
  { identity, noted, lanes }: Process,
  heldId: string,
  first: IdentityEvent[],
  second: IdentityEvent[],
  cut = false,
) {
  const held = await holdPerson(sql, heldId)
  const one = lanes[0]!.commit(identity, first).catch((error: unknown) => error as Error)
  const pid = await waiting(sql, '%apply_batch%')
  const { reads } = noted
  const two = lanes[1]!.commit(identity, second)
  await waitFor('read of the second', () => noted.reads > reads, WITHIN_MS)
  if (cut) await sql`SELECT pg_terminate_backend(${pid})`
  await held.end()
  return [await one, await two] as const
}

const GONE: PersonRow = {
  id: 7,
  teamId: 1,
  uuid: '00000000-0000-4000-8000-000000000007',
  propertiesJson: '{}',
  timesJson: undefined,
  createdAtMs: T0,
  isIdentified: false,
  version: 1,
  dead: false,
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
  'a person that a decision of the first rests on is not changed before that is written',
  async () => {
    await store(sql, [mine, { ids: ['taken'], identified: true }])
    const process = await processOf('one', [0, 1])
    await overlapping(
      process,
      'hot',
      [identify('hot', 'taken', { set: { b: 2 } })],
      [event('taken', { set: { c: 3 } })],
    )
    expect(process.noted).toEqual({ tries: ['optimistic', 'optimistic'], conflicts: 0, turns: 1, reads: 2 })
    const living = await livingPersons(sql)
    expect(new Map(living.map(({ ids, properties }) => [ids.join(), properties]))).toEqual(
      new Map([
        ['taken', { c: 3 }],
        ['also-hot,hot', { a: 1, b: 2 }],
      ]),
    )
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
    const held = await holdPerson(sql, 'hot')
    const first = process.lanes[0]!.commit(process.identity, [event('hot', { set: { b: 2 } })])
    const looks = event('also-hot', { personProcessing: 'off' })
    await process.lanes[1]!.commit(process.identity, [event('apart', { set: { c: 3 } }), looks])
    expect(process.noted.turns).toBe(0)
    await held.end()
    await first
  },
  TEST_MS_MAX,
)

test(
  'a backend that no longer answers is not waited for without end: the next batch goes to Postgres',
  async () => {
    await store(sql, [mine])
    const { identity, noted, lanes } = await processOf('one', [0, 1], 50)
    const held = await holdPerson(sql, 'hot')
    const one = lanes[0]!.commit(identity, [event('hot', { set: { b: 2 } })])
    const pid = await waiting(sql, '%apply_batch%')
    process.kill(pid, 'SIGSTOP')
    const two = lanes[1]!.commit(identity, [event('also-hot', { set: { c: 3 } })])
    try {
      await waiting(sql, '%FOR NO KEY UPDATE%')
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    expect(noted).toEqual({ tries: ['optimistic', 'optimistic', 'locked'], conflicts: 1, turns: 1, reads: 2 })
    await held.end()
    await Promise.all([one, two])
    expect(await livingPersons(sql)).toMatchObject([{ properties: { a: 1, b: 2, c: 3 } }])
  },
  TEST_MS_MAX,
)

test("a cookieless visitor's person that is merged away is not read again, the ids of visitors being unknown", async () => {
  const turns = new Turns()
  const snapshot = emptySnapshot()
  const person = { ...GONE }
  snapshot.persons.set(person.id, person)
  snapshot.mappings.set(idKey(1, 'visitor'), { version: 0, person })
  const turn = turns.ask(wantedBy([event('named')]))
  const write = turns.begin(new Set())
  write.gone.add(person.id)
  await write.during(Promise.resolve())
  const readAgain = () => Promise.reject(new Error('nothing to read again'))
  const taken = turn.take(
    snapshot,
    readAgain,
    () => Promise.resolve('folded'),
    () => {},
  )
  await expect(taken).rejects.toThrow(ApplyConflict)
})

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
