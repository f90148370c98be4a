/** The role as a process: it starts without Kafka, and without Postgres when it knew it before, and loses nothing. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Kafka, QUICK_TO_NOTICE, skipKafka, startKafka } from '../../test/support/kafka.ts'
import { startPostgresByUrl, type UrlPostgres } from '../../test/support/postgres.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { decodeRawHeader, TOPICS } from '../event/index.ts'
import { applyPlan, deploymentTopics, type Log, openKafkaLog, planTopics } from '../log/index.ts'

setDefaultTimeout(180_000)

const PARTITIONS = 2
const MAIN = resolve(import.meta.dir, '../main.ts')

let kafka: Kafka
let postgres: UrlPostgres
let plain: Log
let dataDir: string
let child: Bun.Subprocess<'ignore', 'pipe', 'inherit'> | undefined
let output = ''

beforeAll(async () => {
  if (skipKafka()) return
  dataDir = mkdtempSync(join(tmpdir(), 'headrace-capture-role-'))
  ;[kafka, postgres] = await Promise.all([
    startKafka({ brokers: 1, proxied: true, settings: QUICK_TO_NOTICE }),
    startPostgresByUrl(),
  ])
  plain = await openKafkaLog({ brokers: kafka.brokers, clientId: 'test' })
  const wanted = deploymentTopics({ partitions: PARTITIONS, replication: 1, minInsyncReplicas: 1 })
  await applyPlan(plain, planTopics(wanted, []))
})
afterAll(async () => {
  child?.kill('SIGKILL')
  await child?.exited
  await plain?.close()
  await kafka?.stop()
  await postgres?.stop()
  if (dataDir) rmSync(dataDir, { recursive: true, force: true })
})

function start(): string {
  const listener = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data() {} } })
  const { port } = listener
  listener.stop(true)
  const { HOME = '/', PATH = '' } = process.env
  child = Bun.spawn([process.execPath, MAIN, 'capture'], {
    env: {
      HOME,
      PATH,
      HEADRACE_DATA_DIR: dataDir,
      HEADRACE_CAPTURE_ADDRESS: `127.0.0.1:${port}`,
      HEADRACE_LOG: `kafka://${kafka.proxiedBrokers.join(',')}`,
      HEADRACE_POSTGRES: postgres.url,
      HEADRACE_PARTITIONS: String(PARTITIONS),
      HEADRACE_KAFKA_REPLICATION: '1',
      HEADRACE_KAFKA_MIN_INSYNC_REPLICAS: '1',
      HEADRACE_PROJECT_TOKEN: 'phc_test',
    },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'inherit',
  })
  output = ''
  void collect(child.stdout)
  return `http://127.0.0.1:${port}`
}

async function collect(stream: ReadableStream<Uint8Array>): Promise<void> {
  const decoder = new TextDecoder()
  for await (const chunk of stream) output += decoder.decode(chunk, { stream: true })
}

const ready = (url: string) =>
  waitFor(
    'readiness',
    () =>
      fetch(`${url}/_readiness`).then(
        (response) => response.ok,
        () => false,
      ),
    20_000,
    () => output,
  )

async function send(url: string, event: string): Promise<number> {
  const body = JSON.stringify({ event, distinct_id: 'd', token: 'phc_test' })
  return (await fetch(`${url}/e/`, { method: 'POST', body })).status
}

/** Names of the events in Kafka, in order; all are of one distinct id. */
async function arrived(): Promise<string[]> {
  const names: string[] = []
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const { start: from, end } = await plain.bounds(TOPICS.raw, partition)
    for await (const records of plain.read(TOPICS.raw, partition, from, end))
      for (const { header } of records) names.push(decodeRawHeader(header).event)
  }
  return names
}

test.skipIf(skipKafka())(
  'starts and takes events without Kafka, then without Postgres; all arrives in order',
  async () => {
    const [proxy] = kafka.proxies
    proxy!.refusing = true
    const first = start()
    await ready(first)
    expect(await send(first, 'one')).toBe(200)
    expect(await send(first, 'two')).toBe(200)
    child!.kill('SIGTERM')
    expect(await child!.exited).toBe(1)
    expect(output).toContain('stopped with 2 events in the spool')
    expect(await arrived()).toEqual([])

    process.kill(postgres.pid, 'SIGQUIT')
    const second = start()
    await ready(second)
    expect(output).toContain('Postgres does not answer')
    expect(await send(second, 'three')).toBe(200)
    proxy!.refusing = false
    await waitFor(
      'all events',
      async () => (await arrived()).length >= 3,
      30_000,
      () => output,
    )
    expect(await send(second, 'four')).toBe(200)
    child!.kill('SIGTERM')
    expect(await child!.exited).toBe(0)
    expect(await arrived()).toEqual(['one', 'two', 'three', 'four'])
  },
)
