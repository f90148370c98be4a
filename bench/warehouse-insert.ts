/**
 * Inserts events rows into the embedded warehouse through its HTTP front, as the loader does: RowBinary, one token
 * per insert, 50,000 rows of 1.2 kB. Prints rows per second, CPU microseconds per row of the client and of the
 * engine's process, and the stored bytes per row. The bottleneck is the engine: parsing, sorting and compressing.
 *
 * `bun bench/warehouse-insert.ts [inserts]`
 */
import { readFileSync } from 'node:fs'
import { EVENTS } from '../src/event/index.ts'
import { plainEventRow } from '../test/support/event-row.ts'
import { startTestWarehouse } from '../test/support/warehouse.ts'

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
  let wallMs = 0
  for (let i = 1; i <= inserts; i++) {
    const rows = makeRows(i * ROWS)
    Bun.gc(true)
    const engineBefore = processCpuUs(test.pid)
    const clientBefore = process.cpuUsage()
    const started = performance.now()
    await test.warehouse.insertRows({ table: EVENTS, rows, token: `insert-${i}` })
    wallMs += performance.now() - started
    const client = process.cpuUsage(clientBefore)
    clientUs += client.user + client.system
    engineUs += processCpuUs(test.pid) - engineBefore
  }
  const [stored] = await test.warehouse.query<{ rows: number; bytes: number }>(
    "SELECT sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND table = 'events'",
  )
  const count = inserts * ROWS
  if (stored?.rows !== count + ROWS) throw new Error(`${count + ROWS} rows sent, ${stored?.rows} stored`)
  console.log(
    JSON.stringify({
      bench: 'warehouse-insert',
      rowBytes: Math.round(bytes),
      rowsPerSecond: Math.round(count / (wallMs / 1000)),
      clientCpuUsPerRow: round(clientUs / count),
      engineCpuUsPerRow: round(engineUs / count),
      storedBytesPerRow: Math.round(stored.bytes / stored.rows),
      engineResidentMb: Math.round(residentBytes(test.pid) / 1e6),
    }),
  )
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

/** User and system time of a process so far, all threads. */
function processCpuUs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
