import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { createClient } from '@clickhouse/client'
import fc from 'fast-check'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import {
  ByteReader,
  COLUMN_TYPES,
  type Column,
  type ColumnType,
  EVENTS,
  PERSON_MODES,
  TABLE_OF_TOPIC,
  type Table,
} from '../event/index.ts'
import { JUDGED } from './classify.ts'
import { renderDdl, WAREHOUSE_VARIANTS } from './ddl.ts'
import { describeSchema } from './describe.ts'
import { migrationFiles } from './migrate.ts'
import { eventRow } from './rows.fixture.ts'

// Syncing many parts on a busy machine takes its time; a test that hangs still ends.
setDefaultTimeout(60_000)

/** Every table that a topic's rows go to: one that is new there is tested here. */
const TABLES: readonly Table[] = Object.values(TABLE_OF_TOPIC)

let live: TestWarehouse
beforeAll(async () => {
  live = await startTestWarehouse()
})
afterAll(() => live.stop())

type LiveColumn = { name: string; type: string; default_kind: string }

describe('the DDL and src/event/tables.ts agree', () => {
  for (const table of TABLES)
    test(`${table.name}: every column that we send, by name and type; the others fill themselves`, async () => {
      const columns = await live.warehouse.query<LiveColumn>(
        'SELECT name, type, default_kind FROM system.columns WHERE database = currentDatabase() AND table = {table:String} ORDER BY position',
        { table: table.name },
      )
      const sent = table.columns.map(({ name, type }) => ({
        name,
        type: COLUMN_TYPES[type],
        default_kind: '',
      }))
      expect(columns.slice(0, sent.length)).toEqual(sent)
      for (const extra of columns.slice(sent.length))
        if (!extra.type.startsWith('Nullable(')) expect(extra.default_kind).not.toBe('')
    })

  test('no table is without a token window and a synced insert', async () => {
    const tables = await live.warehouse.query<{ name: string; ddl: string }>(
      "SELECT name, create_table_query AS ddl FROM system.tables WHERE database = currentDatabase() AND name != 'headrace_migrations' AND engine != 'View'",
    )
    expect(tables.map(({ name }) => name).sort()).toEqual(TABLES.map(({ name }) => name).sort())
    for (const { ddl } of tables) {
      expect(ddl).toContain('non_replicated_deduplication_window = 10000')
      expect(ddl).toContain('fsync_after_insert = 1, fsync_part_directory = 1')
    }
  })

  test('the sort key of events ends in the source, so that replacing removes only copies', async () => {
    const [events] = await live.warehouse.query<{ key: string }>(
      "SELECT sorting_key AS key FROM system.tables WHERE database = currentDatabase() AND name = 'events'",
    )
    expect(events?.key).toEndWith('_log_id, _partition, _offset, _sub')
  })
})

describe('the reference and the engine agree', () => {
  const { tables, views } = describeSchema(migrationFiles())
  const columnsOf = (name: string) =>
    live.warehouse.query<LiveColumn>(
      'SELECT name, type, default_kind FROM system.columns WHERE database = currentDatabase() AND table = {name:String} ORDER BY position',
      { name },
    )

  test('on which tables and views there are', async () => {
    const there = await live.warehouse.query<{ name: string }>(
      "SELECT name FROM system.tables WHERE database = currentDatabase() AND name != 'headrace_migrations'",
    )
    expect([...tables, ...views].map(({ name }) => name).sort()).toEqual(there.map(({ name }) => name).sort())
  })

  for (const { name, columns, partitionBy, orderBy } of tables)
    test(`on ${name}: columns, partitions and sort key`, async () => {
      expect(await columnsOf(name)).toEqual(
        columns.map(({ name, type, filled }) => ({ name, type, default_kind: filled ?? '' })),
      )
      const [keys] = await live.warehouse.query<{ partition: string; sort: string }>(
        'SELECT partition_key AS partition, sorting_key AS sort FROM system.tables WHERE database = currentDatabase() AND name = {name:String}',
        { name },
      )
      expect(keys).toEqual({ partition: partitionBy ?? '', sort: orderBy.replace(/^\((.*)\)$/, '$1') })
    })

  for (const { name, columns } of views)
    test(`on ${name}: columns`, async () => {
      expect((await columnsOf(name)).map((column) => column.name)).toEqual(columns)
    })
})

/** A time that DateTime64 can hold at any of our precisions. */
const times = fc.integer({ min: Date.UTC(1970, 0, 1), max: Date.UTC(2200, 0, 1) })
const texts = fc.string({ unit: 'binary', maxLength: 60 }).map((text) => text.toWellFormed())
const VALUES: Record<ColumnType, fc.Arbitrary<unknown>> = {
  uuid: fc.uuid(),
  string: texts,
  lowString: texts,
  bytes: fc.uint8Array({ maxLength: 200 }),
  bool: fc.boolean(),
  i8: fc.integer({ min: -128, max: 127 }),
  u8: fc.integer({ min: 0, max: 255 }),
  u16: fc.integer({ min: 0, max: 65_535 }),
  u32: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  u64: fc.maxSafeNat(),
  i64: fc.maxSafeInteger(),
  dateTimeMs: times,
  dateTimeUs: times,
  personMode: fc.constantFrom(...PERSON_MODES),
}

