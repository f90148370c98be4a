/**
 * What capture costs: events per second, CPU microseconds of the capture process per event, p50 and p99 of the answer,
 * for batches of 50 events of 1.2 kB, the same gzipped, and single events; acknowledged by the embedded log (fdatasync
 * before the answer) and, with `--log kafka`, by a real Kafka. Beside it, in the same run, the floor: a Bun server that
 * only reads the body and says 200. Then the stages one by one, without HTTP and log.
 *
 *   bun bench/capture.ts [--log embedded|kafka|both] [--body batch|gzip|single] [--seconds 5] [--connections N]
 *   bun bench/capture.ts --load-share 0.7     then also the latencies at 70 % of the highest rate, requests sent by the clock
 *   bun bench/capture.ts --load-rate 56000    the same at a given rate of events per second
 *   bun bench/capture.ts --soak 600           then also 10 minutes at 90 %, with the memory of the process
 *
 * Processes: this one only counts; the server under test has one core to itself (`taskset`), the load generator and the
 * broker share the others.
 */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { BATCH_EVENTS, BODIES, BODY_NAMES, type BodyName, batchBody } from './capture/bodies.ts'
import type { LoadResult } from './capture/load.ts'
import { stages } from './capture/stages.ts'
import { bottleneckOf, FIGURE_HEAD, type Figures, figureCells, report, table } from './measure.ts'

type Kind = 'floor' | 'embedded' | 'kafka'

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    connections: { type: 'string' },
    log: { type: 'string', default: 'embedded' },
    body: { type: 'string' },
    'load-share': { type: 'string' },
    'load-rate': { type: 'string' },
    soak: { type: 'string' },
  },
})

/**
 * Enough to fill the group commit while requests are on their way back. µs per event by connections, on the embedded
 * log: batches 11.4 with 64, 9.9 with 128, 10.0 with 256, where only the wait doubles; gzip 12.7, 11.6, 10.7; single
 * events 84 with 128, 72 with 256, 61 with 512.
 */
const CONNECTIONS: Record<BodyName, number> = { batch: 128, gzip: 128, single: 512 }
/** The engine compiles hot code for several seconds, on the core of the server. */
const WARM_UP_S = 5
const SOAK_SHARE = 0.9
const SOAK_SAMPLE_S = 10
const SERVER_CORE = '0'
const OTHER_CORES = availableParallelism() > 1 ? `1-${availableParallelism() - 1}` : '0'

/** Starts a file of bench/capture as a child; `next` resolves with its next message. */
function child(core: string, file: string, args: string[]) {
  const waiting: ((message: unknown) => void)[] = []
  const early: unknown[] = []
  const pin = Bun.which('taskset') ? ['taskset', '-c', core] : []
  const proc = Bun.spawn([...pin, process.execPath, join(import.meta.dir, 'capture', file), ...args], {
    stdout: 'inherit',
    stderr: 'inherit',
    ipc(message) {
      const next = waiting.shift()
      if (next) next(message)
      else early.push(message)
    },
  })
  const died = proc.exited.then((code) => {
    throw new Error(`${file} ended with ${code} before it answered`)
  })
  died.catch(() => {})
  const next = <T>(): Promise<T> => {
    if (early.length > 0) return Promise.resolve(early.shift() as T)
    return Promise.race([
      new Promise<T>((resolve) => waiting.push(resolve as (message: unknown) => void)),
      died,
    ])
  }
  return { proc, next }
}

type Usage = { cpuUs: number; rssMb: number }

/** A server under test, and the loads that are put on it. */
async function startServer(kind: Kind, brokers: string) {
  const server = child(SERVER_CORE, 'serve.ts', [kind, brokers])
  const { url } = await server.next<{ url: string }>()
  return {
    async usage(): Promise<Usage> {
      server.proc.send('usage')
      const { cpu, rss } = await server.next<{ cpu: NodeJS.CpuUsage; rss: number }>()
      return { cpuUs: cpu.user + cpu.system, rssMb: rss / 2 ** 20 }
    },
    async load(body: BodyName, seconds: number, rate = 0): Promise<LoadResult> {
      const connections = options.connections ?? String(CONNECTIONS[body])
      const generator = child(OTHER_CORES, 'load.ts', [url, body, String(seconds), connections, String(rate)])
      const result = await generator.next<LoadResult>()
      await generator.proc.exited
      if (result.failed > 0)
        throw new Error(`${result.failed} of ${result.requests} requests were not answered with 200`)
      return result
    },
    async stop() {
      server.proc.kill('SIGTERM')
      await server.proc.exited
    },
  }
}

