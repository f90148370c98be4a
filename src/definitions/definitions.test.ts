/** Definitions from rows in a real engine: names, types, limits, each row once. */
import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { plainEventRow } from '../../test/support/event-row.ts'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { createTopics, EVENT_TIME_MS, RawPartition } from '../../test/support/rows.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { EVENTS, type EventRow, STORED, TOPICS } from '../event/index.ts'
import { openEmbeddedLog } from '../log/index.ts'
import { collect } from './collect.ts'
import { DefinitionReader, readSchema, schemaTables } from './index.ts'
import { addCollected } from './store.ts'

setDefaultTimeout(60_000)

let postgres: TestPostgres
let servers: TestWarehouse
beforeAll(async () => {
  ;[postgres, servers] = await Promise.all([startTestPostgres(), startTestWarehouse()])
})
afterAll(async () => {
  await Promise.all([postgres.stop(), servers.stop()])
})
beforeEach(async () => {
  await postgres.sql`
    TRUNCATE definition_cursor, event_definition, property_definition, definition_count, definition_reader,
      ingest_fence, receipt, load_fence, load_intent`
  await servers.warehouse.command('TRUNCATE TABLE events')
})

const LOG = '018f4b2e-0000-7000-8000-00000000000a'
const LIMITS = { eventsMax: 100, propertiesMax: 100 }
const whole = (to: number) => ({ logId: LOG, partition: 0, from: 0, to })

/** One event per entry, at offsets from 0. */
async function insert(
  events: (Partial<Omit<EventRow, 'properties'>> & { properties?: object })[],
): Promise<void> {
  const rows = events.map(({ properties, ...rest }, offset) =>
    EVENTS.encode(
      plainEventRow({
        ...{ event: 'paid', distinct_id: 'd', person_properties: '{}', created_at: EVENT_TIME_MS + offset },
        ...{ _log_id: LOG, _partition: 0, _offset: offset, uuid: Bun.randomUUIDv7() },
        ...rest,
        properties: JSON.stringify(properties ?? {}),
      }),
    ),
  )
  await servers.warehouse.insertRows({ table: EVENTS, rows, token: Bun.randomUUIDv7() })
}

async function schemaOf(to: number, limits = LIMITS) {
  const collected = await collect(servers.warehouse, whole(to), 0)
  expect(await addCollected(postgres.sql, whole(to), collected, limits)).toBe(true)
  return readSchema(postgres.sql, 1)
}

describe('what is read of a row', () => {
  test('types, by what JSON says and by what a text looks like', async () => {
    const values: [name: string, value: unknown, type: string][] = [
      ['text', 'x', 'string'],
      ['empty', '', 'string'],
      ['quote', '"2026-01-01"', 'string'],
      ['date', '2026-01-31', 'datetime'],
      ['time', '2026-01-31T12:00:00.000Z', 'datetime'],
      ['spaced', '2026-01-31 12:00', 'datetime'],
      ['no date', '2026-01-31 at noon', 'string'],
      ['numbered', '12345-78-0', 'string'],
      ['number', 1.5, 'number'],
      ['negative', -1, 'number'],
      ['yes', true, 'boolean'],
      ['no', false, 'boolean'],
      ['nothing', null, 'null'],
      ['object', { a: 1 }, 'object'],
      ['list', [1], 'array'],
      ['na"me\n', 1, 'number'],
    ]
    await insert([{ properties: Object.fromEntries(values) }])
    const { properties } = await schemaOf(1)
    const types = Object.fromEntries(properties.map(({ name, types }) => [name, types]))
    expect(types).toEqual(Object.fromEntries(values.map(([name, , type]) => [name, { [type]: 1 }])))
  })

  test('events, their own properties, those of their persons and groups', async () => {
    await postgres.sql`INSERT INTO group_type (team_id, group_type, type_index) VALUES (1, 'company', 0)`
    await insert([
      {
        properties: { price: 1, $set: { plan: 'a' }, $groups: { company: 'x' }, $group_0: 'x' },
        person_properties: '{"plan":"a"}',
        group0_properties: '{"size":3}',
      },
      { properties: { price: 'free', '$feature/new': true }, person_properties: '{"plan":"a"}' },
      { event: 'seen', properties: { price: 2 } },
      { event: 'other project', team_id: 2, properties: { secret: 1 } },
    ])
    const { events, properties } = await schemaOf(4)
    expect(events.map(({ event, volume, properties }) => [event, volume, properties])).toEqual([
      ['paid', 2, 1],
      ['seen', 1, 1],
    ])
    const shown = properties.map(({ kind, of, name, types, volume, conflict }) => [
      kind,
      of,
      name,
      types,
      volume,
      conflict,
    ])
    expect(shown).toEqual([
      ['event', 'paid', 'price', { number: 1, string: 1 }, 2, true],
      ['person', '', 'plan', { string: 2 }, 2, false],
      ['event', '', '$feature/new', { boolean: 1 }, 1, false],
      ['event', 'seen', 'price', { number: 1 }, 1, false],
      ['group', 'company', 'size', { number: 1 }, 1, false],
    ])
    expect([events[0]!.firstSeen.getTime(), events[0]!.lastSeen.getTime()]).toEqual([
      EVENT_TIME_MS,
      EVENT_TIME_MS + 1,
    ])
    const one = await readSchema(postgres.sql, 1, 'seen')
    expect([one.events.length, one.properties.length]).toEqual([1, 1])
    const tables = schemaTables(await readSchema(postgres.sql, 1), 50)
    expect(tables.map(({ title }) => title)).toEqual([
      'events',
      'event properties',
      'person properties',
      'group properties',
    ])
    expect(tables[1]!.rows[0]!.slice(0, 4)).toEqual(['2', 'paid', 'price', 'number 1, string 1 (conflict)'])
    await postgres.sql`DELETE FROM group_type`
  })

  test('a second copy of a row counts for nothing', async () => {
    await servers.warehouse.command('SYSTEM STOP MERGES events')
    const uuid = Bun.randomUUIDv7()
    for (let copy = 0; copy < 2; copy++) await insert([{ uuid, properties: { a: 1 } }])
    const { events, properties } = await schemaOf(1)
    await servers.warehouse.command('SYSTEM START MERGES events')
    expect([events[0]!.volume, properties[0]!.volume]).toEqual([1, 1])
  })
})

