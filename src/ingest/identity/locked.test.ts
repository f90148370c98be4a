/**
 * The locked ways, on a real Postgres: persons that another process changes between the read of a batch and its locks.
 */
import { expect, test } from 'bun:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { Sql } from '../../catalog/index.ts'
import { personUuid } from '../../event/index.ts'
import { dangerous, event, type Given, Lane, livingPersons, store } from './identity.fixture.ts'
import { createIdentity } from './index.ts'
import {
  holdPerson,
  overlapForEachTest,
  overtaken,
  type Process,
  processOf,
  sql,
  WITHIN_MS,
  waiting,
} from './overlap.fixture.ts'
import { readSnapshot } from './read.ts'
import { readNamesakes } from './read-persons.ts'
import { adopt } from './snapshot.ts'
import { wantedBy } from './wanted.ts'

const TEST_MS_MAX = 30_000
const mine = { ids: ['hot', 'also-hot'], props: { a: 1 } }
const looks = { personProcessing: 'off' } as const

overlapForEachTest()

const change = (n: number) => (held: Sql) =>
  held`
  UPDATE person SET version = version + 1, properties = properties || ${`{"h${n}": 1}`}::text::jsonb
  WHERE id = (SELECT person_id FROM person_distinct_id WHERE distinct_id = 'hot')`

/** Another process merges the person of 'hot' into that of 'other'. */
const mergeHot = async (held: Sql) => {
  const lane = await Lane.open(held, 7)
  await lane.commit(createIdentity(held), [dangerous('other', 'hot')])
}

/** From here on `process` locks the person of 'hot' before it folds. */
async function makeContended({ identity, lanes, noted }: Process) {
  await overtaken(sql, change(0), () => lanes[0]!.commit(identity, [event('hot', { set: { n0: 0 } })]))
  expect(noted.tries.splice(0)).toEqual(['optimistic', 'locked'])
  noted.conflicts = 0
  noted.reads = 0
}

test(
  'a person that another process changes too is locked before the fold, until nobody does any more',
  async () => {
    await store(sql, [mine])
    const here = await processOf('here', [0])
    const there = await processOf('there', [1])
    const next = (process: Process, n: number) =>
      process.lanes[0]!.commit(process.identity, [
        event('also-hot', looks),
        event('hot', { set: { [`n${n}`]: n } }),
      ])
    await makeContended(here)
    await overtaken(sql, change(1), () => next(here, 1))
    expect(here.noted).toMatchObject({ tries: ['locked'], conflicts: 0 })
    for (let n = 2; n < 20; n++) {
      await next(here, n)
      await next(there, 100 + n)
    }
    expect(here.noted.conflicts).toBe(0)
    expect(here.noted.tries.at(-1)).toBe('optimistic')
    const [person] = await livingPersons(sql)
    expect(Object.keys(person!.properties)).toHaveLength(1 + 2 + 20 + 18)
  },
  TEST_MS_MAX,
)

test(
  'a try that ends halfway through reading again leaves nothing to the next: no id seems to have no person',
  async () => {
    await store(sql, [mine, { ids: ['other'] }])
    const here = await processOf('here', [0])
    await makeContended(here)
    const { identity, noted, lanes } = here
    const events = [event('hot', { set: { b: 2 } }), event('also-hot', looks), event('other', looks)]
    const { stamps } = await overtaken(sql, mergeHot, () => lanes[0]!.commit(identity, events))
    expect(noted).toMatchObject({ tries: ['locked', 'locked'], conflicts: 1 })
    const survivor = personUuid(1, 'other')
    expect(stamps.map(({ personUuid }) => personUuid)).toEqual([survivor, survivor, survivor])
    expect(await livingPersons(sql)).toMatchObject([{ uuid: survivor, properties: { a: 1, b: 2 } }])
  },
  TEST_MS_MAX,
)

test.each<{ stored: Given[]; tries: string[] }>([
  { stored: [{ ids: ['other'] }, mine], tries: ['locked', 'locked'] },
  { stored: [mine, { ids: ['other'] }], tries: ['locked'] },
])('a survivor in front of what is locked is not locked behind it: $tries', async ({ stored, tries }) => {
  await store(sql, stored)
  const here = await processOf('here', [0])
  await makeContended(here)
  const commit = () => here.lanes[0]!.commit(here.identity, [event('hot', { set: { b: 2 } })])
  await overtaken(sql, mergeHot, commit)
  expect(here.noted.tries).toEqual(tries)
  expect(await livingPersons(sql)).toMatchObject([{ properties: { a: 1, b: 2 } }])
})

test(
  'who takes locks before its fold says whom: another batch with one of them waits its turn',
  async () => {
    await store(sql, [mine, { ids: ['apart'] }])
    const here = await processOf('here', [0, 1])
    await makeContended(here)
    const { identity, noted, lanes } = here
    const held = await holdPerson(sql, 'hot')
    const one = lanes[0]!.commit(identity, [
      event('hot', { set: { b: 2 } }),
      event('apart', { set: { c: 3 } }),
    ])
    await waiting(sql, '%FOR NO KEY UPDATE%')
    const two = lanes[1]!.commit(identity, [event('apart', { set: { d: 4 } })])
    await waitFor('read of the second', () => noted.reads > 1, WITHIN_MS)
    await held.end()
    await Promise.all([one, two])
    expect(noted).toMatchObject({ tries: ['locked', 'optimistic'], conflicts: 0, turns: 1 })
    const apart = (await livingPersons(sql)).find(({ ids }) => ids.includes('apart'))
    expect(apart!.properties).toEqual({ c: 3, d: 4 })
  },
  TEST_MS_MAX,
)

const TIMES = { a: 5 }

test('times of properties are taken over with them, and only with them', async () => {
  await store(sql, [mine])
  await sql`UPDATE person SET property_times = ${JSON.stringify(TIMES)}::text::jsonb`
  const full = wantedBy([event('hot')])
  const read = async (wanted = full) => {
    const snapshot = await readSnapshot(sql, wanted)
    return { snapshot, person: [...snapshot.persons.values()][0]! }
  }
  const again = await read()
  const seen = await read(wantedBy([event('also-hot', looks)]))
  expect(adopt(seen.snapshot, again.snapshot)).toBe(true)
  expect(JSON.parse(seen.person.propertiesJson!)).toEqual({ a: 1 })
  expect(JSON.parse(seen.person.timesJson!)).toEqual(TIMES)
  // As a write of this process has left it since.
  const newer = await read()
  Object.assign(newer.person, { version: newer.person.version + 1, timesJson: undefined })
  expect(adopt(newer.snapshot, again.snapshot)).toBe(true)
  expect(newer.person.timesJson).toBeUndefined()
})

test('a living namesake of whom only a personless event spoke gets its times too', async () => {
  await store(sql, [mine])
  await sql`UPDATE person SET property_times = ${JSON.stringify(TIMES)}::text::jsonb`
  await sql`DELETE FROM person_distinct_id WHERE distinct_id = 'hot'`
  const wanted = wantedBy([event('hot'), event('also-hot', looks)])
  const snapshot = await readSnapshot(sql, wanted)
  await readNamesakes(sql, wanted, snapshot)
  const [person] = snapshot.namesakes.values()
  expect(person).toBe([...snapshot.persons.values()][0]!)
  expect(JSON.parse(person!.timesJson!)).toEqual(TIMES)
})
