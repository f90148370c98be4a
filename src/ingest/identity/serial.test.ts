/**
 * Three owners of partitions, in one process or several, work at the same time on six ids: whatever they do, the result is one that the same batches
 * give one after another, in the order in which they were acknowledged.
 *
 * Every event sets a key of its own, so that it changes its person, and with that the order of commits is the order of
 * effects. A key of its own is also the proof that no acknowledged value is lost: nothing unsets it, and a merge keeps it.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import fc from 'fast-check'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { openPostgres, type Sql } from '../../catalog/index.ts'
import { isRetriable } from '../../event/index.ts'
import { decodeRows, event, Lane, livingPersons, plainReceipt, T0 } from './identity.fixture.ts'
import { createIdentity, type Identity, type IdentityEvent, type JsonObject } from './index.ts'

const LANES = 3
const RUNS = 20
const TEST_MS_MAX = 120_000
const IDS = ['a', 'b', 'c', 'd', 'e', 'f']
const KEYS = ['k', 'l', '$os']
const NAMES = {
  set: '$pageview',
  identify: '$identify',
  alias: '$create_alias',
  dangerous: '$merge_dangerously',
}

let postgres: TestPostgres
const pools: Sql[] = []
const processes: Identity[] = []
let locked = 0
let conflicts = 0

beforeAll(async () => {
  postgres = await startTestPostgres()
  for (let i = 0; i < LANES; i++) {
    const pool = openPostgres({ url: postgres.url, name: `owner-${i}`, connectionsMax: 2 })
    pools.push(pool)
    const hooks = {
      attempt: (_: number, path: string) => (locked += path === 'locked' ? 1 : 0),
      conflict: () => conflicts++,
    }
    processes.push(createIdentity(pool, hooks))
  }
}, 60_000)
afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end({ timeout: 1 })))
  await postgres?.stop()
}, 60_000)

const some = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(1, 2, null, [1]), { maxKeys: 2 })
const step = fc.record({
  distinctId: fc.constantFrom(...IDS),
  otherId: fc.constantFrom(...IDS),
  kind: fc.constantFrom('set', 'identify', 'alias', 'dangerous'),
  set: some,
  setOnce: some,
  unset: fc.subarray(KEYS),
})
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never
/** Per owner its batches. */
const work = fc.array(fc.array(fc.array(step, { minLength: 1, maxLength: 4 }), { maxLength: 4 }), {
  minLength: LANES,
  maxLength: LANES,
})

function eventOf(s: Step, key: string, teamId: number): IdentityEvent {
  return event(s.distinctId, {
    teamId,
    uuid: `00000000-0000-4000-8000-${key.slice(-3).padStart(12, '0')}`,
    name: NAMES[s.kind as 'set'],
    // Different for every event, so that the older birth of a merge tells who it was.
    timestampMs: T0 + (Bun.hash.crc32(key) % 100_000),
    nowMs: T0,
    set: { ...s.set, [key]: 1 } as JsonObject,
    setOnce: s.setOnce as JsonObject,
    unset: s.unset,
    merge: s.kind === 'set' ? undefined : { kind: s.kind as 'identify', otherId: s.otherId },
  })
}

async function insist(lane: Lane, identity: Identity, events: IdentityEvent[]) {
  for (;;) {
    try {
      return await lane.commit(identity, events)
    } catch (error) {
      if (!isRetriable(error)) throw error
    }
  }
}

/** What must be the same: a version depends on how often a batch met others. */
async function visible(teamId: number) {
  const persons = await livingPersons(postgres.sql, teamId)
  return persons
    .map(({ uuid: _, version: __, ...rest }) => rest)
    .sort((a, b) => (a.ids[0]! < b.ids[0]! ? -1 : 1))
}

let teams = 0

/** Which process each owner is in. */
const PLACES = [
  { name: 'each in a process of its own', places: [0, 1, 2] },
  { name: 'two in one process', places: [0, 0, 1] },
  { name: 'all in one process', places: [0, 0, 0] },
]

test.each(PLACES)(
  'three owners at once, $name: a result of some order, no id twice, no value lost, versions rise, a replay changes nothing',
  async ({ places }) => {
    const owners = places.map((place) => processes[place]!)
    locked = 0
    conflicts = 0
    await fc.assert(
      fc.asyncProperty(
        work,
        fc.array(fc.nat(4), { minLength: LANES, maxLength: LANES }),
        async (jobs, suffix) => {
          const [team, model] = [++teams, ++teams]
          const { sql } = postgres
          const lanes = await Promise.all(owners.map((_, partition) => Lane.open(sql, partition)))
          const order: ((teamId: number) => IdentityEvent[])[] = []
          const sent = new Map<string, number[]>()
          const note = (key: string, version: number) => sent.set(key, [...(sent.get(key) ?? []), version])
          const replays = await Promise.all(
            jobs.map(async (batches, owner) => {
              const done: { events: IdentityEvent[]; position: ReturnType<Lane['position']> }[] = []
              for (const [b, steps] of batches.entries()) {
                const events = (teamId: number) =>
                  steps.map((s, i) => eventOf(s, `mine-${owner}${b}${i}`, teamId))
                const position = lanes[owner]!.position(steps.length)
                const { stateRows } = await insist(lanes[owner]!, owners[owner]!, events(team))
                order.push(events)
                done.push({ events: events(team), position })
                const rows = decodeRows(stateRows)
                for (const row of rows.persons) note(row.id, row.version)
                for (const row of rows.overrides) note(row.distinct_id, row.version)
              }
              return done.slice(Math.max(0, done.length - suffix[owner]!))
            }),
          )

          const single = await Lane.open(sql, 9)
          for (const events of order) await single.commit(owners[0]!, events(model))
          expect(await visible(team)).toEqual(await visible(model))

          const living = await livingPersons(sql, team)
          const ids = living.flatMap((person) => person.ids)
          expect(new Set(ids).size).toBe(ids.length)
          for (const { distinctId, set } of order.flatMap((events) => events(team))) {
            const holder = living.find((person) => person.ids.includes(distinctId))!
            const key = Object.keys(set!).find((one) => one.startsWith('mine-'))!
            expect(holder.properties[key]).toBe(1)
          }
          for (const versions of sent.values()) expect(new Set(versions).size).toBe(versions.length)
          for (const { uuid, version } of living) expect(version).toBe(Math.max(...sent.get(uuid)!))

          for (const [owner, batches] of replays.entries()) {
            for (const { events, position } of batches) {
              const again = owners[owner]!.commit(events, position, () => plainReceipt(events.length))
              await expect(again).rejects.toMatchObject({ code: 'HR_INGEST_FENCE' })
              await owners[owner]!.restamp(events)
            }
          }
          expect(await livingPersons(sql, team)).toEqual(living)
        },
      ),
      { numRuns: RUNS },
    )
    // The test is worth something only if they met; but in one process they wait for each other.
    if (new Set(places).size > 1) expect(locked).toBeGreaterThan(0)
    else expect(conflicts).toBe(0)
  },
  TEST_MS_MAX,
)
