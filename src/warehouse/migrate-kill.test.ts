/** The schema of an older version is brought up while rows come in, by processes that are killed at any statement of it. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startWarehouseProcess } from '../../test/support/warehouse.ts'
import { EVENTS } from '../event/index.ts'
import { openWarehouse, type Warehouse } from './client.ts'
import { migrateWarehouse, migrationFiles } from './migrate.ts'
import { eventRows } from './rows.fixture.ts'

// Syncing many parts on a busy machine takes its time; a test that hangs still ends.
setDefaultTimeout(60_000)

const SEED = Number(process.env.HEADRACE_TEST_SEED ?? Date.now() % 1_000_000)
/** As of a version that had no promoted properties and no views. */
const OLD_FILES = 3
const CHANCE = 0.08
/** With this chance nobody dies so often in so few statements. */
const RUNS_MAX = 50
const ROWS = 200
const PAUSE_MS = 50

/** In the order of its columns, one line each. */
async function columnsOf(warehouse: Warehouse): Promise<string[]> {
  const rows = await warehouse.query<{ line: string }>(
    `SELECT concat(table, '.', name, ' ', type, ' ', default_kind, ' ', default_expression) AS line FROM system.columns
     WHERE database = currentDatabase() ORDER BY table, position`,
  )
  return rows.map(({ line }) => line)
}

test(`the next run goes on, the schema is that of a new database, and no row is lost, seed ${SEED}`, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'headrace-migrate-'))
  const engine = await startWarehouseProcess(dir)
  const warehouse = openWarehouse({ url: engine.url })
  let inserting = true
  try {
    await migrateWarehouse(warehouse, 'single', migrationFiles().slice(0, OLD_FILES))
    let rows = 0
    const load = (async () => {
      for (; inserting; rows += ROWS) {
        await warehouse.insertRows({
          table: EVENTS,
          rows: eventRows(rows, ROWS, { properties: '{"$browser":"Firefox"}' }),
          token: `rows from ${rows}`,
        })
        await Bun.sleep(PAUSE_MS)
      }
    })()

    load.catch(() => {})
    const ends: string[] = []
    while (ends.at(-1) !== 'done') {
      expect(ends.length).toBeLessThan(RUNS_MAX)
      ends.push(await migrateOnce(engine.url, SEED + ends.length))
    }
    inserting = false
    await load
    expect(ends.filter((end) => end === 'killed').length).toBeGreaterThan(0)

    await warehouse.command('CREATE DATABASE newly_made')
    const newlyMade = openWarehouse({ url: engine.url, database: 'newly_made' })
    await migrateWarehouse(newlyMade)
    expect(await columnsOf(warehouse)).toEqual(await columnsOf(newlyMade))
    await newlyMade.close()
    const [found] = await warehouse.query(
      "SELECT count() AS n, uniqExact(_offset) AS offsets, countIf(`p_$browser` = 'Firefox') AS read FROM events_resolved",
    )
    expect(found).toEqual({ n: rows, offsets: rows, read: rows })
    expect((await migrateWarehouse(warehouse)).applied).toEqual([])
  } finally {
    inserting = false
    await warehouse.close()
    await engine.kill('SIGTERM')
    rmSync(dir, { recursive: true, force: true })
  }
})

/** A verb that needs the schema of this version, and brings it up first. */
async function migrateOnce(url: string, seed: number): Promise<'done' | 'killed'> {
  const verb = Bun.spawn(
    [process.execPath, join(import.meta.dir, '../main.ts'), 'property', 'list', '--clickhouse', url],
    {
      env: {
        ...process.env,
        HEADRACE_TEST_FAILPOINT: `migration_statement:${CHANCE},migration_noted:${CHANCE}`,
        HEADRACE_TEST_SEED: String(seed),
      },
      stdout: 'ignore',
      stderr: 'pipe',
    },
  )
  const said = await new Response(verb.stderr).text()
  if ((await verb.exited) === 0) return 'done'
  if (verb.signalCode === 'SIGKILL' && said.includes('failpoint migration_')) return 'killed'
  throw new Error(`the migration ended with ${verb.exitCode ?? verb.signalCode}: ${said}`)
}
