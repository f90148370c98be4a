/**
 * The log on Kafka: events per second and CPU per event of this process, for producing (batches of 50 events of 1.2 kB
 * with one packed header) and for consuming. One broker on the same machine, so the broker takes its share of the
 * cores: compare the CPU figure, not the rate. `bun bench/log-kafka.ts [events] [compression]`.
 */

import { type KafkaLogOptions, openKafkaLog } from '../src/log/index.ts'
import { kafkaMissing, startKafka } from '../test/support/kafka.ts'
import { ownCpuUs, quantile, report } from './measure.ts'

/** As a deployment is born with. */
const PARTITIONS = 64
const BATCH = 50
const HEADER = Buffer.alloc(180, 'h')
const AT_ONCE = 64
const WARM_UP = 50_000

const missing = kafkaMissing()
if (missing) {
  console.error(missing)
  process.exit(3)
}
const events = Number(process.argv[2] ?? 500_000)
const compression = (process.argv[3] ?? 'none') as NonNullable<KafkaLogOptions['compression']>
if (!(events > 0)) {
  console.error('usage: bun bench/log-kafka.ts [events] [none | gzip | snappy | lz4 | zstd]')
  process.exit(2)
}

/** JSON of about 1 kB whose values differ, as events' do. */
const values = Array.from({ length: 1_000 }, (_, i) =>
  Buffer.from(
    JSON.stringify({
      event: 'page viewed',
      properties: Object.fromEntries(
        Array.from({ length: 18 }, (_, j) => [`property_${j}`, `${i * j}`.repeat(6).padEnd(38, 'value ')]),
      ),
    }),
  ),
)

async function measure(count: number, work: () => Promise<void>) {
  const before = ownCpuUs()
  const started = performance.now()
  await work()
  const seconds = (performance.now() - started) / 1000
  return { eventsPerSecond: count / seconds, cpuUs: { log: (ownCpuUs() - before) / count } }
}

const kafka = await startKafka({ brokers: 1 })
try {
  const log = await openKafkaLog({ brokers: kafka.brokers, clientId: 'bench', compression })
  await log.createTopic({ name: 'bench', partitions: PARTITIONS, recordBytesMax: 1 << 20 })
  const producer = log.producer({ name: 'bench', deadlineMs: 30_000 })

  const latenciesMs: number[] = []
  const produce = async (count: number) => {
    let next = 0
    const loop = async () => {
      while (next < count) {
        const from = next
        next += BATCH
        const records = Array.from({ length: BATCH }, (_, i) => ({
          topic: 'bench',
          partition: (from + i) % PARTITIONS,
          header: HEADER,
          value: values[(from + i) % values.length]!,
        }))
        const started = performance.now()
        await producer.send(records)
        latenciesMs.push(performance.now() - started)
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, loop))
  }
  await produce(WARM_UP)
  latenciesMs.length = 0
  const produced = await measure(events, () => produce(events))

  const bounds = await Promise.all(Array.from({ length: PARTITIONS }, (_, p) => log.bounds('bench', p)))
  const total = bounds.reduce((sum, { end }) => sum + end, 0)
  const consumed = await measure(total, async () => {
    await Promise.all(
      bounds.map(async ({ end }, partition) => {
        const reader = log.reader({ topic: 'bench', partition, from: 0 })
        for (let next = 0; next < end; ) {
          const records = await reader.next({ records: 5_000, bytes: 4 << 20 })
          if (records[0]!.offset !== next) throw new Error(`offset ${records[0]!.offset} instead of ${next}`)
          next += records.length
        }
        await reader.close()
      }),
    )
  })
  await log.close()

  const bytes = HEADER.length + values.reduce((sum, value) => sum + value.length, 0) / values.length
  console.log(
    `Kafka, one broker, ${events} events of ${Math.round(bytes)} bytes in batches of ${BATCH}, ${AT_ONCE} at once, compression ${compression}`,
  )
  const bottleneck = 'the cores are shared with the broker'
  report(
    {
      name: 'kafka, produce',
      ...produced,
      p50Ms: quantile(latenciesMs, 0.5),
      p99Ms: quantile(latenciesMs, 0.99),
      bottleneck,
    },
    { name: 'kafka, consume', ...consumed, bottleneck },
  )
} finally {
  await kafka.stop()
}
process.exit(0)
