/**
 * What the embedded log costs: 1.2 kB records in batches of 50, from 8 senders at once, over 8 partitions, each
 * sender waiting for its answer; then everything read back by one reader per partition. Prints events/s, CPU µs
 * per event (all threads of this process) and the latency of a send.
 *
 * Bottleneck: the disk's sync time while sending (see the latency), the checksum while reading.
 * Usage: bun bench/log-embedded.ts [seconds]
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Log, openEmbeddedLog } from '../src/log/index.ts'

const SECONDS = Number(process.argv[2] ?? 5)
const SENDERS = 8
const PARTITIONS = 8
const BATCH = 50
const VALUE_BYTES = 1_000
const HEADER_BYTES = 200

function cpuUs(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

function percentile(sorted: number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
}

/** One measured run; `spread` says whether a batch goes to all partitions, as capture's does, or to one. */
async function sendAll(log: Log, topic: string, spread: boolean): Promise<number> {
  const header = Buffer.alloc(HEADER_BYTES, 104)
  const value = Buffer.alloc(VALUE_BYTES, 118)
  const latencies: number[] = []
  let sent = 0
  const beganMs = performance.now()
  const beganUs = cpuUs()
  await Promise.all(
    Array.from({ length: SENDERS }, async (_, sender) => {
      const producer = log.producer({ name: `sender ${sender}`, deadlineMs: 10_000 })
      while (performance.now() - beganMs < SECONDS * 1000) {
        const records = Array.from({ length: BATCH }, (_, i) => ({
          topic,
          partition: spread ? i % PARTITIONS : sender % PARTITIONS,
          header,
          value,
        }))
        const atMs = performance.now()
        await producer.send(records)
        latencies.push(performance.now() - atMs)
        sent += BATCH
      }
    }),
  )
  const seconds = (performance.now() - beganMs) / 1000
  latencies.sort((a, b) => a - b)
  console.log(
    `send, ${spread ? 'each batch over 8 partitions' : 'each sender to its partition'}: ${Math.round(sent / seconds)} events/s, ${((cpuUs() - beganUs) / sent).toFixed(1)} µs CPU per event, send p50 ${percentile(latencies, 0.5).toFixed(2)} ms, p99 ${percentile(latencies, 0.99).toFixed(2)} ms`,
  )
  return sent
}

async function readAll(log: Log, topic: string): Promise<void> {
  const beganMs = performance.now()
  const beganUs = cpuUs()
  let records = 0
  await Promise.all(
    Array.from({ length: PARTITIONS }, async (_, partition) => {
      const { start, end } = await log.bounds(topic, partition)
      for await (const batch of log.read(topic, partition, start, end)) records += batch.length
    }),
  )
  const seconds = (performance.now() - beganMs) / 1000
  console.log(
    `read: ${Math.round(records / seconds)} events/s, ${((cpuUs() - beganUs) / records).toFixed(2)} µs CPU per event`,
  )
}

const dir = await mkdtemp(join(tmpdir(), 'headrace-bench-log-'))
try {
  const log = await openEmbeddedLog({ dir })
  for (const [topic, spread] of [
    ['one', false],
    ['spread', true],
  ] as const) {
    await log.createTopic({ name: topic, partitions: PARTITIONS, recordBytesMax: 2 ** 20 })
    await sendAll(log, topic, spread)
    await readAll(log, topic)
  }
  await log.close()
} finally {
  await rm(dir, { recursive: true, force: true })
}