/** Columns that the tests below need in a fixed place: the key that brings rows back in order, one month. */
const FIXED: Record<string, (index: number) => unknown> = {
  timestamp: (index) => Date.UTC(2026, 4, 1) + index,
  distinct_id: (index) => `id ${String(index).padStart(4, '0')}`,
  id: (index) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
  group_key: (index) => `key ${String(index).padStart(4, '0')}`,
  team_id: () => 1,
}
const ORDER: Record<string, string> = {
  person: 'id',
  person_distinct_id_overrides: 'distinct_id',
  groups: 'group_key',
}

function sample(table: Table, count: number): Record<string, unknown>[] {
  const shape = Object.fromEntries(table.columns.map((column: Column) => [column.name, VALUES[column.type]]))
  return fc.sample(fc.record(shape), { numRuns: count, seed: 20_261_123 }).map((row, index) => {
    const fixed = table.columns.filter(({ name }) => name in FIXED)
    return { ...row, ...Object.fromEntries(fixed.map(({ name }) => [name, FIXED[name]!(index)])) }
  })
}

describe('rows come back as they were encoded', () => {
  for (const table of TABLES)
    test(table.name, async () => {
      const rows = sample(table, 200)
      await live.warehouse.insertRows({
        table,
        rows: rows.map((row) => table.encode(row as never)),
        token: `round trip ${table.name}`,
      })
      const columns = table.columns.map(({ name }) => `\`${name}\``).join(', ')
      const client = createClient({ url: live.url })
      const answer = await client.exec({
        query: `SELECT ${columns} FROM ${table.name} ORDER BY ${ORDER[table.name] ?? 'timestamp'} FORMAT RowBinary`,
      })
      const parts: Uint8Array[] = []
      for await (const part of answer.stream) parts.push(part as Uint8Array)
      await client.close()
      const reader = new ByteReader(Buffer.concat(parts))
      const back: unknown[] = []
      while (!reader.done) back.push(table.decode(reader))
      const comparable = (row: object) =>
        Object.fromEntries(
          Object.entries(row).map(([name, value]) => [
            name,
            value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
          ]),
        )
      expect(back.map((row) => comparable(row as object))).toEqual(rows.map(comparable))
    })
})

describe('columns that fill themselves', () => {
  const PROPERTIES = {
    'strings and numbers of known properties': [
      '{"$group_0":"acme","$group_3":5,"$session_id":"s-1","$window_id":"w-1"}',
      { g0: 'acme', g3: '5', session: 's-1', window: 'w-1' },
    ],
    'nothing there': ['{}', { g0: '', g3: '', session: '', window: '' }],
    'not JSON': ['{"$group_0":', { g0: '', g3: '', session: '', window: '' }],
    'quotes and other alphabets': [
      '{"$group_0":"a\\"b é 日"}',
      { g0: 'a"b é 日', g3: '', session: '', window: '' },
    ],
  } as const

  test('group keys, session and window come from the properties', async () => {
    const cases = Object.values(PROPERTIES)
    await live.warehouse.insertRows({
      table: EVENTS,
      rows: cases.map(([properties], i) => EVENTS.encode(eventRow(i, { properties, team_id: 77 }))),
      token: 'materialised',
    })
    const rows = await live.warehouse.query(
      'SELECT `$group_0` AS g0, `$group_3` AS g3, `$session_id` AS session, `$window_id` AS window FROM events WHERE team_id = 77 ORDER BY _offset',
    )
    expect(rows).toEqual(cases.map(([, wanted]) => wanted))
    const [times] = await live.warehouse.query<{ fresh: number }>(
      'SELECT countIf(inserted_at > now() - 60 AND _timestamp = toDateTime(created_at)) AS fresh FROM events WHERE team_id = 77',
    )
    expect(times?.fresh).toBe(cases.length)
  })
})

describe('the DDL of every variant', () => {
  for (const variant of WAREHOUSE_VARIANTS)
    test(`${variant}: the engine parses every statement and knows every setting`, async () => {
      for (const statement of migrationFiles().flatMap((file) => renderDdl(file, variant))) {
        await live.warehouse.query('SELECT formatQuery({statement:String}) AS text', { statement })
        if (!statement.startsWith('CREATE TABLE')) continue
        const settings = /\nSETTINGS ([^()]+)$/.exec(statement)?.[1]?.split(', ') ?? []
        const names = settings.map((setting) => setting.split(' = ')[0]!)
        const known = await live.warehouse.query<{ name: string }>(
          'SELECT name FROM system.replicated_merge_tree_settings WHERE name IN {names:Array(String)}',
          { names },
        )
        expect(known.map(({ name }) => name).sort()).toEqual([...names].sort())
      }
    })

  test('a table without parts can be made over one with indices and projections, as Distributed is', async () => {
    await live.warehouse.command('CREATE TABLE over AS events ENGINE = Memory')
    await live.warehouse.command('DROP TABLE over')
  })
})

test('the codes of errors that are judged are those of the engine', async () => {
  const rows = await live.warehouse.query<{ code: number; name: string }>(
    'SELECT number AS code, errorCodeToName(number) AS name FROM numbers(2000)',
  )
  const names = new Map(rows.map(({ code, name }) => [Number(code), name]))
  expect([...JUDGED].filter(([code, name]) => names.get(code) !== name)).toEqual([])
})
