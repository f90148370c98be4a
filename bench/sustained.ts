/**
 * The whole way on one machine under a steady load: `headrace up` with all roles, events of 1 kB in batches of 50.
 * Prints the rate that was held, how long after the answer an event is queryable (probes that ask ClickHouse, and
 * for all events the time of the insert minus the time of capture), and the CPU of each role per event.
 *
 *   bun bench/sustained.ts [events per second = 5000] [seconds = 60]
 */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { uuidV7 } from '../src/event/index.ts'
import { type Product, startProduct } from '../test/support/product.ts'

const RATE = Number(process.argv[2] ?? 5_000)
const SECONDS = Number(process.argv[3] ?? 60)
const BATCH_EVENTS = 50
const EVENT_BYTES = 1_000
const PROBE_MS = 500
const PROBE_POLL_MS = 25
const IDS = 20_000
const TICKS_PER_SECOND = 100

const product = await startProduct()
try {
  await measure(product)
} finally {
  await product.stop()
}

async function measure(p: Product): Promise<void> {
  const before = await cpuSeconds(p)
  const probes: number[] = []
  const probing = new AbortController()
  const prober = probe(p, probes, probing.signal)
  const started = performance.now()
  const answers: number[] = []
  let sent = 0
  const pending = new Set<Promise<void>>()
  while (performance.now() - started < SECONDS * 1000) {
    const due = ((performance.now() - started) / 1000) * RATE
    if (sent < due) {
      const request = send(p, sent, answers).finally(() => pending.delete(request))
      pending.add(request)
      sent += BATCH_EVENTS
    } else await delay(2)
  }
  await Promise.all(pending)
  const seconds = (performance.now() - started) / 1000
  probing.abort()
  await prober
  await untilStored(p, sent)
  const behind = (performance.now() - started) / 1000 - seconds
  const after = await cpuSeconds(p)
  const [fresh] = await p.sql<{ p50: number; p99: number }>(
    `SELECT quantile(0.5)(d) AS p50, quantile(0.99)(d) AS p99
     FROM (SELECT dateDiff('millisecond', created_at, inserted_at) AS d FROM events WHERE event = 'bench')`,
  )
  console.log(
    `rate                    ${Math.round(sent / seconds)} events/s for ${seconds.toFixed(1)} s, ${sent} events; all stored ${behind.toFixed(1)} s after the last answer`,
  )
  console.log(`answer                  p50 ${quantile(answers, 0.5)} ms, p99 ${quantile(answers, 0.99)} ms`)
  console.log(
    `answer to queryable     p50 ${quantile(probes, 0.5)} ms, p99 ${quantile(probes, 0.99)} ms, max ${quantile(probes, 1)} ms (${probes.length} probes)`,
  )
  console.log(
    `capture to insert       p50 ${Math.round(fresh!.p50)} ms, p99 ${Math.round(fresh!.p99)} ms (all events)`,
  )
  for (const [role, used] of Object.entries(after)) {
    const cpu = used - (before[role] ?? 0)
    console.log(
      `cpu ${role.padEnd(19)} ${((cpu * 1e6) / sent).toFixed(1)} µs per event, ${((cpu / seconds) * 100).toFixed(0)} % of a core`,
    )
  }
}

async function send(p: Product, first: number, answers: number[]): Promise<void> {
  const batch = Array.from({ length: BATCH_EVENTS }, (_, i) =>
    event('bench', `user-${(first + i) % IDS}`, first + i),
  )
  const started = performance.now()
  const response = await fetch(`${p.captureUrl}/batch/`, {
    method: 'POST',
    body: JSON.stringify({ api_key: p.token, batch }),
  })
  await response.arrayBuffer()
  if (response.status !== 200) throw new Error(`capture answered ${response.status}`)
  answers.push(performance.now() - started)
}

function event(name: string, distinctId: string, index: number) {
  const shell = {
    uuid: uuidV7(Date.now()),
    event: name,
    distinct_id: distinctId,
    timestamp: new Date().toISOString(),
    properties: {
      index,
      $current_url: 'https://example.com/pricing',
      $browser: 'Chrome',
      $lib: 'web',
      $set: { visits: index % 10 },
      filler: '',
    },
  }
  const size = JSON.stringify(shell).length
  shell.properties.filler = 'x'.repeat(Math.max(0, EVENT_BYTES - size))
  return shell
}

async function probe(p: Product, latencies: number[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const one = event('probe', 'probe', 0)
    const response = await fetch(`${p.captureUrl}/i/v0/e/`, {
      method: 'POST',
      body: JSON.stringify({ ...one, token: p.token }),
    })
    await response.arrayBuffer()
    const answered = performance.now()
    for (;;) {
      const [row] = await p.sql<{ n: number }>(`SELECT count() AS n FROM events WHERE uuid = '${one.uuid}'`)
      if (Number(row!.n) > 0) break
      await delay(PROBE_POLL_MS)
    }
    latencies.push(Math.round(performance.now() - answered))
    await delay(PROBE_MS)
  }
}

async function untilStored(p: Product, expected: number): Promise<void> {
  for (const until = performance.now() + 120_000; ; ) {
    const [row] = await p.sql<{ n: number }>("SELECT count() AS n FROM events WHERE event = 'bench'")
    if (Number(row!.n) >= expected) return
    if (performance.now() > until) throw new Error(`${row!.n} of ${expected} events are stored`)
    await delay(100)
  }
}

/** User and system time of each role and its children so far, from /proc. */
async function cpuSeconds(p: Product): Promise<Record<string, number>> {
  const seconds: Record<string, number> = {}
  for (const [role, pid] of Object.entries(await p.pids()))
    seconds[role] = tree(pid).reduce((sum, one) => sum + cpuOf(one), 0)
  return seconds
}

/** Postgres works in children of its postmaster; other roles have none, and the supervisor's children are roles. */
function tree(pid: number): number[] {
  if (!readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('postgres')) return [pid]
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return [pid, ...(children === '' ? [] : children.split(' ').map(Number))]
}

function cpuOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
  } catch {
    return 0
  }
}

function quantile(values: number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0)
}
