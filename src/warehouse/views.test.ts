/** The views on the real engine: newer versions, deletions, moved distinct_ids, groups, promoted properties. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { EVENTS, GROUPS, PERSON, PERSON_DISTINCT_ID_OVERRIDES, type Table } from '../event/index.ts'
import { eventRow } from './rows.fixture.ts'

setDefaultTimeout(60_000)

const ANN = '00000000-0000-4000-8000-00000000000a'
const BOB = '00000000-0000-4000-8000-00000000000b'
const GHOST = '00000000-0000-4000-8000-00000000000c'

let live: TestWarehouse
beforeAll(async () => {
  live = await startTestWarehouse()
})
afterAll(() => live.stop())

let inserts = 0
/** Each call is a part of its own: what a merge has not brought together yet must not show. */
const put = (table: Table, row: object) =>
  live.warehouse.insertRows({ table, rows: [table.encode(row as never)], token: `views ${inserts++}` })

const person = (id: string, version: number, properties: object, changes: object = {}) =>
  put(PERSON, {
    id,
    created_at: 1_000,
    team_id: 1,
    properties: JSON.stringify(properties),
    is_identified: 1,
    is_deleted: 0,
    version,
    ...changes,
  })
const override = (distinct_id: string, person_id: string, version: number, changes: object = {}) =>
  put(PERSON_DISTINCT_ID_OVERRIDES, {
    team_id: 1,
    distinct_id,
    person_id,
    is_deleted: 0,
    version,
    ...changes,
  })
const group = (group_type_index: number, group_key: string, name: string, version: number, team_id = 1) =>
  put(GROUPS, {
    group_type_index,
    group_key,
    created_at: 1_000,
    team_id,
    group_properties: JSON.stringify({ name }),
    _version: version,
  })
const event = (offset: number, changes: object) => put(EVENTS, eventRow(offset, changes))
const ask = <T>(sql: string) => live.warehouse.query<T>(sql)

test('persons_current: the newest version, whatever came first; the deleted are gone, and back when made again', async () => {
  await person(ANN, 3, { plan: 'pro' })
  await person(ANN, 2, { plan: 'free' })
  await person(BOB, 1, { plan: 'free' })
  await person(GHOST, 1, {})
  await person(GHOST, 2, {}, { is_deleted: 1 })
  const all = 'SELECT id, properties, version FROM persons_current WHERE team_id = 1 ORDER BY id'
  expect(await ask<object>(all)).toEqual([
    { id: ANN, properties: '{"plan":"pro"}', version: 3 },
    { id: BOB, properties: '{"plan":"free"}', version: 1 },
  ])
  // A condition on a property is about the newest version only.
  expect(await ask("SELECT id FROM persons_current WHERE properties LIKE '%free%'")).toEqual([{ id: BOB }])
  await person(GHOST, 3, { back: 1 })
  expect(await ask<object>(`SELECT version FROM persons_current WHERE id = '${GHOST}'`)).toEqual([
    { version: 3 },
  ])
  await person(GHOST, 4, {}, { is_deleted: 1 })
  expect(await ask<object>('SELECT count() AS n FROM persons_current')).toEqual([{ n: 2 }])
})

test('groups_current: one row per key, its newest version', async () => {
  await group(0, 'acme', 'Acme Corp', 2)
  await group(0, 'acme', 'Acme', 1)
  await group(1, 'acme', 'another type', 1)
  await group(0, 'acme', 'another project', 9, 2)
  expect(
    await ask<object>(
      "SELECT group_type_index AS i, JSONExtractString(group_properties, 'name') AS name, version FROM groups_current WHERE team_id = 1 ORDER BY i",
    ),
  ).toEqual([
    { i: 0, name: 'Acme Corp', version: 2 },
    { i: 1, name: 'another type', version: 1 },
  ])
})

test('events_resolved: the person that the id belongs to now; overrides of another project or taken back do not count', async () => {
  await event(1, { distinct_id: 'anonymous', person_id: GHOST, person_properties: '{"then":1}' })
  await event(2, { distinct_id: 'ann', person_id: ANN })
  await event(3, { distinct_id: 'taken back', person_id: BOB })
  await event(4, { distinct_id: 'anonymous', person_id: GHOST, team_id: 2 })
  await override('anonymous', BOB, 1)
  await override('anonymous', ANN, 2)
  await override('taken back', ANN, 1)
  await override('taken back', ANN, 2, { is_deleted: 1 })
  const rows = await ask<object>(
    'SELECT _offset AS o, person_id, event_person_id, person_properties FROM events_resolved ORDER BY _offset',
  )
  expect(rows).toEqual([
    { o: 1, person_id: ANN, event_person_id: GHOST, person_properties: '{"then":1}' },
    { o: 2, person_id: ANN, event_person_id: ANN, person_properties: '{}' },
    { o: 3, person_id: BOB, event_person_id: BOB, person_properties: '{}' },
    { o: 4, person_id: GHOST, event_person_id: GHOST, person_properties: '{}' },
  ])
  // An engine that is asked for NULLs of joins elsewhere in the query gives the same.
  expect(
    await ask(
      'SELECT count() AS n, countIf(person_id = event_person_id) AS same FROM events_resolved SETTINGS join_use_nulls = 1',
    ),
  ).toEqual([{ n: 4, same: 3 }])
})

test('events_current: what person and groups are now, empty when they are not there', async () => {
  await event(5, {
    distinct_id: 'ann',
    person_id: ANN,
    properties: '{"$group_0":"acme","$group_1":"nobody"}',
  })
  await event(6, { distinct_id: 'gone', person_id: GHOST, group0_properties: '{"name":"then"}' })
  const rows = await ask<object>(
    `SELECT _offset AS o, current_person_properties AS person, current_group0_properties AS g0, current_group1_properties AS g1,
       group0_properties AS stamped FROM events_current WHERE _offset IN (1, 5, 6) ORDER BY _offset`,
  )
  expect(rows).toEqual([
    { o: 1, person: '{"plan":"pro"}', g0: '', g1: '', stamped: '' },
    { o: 5, person: '{"plan":"pro"}', g0: '{"name":"Acme Corp"}', g1: '', stamped: '' },
    { o: 6, person: '', g0: '', g1: '', stamped: '{"name":"then"}' },
  ])
  expect(await ask('SELECT count() AS n, uniqExact(_offset) AS o FROM events_current')).toEqual([
    { n: 6, o: 6 },
  ])
})

test('both show every column of events, by name and type', async () => {
  type Column = { name: string; type: string }
  const columns = (table: string) =>
    ask<Column>(
      `SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = '${table}' ORDER BY name`,
    )
  const stored = await columns('events')
  expect(stored.length).toBeGreaterThan(EVENTS.columns.length)
  for (const view of ['events_resolved', 'events_current']) {
    const shown = new Map((await columns(view)).map(({ name, type }) => [name, type]))
    expect(stored.filter(({ name, type }) => shown.get(name) !== type)).toEqual([])
  }
})
