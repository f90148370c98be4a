/**
 * Inserts events rows into the embedded warehouse through its HTTP front, as the loader does: RowBinary, one token
 * per insert, 50,000 rows of 1.2 kB. Prints rows per second, CPU microseconds per row of the client and of the
 * engine's process, and the stored bytes per row. The bottleneck is the engine: parsing, sorting and compressing.
 *
 * `bun bench/warehouse-insert.ts [inserts]`
 */
import { EVENTS } from '../src/event/index.ts'
import { plainEventRow } from '../test/support/event-row.ts'
import { startTestWarehouse } from '../test/support/warehouse.ts'
import { bottleneckOf, cpuUsOf, ownCpuUs, quantile, report, usageOf } from './measure.ts'

const ROWS = 50_000
const inserts = Number(process.argv[2] ?? 8)
const LOG_ID = '01890000-0000-7000-8000-000000000001'
const START_MS = Date.UTC(2026, 10, 1)
const WORDS = 'river gate sluice meadow lantern harbour quarry willow copper anchor'.split(' ')

const test = await startTestWarehouse()
try {
  const warm = makeRows(0)
  await test.warehouse.insertRows({ table: EVENTS, rows: warm, token: 'warm' })
  const bytes = warm.reduce((sum, row) => sum + row.length, 0) / ROWS
  let clientUs = 0
  let engineUs = 0
  const latencies: number[] = []
  for (let i = 1; i <= inserts; i++) {
    const rows = makeRows(i * ROWS)
    Bun.gc(true)
    const engineBefore = cpuUsOf(test.pid)
    const clientBefore = ownCpuUs()
    const started = performance.now()
    await test.warehouse.insertRows({ table: EVENTS, rows, token: `insert-${i}` })
    latencies.push(performance.now() - started)
    clientUs += ownCpuUs() - clientBefore
    engineUs += cpuUsOf(test.pid) - engineBefore
  }
  const [stored] = await test.warehouse.query<{ rows: number; bytes: number }>(
    "SELECT sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND table = 'events'",
  )
  const count = inserts * ROWS
  if (stored?.rows !== count + ROWS) throw new Error(`${count + ROWS} rows sent, ${stored?.rows} stored`)
  const seconds = latencies.reduce((sum, ms) => sum + ms, 0) / 1000
  console.log(
    `${ROWS} rows of ${Math.round(bytes)} bytes an insert, ${Math.round(stored.bytes / stored.rows)} bytes a row stored, engine ${Math.round(usageOf(test.pid).memoryMb)} MB`,
  )
  report({
    name: 'warehouse, insert',
    eventsPerSecond: count / seconds,
    cpuUs: { client: clientUs / count, engine: engineUs / count },
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    bottleneck: bottleneckOf(
      { client: clientUs, engine: engineUs },
      seconds,
      'the engine, one insert at a time',
      ['engine'],
    ),
  })
} finally {
  await test.stop()
}

/** Rows that compress about as real ones do: a common skeleton, few sessions and pages, some noise. */
function makeRows(from: number): Uint8Array[] {
  return Array.from({ length: ROWS }, (_, i) => {
    const n = from + i
    const noise = (k: number) => (Math.imul(n + 1, 2_654_435_761) ^ Math.imul(k + 1, 40_503)) >>> 0
    const properties: Record<string, unknown> = {
      $current_url: `https://example.com/${WORDS[noise(1) % 10]}/${noise(2) % 1000}`,
      $session_id: `0189-session-${n >> 4}`,
      $window_id: `0189-window-${n >> 5}`,
      $lib: 'web',
      $lib_version: '1.449.2',
      $browser: 'Firefox',
      $os: 'Linux',
      $screen_width: 1920,
      $group_0: `company-${noise(3) % 200}`,
      $insert_id: noise(4).toString(36) + noise(5).toString(36),
    }
    for (let k = 0; k < 20; k++)
      properties[`property_${k}`] = `${WORDS[noise(k) % 10]} ${noise(k + 9) % 10_000}`
    const person = noise(7) % 20_000
    return EVENTS.encode(
      plainEventRow({
        uuid: `01890000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`,
        event: WORDS[noise(6) % 5]!,
        properties: JSON.stringify(properties),
        timestamp: START_MS + n * 3,
        distinct_id: `user-${person}`,
        created_at: START_MS + n * 3 + 40,
        person_id: `01890000-0000-5000-8000-${person.toString(16).padStart(12, '0')}`,
        person_created_at: START_MS,
        person_properties: JSON.stringify({ email: `user-${person}@example.com`, plan: 'free' }),
        group0_properties: '{"name":"Company","seats":12}',
        group0_created_at: START_MS,
        _log_id: LOG_ID,
        _partition: n % 8,
        _offset: n >> 3,
      }),
    )
  })
}