type Server = Awaited<ReturnType<typeof startServer>>

async function measure(server: Server, name: string, kind: Kind, body: BodyName, rate = 0): Promise<Figures> {
  const before = await server.usage()
  const result = await server.load(body, Number(options.seconds), rate)
  const cpuUs = (await server.usage()).cpuUs - before.cpuUs
  const events = result.requests * BODIES[body].events
  const part = kind === 'floor' ? 'floor' : 'capture'
  const otherwise = rate > 0 ? 'none: the rate is given' : kind === 'floor' ? 'the generator' : 'the log'
  return {
    name,
    eventsPerSecond: events / result.seconds,
    cpuUs: { [part]: cpuUs / events },
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    bottleneck: bottleneckOf({ [part]: cpuUs }, result.seconds, otherwise),
  }
}

/** Long load at a share of the highest rate: the memory of the process must not grow. */
async function soak(server: Server, body: BodyName, rate: number): Promise<void> {
  const samples: number[] = []
  const timer = setInterval(async () => {
    samples.push((await server.usage()).rssMb)
  }, SOAK_SAMPLE_S * 1000)
  const { requests, p50Ms, p99Ms } = await server.load(body, Number(options.soak), rate)
  clearInterval(timer)
  const half = samples.slice(Math.floor(samples.length / 2))
  const shown = samples.map((mb) => mb.toFixed(0)).join(' ')
  console.log(
    `soak, ${body}: ${requests} requests, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms; MB every ${SOAK_SAMPLE_S} s: ${shown}; second half from ${Math.min(...half).toFixed(0)} to ${Math.max(...half).toFixed(0)}`,
  )
}

const kinds: Kind[] = options.log === 'both' ? ['embedded', 'kafka'] : [options.log as Kind]
const bodies = options.body ? [options.body as BodyName] : BODY_NAMES
const floors: Figures[] = []
const figures: Figures[] = []
const kafka = kinds.includes('kafka') ? await startBroker() : undefined
try {
  for (const body of bodies) {
    for (const kind of ['floor', ...kinds] as Kind[]) {
      const server = await startServer(kind, kafka?.bootstrap ?? '')
      try {
        await server.load(body, WARM_UP_S)
        const name =
          kind === 'floor' ? `floor, ${body}` : `capture${kind === 'kafka' ? ' to Kafka' : ''}, ${body}`
        const full = await measure(server, name, kind, body)
        ;(kind === 'floor' ? floors : figures).push(full)
        if (kind === 'floor') continue
        const requestsPerSecond = full.eventsPerSecond / BODIES[body].events
        const atRate = async (label: string, rate: number) =>
          figures.push(await measure(server, `${name} at ${label}`, kind, body, rate))
        const { 'load-share': share, 'load-rate': rate } = options
        if (share) await atRate(`${Number(share) * 100} %`, requestsPerSecond * Number(share))
        if (rate) await atRate(`${rate} events/s`, Number(rate) / BODIES[body].events)
        if (options.soak) await soak(server, body, requestsPerSecond * SOAK_SHARE)
      } finally {
        await server.stop()
      }
    }
  }
} finally {
  await kafka?.stop()
}
// The floor is not ours: it is shown, not compared.
console.log(table(FIGURE_HEAD, floors.map(figureCells)))
report(...figures)
console.log(`\nstages, µs CPU per event of ${(batchBody().length / BATCH_EVENTS).toFixed(0)} bytes:`)
for (const [name, micros] of stages()) console.log(`  ${name.padEnd(38)} ${micros.toFixed(2)}`)
process.exit(0)

async function startBroker() {
  const { kafkaMissing, startKafka } = await import('../test/support/kafka.ts')
  const missing = kafkaMissing()
  if (missing) {
    console.error(missing)
    process.exit(3)
  }
  const broker = await startKafka({ brokers: 1 })
  // What was started before its pinning keeps all cores; the threads of the broker are moved here.
  if (Bun.which('taskset')) {
    for (const pid of await brokerPids(broker.folder))
      Bun.spawnSync(['taskset', '-a', '-p', '-c', OTHER_CORES, pid])
  }
  return broker
}

async function brokerPids(folder: string): Promise<string[]> {
  const glob = new Bun.Glob('*/pid')
  const pids: string[] = []
  for await (const file of glob.scan(folder)) pids.push((await Bun.file(join(folder, file)).text()).trim())
  return pids
}
