/**
 * What delivery costs: events per second and CPU microseconds per event of a deliver process, for webhooks of one event,
 * for batches of 100, and for 100 destinations whose filters match nothing; rows of about 1 kB that wait in the embedded
 * log. `bun bench/deliver.ts [--events 40000]`
 *
 * This process writes the log and waits; the deliver process and the receiver are children, Postgres is the embedded one.
 */
import { parseArgs } from 'node:util'
import { DeliverBench, PARTITIONS } from '../src/deliver/deliver.fixture.ts'
import { startTestPostgres } from '../test/support/postgres.ts'
import { waitFor } from '../test/support/wait-for.ts'
import { bottleneckOf, cpuUsOf, type Figures, report } from './measure.ts'

const { values: options } = parseArgs({
  options: { events: { type: 'string', default: '40000' }, receiver: { type: 'boolean', default: false } },
})

const WITHIN_MS = 300_000
const AT_ONCE = 1_000
const PROPERTIES = JSON.stringify({ $os: 'Mac OS X', $browser: 'Chrome', amount: 12, note: 'x'.repeat(500) })
const FILTERS = 100

type Form = { name: string; events: number; destinations: Record<string, unknown>[] }

function runReceiver(): void {
  const server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    async fetch(request) {
      await request.arrayBuffer()
      return new Response('{}')
    },
  })
  console.log(`http://127.0.0.1:${server.port}/`)
}

async function measure(): Promise<void> {
  const events = Number(options.events)
  const postgres = await startTestPostgres()
  const receiver = Bun.spawn([process.execPath, import.meta.path, '--receiver'], {
    stdout: 'pipe',
    stderr: 'inherit',
    stdin: 'ignore',
  })
  const { value } = await (receiver.stdout as ReadableStream<Uint8Array>).getReader().read()
  const url = new TextDecoder().decode(value).trim()
  const never = (n: number) => ({ where: [{ key: 'amount', is: 'gt', value: 1_000 + n }] })
  const forms: Form[] = [
    { name: 'deliver, webhooks of one event', events, destinations: [{ concurrency: 64 }] },
    {
      name: 'deliver, webhooks of 100 events',
      events: events * 4,
      destinations: [{ options: { batch: 100 } }],
    },
    {
      name: `deliver, ${FILTERS} destinations of other events`,
      events: events * 4,
      destinations: Array.from({ length: FILTERS }, (_, n) => ({ filter: { events: [`other ${n}`] } })),
    },
    {
      name: `deliver, ${FILTERS} destinations whose condition fails`,
      events,
      destinations: Array.from({ length: FILTERS }, (_, n) => ({ filter: never(n) })),
    },
  ]
  try {
    const figures: Figures[] = []
    for (const form of forms) figures.push(await measureForm(postgres, url, form))
    report(...figures)
  } finally {
    receiver.kill('SIGTERM')
    await receiver.exited
    await postgres.stop()
  }
}

async function measureForm(
  postgres: Awaited<ReturnType<typeof startTestPostgres>>,
  url: string,
  form: Form,
): Promise<Figures> {
  const bench = await DeliverBench.open(postgres)
  try {
    const ids: string[] = []
    for (const [n, more] of form.destinations.entries())
      ids.push((await bench.destination(`d ${n}`, url, more)).id)
    const child = bench.spawn()
    // One event each, so that what is measured begins when all are attached.
    for (let partition = 0; partition < PARTITIONS; partition++) await bench.events(1, row, partition)
    const isReady = async () => {
      const all = await Promise.all([ids[0]!, ids.at(-1)!].map((id) => bench.sums(id)))
      return all.every(({ seen, detached }) => seen === PARTITIONS && detached === 0)
    }
    await waitFor('attached destinations', isReady, WITHIN_MS)
    const before = cpuUsOf(child.pid)
    const firstMs = performance.now()
    const each = form.events / PARTITIONS
    for (let sent = 0; sent < each; sent += AT_ONCE)
      for (let partition = 0; partition < PARTITIONS; partition++) await bench.events(AT_ONCE, row, partition)
    const isDone = async () => (await bench.sums(ids.at(-1)!)).seen >= form.events + PARTITIONS
    await waitFor('the end', isDone, WITHIN_MS)
    const seconds = (performance.now() - firstMs) / 1_000
    const used = { deliver: cpuUsOf(child.pid) - before }
    return {
      name: form.name,
      eventsPerSecond: form.events / seconds,
      cpuUs: { deliver: used.deliver / form.events },
      bottleneck: bottleneckOf(used, seconds, 'what comes in, and the receiver'),
    }
  } finally {
    await bench.close()
  }
}

function row() {
  return { event: 'order paid', properties: PROPERTIES }
}

if (options.receiver) runReceiver()
else await measure()
