/**
 * The product in its distributed form, for end-to-end and fault tests: a real Kafka, a real Postgres by URL, a
 * ClickHouse by URL (the engine's own process), and every role as a process of its own, any number of each, with
 * nothing shared but those servers. A plain keeper starts a role again when it ends, as an orchestrator would.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Kafka, startKafka } from './kafka.ts'
import { startPostgresByUrl, type UrlPostgres } from './postgres.ts'
import { cleanEnvironment, collect, freePorts } from './product.ts'
import { waitFor } from './wait-for.ts'

const HEADRACE = resolve(import.meta.dir, '../../headrace')
const READY_MS_MAX = 90_000
const STOPPED_MS_MAX = 20_000
const RESTART_MS = 500

export type ClusterOptions = {
  brokers: 1 | 3
  partitions: number
  ingest: number
  load: number
  env?: Record<string, string>
}

export type Cluster = {
  captureUrl: string
  token: string
  kafka: Kafka
  postgres: UrlPostgres
  /** What the roles printed, one JSON message per line. */
  output: string[]
  /** Name → pid: `capture`, `ingest-1`, `ingest-2`, `load-1`, `warehouse`, … */
  pids(): Promise<Record<string, number>>
  sql<T = Record<string, unknown>>(query: string): Promise<T[]>
  ready(withinMs?: number): Promise<void>
  /** Runs a verb of the command line against this cluster. */
  run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }>
  stop(): Promise<void>
}

type Keeper = { pid: number | undefined; healthUrl: string; stop(): Promise<void> }

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const folder = mkdtempSync(join(tmpdir(), 'headrace-cluster-'))
  const output: string[] = []
  const [kafka, postgres] = await Promise.all([
    startKafka({ brokers: options.brokers }),
    startPostgresByUrl(),
  ])
  const [capturePort, warehousePort] = freePorts(2) as [number, number]
  const replicas = String(options.brokers)
  const shared: Record<string, string> = {
    ...cleanEnvironment(),
    HEADRACE_LOG: `kafka://${kafka.bootstrap}`,
    HEADRACE_POSTGRES: postgres.url,
    HEADRACE_CLICKHOUSE: `http://127.0.0.1:${warehousePort}`,
    HEADRACE_PROJECT_TOKEN: 'phc_test',
    HEADRACE_PARTITIONS: String(options.partitions),
    HEADRACE_KAFKA_REPLICATION: replicas,
    HEADRACE_KAFKA_MIN_INSYNC_REPLICAS: options.brokers === 3 ? '2' : '1',
    ...options.env,
  }
  const keepers = new Map<string, Keeper>()
  const keep = (name: string, role: string, env: Record<string, string> = {}) => {
    const dataDir = join(folder, name)
    const [port] = freePorts(1)
    const own = {
      ...shared,
      HEADRACE_DATA_DIR: dataDir,
      HEADRACE_HEALTH_ADDRESS: `127.0.0.1:${port}`,
      ...env,
    }
    keepers.set(name, keepAlive(role, own, `http://127.0.0.1:${port}`, output))
  }
  const cluster: Cluster = {
    captureUrl: `http://127.0.0.1:${capturePort}`,
    token: 'phc_test',
    kafka,
    postgres,
    output,
    async pids() {
      return Object.fromEntries(
        [...keepers].flatMap(([name, { pid }]) => (pid === undefined ? [] : [[name, pid]])),
      )
    },
    async sql<T>(query: string) {
      const url = `http://127.0.0.1:${warehousePort}/?default_format=JSONEachRow&output_format_json_quote_64bit_integers=0`
      const response = await fetch(url, { method: 'POST', body: query })
      const text = await response.text()
      if (!response.ok) throw new Error(text)
      return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as T]))
    },
    async ready(withinMs = READY_MS_MAX) {
      for (const [name, keeper] of keepers) {
        let last = ''
        const isReady = async () => {
          try {
            const response = await fetch(`${keeper.healthUrl}/_readiness`, { keepalive: false })
            last = await response.text()
            return response.ok
          } catch (error) {
            last = String(error)
            return false
          }
        }
        await waitFor(
          `readiness of ${name}`,
          isReady,
          withinMs,
          () => `${last}\n${output.slice(-40).join('\n')}`,
        )
      }
    },
    async run(...args) {
      const verb = Bun.spawn([HEADRACE, ...args], {
        env: { ...shared, HEADRACE_DATA_DIR: join(folder, 'cli') },
        stdin: 'ignore',
        stdout: 'pipe',
        stderr: 'pipe',
      })
      const [stdout, stderr] = await Promise.all([
        new Response(verb.stdout).text(),
        new Response(verb.stderr).text(),
      ])
      return { code: await verb.exited, stdout, stderr }
    },
    async stop() {
      const [warehouse, ...others] = [...keepers.values()]
      await Promise.all(others.map((keeper) => keeper.stop()))
      await warehouse?.stop()
      await Promise.all([kafka.stop(), postgres.stop()])
      rmSync(folder, { recursive: true, force: true })
    },
  }
  try {
    keep('warehouse', 'warehouse', { HEADRACE_WAREHOUSE_ADDRESS: `127.0.0.1:${warehousePort}` })
    const applied = await cluster.run('kafka', 'apply')
    if (applied.code !== 0)
      throw new Error(`kafka apply ended with ${applied.code}: ${applied.stdout}${applied.stderr}`)
    keep('capture', 'capture', { HEADRACE_CAPTURE_ADDRESS: `127.0.0.1:${capturePort}` })
    for (let i = 1; i <= options.ingest; i++) keep(`ingest-${i}`, 'ingest')
    for (let i = 1; i <= options.load; i++) keep(`load-${i}`, 'load')
    await cluster.ready()
  } catch (error) {
    await cluster.stop()
    throw error
  }
  return cluster
}

function keepAlive(role: string, env: Record<string, string>, healthUrl: string, output: string[]): Keeper {
  let child: Bun.Subprocess | undefined
  let stopping = false
  const run = (async () => {
    while (!stopping) {
      const started = Bun.spawn([HEADRACE, role], { env, stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' })
      child = started
      const killed = () => started.kill('SIGKILL')
      process.once('exit', killed)
      for (const stream of [started.stdout, started.stderr]) void collect(stream, output)
      await started.exited
      process.off('exit', killed)
      child = undefined
      if (!stopping) await Bun.sleep(RESTART_MS)
    }
  })()
  return {
    get pid() {
      return child?.pid
    },
    healthUrl,
    async stop() {
      stopping = true
      child?.kill('SIGTERM')
      const stuck = setTimeout(() => child?.kill('SIGKILL'), STOPPED_MS_MAX)
      await run
      clearTimeout(stuck)
    },
  }
}
