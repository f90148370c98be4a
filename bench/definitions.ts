/**
 * What it costs to read definitions of rows that are loaded: `bun bench/definitions.ts [thousand rows, default 100]`. Page
 * views of 35 properties by a tenth as many persons of 20 properties, in one raw partition, beside as many of another one.
 * Prints the engine's CPU per event, and of the same with each property of each row told apart at once, as a materialised
 * view would have to do it with every insert.
 */
import { collect } from '../src/definitions/collect.ts'
import { EVENTS } from '../src/event/index.ts'
import { plainEventRow } from '../test/support/event-row.ts'
import { startTestWarehouse } from '../test/support/warehouse.ts'
import { cpuUsOf } from './measure.ts'

const ROWS_OF_INSERT = 25_000
const rows = Number(process.argv[2] ?? 100) * 1_000
const LOG_ID = '01890000-0000-7000-8000-000000000001'
const PERSONS = rows / 10

const FLAT = `
  SELECT team_id, event, kv.1 AS name, substring(kv.2, 1, 1) AS type, count() AS volume, min(created_at), max(created_at)
  FROM events ARRAY JOIN JSONExtractKeysAndValuesRaw(properties) AS kv
  WHERE _log_id = {log:UUID} AND _partition = 0 GROUP BY team_id, event, name, type`

const test = await startTestWarehouse()
try {
  for (const partition of [1, 0]) {
    for (let from = 0; from < rows; from += ROWS_OF_INSERT) {
      const some = Array.from({ length: ROWS_OF_INSERT }, (_, i) => row(partition, from + i))
      await test.warehouse.insertRows({ table: EVENTS, rows: some, token: Bun.randomUUIDv7() })
    }
  }
  const range = { logId: LOG_ID, partition: 0, from: 0, to: rows }
  for (let run = 0; run < 3; run++) {
    await measure('one step', async () => {
      const found = await collect(test.warehouse, range, 0)
      if (found.rows !== rows) throw new Error(`${found.rows} rows were read`)
      return `${found.events.length} events, ${found.properties.length} properties`
    })
    await measure('flat, events’ own properties only', async () => {
      const found = await test.warehouse.query(FLAT, { log: LOG_ID })
      return `${found.length} names`
    })
  }
} finally {
  await test.stop()
}

async function measure(what: string, work: () => Promise<string>): Promise<void> {
  const before = cpuUsOf(test.pid)
  const began = performance.now()
  const found = await work()
  const seconds = (performance.now() - began) / 1_000
  const cpu = (cpuUsOf(test.pid) - before) / rows
  console.log(
    `${what}: ${cpu.toFixed(1)} µs of the engine's CPU per event, ${seconds.toFixed(1)} s; ${found}`,
  )
}

function row(partition: number, n: number): Buffer {
  const person = n % PERSONS
  const properties: Record<string, unknown> = { $group_0: `g${n % 100}`, price: n % 3 === 0 ? '1' : 1 }
  for (let i = 0; i < 33; i++) properties[`$property_${i}`] = i % 4 === 0 ? n + i : `some text ${n % (i + 7)}`
  const known: Record<string, unknown> = { plan: 'pro', seen: '2026-01-31T12:00:00Z' }
  for (let i = 0; i < 18; i++) known[`known_${i}`] = `value ${(person + i) % 100}`
  return EVENTS.encode(
    plainEventRow({
      uuid: Bun.randomUUIDv7(),
      event: `event ${n % 20}`,
      distinct_id: `user-${person}`,
      properties: JSON.stringify(properties),
      person_properties: JSON.stringify(known),
      _log_id: LOG_ID,
      _partition: partition,
      _offset: n,
    }),
  )
}
