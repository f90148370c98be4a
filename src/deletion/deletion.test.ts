/** A deletion at work beside ingest and load: what waits to be sent again, and what somebody puts back. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { planJob, selectLetters } from '../deadletters/index.ts'
import { Bench, type Captured, Servers } from '../repair/repair.fixture.ts'
import { deletePerson, listOrders } from './index.ts'

setDefaultTimeout(60_000)

let servers: Servers
let bench: Bench
beforeAll(async () => {
  servers = await Servers.start()
})
afterAll(() => servers.stop())
beforeEach(async () => {
  bench = await Bench.open(servers)
  await bench.learnRawId()
  await bench.sql`TRUNCATE deletion, deletion_target, erasures, dead_letter_job, dead_letter_decision CASCADE`
})
afterEach(() => bench.close())

const EVENTS: Captured[] = [
  { json: '{"$set":{"email":"anna@example.com"}}', distinctId: 'anna' },
  { json: 'no json', distinctId: 'anna' },
  { json: '{}', distinctId: 'bert' },
  { json: 'no json', distinctId: 'bert' },
]

async function sendAndLoad(): Promise<void> {
  await bench.capture(EVENTS)
  await bench.ingested(EVENTS.length)
  await bench.loaded()
}

/** With the roles at work until it is over. */
async function deleteAnna() {
  let over = false
  const order = {
    kind: 'person' as const,
    teamId: 1,
    subject: { distinctId: 'anna' },
    by: 'test',
    why: 'asked',
  }
  const work = deletePerson({ ...bench.deps, says: () => {} }, order, 20_000).finally(() => {
    over = true
  })
  work.catch(() => {})
  await Promise.all([bench.ingest(async () => over), bench.load(async () => over)])
  return work
}

const command = (sql: string) => bench.deps.warehouse.command(sql, { id: bench.rawId })

async function idsOf(table: string): Promise<string[]> {
  const rows = await bench.deps.warehouse.query<{ id: string }>(
    `SELECT DISTINCT distinct_id AS id FROM ${table} WHERE _log_id = {id:UUID} ORDER BY id`,
    { id: bench.rawId },
  )
  return rows.map(({ id }) => id)
}

async function exact(): Promise<void> {
  const report = await bench.audit()
  expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
  expect(report.partitions[0]).toMatchObject({ erased: 1, outcomesCompared: true })
}

test('a dead letter of the person that waits to be sent again stays unsent; its sender starts anew, for others', async () => {
  await sendAndLoad()
  const deps = { sql: bench.sql, warehouse: bench.deps.warehouse }
  await planJob(bench.sql, selectLetters(deps, { teamId: 1 }, new Set(['open'])), {
    by: 'test',
    why: '',
    filter: { teamId: 1 },
    eventsPerSecond: 1,
    again: [],
  })
  await bench.sql`UPDATE dead_letter_job SET runner = gen_random_uuid()`
  await deleteAnna()
  const letters = await bench.sql`
    SELECT state, why FROM dead_letter_decision WHERE log_id = ${bench.rawId} ORDER BY raw_offset`
  expect([...letters]).toEqual([
    { state: 'discarded', why: 'its person was deleted' },
    { state: 'planned', why: '' },
  ])
  const [job] = await bench.sql`SELECT state, runner FROM dead_letter_job`
  expect(job).toEqual({ state: 'open', runner: null })
  for (const table of ['events', 'outcomes', 'dead_letters']) expect(await idsOf(table)).toEqual(['bert'])
  await exact()
})

test('rows that somebody put back go again, and are on record once', async () => {
  await sendAndLoad()
  await command('CREATE TABLE kept AS events')
  await command('INSERT INTO kept SELECT * FROM events WHERE _log_id = {id:UUID}')
  try {
    await deleteAnna()
    await exact()
    await command(
      `INSERT INTO events SELECT * FROM kept WHERE distinct_id = 'anna' SETTINGS insert_deduplicate = 0`,
    )
    expect((await bench.audit()).exact).toBe(false)
    await deleteAnna()
    await exact()
  } finally {
    await command('DROP TABLE kept')
  }
  const records =
    await bench.sql`SELECT table_name, sum(rows)::int AS rows FROM erasures GROUP BY 1 ORDER BY 1`
  expect([...records]).toEqual([
    { table_name: 'dead_letters', rows: 1 },
    { table_name: 'events', rows: 1 },
    { table_name: 'outcomes', rows: 1 },
  ])
  const orders = await listOrders(bench.sql, 1)
  expect(orders.map(({ state, subject, counts }) => [state, subject, counts.events])).toEqual([
    ['done', undefined, 0],
    ['done', undefined, 1],
  ])
  expect(await bench.sql`SELECT FROM deletion_target`).toHaveLength(0)
})
