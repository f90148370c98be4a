/**
 * Whether a trace reads by index or by scan: `bun bench/trace.ts [million rows, default 10] [data folder to keep] [copies]`.
 * Makes rows in a real engine by INSERT SELECT, over 30 days, 20 event names and a tenth as many distinct ids as rows, with
 * random uuids (for which an index by order is of no use). Prints, for each look-up of `headrace trace`, the granules that
 * EXPLAIN says are read, and the time of cold and warm queries. With `copies`, the same of a table that has each part so many
 * times, for ids that are not there: their filters are all read and give what as many rows would give.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EVENTS_OF_ID, recentOf } from '../src/ledger/recent.ts'
import { EVENTS_BY_UUID } from '../src/ledger/trace-rows.ts'
import { migrateWarehouse, openWarehouse } from '../src/warehouse/index.ts'
import { startWarehouseProcess } from '../test/support/warehouse.ts'

const MILLION = 1_000_000
/** Rows of one INSERT: below the time that the engine gives a query, on a busy machine too. */
const INSERT_ROWS = 200_000
const millions = Number(process.argv[2] ?? 10)
const kept = process.argv[3]
const copies = Number(process.argv[4] ?? 1)
const dir = kept ?? mkdtempSync(join(tmpdir(), 'headrace-bench-trace-'))
const server = await startWarehouseProcess(dir)
const warehouse = openWarehouse({ url: server.url, queryTimeoutMs: 600_000 })
try {
  await migrateWarehouse(warehouse)
  const [{ rows }] = (await warehouse.query<{ rows: number }>('SELECT count() AS rows FROM events')) as [
    { rows: number },
  ]
  for (let at = rows; at < millions * MILLION; at += INSERT_ROWS) {
    await warehouse.command(insert(at))
    process.stderr.write(`\r${(at + INSERT_ROWS) / MILLION} of ${millions} million rows `)
  }
  process.stderr.write('\n')
  // A folder that was kept may be older than an index.
  await warehouse.command('ALTER TABLE events MATERIALIZE INDEX by_distinct_id SETTINGS mutations_sync = 2')
  const [of] = await warehouse.query<{ parts: number; bytes: string; marks: number }>(
    `SELECT count() AS parts, formatReadableSize(sum(bytes_on_disk)) AS bytes, sum(marks) AS marks
     FROM system.parts WHERE table = 'events' AND active`,
  )
  console.log(`${millions} million rows in ${of!.parts} parts, ${of!.marks} granules, ${of!.bytes}`)
  const wanted = await warehouse.query<{ uuid: string; distinct_id: string }>(
    'SELECT uuid, distinct_id FROM events WHERE _offset % 700001 = 17 LIMIT 10',
  )
  const params = { uuid: wanted[0]!.uuid, limit: 100 }
  await explain('a uuid', EVENTS_BY_UUID, params)
  await time('a uuid', wanted, ({ uuid }) => warehouse.query(EVENTS_BY_UUID, { uuid, limit: 100 }))
  await time('a uuid that is not there', wanted, () =>
    warehouse.query(EVENTS_BY_UUID, { uuid: crypto.randomUUID(), limit: 100 }),
  )
  const whole = { teams: [1, 2], from: 0, to: Date.UTC(2100, 0, 1), limit: 20, id: wanted[0]!.distinct_id }
  await explain('a distinct id, all days', EVENTS_OF_ID, whole)
  await time('a distinct id, all days', wanted, ({ distinct_id }) =>
    warehouse.query(EVENTS_OF_ID, { ...whole, id: distinct_id }),
  )
  const options = { teamIds: [1, 2], limit: 20, nowMs: Date.UTC(2026, 4, 31) }
  await time('a distinct id, its newest 20', wanted, ({ distinct_id }) =>
    recentOf(warehouse, distinct_id, options),
  )
  if (copies > 1) await inCopies()
} finally {
  await warehouse.close()
  await server.kill('SIGTERM')
  if (kept === undefined) rmSync(dir, { recursive: true, force: true })
}

function insert(from: number): string {
  return `
    INSERT INTO events (uuid, event, properties, timestamp, team_id, distinct_id, created_at, person_id, _log_id, _partition, _offset)
    SELECT generateUUIDv4(), concat('event ', toString(cityHash64(number) % 20)), '{"a":1}',
      toDateTime64('2026-05-01 00:00:00', 6, 'UTC') + toIntervalSecond(cityHash64(number, 1) % (30 * 86400)) AS at,
      1 + cityHash64(number, 2) % 2, concat('user-', toString(cityHash64(number, 3) % ${(millions * MILLION) / 10})), at,
      toUUID('00000000-0000-4000-8000-000000000001'), toUUID('00000000-0000-4000-8000-000000000002'), number % 8, number
    FROM numbers(${from}, ${INSERT_ROWS}) SETTINGS max_insert_threads = 1, max_memory_usage = 0`
}

async function inCopies(): Promise<void> {
  await warehouse.command('DROP TABLE IF EXISTS many')
  await warehouse.command('CREATE TABLE many AS events')
  await warehouse.command('SYSTEM STOP MERGES many')
  for (let copy = 0; copy < copies; copy++)
    await warehouse.command('ALTER TABLE many ATTACH PARTITION 202605 FROM events')
  const many = (sql: string) => sql.replace('FROM events', 'FROM many')
  const times = Array.from({ length: 10 })
  console.log(`\n${copies} times as many rows`)
  await time('a uuid that is not there', times, () =>
    warehouse.query(many(EVENTS_BY_UUID), { uuid: crypto.randomUUID(), limit: 100 }),
  )
  const whole = { teams: [1, 2], from: 0, to: Date.UTC(2100, 0, 1), limit: 20 }
  await time('a distinct id that is not there, all days', times, () =>
    warehouse.query(many(EVENTS_OF_ID), { ...whole, id: crypto.randomUUID() }),
  )
  await warehouse.command('DROP TABLE many')
}

async function explain(
  what: string,
  sql: string,
  params: Parameters<typeof warehouse.query>[1],
): Promise<void> {
  const lines = await warehouse.query<{ explain: string }>(`EXPLAIN indexes = 1 ${sql}`, params)
  const shown = lines
    .map((line) => line.explain)
    .filter((line) => /Name:|Granules:|Type|Skip|PrimaryKey|MinMax|Partition|Condition/.test(line))
  console.log(`\n${what}\n${shown.join('\n')}`)
}

async function time<T>(what: string, over: readonly T[], ask: (one: T) => Promise<unknown>): Promise<void> {
  await warehouse.command('SYSTEM DROP MARK CACHE').catch(() => {})
  const ms: number[] = []
  for (const one of over) {
    const began = performance.now()
    await ask(one)
    ms.push(performance.now() - began)
  }
  const sorted = [...ms].sort((a, b) => a - b)
  console.log(
    `${what}: first ${Math.round(ms[0]!)} ms, median ${Math.round(sorted[sorted.length >> 1]!)} ms, slowest ${Math.round(sorted.at(-1)!)} ms`,
  )
}
