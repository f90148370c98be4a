/** Promoting a property on the real engine: values, names, and a promotion that is killed while rows come in. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  startTestWarehouse,
  startWarehouseProcess,
  type TestWarehouse,
  type WarehouseProcess,
} from '../../test/support/warehouse.ts'
import { EVENTS } from '../event/index.ts'
import { openWarehouse, type Warehouse } from './client.ts'
import { migrateWarehouse } from './migrate.ts'
import { addProperty, fillProperty } from './promote.ts'
import type { PropertyType } from './promoted.ts'
import { listProperties } from './property-columns.ts'
import { eventRow } from './rows.fixture.ts'

setDefaultTimeout(120_000)

describe('on a table in use', () => {
  let live: TestWarehouse
  beforeAll(async () => {
    live = await startTestWarehouse()
  })
  afterAll(() => live.stop())

  const VALUES: Record<PropertyType, readonly (readonly [json: string, wanted: unknown])[]> = {
    string: [
      ['"pro"', 'pro'],
      ['5', '5'],
      ['true', 'true'],
      ['null', ''],
      ['{"a":[1]}', '{"a":[1]}'],
      ['"é \\"quoted\\""', 'é "quoted"'],
    ],
    number: [
      ['5', 5],
      ['-1.5e3', -1500],
      ['"12.25"', 12.25],
      ['"twelve"', null],
      ['true', null],
      ['null', null],
    ],
    boolean: [
      ['true', true],
      ['false', false],
      ['"TRUE"', true],
      ['"yes"', null],
      ['1', null],
    ],
    datetime: [
      ['"2026-02-03T04:05:06.789Z"', '2026-02-03 04:05:06.789000'],
      ['"2026-02-03 04:05:06+02:00"', '2026-02-03 02:05:06.000000'],
      ['"2026-02-03"', '2026-02-03 00:00:00.000000'],
      ['1767225600', '2026-01-01 00:00:00.000000'],
      ['1767225600123', '2026-01-01 00:00:00.123000'],
      ['12', null],
      ['"soon"', null],
    ],
  }

  for (const [index, [type, cases]] of Object.entries(VALUES).entries())
    test(`${type}: what the column holds of a value, in rows from before and after`, async () => {
      const name = `of type ${type}`
      const insert = (team_id: number) =>
        live.warehouse.insertRows({
          table: EVENTS,
          rows: cases.map(([json], i) =>
            EVENTS.encode(eventRow(i, { team_id, properties: `{"${name}":${json}}` })),
          ),
          token: `${type} ${team_id}`,
        })
      const column = `\`p_${name}\``
      const values = async (table: string, team: number) =>
        (
          await live.warehouse.query<{ v: unknown }>(
            `SELECT ${column} AS v FROM ${table} WHERE team_id = ${team} ORDER BY _offset`,
          )
        ).map(({ v }) => v)
      const wanted = cases.map(([, value]) => value)
      const before = 100 + 2 * index
      await insert(before)
      await addProperty(live.warehouse, { name, type: type as PropertyType })
      await insert(before + 1)
      expect(await values('events', before)).toEqual(wanted)
      await fillProperty(live.warehouse, name)
      expect(await values('events', before)).toEqual(wanted)
      expect(await values('events_resolved', before + 1)).toEqual(wanted)
    })

  test('promoted again: nothing changes; as another type: refused', async () => {
    const before = await listProperties(live.warehouse)
    await addProperty(live.warehouse, { name: '$browser', type: 'string' })
    expect(await listProperties(live.warehouse)).toEqual(before)
    await expect(addProperty(live.warehouse, { name: '$browser', type: 'number' })).rejects.toMatchObject({
      code: 'HR_WAREHOUSE_PROPERTY',
      message: expect.stringContaining('$browser is promoted as string and cannot become number'),
    })
  })

  const NAMES = {
    'letters and signs that are allowed': ['a.b:c/d-e f_$', true],
    'a backquote': ['a`b', false],
    'a quote': ["a'b", false],
    'a backslash': ['a\\b', false],
    'a line end': ['a\nb', false],
    'no name': ['', false],
    'a name of 101 characters': ['x'.repeat(101), false],
    'one that has a column since ever': ['$session_id', false],
  } as const
  for (const [rule, [name, allowed]] of Object.entries(NAMES))
    test(`names: ${rule}`, async () => {
      const adding = addProperty(live.warehouse, { name, type: 'string' })
      if (!allowed) return expect(adding).rejects.toMatchObject({ code: 'HR_WAREHOUSE_PROPERTY' })
      await adding
      await live.warehouse.query(`SELECT \`p_${name}\` FROM events_current LIMIT 1`)
    })

  test('two at the same time: both are there and in the views, and the JSON is read once for all', async () => {
    await Promise.all(['left', 'right'].map((name) => addProperty(live.warehouse, { name, type: 'string' })))
    await live.warehouse.query('SELECT p_left, p_right FROM events_current LIMIT 1')
    const tuples = await live.warehouse.query<{ tuple: string }>(
      "SELECT DISTINCT extract(default_expression, 'Tuple.*?\\\\)\\'') AS tuple FROM system.columns WHERE database = currentDatabase() AND table = 'events' AND startsWith(name, 'p_')",
    )
    expect(tuples.length).toBe(1)
  })

  test('a schema of a newer version is refused: its views are not known here', async () => {
    await live.warehouse.command(
      "INSERT INTO headrace_migrations (number, name, checksum, variant) VALUES (9999, 'x', 'x', 'single')",
    )
    await expect(addProperty(live.warehouse, { name: 'late', type: 'string' })).rejects.toThrow(
      'has migration 9999',
    )
  })
})

describe('killed half-way', () => {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-promote-'))
  let engine: WarehouseProcess
  let warehouse: Warehouse
  const start = async () => {
    engine = await startWarehouseProcess(dir)
    warehouse = openWarehouse({ url: engine.url })
  }
  afterEach(async () => {
    await warehouse.close()
    await engine.kill('SIGTERM')
    rmSync(dir, { recursive: true, force: true })
  })

  test('the verb, then the engine, while rows come in: the next run ends it, and no row is lost or wrong', async () => {
    await start()
    await migrateWarehouse(warehouse)
    // Without merges, which store missing columns too: each month stays several parts.
    await warehouse.command(
      'ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1',
    )
    let rows = 0
    const insert = async (month: number, token: string) => {
      const from = rows
      const batch = Array.from({ length: 200 }, (_, i) =>
        EVENTS.encode(
          eventRow(from + i, {
            timestamp: Date.UTC(2026, month, 3) + i,
            properties: `{"n":${from + i},"filler":"${'x'.repeat(300)}"}`,
          }),
        ),
      )
      // As load does it: the same rows under the same token until ClickHouse has said yes.
      for (;;) {
        try {
          await warehouse.insertRows({ table: EVENTS, rows: batch, token })
          break
        } catch (error) {
          if ((error as { code?: string }).code !== 'HR_WAREHOUSE_UNAVAILABLE') throw error
          await Bun.sleep(20)
        }
      }
      rows += batch.length
    }
    for (let i = 0; i < 12; i++) await insert(i % 4, `before ${i}`)
    let inserting = true
    const load = (async () => {
      for (let i = 0; inserting; i++) await insert(i % 4, `meanwhile ${i}`)
    })()

    const verb = Bun.spawn(
      [
        process.execPath,
        join(import.meta.dir, '../main.ts'),
        'property',
        'promote',
        'n',
        '--type',
        'number',
        '--clickhouse',
        engine.url,
      ],
      { stdout: 'ignore', stderr: 'pipe' },
    )
    let said = ''
    for await (const chunk of verb.stderr as ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>) {
      said += new TextDecoder().decode(chunk)
      if (said.includes('202603: ')) break
    }
    verb.kill('SIGKILL')
    await verb.exited
    expect(said).toContain('202604: ')
    const [half] = (await listProperties(warehouse)).filter(({ name }) => name === 'n')
    expect(half!.rowsFilled).toBeLessThan(half!.rows)
    await engine.kill('SIGKILL')
    await warehouse.close()
    await start()

    const during = rows
    await addProperty(warehouse, { name: 'n', type: 'number' })
    await fillProperty(warehouse, 'n')
    inserting = false
    await load
    expect(rows).toBeGreaterThan(during)
    expect((await listProperties(warehouse)).filter(({ name }) => name === 'n')).toEqual([
      { name: 'n', type: 'number', column: 'p_n', rowsFilled: rows, rows },
    ])
    const [found] = await warehouse.query(
      'SELECT count() AS n, uniqExact(p_n) AS values, countIf(p_n = _offset) AS right FROM events_resolved',
    )
    expect(found).toEqual({ n: rows, values: rows, right: rows })
  })
})
