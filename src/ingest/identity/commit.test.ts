/** The identity step on a real Postgres: what is stored, what is sent, what the fence refuses. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../../test/support/postgres.ts'
import type { Sql } from '../../catalog/index.ts'
import { personUuid } from '../../event/index.ts'
import { MOVE_MAX } from './apply.ts'
import {
  alias,
  dangerous,
  decodeRows,
  event,
  identify,
  Lane,
  livingPersons,
  mappingVersion,
  plainReceipt,
  T0,
  wipe,
} from './identity.fixture.ts'
import { createIdentity, type Identity, type IdentityEvent, moveMappings, type Outbox } from './index.ts'

let postgres: TestPostgres
let sql: Sql
let identity: Identity
let lane: Lane

beforeAll(async () => {
  postgres = await startTestPostgres()
  sql = postgres.sql
  identity = createIdentity(sql)
}, 60_000)
afterAll(() => postgres?.stop(), 60_000)
beforeEach(async () => {
  await wipe(sql)
  lane = await Lane.open(sql)
})

async function outboxOf(of: Lane, fromOffset: number): Promise<Outbox | null> {
  const [row] = await sql<{ outbox: Outbox | null }[]>`
    SELECT outbox FROM receipt WHERE log_id = ${of.logId} AND from_offset = ${fromOffset}`
  return row!.outbox
}

describe('what is stored and sent', () => {
  test('38, 41: a merge stores survivor, tombstone and moved id, and sends all three', async () => {
    const first = await lane.commit(identity, [
      event('old', { set: { a: 1, b: 2 } }),
      event('new', { set: { b: 3, c: 4 }, timestampMs: T0 - 5 }),
    ])
    expect(first.stamps.map((stamp) => stamp.personUuid)).toEqual([
      personUuid(1, 'old'),
      personUuid(1, 'new'),
    ])
    expect(decodeRows(first.stateRows)).toMatchObject({
      persons: [{ version: T0 }, { version: T0 }],
      overrides: [],
      groups: [],
    })
    const merged = await lane.commit(identity, [
      identify('new', 'old', { set: { d: 6, b: 3 }, setOnce: { a: 8, f: 9 }, nowMs: T0 + 1 }),
    ])
    const living = await livingPersons(sql)
    expect(living).toMatchObject([
      {
        uuid: personUuid(1, 'new'),
        properties: { a: 1, b: 3, c: 4, d: 6, f: 9 },
        created_ms: T0 - 5,
        is_identified: true,
        ids: ['new', 'old'],
      },
    ])
    const sent = decodeRows(merged.stateRows)
    expect(sent.persons).toMatchObject([
      { id: personUuid(1, 'new'), is_deleted: 0, is_identified: 1, created_at: T0 - 5, version: T0 + 1 },
      { id: personUuid(1, 'old'), is_deleted: 1, properties: '{}', version: T0 + 1 },
    ])
    expect(JSON.parse(sent.persons[0]!.properties)).toEqual(living[0]!.properties)
    expect(sent.overrides).toEqual([
      { team_id: 1, distinct_id: 'old', person_id: personUuid(1, 'new'), is_deleted: 0, version: T0 + 1 },
    ])
    const [tombstone] = await sql`
      SELECT merged_into = (SELECT id FROM person WHERE uuid = ${personUuid(1, 'new')}) AS pointed, properties
      FROM person WHERE uuid = ${personUuid(1, 'old')} AND deleted_at IS NOT NULL`
    expect(tombstone).toEqual({ pointed: true, properties: {} })
  })

  test('the outbox names what was sent, so that a replay sends the same', async () => {
    await lane.commit(identity, [event('old'), event('new')])
    await sql`
      INSERT INTO person_distinct_id (team_id, distinct_id, person_id, version)
      SELECT 1, 'elsewhere', id, 3 FROM person WHERE uuid = ${personUuid(1, 'old')}`
    const groupIdentify = { type: 'company', key: 'c1', set: { a: 1 } }
    const sent = await lane.commit(identity, [
      identify('new', 'old', { groupIdentify, nowMs: T0 + 1 }),
      event('third'),
    ])
    const outbox = await outboxOf(lane, 2)
    const again = await identity.stateRows(outbox!)
    const byKey = (rows: ReturnType<typeof decodeRows>) => ({
      persons: rows.persons
        .map((row) => ({ ...row, properties: JSON.parse(row.properties) }))
        .sort((a, b) => (a.id < b.id ? -1 : 1)),
      overrides: rows.overrides.sort((a, b) => (a.distinct_id < b.distinct_id ? -1 : 1)),
      groups: rows.groups.map((row) => ({ ...row, group_properties: JSON.parse(row.group_properties) })),
    })
    expect(byKey(decodeRows(again))).toEqual(byKey(decodeRows(sent.stateRows)))
    expect(decodeRows(sent.stateRows).overrides.map((row) => row.distinct_id)).toEqual(['old', 'elsewhere'])
    expect(again.groups).toHaveLength(1)
  })

  test('an outbox read later shows the state of then: merged persons as deleted, ids at their survivor', async () => {
    await lane.commit(identity, [event('a'), identify('a', 'b')])
    const outbox = await outboxOf(lane, 0)
    await lane.commit(identity, [event('c'), dangerous('c', 'a', { nowMs: T0 + 9 })])
    const rows = decodeRows(await identity.stateRows(outbox!))
    expect(rows.persons).toMatchObject([{ id: personUuid(1, 'a'), is_deleted: 1, properties: '{}' }])
    expect(rows.overrides).toMatchObject([{ distinct_id: 'b', person_id: personUuid(1, 'c') }])
  })

  test('62: a restamp changes nothing and shows the state as it is', async () => {
    const events = [
      event('a', { set: { x: 1 } }),
      identify('u', 'a'),
      event('p', { personProcessing: 'off' }),
    ]
    await lane.commit(identity, events)
    const before = await livingPersons(sql)
    const stamps = await identity.restamp(events)
    expect(await livingPersons(sql)).toEqual(before)
    expect(stamps.map((stamp) => stamp.personUuid)).toEqual([
      personUuid(1, 'a'),
      personUuid(1, 'a'),
      personUuid(1, 'p'),
    ])
    expect(JSON.parse(stamps[1]!.personPropertiesJson)).toMatchObject({ x: 1 })
    expect(await identity.restamp([])).toEqual([])
  })

  test('61: a merge is whole in Postgres before anything is sent: nothing of the loser can be lost', async () => {
    await lane.commit(identity, [event('old', { set: { only: 'here' } }), event('new')])
    await lane.commit(identity, [identify('new', 'old', { set: { a: 1 } })])
    expect((await livingPersons(sql))[0]!.properties).toMatchObject({ only: 'here', a: 1 })
  })

  test('groups are stored by team, index and key, and read back for the next batch', async () => {
    const set = (key: string, a: number) => ({
      name: '$groupidentify',
      groupIdentify: { type: 'company', key, set: { a, __proto__: 1 } },
    })
    await lane.commit(identity, [event('A', set('c1', 1)), event('A', { ...set('c1', 5), teamId: 2 })])
    const sent = await lane.commit(identity, [
      event('A', set('c1', 1)),
      event('A', { groups: { company: 'c1', org: 'c1' } }),
      event('A', { ...set('c2', 3), nowMs: T0 + 2 }),
    ])
    expect(sent.stamps[1]!.groups).toEqual([
      { index: 0, key: 'c1', propertiesJson: '{"a": 1}', createdAtMs: T0 },
      { index: 1, key: 'c1', propertiesJson: '{}', createdAtMs: 0 },
    ])
    expect(decodeRows(sent.stateRows).groups).toMatchObject([{ group_key: 'c2', _version: T0 + 2 }])
    const changed = await lane.commit(identity, [event('A', { ...set('c1', 9), nowMs: 0 })])
    expect(decodeRows(changed.stateRows).groups).toMatchObject([{ group_key: 'c1', _version: T0 + 1 }])
    expect(
      await sql`SELECT team_id, version FROM group_state WHERE group_key = 'c1' ORDER BY 1`,
    ).toMatchObject([
      { team_id: 1, version: T0 + 1 },
      { team_id: 2, version: T0 },
    ])
  })

  test('a batch without events advances the fence and leaves a receipt', async () => {
    const { stamps, stateRows } = await lane.commit(identity, [])
    expect(stamps).toEqual([])
    expect(stateRows).toEqual({ persons: [], personDistinctIds: [], groups: [] })
    const [fence] = await sql`SELECT next_offset FROM ingest_fence WHERE log_id = ${lane.logId}`
    expect(fence!.next_offset).toBe(1)
  })
})

describe('values that Postgres would refuse', () => {
  test('NUL and lone surrogates in ids, keys and values become U+FFFD, alone or in a merge', async () => {
    const set = { 'k\0': '\ud800', nested: { list: ['\0', '\udfff', '😀'] } }
    const groups = { 'ty\0pe': 'ke\ud800y' }
    const groupIdentify = { type: 'ty\0pe', key: 'ke\ud800y', set: { 'g\0': '\0' } }
    await lane.commit(identity, [
      event('id\ud800', { set, groups, groupIdentify }),
      event('id\0'),
      identify('u', 'id\ud800'),
    ])
    const living = await livingPersons(sql)
    expect(living.map((person) => person.ids)).toEqual([['id\ufffd', 'u']])
    expect(living[0]!.properties).toMatchObject({
      'k\ufffd': '\ufffd',
      nested: { list: ['\ufffd', '\ufffd', '😀'] },
    })
    const again = await lane.commit(identity, [event('id\ud800', { set, groups, groupIdentify })])
    expect(again.stateRows).toEqual({ persons: [], personDistinctIds: [], groups: [] })
    expect(again.stamps[0]!.groups[0]).toMatchObject({
      key: 'ke\ufffdy',
      propertiesJson: '{"g\ufffd": "\ufffd"}',
    })
  })

  test('`__proto__`, `constructor` and a hostile toString are keys like any other', async () => {
    const set = JSON.parse(
      '{"__proto__":{"x":1},"constructor":1,"toString":null,"hasOwnProperty":{"toString":null}}',
    )
    const first = await lane.commit(identity, [event('A', { set })])
    const second = await lane.commit(identity, [
      event('A', { set, setOnce: JSON.parse('{"__proto__":2,"valueOf":3}') }),
    ])
    expect(decodeRows(second.stateRows).persons).toHaveLength(1)
    const [row] = await sql<{ text: string }[]>`SELECT properties::text AS text FROM person`
    const stored = Object.entries(JSON.parse(row!.text)).filter(([key]) => !key.startsWith('$'))
    expect(new Map(stored)).toEqual(
      new Map<string, unknown>([
        ['__proto__', { x: 1 }],
        ['constructor', 1],
        ['toString', null],
        ['hasOwnProperty', { toString: null }],
        ['valueOf', 3],
      ]),
    )
    expect(first.stamps[0]!.personPropertiesJson).toContain('"__proto__":{"x":1}')
    await lane.commit(identity, [identify('B', 'A'), event('C', { set: { c: 1 } }), dangerous('C', 'A')])
    const [merged] = await sql<{ text: string }[]>`
      SELECT properties::text AS text FROM person WHERE deleted_at IS NULL`
    expect(merged!.text).toContain('"__proto__": {"x": 1}')
  })

  test('a value that is nested too deep is refused alone; its neighbours pass without it', async () => {
    const deep = JSON.parse(`${'['.repeat(5_000)}${']'.repeat(5_000)}`)
    const good = event('good', { set: { a: 1 } })
    const bad = event('bad', { set: { deep } })
    await expect(lane.commit(identity, [good, bad])).rejects.toMatchObject({
      code: 'HR_STATE_REFUSED',
      class: 'rejected',
    })
    await lane.commit(identity, [good])
    expect((await livingPersons(sql)).map((person) => person.ids)).toEqual([['good']])
  })

  test('the widest id that may merge fits the index', async () => {
    const wide = Array.from({ length: 400 }, (_, i) => String.fromCodePoint(0x1f300 + i)).join('')
    await lane.commit(identity, [
      identify('A', wide),
      event('B', { groups: { [wide.slice(0, 400)]: wide.slice(0, 400) } }),
    ])
    expect(await mappingVersion(sql, wide)).toBe(T0)
  })
})

describe('fence and receipt', () => {
  test('the receipt, the fence and the last place are written as given', async () => {
    const position = { ...lane.position(3), producedThrough: 0 }
    await identity.commit([event('A')], position, () => ({
      ...plainReceipt(3),
      checksum: 2 ** 52 + 1,
      outcomes: Buffer.from([3, 0, 1]),
      stored: 1,
      duplicate: 2,
      dropped: 3,
      deadLettered: 4,
      storedRows: 5,
      hashSum: 2 ** 53 - 1,
      prev: { offset: 7, sub: 8 },
      last: { offset: 9, sub: 10 },
      configVersion: 11,
    }))
    const [receipt] = await sql`SELECT *, hash_sum::bigint AS hash_sum FROM receipt`
    expect(receipt).toMatchObject({
      log_id: lane.logId,
      partition: 0,
      from_offset: 0,
      to_offset: 3,
      checksum: 2 ** 52 + 1,
      outcomes: Buffer.from([3, 0, 1]),
      stored: 1,
      duplicate: 2,
      dropped: 3,
      dead_lettered: 4,
      stored_rows: 5,
      hash_sum: 2 ** 53 - 1,
      prev_offset: 7,
      prev_sub: 8,
      config_version: 11,
    })
    const [fence] = await sql`SELECT * FROM ingest_fence WHERE log_id = ${lane.logId}`
    expect(fence).toMatchObject({ next_offset: 3, produced_through: 0, last_offset: 9, last_sub: 10 })
    // A batch that emits nothing leaves the last place where it was.
    await identity.commit([], lane.position(1, 3), () => plainReceipt(0))
    const [after] = await sql`SELECT * FROM ingest_fence WHERE log_id = ${lane.logId}`
    expect(after).toMatchObject({ next_offset: 4, produced_through: 3, last_offset: 9, last_sub: 10 })
  })

  test('an outbox is cleared once its batch is known to be in the log, not before', async () => {
    await lane.commit(identity, [event('A')])
    const late = { ...lane.position(1), producedThrough: 0 }
    await identity.commit([event('B')], late, () => plainReceipt(1))
    expect(await outboxOf(lane, 0)).toMatchObject({ persons: [[1, personUuid(1, 'A')]] })
    await identity.commit([event('C')], lane.position(1, 2), () => plainReceipt(1))
    expect(await outboxOf(lane, 0)).toBeNull()
    expect(await outboxOf(lane, 1)).toBeNull()
    expect(await outboxOf(lane, 2)).toMatchObject({ persons: [[1, personUuid(1, 'C')]] })
  })

  test('a replayed batch is refused and changes nothing', async () => {
    const position = lane.position(1)
    await identity.commit([event('A', { set: { n: 1 } })], position, () => plainReceipt(1))
    const again = identity.commit([event('A', { set: { n: 2 } })], position, () => plainReceipt(1))
    await expect(again).rejects.toMatchObject({ code: 'HR_INGEST_FENCE', class: 'fatal' })
    expect((await livingPersons(sql))[0]!.properties).toMatchObject({ n: 1 })
    const ahead = identity.commit([event('A')], lane.position(1, 5), () => plainReceipt(1))
    await expect(ahead).rejects.toMatchObject({ code: 'HR_INGEST_FENCE' })
    const elsewhere = { ...lane.position(1, 1), partition: 9 }
    await expect(identity.commit([event('A')], elsewhere, () => plainReceipt(1))).rejects.toMatchObject({
      code: 'HR_INGEST_FENCE',
    })
  })

  test('a receipt that exists already is never written over', async () => {
    await lane.commit(identity, [event('A')])
    await sql`UPDATE ingest_fence SET next_offset = 0, produced_through = 0 WHERE log_id = ${lane.logId}`
    const again = identity.commit([event('A', { set: { n: 1 } })], lane.position(1, 0), () => plainReceipt(1))
    await expect(again).rejects.toMatchObject({ code: 'HR_INGEST_FENCE' })
  })

  test.each([
    [{ fromOffset: 0, toOffset: 0, producedThrough: 0 }],
    [{ fromOffset: 0, toOffset: 2, producedThrough: 1 }],
    [{ fromOffset: -1, toOffset: 2, producedThrough: -1 }],
  ])('a position that cannot be is not sent to Postgres: %j', async (range) => {
    const position = { ...lane.position(1), ...range }
    await expect(identity.commit([], position, () => plainReceipt(0))).rejects.toThrow(TypeError)
  })
})

describe('merges of persons with many ids', () => {
  async function personWith(ids: number, name: string): Promise<void> {
    await lane.commit(identity, [event(name, { set: { [name]: 1 } })])
    await sql`
      INSERT INTO person_distinct_id (team_id, distinct_id, person_id, version)
      SELECT 1, ${name} || '-' || n, p.id, 5 FROM person p, generate_series(2, ${ids}::int) n
      WHERE p.uuid = ${personUuid(1, name)}`
  }

  test('56: exactly the limit moves at once, each id with an override', async () => {
    await personWith(MOVE_MAX, 'old')
    const sent = await lane.commit(identity, [event('new'), alias('new', 'old', { nowMs: T0 + 1 })])
    expect(decodeRows(sent.stateRows).overrides).toHaveLength(MOVE_MAX)
    expect(await mappingVersion(sql, 'old-7')).toBe(T0 + 1)
    const [left] =
      await sql`SELECT count(*) AS n FROM person_distinct_id m JOIN person p ON p.id = m.person_id
      WHERE p.deleted_at IS NOT NULL`
    expect(left!.n).toBe(0)
    expect((await outboxOf(lane, 1))!.mappings).toHaveLength(MOVE_MAX)
  })

  test('55, W-25: more stay where they are and are read through the pointer, also through two', async () => {
    await personWith(MOVE_MAX + 1, 'old')
    await lane.commit(identity, [event('new'), alias('new', 'old')])
    expect(await mappingVersion(sql, 'old-7')).toBe(5)
    await lane.commit(identity, [event('newest'), dangerous('newest', 'new')])
    const { stamps } = await lane.commit(identity, [
      event('old-7', { set: { seen: 1 } }),
      event('old-9', { personProcessing: 'off', timestampMs: T0 + 9e6 }),
    ])
    expect(stamps.map((stamp) => stamp.personUuid)).toEqual(Array(2).fill(personUuid(1, 'newest')))
    const living = await livingPersons(sql)
    expect(living).toHaveLength(1)
    expect(living[0]!.properties).toMatchObject({ old: 1, seen: 1 })
    expect(living[0]!.ids).toHaveLength(MOVE_MAX + 3)
  })

  test('W-25: they move in chunks, each given again until it is acknowledged, to who lives now', async () => {
    await personWith(MOVE_MAX + 30, 'old')
    await lane.commit(identity, [event('new'), alias('new', 'old')])
    await lane.commit(identity, [event('newest'), dangerous('newest', 'new')])
    const first = await moveMappings(sql, 100)
    expect(first?.moved).toBe(100)
    const again = await moveMappings(sql, 100)
    expect(again!.stateRows).toEqual(first!.stateRows)
    const rows = decodeRows(first!.stateRows).overrides
    expect(rows.every((row) => row.person_id === personUuid(1, 'newest') && row.version > T0)).toBe(true)
    await again!.acknowledge()
    const last = await moveMappings(sql, 100)
    expect(last?.moved).toBe(30)
    await first!.acknowledge()
    expect((await moveMappings(sql, 100))?.moved).toBe(30)
    await last!.acknowledge()
    expect(await moveMappings(sql, 100)).toBeUndefined()
    const [left] =
      await sql`SELECT count(*) AS n FROM person_distinct_id m JOIN person p ON p.id = m.person_id
      WHERE p.deleted_at IS NOT NULL`
    expect(left!.n).toBe(0)
    expect((await livingPersons(sql))[0]!.ids).toHaveLength(MOVE_MAX + 32)
  })
})

describe('persons that come back', () => {
  test('68, W-10: a deleted person is visible again, above its tombstone', async () => {
    await lane.commit(identity, [event('A', { set: { before: 1 } })])
    const ahead = T0 + 1_000_000
    await sql`UPDATE person SET deleted_at = now(), version = ${ahead}, properties = '{}'`
    await sql`DELETE FROM person_distinct_id`
    const back = await lane.commit(identity, [
      event('A', { set: { after: 1 } }),
      event('A', { set: { n: 1 } }),
    ])
    expect(decodeRows(back.stateRows).persons).toMatchObject([
      { id: personUuid(1, 'A'), is_deleted: 0, version: ahead + 1 },
    ])
    expect(decodeRows(back.stateRows).overrides).toMatchObject([
      { distinct_id: 'A', person_id: personUuid(1, 'A') },
    ])
    const [person] = await livingPersons(sql)
    expect(person).toMatchObject({ ids: ['A'], version: ahead + 1 })
    expect(Object.keys(person!.properties).sort()).toEqual(['$creator_event_uuid', 'after', 'n'])
  })

  test('an id that still leads to a deleted person gets a person of its own', async () => {
    await lane.commit(identity, [identify('A', 'B')])
    await sql`UPDATE person SET deleted_at = now(), version = version + 1`
    const { stamps } = await lane.commit(identity, [
      event('B', { personProcessing: 'off' }),
      event('B', { nowMs: T0 + 5 }),
      event('A', { nowMs: T0 + 5 }),
    ])
    expect(stamps.map((stamp) => stamp.personUuid)).toEqual([
      personUuid(1, 'B'),
      personUuid(1, 'B'),
      personUuid(1, 'A'),
    ])
    expect((await livingPersons(sql)).map((person) => person.ids).sort()).toEqual([['A'], ['B']])
    expect(await mappingVersion(sql, 'B')).toBe(T0 + 5)
  })
})

describe('cost', () => {
  test('a batch takes two round trips, one query more beside the first when it speaks of groups', async () => {
    let queries: string[] = []
    const counting = new Proxy(sql, {
      apply(target, self, args: unknown[]) {
        const text = (args[0] as string[]).join('?').trim()
        // What is none is a fragment of one.
        if (text.startsWith('SELECT')) queries.push(text)
        return Reflect.apply(target as never, self, args)
      },
    })
    const counted = createIdentity(counting)
    const batch = (n: number): IdentityEvent[] =>
      Array.from({ length: 50 }, (_, i) =>
        i % 10 === 0 ? identify(`user-${i}`, `anonymous-${n}-${i}`) : event(`user-${i}`, { set: { n } }),
      )
    await lane.commit(counted, batch(1))
    expect(queries).toHaveLength(2)
    queries = []
    await lane.commit(counted, [...batch(2), event('user-1', { groups: { company: 'c' } })])
    expect(queries).toHaveLength(3)
    expect(queries.filter((query) => query.includes('apply_batch'))).toHaveLength(1)
  })
})
