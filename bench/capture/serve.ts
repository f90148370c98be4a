/**
 * The server under test, as a process of its own: `bun serve.ts floor`, `embedded`, or `kafka <brokers>`. Tells its url,
 * and on each message how much CPU and memory it has used. Capture is the real one with all its checks; the catalogue
 * knows one project by heart.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startCapture } from '../../src/capture/index.ts'
import { readSettings } from '../../src/catalog/index.ts'
import { RAW_TOPICS } from '../../src/event/index.ts'
import { type Log, openEmbeddedLog, openKafkaLog } from '../../src/log/index.ts'
import { createLogger } from '../../src/observe/index.ts'

const RECORD_BYTES_MAX = 1_048_576
/** As a deployment is born with. */
const PARTITIONS = { embedded: 8, kafka: 64 }
const PROJECT = { teamId: 1, name: 'bench', token: 'phc_bench', settings: {} }

const [kind, brokers = ''] = process.argv.slice(2)

process.on('message', () => process.send?.({ cpu: process.cpuUsage(), rss: process.memoryUsage.rss() }))

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
} else {
  const dir = await mkdtemp(join(tmpdir(), 'headrace-bench-'))
  const partitions = kind === 'kafka' ? PARTITIONS.kafka : PARTITIONS.embedded
  const log: Log =
    kind === 'kafka'
      ? await openKafkaLog({ brokers: brokers.split(','), clientId: 'bench', compression: compression() })
      : await openEmbeddedLog({ dir })
  for (const name of RAW_TOPICS) {
    const [there] = await log.describe([name])
    if (!there) await log.createTopic({ name, partitions, recordBytesMax: RECORD_BYTES_MAX })
  }
  const capture = await startCapture({
    settings: readSettings({}, { captureAddress: '127.0.0.1:0', dataDir: dir }),
    log,
    projects: { known: () => PROJECT, find: async () => PROJECT },
    partitions,
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

function compression() {
  return (process.env.BENCH_COMPRESSION ?? 'none') as 'none' | 'lz4'
}
