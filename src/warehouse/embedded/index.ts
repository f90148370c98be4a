/**
 * The embedded warehouse: the real ClickHouse engine in this process behind ClickHouse's HTTP interface. Run it in a
 * process of its own (role `warehouse`) started with `WAREHOUSE_PROCESS_ENV`, since the engine's size and its
 * statements are felt by whatever shares a process with it.
 *
 * Must hold: one process per data folder; what was answered is on disk (tables sync on insert); a kill at any moment
 * leaves whole blocks only, and insert tokens keep their memory. Cost: about 250 MB resident when idle, of which 200
 * are the mapped library; under 1 % of a core.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { answerHealth, counter, gauge, type Health } from '../../observe/index.ts'
import { warehouseError } from '../errors.ts'
import { Engine } from './engine.ts'
import { answerQuery } from './http.ts'
import { lockFolder } from './lock.ts'
import { Spool } from './spool.ts'

export type EmbeddedWarehouseOptions = {
  /** Folder of this warehouse alone. */
  dir: string
  /** Port 0 takes a free one. */
  listen: { hostname: string; port: number }
  /** The database that requests without one (or with `default`) use. */
  database?: string
  /** Statements that run at once. */
  sessionsMax?: number
  /** Statements that wait for one of them; beyond that they are refused with ClickHouse's code 202. */
  waitingMax?: number
  /** One INSERT body, inflated. */
  insertBytesMax?: number
  /** Memory of the engine; queries beyond it fail with ClickHouse's code 241. */
  memoryBytesMax?: number
}

export type EmbeddedWarehouse = {
  readonly port: number
  readonly url: string
  /** Lets running statements finish (6 s at most), closes the sessions. The process should end afterwards. */
  stop(): Promise<void>
  /** Undefined when it can answer queries, else one sentence. */
  notReady(): Promise<string | undefined>
}

const SESSIONS_MAX = 4
const WAITING_MAX = 64
const INSERT_BYTES_MAX = 256 * 1024 * 1024
const DATABASE = 'headrace'
const READ_SECONDS_MAX = 60
const RESULT_BYTES_MAX = 256 * 1024 * 1024
const PURGE_AFTER_IDLE_SECONDS = 5
const PLAIN = { format: 'Null', settings: new Map(), params: new Map(), changesSession: false } as const
/** When stopping: how long running statements may take to finish. */
const RUNNING_ENDS_MS_MAX = 6000
/** After the last statement: how long its answer may take to reach a slow client. */
const ANSWERS_SENT_MS_MAX = 2000

/**
 * Environment for the process that runs the engine: statements run on the runtime's thread pool, which otherwise has
 * one thread per core, and on a small machine two slow queries would then hold up every insert.
 */
export const WAREHOUSE_PROCESS_ENV = { UV_THREADPOOL_SIZE: String(SESSIONS_MAX + 2) } as const

/** Starts the engine and its front. Throws HR_WAREHOUSE_FOLDER_IN_USE, _ENGINE or _ADDRESS with one sentence. */
export async function startEmbeddedWarehouse(options: EmbeddedWarehouseOptions): Promise<EmbeddedWarehouse> {
  const dir = resolve(options.dir)
  const database = options.database ?? DATABASE
  const insertBytesMax = options.insertBytesMax ?? INSERT_BYTES_MAX
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const lock = lockFolder(dir)
  const config = join(dir, 'engine.xml')
  writeFileSync(config, engineConfig(options.memoryBytesMax ?? Math.min(4 * 2 ** 30, totalmem() / 2)))
  const threads = Number(process.env.UV_THREADPOOL_SIZE ?? availableParallelism())
  const engine = Engine.open({
    dir: join(dir, 'engine'),
    sessionsMax: Math.max(2, Math.min(options.sessionsMax ?? SESSIONS_MAX, threads)),
    waitingMax: options.waitingMax ?? WAITING_MAX,
    connectionArgs: [`--config-file=${config}`],
    baseSettings: new Map([
      ['async_insert', '0'],
      ['max_execution_time', String(READ_SECONDS_MAX)],
      ['max_result_bytes', String(RESULT_BYTES_MAX)],
      ['session_timezone', 'UTC'],
    ]),
  })
  await engine.run({
    ...PLAIN,
    sql: `CREATE DATABASE IF NOT EXISTS \`${database}\` ENGINE = Atomic`,
    database: 'system',
    kind: 'read',
  })
  const spool = new Spool(dir, insertBytesMax, insertBytesMax * 4)
  let stopping = false
  const health: Health = {
    notReady: async () => (stopping ? 'the warehouse is stopping' : undefined),
  }
  const { hostname } = options.listen
  const hosts = isLoopback(hostname) ? new Set(['localhost', '127.0.0.1', '[::1]', hostname]) : undefined
  const server = listen(options.listen, insertBytesMax, async (request) => {
    const path = new URL(request.url).pathname
    if (path === '/ping' || path === '/replicas_status')
      return stopping ? new Response('stopping\n', { status: 503 }) : new Response('Ok.\n')
    const health_ = await answerHealth(path, health)
    return health_ ?? answerQuery(request, { engine, spool, database, hosts })
  })
  const observe = watch(engine, spool)
  return {
    port: server.port!,
    url: `http://${hostname.includes(':') ? `[${hostname}]` : hostname}:${server.port}`,
    notReady: health.notReady,
    async stop() {
      if (stopping) return
      stopping = true
      clearInterval(observe)
      const ended = await engine.close(RUNNING_ENDS_MS_MAX)
      const deadline = performance.now() + (ended ? ANSWERS_SENT_MS_MAX : 0)
      while (server.pendingRequests > 0 && performance.now() < deadline) await Bun.sleep(5)
      await server.stop(true)
      lock.release()
    },
  }
}