describe('limits', () => {
  test('of a project: what came most often is kept, the rest is counted, and what is known stays', async () => {
    await insert([
      { event: 'a', properties: { x: 1, y: 1 } },
      { event: 'a', properties: { x: 1 } },
      { event: 'b', properties: { x: 1 } },
    ])
    const tight = { eventsMax: 1, propertiesMax: 1 }
    const first = await schemaOf(3, tight)
    expect(first.events.map(({ event }) => event)).toEqual(['a'])
    expect(first.properties.map(({ of, name }) => [of, name])).toEqual([['a', 'x']])
    expect(first.beyond).toEqual({ events: 1, properties: 2 })
    const again = { ...whole(6), from: 3 }
    await addCollected(postgres.sql, again, await collect(servers.warehouse, whole(3), 0), tight)
    const second = await readSchema(postgres.sql, 1)
    expect([second.events[0]!.volume, second.properties[0]!.volume, second.beyond]).toEqual([
      4,
      4,
      { events: 2, properties: 4 },
    ])
  })

  test('of a name: a longer one is counted', async () => {
    await insert([{ event: 'é'.repeat(101), properties: { ['k'.repeat(201)]: 1, ok: 1 } }])
    const { events, properties, beyond } = await schemaOf(1)
    expect([events, properties, beyond]).toEqual([[], [], { events: 1, properties: 2 }])
  })

  test('of one answer: a range is halved, and one event is cut, with nothing lost from the count', async () => {
    await insert([{ properties: { a: 1, b: 1, c: 1 } }, { properties: { a: 'x', d: 1 } }, { event: 'seen' }])
    const found = await collect(servers.warehouse, whole(3), 0, 2)
    const kept = found.properties.reduce((sum, { volume }) => sum + volume, 0)
    expect([found.rows, found.events.length, found.properties.length]).toEqual([3, 2, 2])
    expect(kept + found.propertiesBeyond.get(1)!).toBe(5)
    expect(found.properties.find(({ name }) => name === 'a')).toMatchObject({
      volume: 2,
      types: { number: 1, string: 1 },
    })
  })
})

describe('a reader', () => {
  test('reads below the load progress only, each row once, whoever reads and however often', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'headrace-definitions-'))
    const log = await openEmbeddedLog({ dir })
    const ids = await createTopics(log, 1)
    const rawId = ids.get(TOPICS.raw)!
    const producer = log.producer({ name: 'test', deadlineMs: 10_000 })
    const raw = new RawPartition({ sql: postgres.sql, producer, rawId, partition: 0 })
    const S = { code: STORED, rows: 1 }
    let loaded = 0
    const load = async (rows: number) => {
      const values: Uint8Array[] = []
      for await (const records of log.read(TOPICS.events, 0, loaded, loaded + rows))
        values.push(...records.map(({ value }) => value))
      await servers.warehouse.insertRows({ table: EVENTS, rows: values, token: Bun.randomUUIDv7() })
      loaded += rows
      await postgres.sql`
        INSERT INTO load_fence (log_id, partition, topic, next_offset, last)
        VALUES (${ids.get(TOPICS.events)!}, 0, ${TOPICS.events}, ${loaded}, ${JSON.stringify({ [rawId]: [loaded - 1, 0] })}::text::jsonb)
        ON CONFLICT (log_id, partition) DO UPDATE SET next_offset = excluded.next_offset, last = excluded.last`
    }
    const volume = async () => (await readSchema(postgres.sql, 1)).events[0]?.volume
    const deps = { sql: postgres.sql, warehouse: servers.warehouse, limits: LIMITS }
    const reader = new DefinitionReader(deps, 3)
    expect(await reader.step()).toBe(false)
    await raw.batch([S, S, S])
    await raw.batch([S, S])
    await load(3)
    await reader.step()
    expect(await volume()).toBe(3)
    await load(2)
    // Another process has the lease.
    await new DefinitionReader(deps).step()
    expect(await volume()).toBe(3)
    await reader.step()
    await reader.step()
    expect(await volume()).toBe(5)
    // One that had read the same range and comes too late.
    const late = { logId: rawId, partition: 0, from: 3, to: 5 }
    expect(await addCollected(postgres.sql, late, await collect(servers.warehouse, late, 0), LIMITS)).toBe(
      false,
    )
    expect(await volume()).toBe(5)
    for (let i = 0; i < 4; i++) await raw.batch([S])
    await load(4)
    expect(await reader.step()).toBe(true)
    while (await reader.step());
    expect(await volume()).toBe(9)
    await producer.close()
    await log.close()
    await rm(dir, { recursive: true, force: true })
  })
})
