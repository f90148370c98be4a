/**
 * The whole way on one machine under a steady load: `headrace up` with all roles, events of 1 kB in batches of 50.
 * Prints the rate that was held, how long after the answer an event is queryable (probes that ask ClickHouse, and
 * for all events the time of the insert minus the time of capture), and the CPU of each role per event.
 *
 *   bun bench/sustained.ts [events per second = 5000] [seconds = 60]
 */
import { setTimeout as delay } from 'node:timers/promises'
import { uuidV7 } from '../src/event/index.ts'
import { type Product, startProduct } from '../test/support/product.ts'
import { waitFor } from '../test/support/wait-for.ts'
import { bottleneckOf, cpuUsOf, quantile, report } from './measure.ts'

const RATE = Number(process.argv[2] ?? 5_000)
const SECONDS = Number(process.argv[3] ?? 60)
const BATCH_EVENTS = 50
const EVENT_BYTES = 1_000
const PROBE_MS = 500
const PROBE_POLL_MS = 25
const IDS = 20_000
const STORED_WITHIN_MS = 120_000

const product = await startProduct()
try {
  await measure(product)
} finally {
  await product.stop()
}

async function measure(p: Product): Promise<void> {
  const before = await cpuUsByRole(p)
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
  const after = await cpuUsByRole(p)
  const [fresh] = await p.sql<{ p50: number; p99: number }>(
    `SELECT quantile(0.5)(d) AS p50, quantile(0.99)(d) AS p99
     FROM (SELECT dateDiff('millisecond', created_at, inserted_at) AS d FROM events WHERE event = 'bench')`,
  )
  console.log(
    `${sent} events in ${seconds.toFixed(1)} s; all stored ${behind.toFixed(1)} s after the last answer`,
  )
  const ms = (values: number[], q: number) => Math.round(quantile(values, q))
  console.log(`answer: p50 ${ms(answers, 0.5)} ms, p99 ${ms(answers, 0.99)} ms`)
  console.log(
    `answer to queryable: p50 ${ms(probes, 0.5)} ms, p99 ${ms(probes, 0.99)} ms, max ${ms(probes, 1)} ms (${probes.length} probes)`,
  )
  console.log(
    `capture to insert: p50 ${Math.round(fresh!.p50)} ms, p99 ${Math.round(fresh!.p99)} ms (all events)`,
  )
  const used = Object.fromEntries(
    Object.entries(after).map(([role, us]) => [role, us - (before[role] ?? 0)] as const),
  )
  report({
    name: `all roles at ${RATE} events/s, p50 and p99 from the answer to queryable`,
    eventsPerSecond: sent / seconds,
    cpuUs: Object.fromEntries(Object.entries(used).map(([role, us]) => [role, us / sent])),
    p50Ms: quantile(probes, 0.5),
    p99Ms: quantile(probes, 0.99),
    bottleneck: bottleneckOf(used, seconds + behind, 'none: the rate is given', ['postgres', 'warehouse']),
  })
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
  let stored = 0
  const isStored = async () => {
    const [row] = await p.sql<{ n: number }>("SELECT count() AS n FROM events WHERE event = 'bench'")
    stored = Number(row!.n)
    return stored >= expected
  }
  await waitFor(
    'end of the load',
    isStored,
    STORED_WITHIN_MS,
    () => `${stored} of ${expected} events are stored`,
  )
}

/** CPU of each role so far; Postgres works in children of its postmaster, the supervisor's children are roles. */
async function cpuUsByRole(p: Product): Promise<Record<string, number>> {
  const pids = await p.pids()
  const roles = new Set(Object.values(pids))
  return Object.fromEntries(Object.entries(pids).map(([role, pid]) => [role, cpuUsOf(pid, roles)]))
}