function listen(
  { hostname, port }: EmbeddedWarehouseOptions['listen'],
  insertBytesMax: number,
  fetch: (request: Request) => Promise<Response>,
) {
  try {
    return Bun.serve({
      hostname,
      port,
      idleTimeout: 0,
      maxRequestBodySize: insertBytesMax + 64 * 1024,
      fetch,
    })
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw warehouseError(
      'HR_WAREHOUSE_ADDRESS',
      `the warehouse cannot listen on ${hostname}:${port}: ${why}`,
      error,
    )
  }
}

/** Every second: the gauges, and once after each busy time the allocator's free pages back to the system. */
function watch(engine: Engine, spool: Spool): ReturnType<typeof setInterval> {
  let seen = 0
  let idleSeconds = 0
  const tick = async () => {
    const { running, waiting, finished } = engine.load
    RUNNING.set(running)
    WAITING.set(waiting)
    SPOOLED.set(spool.bytes)
    if (running > 0 || finished !== seen) {
      seen = finished
      idleSeconds = 0
      return
    }
    if (++idleSeconds !== PURGE_AFTER_IDLE_SECONDS) return
    // Without this some 200 MB stay resident after inserts. It counts as one more statement, so expect it.
    seen = finished + 1
    try {
      await engine.run({ ...PLAIN, sql: 'SYSTEM JEMALLOC PURGE', database: 'system', kind: 'read' })
      PURGED.inc()
    } catch {
      // An engine built with another allocator refuses the statement and keeps its pages; all else goes on.
    }
  }
  const timer = setInterval(() => void tick(), 1000)
  timer.unref()
  return timer
}

const PURGED = counter(
  'headrace_warehouse_memory_purges_total',
  'Times that free memory went back to the system after a busy time.',
)
const RUNNING = gauge(
  'headrace_warehouse_statements_running',
  'Statements that the embedded engine runs now.',
)
const WAITING = gauge(
  'headrace_warehouse_statements_waiting',
  'Statements that wait for a session (limit 64).',
)
const SPOOLED = gauge('headrace_warehouse_spooled_bytes', 'Bytes of INSERT bodies that wait for the engine.')

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '::1' || hostname.startsWith('127.')
}

/** Caches and background threads for one machine that runs other things, too. */
function engineConfig(memoryBytesMax: number): string {
  const values = {
    max_server_memory_usage: Math.floor(memoryBytesMax),
    mark_cache_size: 64 * 2 ** 20,
    index_mark_cache_size: 16 * 2 ** 20,
    uncompressed_cache_size: 0,
    mmap_cache_size: 64,
    background_pool_size: 2,
    background_merges_mutations_concurrency_ratio: 2,
    background_schedule_pool_size: 2,
    background_common_pool_size: 1,
    background_move_pool_size: 1,
    background_fetches_pool_size: 1,
  }
  const lines = Object.entries(values).map(([name, value]) => `  <${name}>${value}</${name}>`)
  return `<clickhouse>\n${lines.join('\n')}\n</clickhouse>\n`
}
