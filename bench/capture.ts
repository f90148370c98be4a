/**
 * What capture costs: events per second, CPU microseconds of the capture process per event, p50 and p99 of the answer,
 * for batches of 50 events of 1.2 kB, the same gzipped, and single events; acknowledged by the embedded log (fdatasync
 * before the answer). Beside it, in the same run, the floor: a Bun server that only reads the body and says 200.
 * Then the stages one by one, without HTTP and disk. `bun bench/capture.ts [--seconds 5] [--connections 32]`
 *
 * Three processes: this one only counts; the server under test and the load generator are children.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { gunzipSync, gzipSync } from 'node:zlib'
import type { EventCandidate } from '../src/capture/candidate.ts'
import { startCapture } from '../src/capture/index.ts'
import { rawRecord } from '../src/capture/produce.ts'
import { scanBody } from '../src/capture/protocols/v0/scan-body.ts'
import { isRejection, validateEvent } from '../src/capture/validate.ts'
import { readSettings } from '../src/catalog/index.ts'
import { RAW_TOPICS, uuidV7 } from '../src/event/index.ts'
import { openEmbeddedLog } from '../src/log/index.ts'
import { createLogger } from '../src/observe/index.ts'
import { bottleneckOf, FIGURE_HEAD, type Figures, figureCells, quantile, report, table } from './measure.ts'

const BATCH_EVENTS = 50
const PARTITIONS = 8
const TOKEN = 'phc_bench'
const PROJECT = { teamId: 1, settings: {} }

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    connections: { type: 'string', default: '32' },
    serve: { type: 'string' },
    load: { type: 'string' },
    body: { type: 'string' },
  },
})

/** A page view as posthog-js sends it: about 1.2 kB. */
function pageView(n: number): Record<string, unknown> {
  return {
    uuid: uuidV7(Date.now()),
    event: '$pageview',
    properties: {
      token: TOKEN,
      distinct_id: `0193a7c4-5b1e-7c3a-9d2f-${n.toString(16).padStart(12, '0')}`,
      $os: 'Mac OS X',
      $os_version: '10.15.7',
      $browser: 'Chrome',
      $browser_version: 142,
      $device_type: 'Desktop',
      $timezone: 'Europe/Berlin',
      $current_url: `https://shop.example/products/${n}?ref=newsletter&utm_source=mail`,
      $host: 'shop.example',
      $pathname: `/products/${n}`,
      $raw_user_agent:
        'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36',
      $screen_height: 1117,
      $screen_width: 1728,
      $viewport_height: 904,
      $viewport_width: 1728,
      $lib: 'web',
      $lib_version: '1.449.2',
      $insert_id: `k3x9q2v7m1${n}`,
      $time: 1795314780.123,
      $device_id: `0193a7c4-5b1e-7c3a-9d2f-${n.toString(16).padStart(12, '0')}`,
      $session_id: '0193a7c4-6000-7000-8000-000000000001',
      $window_id: '0193a7c4-6000-7000-8000-000000000002',
      $pageview_id: '0193a7c4-6000-7000-8000-000000000003',
      $referrer: 'https://mail.example/inbox',
      $referring_domain: 'mail.example',
      $session_entry_url: 'https://shop.example/',
      $is_identified: false,
      $process_person_profile: true,
      title: 'Product page of the shop',
    },
    timestamp: new Date().toISOString(),
  }
}

function batchBody(): Buffer {
  const batch = Array.from({ length: BATCH_EVENTS }, (_, n) => pageView(n))
  return Buffer.from(JSON.stringify({ api_key: TOKEN, batch, sent_at: new Date().toISOString() }))
}

const BODIES: Record<string, { events: number; make(): Buffer }> = {
  batch: { events: BATCH_EVENTS, make: batchBody },
  gzip: { events: BATCH_EVENTS, make: () => gzipSync(batchBody()) },
  single: {
    events: 1,
    make: () =>
      Buffer.from(
        JSON.stringify({ api_key: TOKEN, batch: [pageView(1)], sent_at: new Date().toISOString() }),
      ),
  },
}

/** A child: the server under test. Tells its url, and on each message how much CPU it has used. */
async function serve(kind: string): Promise<void> {
  process.on('message', () => process.send?.({ cpu: process.cpuUsage() }))
  if (kind === 'floor') {
    const server = Bun.serve({
      hostname: '127.0.0.1',
      port: 0,
      async fetch(request) {
        await request.arrayBuffer()
        return new Response('{"status":"Ok"}')
      },
    })
    process.send?.({ url: server.url.origin })
    return
  }
  const dir = await mkdtemp(join(tmpdir(), 'headrace-bench-'))
  const log = await openEmbeddedLog({ dir })
  for (const name of RAW_TOPICS)
    await log.createTopic({ name, partitions: PARTITIONS, recordBytesMax: 1_048_576 })
  const capture = await startCapture({
    settings: readSettings({}, { captureAddress: '127.0.0.1:0' }),
    log,
    projects: { known: () => PROJECT, find: async () => PROJECT },
    partitions: PARTITIONS,
    logger: createLogger('capture', 'error'),
    onFatal: (error) => {
      throw error
    },
  })
  process.send?.({ url: capture.url })
  process.once('SIGTERM', async () => {
    await capture.stop()
    await log.close()
    await rm(dir, { recursive: true, force: true })
    process.exit(0)
  })
}

