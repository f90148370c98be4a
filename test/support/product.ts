/**
 * The product as a user runs it, for end-to-end and fault tests: `headrace up` as a process of its own, in a
 * temporary data folder, with all addresses on free ports.
 *
 * Promises: `startProduct` resolves when every role is ready; `stop` leaves no process and no file behind; what the
 * product says is kept and shown when it does not start or does not stop. When the test process ends, the product is
 * killed with it, and its roles stop by themselves.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { waitFor } from './wait-for.ts'

const ROOT = resolve(import.meta.dir, '../..')
const READY_MS_MAX = 60_000
const STOPPED_MS_MAX = 15_000
const OUTPUT_LINES_MAX = 2_000

export type ProductOptions = {
  /** Further HEADRACE_* settings. */
  env?: Record<string, string>
  /** Further arguments of `headrace up`. */
  args?: string[]
  /** An existing data folder, which `stop` then leaves; without it a temporary one. */
  dataDir?: string
}

export type Product = {
  captureUrl: string
  warehouseUrl: string
  apiUrl: string
  token: string
  dataDir: string
  /** Settings with which any `./headrace` verb finds this product. */
  env: Record<string, string>
  /** What it printed so far, one JSON message per line. */
  output: string[]
  /** Role → pid of what runs now; `supervisor` and, when embedded, `postgres` and `warehouse` among them. */
  pids(): Promise<Record<string, number>>
  /** Rows of a query of the warehouse. */
  sql<T = Record<string, unknown>>(query: string): Promise<T[]>
  /** Sends a signal to the process that has the role now. */
  kill(role: string, signal: NodeJS.Signals): Promise<void>
  /** Waits until every role is ready (again). */
  ready(withinMs?: number): Promise<void>
  /** Runs a verb of the command line against this product. */
  run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }>
  /** SIGTERM, then waits for the end; SIGKILL and an error when that takes too long. Returns the exit code. */
  stop(): Promise<number>
}

const running = new Set<Bun.Subprocess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export async function startProduct(options: ProductOptions = {}): Promise<Product> {
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'headrace-'))
  const [capture, api, warehouse] = freePorts(3) as [number, number, number]
  const settings: Record<string, string> = {
    HEADRACE_DATA_DIR: dataDir,
    HEADRACE_CAPTURE_ADDRESS: `127.0.0.1:${capture}`,
    HEADRACE_API_ADDRESS: `127.0.0.1:${api}`,
    HEADRACE_WAREHOUSE_ADDRESS: `127.0.0.1:${warehouse}`,
    HEADRACE_PROJECT_TOKEN: 'phc_test',
    ...options.env,
  }
  const env = { ...cleanEnvironment(), ...settings }
  const output: string[] = []
  const child = Bun.spawn([join(ROOT, 'headrace'), 'up', '--json-logs', ...(options.args ?? [])], {
    env,
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  })
  running.add(child)
  void child.exited.then(() => running.delete(child))
  for (const stream of [child.stdout, child.stderr]) void collect(stream, output)

  const apiUrl = `http://${settings.HEADRACE_API_ADDRESS}`
  const warehouseUrl = settings.HEADRACE_CLICKHOUSE ?? `http://${settings.HEADRACE_WAREHOUSE_ADDRESS}`
  const told = () => output.slice(-40).join('\n')
  const product: Product = {
    captureUrl: `http://${settings.HEADRACE_CAPTURE_ADDRESS}`,
    warehouseUrl,
    apiUrl,
    token: settings.HEADRACE_PROJECT_TOKEN!,
    dataDir,
    env: settings,
    output,
    async pids() {
      const roles = (await (await fetch(`${apiUrl}/roles`)).json()) as { role: string; pid?: number }[]
      return Object.fromEntries(roles.flatMap(({ role, pid }) => (pid === undefined ? [] : [[role, pid]])))
    },
    async sql<T>(query: string) {
      const url = new URL(warehouseUrl)
      url.searchParams.set('default_format', 'JSONEachRow')
      url.searchParams.set('output_format_json_quote_64bit_integers', '0')
      const response = await fetch(url, { method: 'POST', body: query })
      const text = await response.text()
      if (!response.ok) throw new Error(text)
      const lines = text.split('\n').filter((line) => line !== '')
      return lines.map((line) => JSON.parse(line) as T)
    },
    async kill(role, signal) {
      const pid = (await this.pids())[role]
      if (pid === undefined) throw new Error(`no process has the role ${role} now`)
      process.kill(pid, signal)
    },
    async ready(withinMs = READY_MS_MAX) {
      let last = ''
      const isReady = async () => {
        if (child.exitCode !== null) throw new Error(`headrace up ended with ${child.exitCode}:\n${told()}`)
        try {
          const response = await fetch(`${apiUrl}/_readiness`, { keepalive: false })
          last = await response.text()
          return response.ok
        } catch (error) {
          last = String(error)
          return false
        }
      }
      await waitFor('readiness', isReady, withinMs, () => `${last}\n${told()}`)
    },
    async run(...args) {
      const verb = Bun.spawn([join(ROOT, 'headrace'), ...args], {
        env,
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
      child.kill('SIGTERM')
      const stuck = setTimeout(() => child.kill('SIGKILL'), STOPPED_MS_MAX)
      const code = await child.exited
      clearTimeout(stuck)
      if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true })
      if (child.signalCode)
        throw new Error(`headrace up did not stop within ${STOPPED_MS_MAX} ms:\n${told()}`)
      return code
    },
  }
  try {
    await product.ready()
  } catch (error) {
    await product.stop()
    throw error
  }
  return product
}

/** `count` different ports that nobody listens on now, below the range that outgoing connections take. */
export function freePorts(count: number): number[] {
  const ports = new Set<number>()
  for (let tries = 0; ports.size < count; tries++) {
    if (tries > 1_000) throw new Error('no free port between 20000 and 32000')
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    try {
      Bun.listen({ hostname: '127.0.0.1', port, socket: { data() {} } }).stop(true)
      ports.add(port)
    } catch {
      // Taken: the next one.
    }
  }
  return [...ports]
}

/** Our environment without the HEADRACE_* of whoever runs the tests. */
export function cleanEnvironment(): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !name.startsWith('HEADRACE_')) env[name] = value
  }
  return env
}

/** Keeps the last lines of `stream`; `heard` is called with each when it is whole. */
export async function collect(
  stream: ReadableStream<Uint8Array>,
  lines: string[],
  heard: (line: string) => void = () => {},
): Promise<void> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = parts.pop() ?? ''
    lines.push(...parts)
    for (const line of parts) heard(line)
    if (lines.length > OUTPUT_LINES_MAX) lines.splice(0, lines.length - OUTPUT_LINES_MAX)
  }
  if (rest !== '') lines.push(rest)
}
