import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { openWarehouse, type Warehouse } from './client.ts'
import type { MigrationFile } from './ddl.ts'
import { migrateWarehouse, migrationFiles } from './migrate.ts'

// Syncing many parts on a busy machine takes its time; a test that hangs still ends.
setDefaultTimeout(60_000)

let live: TestWarehouse
beforeAll(async () => {
  live = await startTestWarehouse()
})
afterAll(() => live.stop())

/** A database of its own per test. */
async function fresh(database: string): Promise<Warehouse> {
  await live.warehouse.command(`CREATE DATABASE ${database}`)
  return openWarehouse({ url: live.url, database })
}

const table = (name: string): string =>
  `-- @state\nCREATE TABLE IF NOT EXISTS ${name}\n(\n    a UInt8\n)\nENGINE = MergeTree\nORDER BY a\nSETTINGS @dedup;\n`
const FIRST: MigrationFile = { name: '0001_first.sql', text: table('first') }
const SECOND: MigrationFile = { name: '0002_second.sql', text: table('second') }

test('files are applied once, in order, and new ones later', async () => {
  const warehouse = await fresh('in_order')
  expect(await migrateWarehouse(warehouse, 'single', [FIRST])).toEqual({
    applied: [FIRST.name],
    alreadyThere: [],
  })
  expect(await migrateWarehouse(warehouse, 'single', [FIRST, SECOND])).toEqual({
    applied: [SECOND.name],
    alreadyThere: [FIRST.name],
  })
  const rows = await warehouse.query<{ number: number; name: string; checksum: string }>(
    'SELECT number, name, checksum FROM headrace_migrations FINAL ORDER BY number',
  )
  expect(rows.map(({ number, name }) => ({ number, name }))).toEqual([
    { number: 1, name: FIRST.name },
    { number: 2, name: SECOND.name },
  ])
  expect(rows[0]?.checksum).toMatch(/^[0-9a-f]{64}$/)
  await warehouse.close()
})

test('a file that was changed after it was applied is refused with one sentence', async () => {
  const warehouse = await fresh('changed')
  await migrateWarehouse(warehouse, 'single', [FIRST])
  const changed = { ...FIRST, text: `${FIRST.text}\n-- a thought\n` }
  await expect(migrateWarehouse(warehouse, 'single', [changed, SECOND])).rejects.toMatchObject({
    code: 'HR_WAREHOUSE_BAD_MIGRATION',
    message:
      'migration 0001_first.sql differs from 0001_first.sql as it was applied; put the file back and write a new one',
  })
  const renamed = { ...FIRST, name: '0001_other.sql' }
  await expect(migrateWarehouse(warehouse, 'single', [renamed])).rejects.toMatchObject({
    code: 'HR_WAREHOUSE_BAD_MIGRATION',
  })
  await warehouse.close()
})

test('a database made for one variant does not become another', async () => {
  const warehouse = await fresh('variants')
  await migrateWarehouse(warehouse, 'single', [FIRST])
  // What a replicated deployment recorded, seen from a single node: only the record differs.
  await warehouse.command(
    "INSERT INTO headrace_migrations (number, name, checksum, variant) SELECT number, name, checksum, 'replicated' FROM headrace_migrations FINAL",
  )
  await expect(migrateWarehouse(warehouse, 'single', [FIRST])).rejects.toThrow(
    'was made for the variant "replicated" and cannot become "single"',
  )
  await warehouse.close()
})

test('a gap in the numbers is refused before anything is applied', async () => {
  const warehouse = await fresh('gap')
  const third = { name: '0003_third.sql', text: table('third') }
  await expect(migrateWarehouse(warehouse, 'single', [FIRST, third])).rejects.toThrow('should be number 0002')
  expect(await warehouse.query('SHOW TABLES')).toEqual([])
  await warehouse.close()
})

test('four at once on an empty database: all succeed, one schema', async () => {
  await live.warehouse.command('CREATE DATABASE at_once')
  const warehouses = Array.from({ length: 4 }, () => openWarehouse({ url: live.url, database: 'at_once' }))
  await Promise.all(warehouses.map((warehouse) => migrateWarehouse(warehouse)))
  const again = await migrateWarehouse(warehouses[0]!)
  expect(again).toEqual({ applied: [], alreadyThere: migrationFiles().map(({ name }) => name) })
  const tables = await warehouses[0]!.query<{ name: string }>(
    "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine != 'View'",
  )
  expect(tables.length).toBe(9)
  for (const warehouse of warehouses) await warehouse.close()
})

test('a file that failed half-way is taken up again', async () => {
  const warehouse = await fresh('half_way')
  const broken = { ...FIRST, text: `${table('one')}${table('two').replace('UInt8', 'NoSuchType')}` }
  expect(await migrateWarehouse(warehouse, 'single', [broken]).catch((error) => error.code)).toBe(
    'HR_WAREHOUSE_QUERY_REFUSED',
  )
  const mended = { ...FIRST, text: `${table('one')}${table('two')}` }
  expect((await migrateWarehouse(warehouse, 'single', [mended])).applied).toEqual([FIRST.name])
  await warehouse.close()
})