/** A child: keeps `connections` busy, one request at a time on each, and tells the latencies. */
async function load(url: string, bodyName: string): Promise<void> {
  const { hostname, port } = new URL(url)
  const body = BODIES[bodyName]!.make()
  const head = `POST /batch/ HTTP/1.1\r\nHost: ${hostname}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
  const request = Buffer.concat([Buffer.from(head), body])
  const latencies: number[] = []
  let failed = 0
  const until = performance.now() + Number(options.seconds) * 1000
  const connection = () =>
    new Promise<void>((resolve, reject) => {
      let sentAt = 0
      const socket = connect({ host: hostname, port: Number(port), noDelay: true }, send)
      function send() {
        sentAt = performance.now()
        socket.write(request)
      }
      socket.on('error', reject)
      // Answers are small: they come in one piece.
      socket.on('data', (answer) => {
        const now = performance.now()
        latencies.push(now - sentAt)
        if (answer.toString('latin1', 9, 12) !== '200') failed++
        if (now < until) return send()
        socket.destroy()
        resolve()
      })
    })
  const from = performance.now()
  await Promise.all(Array.from({ length: Number(options.connections) }, connection))
  const seconds = (performance.now() - from) / 1000
  const p50Ms = quantile(latencies, 0.5)
  const p99Ms = quantile(latencies, 0.99)
  process.send?.({ requests: latencies.length, failed, seconds, p50Ms, p99Ms })
}

type LoadResult = { requests: number; failed: number; seconds: number; p50Ms: number; p99Ms: number }

/** Starts this file again as a child; `ask` resolves with its next message. */
function child(args: string[]) {
  const waiting: ((message: unknown) => void)[] = []
  const early: unknown[] = []
  const proc = Bun.spawn([process.execPath, import.meta.path, ...args], {
    stdout: 'inherit',
    stderr: 'inherit',
    ipc(message) {
      const next = waiting.shift()
      if (next) next(message)
      else early.push(message)
    },
  })
  const next = <T>() =>
    early.length > 0
      ? Promise.resolve(early.shift() as T)
      : new Promise<T>((resolve) => waiting.push(resolve as (message: unknown) => void))
  return { proc, next }
}

async function measure(kind: 'capture' | 'floor', bodyName: string): Promise<Figures> {
  const server = child(['--serve', kind])
  const { url } = await server.next<{ url: string }>()
  const cpu = async () => {
    server.proc.send('cpu')
    const { cpu } = await server.next<{ cpu: NodeJS.CpuUsage }>()
    return cpu.user + cpu.system
  }
  const run = async (seconds: string) => {
    const args = [
      '--load',
      url,
      '--body',
      bodyName,
      '--seconds',
      seconds,
      '--connections',
      options.connections,
    ]
    const generator = child(args)
    const result = await generator.next<LoadResult>()
    await generator.proc.exited
    return result
  }
  try {
    await run('1')
    const before = await cpu()
    const result = await run(options.seconds)
    const used = (await cpu()) - before
    if (result.failed > 0)
      throw new Error(`${result.failed} of ${result.requests} requests were not answered with 200`)
    const events = result.requests * BODIES[bodyName]!.events
    const { seconds, p50Ms, p99Ms } = result
    return {
      name: `${kind}, ${bodyName}`,
      eventsPerSecond: events / seconds,
      cpuUs: { [kind]: used / events },
      p50Ms,
      p99Ms,
      bottleneck: bottleneckOf(
        { [kind]: used },
        seconds,
        kind === 'capture' ? "the disk's sync" : 'the generator',
      ),
    }
  } finally {
    server.proc.kill('SIGTERM')
    await server.proc.exited
  }
}

/** CPU microseconds per event of each pure stage, after warming up. */
function stages(): [string, number][] {
  const body = batchBody()
  const packed = gzipSync(body)
  const facts = {
    token: TOKEN,
    nowMs: Date.now(),
    sentAtMs: Date.now(),
    ip: '127.0.0.1',
    userAgent: 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)',
    userAgentSdk: '',
    requestId: uuidV7(Date.now()),
    clockTrustMs: 30_000,
    eventBytesMax: 1_000_000,
  }
  const { events } = scanBody(body, BATCH_EVENTS)
  const headers = events.map((candidate, index) => {
    const judged = validateEvent(body, candidate, index, facts)
    if (isRejection(judged)) throw new Error(judged.message)
    return judged
  })
  const value = body.subarray(0, 1200)
  const time = (work: () => void): number => {
    const rounds = 4000
    for (let i = 0; i < rounds; i++) work()
    const from = process.cpuUsage()
    for (let i = 0; i < rounds; i++) work()
    const used = process.cpuUsage(from)
    return (used.user + used.system) / rounds / BATCH_EVENTS
  }
  return [
    ['inflate', time(() => void gunzipSync(packed, { maxOutputLength: 1e8 }))],
    ['(JSON.parse of the body, to compare)', time(() => void JSON.parse(body.toString('utf8')))],
    ['scan', time(() => void scanBody(body, BATCH_EVENTS))],
    [
      'validate',
      time(() => {
        for (let i = 0; i < events.length; i++) validateEvent(body, events[i] as EventCandidate, i, facts)
      }),
    ],
    [
      'header and partition',
      time(() => {
        for (const header of headers) rawRecord(header, value, false, PARTITIONS)
      }),
    ],
  ]
}

async function main(): Promise<void> {
  const floors: Figures[] = []
  const captures: Figures[] = []
  for (const bodyName of Object.keys(BODIES)) {
    floors.push(await measure('floor', bodyName))
    captures.push(await measure('capture', bodyName))
  }
  // The floor is not ours: it is shown, not compared.
  console.log(table(FIGURE_HEAD, floors.map(figureCells)))
  report(...captures)
  console.log(`\nstages, µs CPU per event of ${(batchBody().length / BATCH_EVENTS).toFixed(0)} bytes:`)
  for (const [name, micros] of stages()) console.log(`  ${name.padEnd(38)} ${micros.toFixed(2)}`)
}

if (options.serve) await serve(options.serve)
else if (options.load) await load(options.load, options.body!)
else await main()
