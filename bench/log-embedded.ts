/**
 * What the embedded log costs: 1.2 kB records in batches of 50, from 8 senders at once, over 8 partitions, each
 * sender waiting for its answer; then everything read back by one reader per partition. Prints events/s, CPU µs
 * per event (all threads of this process) and the latency of a send.
 *
 * Bottleneck: while sending the disk's sync time (see the latency), which is that of one entry of the commit journal per
 * round and, in the background, of the segments; while reading the checksum.
 * Usage: bun bench/log-embedded.ts [seconds]
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Log, openEmbeddedLog } from '../src/log/index.ts'
import { bottleneckOf, ownCpuUs, quantile, report } from './measure.ts'

const SECONDS = Number(process.argv[2] ?? 5)
const SENDERS = 8
const PARTITIONS = 8
const BATCH = 50
const VALUE_BYTES = 1_000
const HEADER_BYTES = 200

/** One measured run; `spread` says whether a batch goes to all partitions, as capture's does, or to one. */
async function sendAll(log: Log, topic: string, spread: boolean): Promise<number> {
  const header = Buffer.alloc(HEADER_BYTES, 104)
  const value = Buffer.alloc(VALUE_BYTES, 118)
  const latencies: number[] = []
  let sent = 0
  const beganMs = performance.now()
  const beganUs = ownCpuUs()
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
  const us = ownCpuUs() - beganUs
  report({
    name: `log, send, ${spread ? 'each batch over 8 partitions' : 'each sender to its partition'}`,
    eventsPerSecond: sent / seconds,
    cpuUs: { log: us / sent },
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    bottleneck: bottleneckOf({ log: us }, seconds, "the disk's sync"),
  })
  return sent
}

async function readAll(log: Log, topic: string): Promise<void> {
  const beganMs = performance.now()
  const beganUs = ownCpuUs()
  let records = 0
  await Promise.all(
    Array.from({ length: PARTITIONS }, async (_, partition) => {
      const { start, end } = await log.bounds(topic, partition)
      for await (const batch of log.read(topic, partition, start, end)) records += batch.length
    }),
  )
  const seconds = (performance.now() - beganMs) / 1000
  const us = ownCpuUs() - beganUs
  report({
    name: `log, read, ${topic}`,
    eventsPerSecond: records / seconds,
    cpuUs: { log: us / records },
    bottleneck: bottleneckOf({ log: us }, seconds, 'the disk'),
  })
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
