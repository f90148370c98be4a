/**
 * Properties of the whole step on a real Postgres: how a sequence of events is cut into batches, and over which
 * partitions they come, makes no difference to who exists in the end; ids never get lost or doubled; versions rise.
 */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import fc from 'fast-check'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import { personUuid } from '../../event/index.ts'
import { decodeRows, event, Lane, livingPersons, T0, wipe } from './identity.fixture.ts'
import { createIdentity, type Identity, type IdentityEvent, type JsonObject } from './index.ts'

const IDS = ['a', 'b', 'c', 'd', 'e', 'f']
const KEYS = ['k', 'l', '$os']
const RUNS = 120
const TEST_MS_MAX = 120_000

let postgres: TestPostgres
let identity: Identity

beforeAll(async () => {
  postgres = await startTestPostgres()
  identity = createIdentity(postgres.sql)
}, 60_000)
afterAll(() => postgres?.stop(), 60_000)

const id = fc.constantFrom(...IDS)
const some = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(1, 2, null, [1]), { maxKeys: 2 })
const step = fc.record({
  distinctId: id,
  kind: fc.constantFrom('plain', 'set', 'identify', 'alias', 'dangerous', 'personless'),
  otherId: id,
  set: fc.option(some, { nil: undefined }),
  setOnce: fc.option(some, { nil: undefined }),
  unset: fc.option(fc.subarray(KEYS, { minLength: 1 }), { nil: undefined }),
  ageMs: fc.nat(50),
  partition: fc.nat(2),
  /** The batch ends after this event. */
  cut: fc.boolean(),
})
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

const NAMES = { identify: '$identify', alias: '$create_alias', dangerous: '$merge_dangerously', set: '$set' }

function eventOf(s: Step, i: number, teamId: number): IdentityEvent {
  const isMerge = s.kind === 'identify' || s.kind === 'alias' || s.kind === 'dangerous'
  return event(s.distinctId, {
    teamId,
    uuid: `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
    name: s.kind === 'plain' || s.kind === 'personless' ? '$pageview' : NAMES[s.kind],
    timestampMs: T0 - s.ageMs,
    nowMs: T0 + i,
    personProcessing: s.kind === 'personless' ? 'off' : 'on',
    set: s.set as JsonObject | undefined,
    setOnce: s.setOnce as JsonObject | undefined,
    unset: s.unset,
    merge: isMerge ? { kind: s.kind as 'identify', otherId: s.otherId } : undefined,
  })
}

/** Persons without what may differ: the uuid depends on the team, the version on the number of batches. */
async function visible(teamId: number) {
  const persons = await livingPersons(postgres.sql, teamId)
  return persons
    .map(({ uuid: _, version: __, ...rest }) => rest)
    .sort((a, b) => (a.ids[0]! < b.ids[0]! ? -1 : 1))
}

test(
  'cut into any batches over three partitions, the same order gives the same persons',
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
        const { sql } = postgres
        await wipe(sql)
        const whole = await Lane.open(sql)
        const { stamps } = await whole.commit(
          identity,
          steps.map((s, i) => eventOf(s, i, 1)),
        )
        const lanes = await Promise.all([0, 1, 2].map((partition) => Lane.open(sql, partition)))
        const versions = new Map<string, number>()
        let batch: IdentityEvent[] = []
        for (let i = 0; i < steps.length; i++) {
          const s = steps[i]!
          batch.push(eventOf(s, i, 2))
          const next = steps[i + 1]
          if (next && next.partition === s.partition && !s.cut) continue
          const { stateRows, stamps: parts } = await lanes[s.partition]!.commit(identity, batch)
          const at = i - batch.length + 1
          parts.forEach((stamp, k) => {
            expect(JSON.parse(stamp.personPropertiesJson)).toEqual(
              JSON.parse(stamps[at + k]!.personPropertiesJson),
            )
            expect(stamp.mode).toBe(stamps[at + k]!.mode)
            expect(stamp.personCreatedAtMs).toBe(stamps[at + k]!.personCreatedAtMs)
            expect(stamp.warnings.map((w) => w.type)).toEqual(stamps[at + k]!.warnings.map((w) => w.type))
          })
          const rows = decodeRows(stateRows)
          const sent = [
            ...rows.persons.map((row) => [row.id, row.version] as const),
            ...rows.overrides.map((row) => [row.distinct_id, row.version] as const),
          ]
          for (const [key, version] of sent) {
            expect(version).toBeGreaterThan(versions.get(key) ?? 0)
            versions.set(key, version)
          }
          batch = []
        }
        const persons = await visible(2)
        expect(persons).toEqual(await visible(1))
        const ids = persons.flatMap((person) => person.ids)
        expect(new Set(ids).size).toBe(ids.length)
        const personful = steps.filter((s) => s.kind !== 'personless').map((s) => s.distinctId)
        for (const known of personful) expect(ids).toContain(known)
        expect(persons.every((person) => person.ids.length > 0)).toBe(true)
      }),
      { numRuns: RUNS },
    )
  },
  TEST_MS_MAX,
)

test(
  'the state rows alone tell the same story as Postgres: the highest version of each wins',
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
        const { sql } = postgres
        await wipe(sql)
        const lane = await Lane.open(sql)
        const persons = new Map<string, { version: number; is_deleted: number; properties: string }>()
        const overrides = new Map<string, { version: number; person_id: string }>()
        for (let i = 0; i < steps.length; i += 4) {
          const events = steps.slice(i, i + 4).map((s, k) => eventOf(s, i + k, 1))
          const rows = decodeRows((await lane.commit(identity, events)).stateRows)
          for (const row of rows.persons) {
            if (row.version > (persons.get(row.id)?.version ?? -1)) persons.set(row.id, row)
          }
          for (const row of rows.overrides) {
            if (row.version > (overrides.get(row.distinct_id)?.version ?? -1))
              overrides.set(row.distinct_id, row)
          }
        }
        const living = await livingPersons(sql)
        const shown = [...persons].filter(([, row]) => row.is_deleted === 0)
        expect(new Map(shown.map(([uuid, row]) => [uuid, JSON.parse(row.properties)]))).toEqual(
          new Map(living.map((person) => [person.uuid, person.properties])),
        )
        for (const person of living) {
          for (const distinctId of person.ids) {
            const told = overrides.get(distinctId)?.person_id ?? personUuid(1, distinctId)
            expect(told).toBe(person.uuid)
          }
        }
      }),
      { numRuns: RUNS / 2 },
    )
  },
  TEST_MS_MAX,
)
