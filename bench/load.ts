/**
 * What the load costs: rows per second, CPU microseconds per row of the loader and of the engine, and how long an
 * insert takes, for rows of about 1.2 kB that wait in the embedded log (catch-up, the highest rate there is).
 * `bun bench/load.ts [--rows 300000] [--partitions 8] [--busy-percent 100] [--memory-mb 192]`
 *
 * This process writes the log and counts; the loader and the engine are children, Postgres is the embedded one.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openPostgres } from '../src/catalog/index.ts'
import {
  EVENTS,
  type EventRow,
  encodeRowHeader,
  partitionsOf,
  ROW_TOPICS,
  TOPICS,
  uuidV7,
} from '../src/event/index.ts'
import { startLoad } from '../src/load/index.ts'
import { type LogRecord, openEmbeddedLog } from '../src/log/index.ts'
import { createLogger, metricsText } from '../src/observe/index.ts'
import { openWarehouse } from '../src/warehouse/index.ts'
import { plainEventRow } from '../test/support/event-row.ts'
import { startTestPostgres } from '../test/support/postgres.ts'
import { waitFor } from '../test/support/wait-for.ts'
import { startTestWarehouse } from '../test/support/warehouse.ts'
import { bottleneckOf, cpuUsOf, peakMemoryMb, report } from './measure.ts'

const { values: options } = parseArgs({
  options: {
    rows: { type: 'string', default: '300000' },
    partitions: { type: 'string', default: '8' },
    'busy-percent': { type: 'string', default: '100' },
    'memory-mb': { type: 'string', default: '192' },
    loader: { type: 'string' },
  },
})

type LoaderOptions = {
  dir: string
  socketDir: string
  warehouseUrl: string
  partitions: number
  busyPercent: number
  memoryMb: number
  unixSocket: string
}

const WITHIN_MS = 600_000
const PROPERTIES = JSON.stringify({
  $os: 'Mac OS X',
  $browser: 'Chrome',
  $browser_version: 142,
  $current_url: 'https://shop.example/products/17?ref=newsletter&utm_source=mail',
  $pathname: '/products/17',
  $raw_user_agent:
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36',
  $session_id: '0193a7c4-5b1e-7c3a-9d2f-000000000000',
  $lib: 'web',
  $lib_version: '1.290.0',
  note: 'x'.repeat(350),
})

function row(logId: string, partition: number, offset: number, nowMs: number): EventRow {
  return plainEventRow({
    uuid: uuidV7(nowMs),
    properties: PROPERTIES,
    timestamp: nowMs,
    distinct_id: `0193a7c4-5b1e-7c3a-9d2f-${(offset % 1000).toString(16).padStart(12, '0')}`,
    created_at: nowMs,
    person_id: logId,
    person_created_at: nowMs,
    person_properties:
      '{"email":"someone@example.com","plan":"pro","$initial_referrer":"https://search.example/"}',
    _log_id: logId,
    _partition: partition,
    _offset: offset,
  })
}

async function readyLine(child: Bun.Subprocess<'ignore' | 'inherit', 'pipe', 'inherit'>): Promise<string> {
  let text = ''
  for await (const chunk of child.stdout as ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>) {
    text += new TextDecoder().decode(chunk)
    if (text.includes('\n')) return text.trim()
  }
  throw new Error(`a child ended early: ${text}`)
}

async function runLoader(child: LoaderOptions): Promise<void> {
  const load = await startLoad({
    settings: { loadFlushMs: 1_000, loadBusyPercent: child.busyPercent, loadMemoryMb: child.memoryMb },
    log: await openEmbeddedLog({ dir: child.dir }),
    sql: openPostgres({ url: { socketDir: child.socketDir }, name: 'load', connectionsMax: 16 }),
    warehouse: openWarehouse({ url: child.warehouseUrl }),
    partitions: child.partitions,
    logger: createLogger('load', 'warn'),
  })
  Bun.serve({ unix: child.unixSocket, fetch: async () => new Response(await metricsText()) })
  process.on('SIGTERM', () => void load.stop().then(() => process.exit(0)))
  console.log('ready')
}

async function measure(): Promise<void> {
  const rows = Number(options.rows)
  const partitions = Number(options.partitions)
  const dir = await mkdtemp(join(tmpdir(), 'headrace-bench-load-'))
  const [postgres, engine] = await Promise.all([startTestPostgres(), startTestWarehouse()])
  const { sql } = postgres
  const { warehouse } = engine
  const log = await openEmbeddedLog({ dir: join(dir, 'log') })
  for (const name of ROW_TOPICS) {
    await log.createTopic({
      name,
      partitions: partitionsOf(name, partitions),
      recordBytesMax: 4 * 1024 * 1024,
    })
  }
  const rawId = crypto.randomUUID()
  const bytes = await fill(log, rawId, rows, partitions)

  const unixSocket = join(dir, 'metrics.sock')
  const child: LoaderOptions = {
    dir: join(dir, 'log'),
    socketDir: postgres.url.socketDir,
    warehouseUrl: engine.url,
    partitions,
    busyPercent: Number(options['busy-percent']),
    memoryMb: Number(options['memory-mb']),
    unixSocket,
  }
  const loader = Bun.spawn([process.execPath, import.meta.path, '--loader', JSON.stringify(child)], {
    stdout: 'pipe',
    stderr: 'inherit',
    stdin: 'ignore',
  })
  await readyLine(loader)
  const before = { loader: cpuUsOf(loader.pid), engine: cpuUsOf(engine.pid) }
  const firstMs = performance.now()
  let last = ''
  const isLoaded = async () => {
    const [fence] = await sql`
      SELECT (SELECT coalesce(sum(next_offset), 0)::bigint FROM load_fence WHERE topic = 'events') AS loaded,
             (SELECT count(*) FROM load_intent WHERE state = 'open') AS open`
    last = JSON.stringify(fence)
    return fence!.loaded >= rows && fence!.open === 0
  }
  await waitFor('end of the load', isLoaded, WITHIN_MS, () => last)
  const seconds = (performance.now() - firstMs) / 1000
  const used = {
    loader: cpuUsOf(loader.pid) - before.loader,
    engine: cpuUsOf(engine.pid) - before.engine,
  }
  const peakMb = peakMemoryMb(loader.pid)
  const metrics = await (await fetch('http://localhost/metrics', { unix: unixSocket })).text()
  const [found] = await warehouse.query<{ n: number; sources: number }>(
    'SELECT count() AS n, uniqExact(_partition, _offset) AS sources FROM events',
  )
  if (found!.n !== rows || found!.sources !== rows)
    throw new Error(`${JSON.stringify(found)} of ${rows} rows`)
  console.log(
    `${rows} rows of ${Math.round(bytes / rows)} bytes, ${partitions} partitions; ${inserts(metrics)} inserts in ${seconds.toFixed(1)} s; loader at most ${Math.round(peakMb)} MB`,
  )
  report({
    name: 'load, catch-up, p50 and p99 of an insert',
    eventsPerSecond: rows / seconds,
    cpuUs: { loader: used.loader / rows, engine: used.engine / rows },
    p50Ms: insertMs(metrics, 0.5),
    p99Ms: insertMs(metrics, 0.99),
    bottleneck: bottleneckOf(used, seconds, 'the waiting rows: cuts are made by time', ['engine']),
  })
  loader.kill('SIGTERM')
  await loader.exited
  await log.close()
  await Promise.all([engine.stop(), postgres.stop()])
  await rm(dir, { recursive: true, force: true })
}

async function fill(
  log: Awaited<ReturnType<typeof openEmbeddedLog>>,
  rawId: string,
  rows: number,
  partitions: number,
): Promise<number> {
  const producer = log.producer({ name: 'bench', deadlineMs: 60_000 })
  let bytes = 0
  const each = rows / partitions
  const nowMs = Date.now()
  for (let from = 0; from < each; from += 1_000) {
    const records: LogRecord[] = []
    for (let partition = 0; partition < partitions; partition++) {
      for (let offset = from; offset < Math.min(from + 1_000, each); offset++) {
        const value = EVENTS.encode(row(rawId, partition, offset, nowMs))
        bytes += value.length
        const header = encodeRowHeader({
          source: { logId: rawId, partition, offset, sub: 0 },
          prev: offset === 0 ? undefined : { offset: offset - 1, sub: 0 },
          teamId: 1,
          timestampMs: nowMs,
          restamped: false,
        })
        records.push({ topic: TOPICS.events, partition, header, value })
      }
    }
    await producer.send(records)
  }
  await producer.close()
  return bytes
}

/** Upper bound of the bucket in which the quantile of the insert time of `events` lies. */
function insertMs(metrics: string, q: number): number {
  const buckets = [
    ...metrics.matchAll(
      /headrace_load_insert_seconds_bucket\{(?=[^}]*table="events")(?:[^}]*,)?le="([^"]+)"[^}]*\} (\d+)/g,
    ),
  ].map(([, le, n]) => ({ le: Number(le), n: Number(n) }))
  const all = buckets.at(-1)?.n ?? 0
  return (buckets.find(({ n }) => n >= all * q)?.le ?? 0) * 1000
}

function inserts(metrics: string): string {
  return /headrace_load_inserts_total\{table="events"\} (\d+)/.exec(metrics)?.[1] ?? '?'
}

if (options.loader) await runLoader(JSON.parse(options.loader) as LoaderOptions)
else await measure()
