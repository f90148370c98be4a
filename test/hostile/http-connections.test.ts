/** Very many connections, and those that never end their headers: a capture of its own stays small, idle and open. */
import { afterEach, expect, setDefaultTimeout, test } from 'bun:test'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Socket } from 'bun'
import type { Settings } from '../../src/catalog/index.ts'
import { RawConnection } from '../support/raw-http.ts'
import { waitFor } from '../support/wait-for.ts'

setDefaultTimeout(120_000)

const EVENT = '{"api_key":"t","event":"e","distinct_id":"d"}'
const REQUEST = `POST /e/ HTTP/1.1\r\nHost: x\r\nContent-Length: ${EVENT.length}\r\n\r\n${EVENT}`
const START = 'POST /e/ HTTP/1.1\r\nHost: x\r\n'
const CONNECTIONS = 10_000
const MB = 1_000_000

type Child = { url: string; pid: number; end(): Promise<number> }
const children: Child[] = []
afterEach(async () => {
  for (const child of children.splice(0)) expect(await child.end()).toBe(0)
})

async function startChild(settings: Partial<Settings> = {}): Promise<Child> {
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dirname, '../support/capture.fixture.ts'), JSON.stringify(settings)],
    { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' },
  )
  const { value } = await child.stdout.getReader().read()
  const end = async () => {
    child.stdin.end()
    return child.exited
  }
  const started = { url: new TextDecoder().decode(value).trim(), pid: child.pid, end }
  children.push(started)
  return started
}

const residentMb = ({ pid }: Child) =>
  (Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096) / MB
const openFiles = ({ pid }: Child) => readdirSync(`/proc/${pid}/fd`).length
/** Of all its threads, in seconds. */
function cpuSeconds({ pid }: Child): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}
async function takesEvents({ url }: Child): Promise<boolean> {
  const response = await fetch(`${url}/e/`, { method: 'POST', body: EVENT, keepalive: false }).catch(
    () => undefined,
  )
  return response?.status === 200
}
async function metric({ url }: Child, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`, { keepalive: false })).text()
  return Number(
    text
      .split('\n')
      .find((row) => row.startsWith(`${name} `))
      ?.slice(name.length + 1) ?? Number.NaN,
  )
}

/** Opens `count` connections, a few hundred at a time, and sends `bytes` on each. */
async function openMany({ url }: Child, count: number, bytes: string) {
  const { hostname, port } = new URL(url)
  const seen = { open: 0, answered: 0 }
  const sockets: Socket[] = []
  while (sockets.length < count) {
    const some = Array.from({ length: Math.min(200, count - sockets.length) }, () =>
      Bun.connect({
        hostname,
        port: Number(port),
        socket: {
          open: (socket) => {
            seen.open++
            if (bytes !== '') socket.write(bytes)
          },
          data: () => void seen.answered++,
          close: () => void seen.open--,
          error: () => undefined,
        },
      }),
    )
    sockets.push(...(await Promise.all(some)))
  }
  return { seen, close: () => sockets.splice(0).forEach((socket) => void socket.terminate()) }
}

test(`${CONNECTIONS} idle connections cost little memory and no CPU, and events are taken beside them`, async () => {
  const child = await startChild({ captureConnectionsMax: 15_000 })
  // Once before measuring: what the first ten thousand leave behind is the size that it works at.
  for (let warm = 0; warm < 2; warm++) {
    const many = await openMany(child, CONNECTIONS, REQUEST)
    await waitFor('all answers', () => many.seen.answered === CONNECTIONS, 60_000)
    many.close()
    await waitFor('the end of all', () => openFiles(child) < 200, 30_000)
  }
  const beforeMb = residentMb(child)
  const many = await openMany(child, CONNECTIONS, REQUEST)
  await waitFor('all answers', () => many.seen.answered === CONNECTIONS, 60_000)
  expect(await metric(child, 'headrace_capture_connections')).toBeGreaterThan(CONNECTIONS * 0.99)
  expect(residentMb(child)).toBeLessThan(beforeMb * 1.1 + 40)
  const cpuBefore = cpuSeconds(child)
  const from = performance.now()
  await waitFor('two seconds', () => performance.now() - from > 2_000, 5_000)
  expect((cpuSeconds(child) - cpuBefore) / ((performance.now() - from) / 1000)).toBeLessThan(0.1)
  expect(many.seen.open).toBe(CONNECTIONS)
  expect(await takesEvents(child)).toBe(true)
  many.close()
  await waitFor('the end of all', () => openFiles(child) < 200, 30_000)
  expect(residentMb(child)).toBeLessThan(beforeMb * 1.1 + 40)
})

test('1,000 aborted uploads leave the memory where it was', async () => {
  const child = await startChild()
  const upload = `${START}Content-Length: 1000000\r\n\r\n${' '.repeat(200_000)}`
  const abort = async (rounds: number) => {
    for (let round = 0; round < rounds; round++) {
      const many = await openMany(child, 50, upload)
      await waitFor(
        'their bytes',
        async () => (await metric(child, 'headrace_capture_in_flight_bytes')) > 0,
        10_000,
      )
      many.close()
      await waitFor(
        'no bytes',
        async () => (await metric(child, 'headrace_capture_in_flight_bytes')) === 0,
        10_000,
      )
    }
  }
  await abort(10)
  const beforeMb = residentMb(child)
  await abort(20)
  expect(residentMb(child)).toBeLessThan(beforeMb * 1.1 + 40)
  await waitFor(
    'no requests',
    async () => (await metric(child, 'headrace_capture_in_flight_requests')) === 0,
    5_000,
  )
})

test('too many connections: idle ones are closed, and events go on', async () => {
  const child = await startChild({ captureConnectionsMax: 100 })
  const many = await openMany(child, 150, REQUEST)
  await waitFor('fewer connections', () => many.seen.open < 100, 10_000)
  // Until the listener looks again it may still refuse.
  await waitFor('events', () => takesEvents(child), 5_000)
  expect(await metric(child, 'headrace_capture_idle_connections_closed_total')).toBeGreaterThan(0)
  many.close()
})

test('too many that are not idle: new ones are refused until some have ended', async () => {
  const child = await startChild({ captureConnectionsMax: 100, captureBodyStallMs: 60_000 })
  const many = await openMany(child, 150, `${START}Content-Length: 10\r\n\r\n{`)
  await waitFor('refusal', async () => !(await takesEvents(child)), 10_000)
  expect(many.seen.open).toBe(150)
  many.close()
  await waitFor('events', () => takesEvents(child), 15_000)
  expect(await metric(child, 'headrace_capture_refusing_total')).toBe(1)
})

test('headers that do not end within 10 s end the connection, however they come', async () => {
  const child = await startChild()
  const firsts = ['', 'P', START, `${START}X-A: `]
  const silent = await Promise.all(firsts.map(() => RawConnection.open(child.url)))
  const dripping = await Promise.all(firsts.map(() => RawConnection.open(child.url)))
  const from = performance.now()
  const all = [...silent, ...dripping]
  await Promise.all(all.map((connection, i) => connection.send(firsts[i % firsts.length]!)))
  const drip = setInterval(() => {
    for (const connection of dripping) void connection.send('a')
  }, 500)
  for (const connection of all) expect(await connection.awaitEnd(30_000)).toEqual([])
  clearInterval(drip)
  expect(performance.now() - from).toBeLessThan(30_000)
})
