/** The promises of the log on a real Kafka: one broker, and three with replication. */
import { setDefaultTimeout } from 'bun:test'
import { deleteRecordsV2 } from '@platformatic/kafka'
import {
  type Kafka,
  QUICK_TO_NOTICE,
  sharedKafka,
  skipKafka,
  startKafka,
} from '../../../test/support/kafka.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import {
  type Ack,
  type KillableSender,
  type LogHarness,
  logConformance,
  sendNumbered,
} from '../conformance.ts'
import type { Log } from '../log.ts'
import { openKafkaLog } from './index.ts'
import { Link } from './link.ts'
import { kafkaSettings } from './options.ts'

const TIMEOUT_MS = 600_000
// The runner kills child processes of a test that is over its time, and with them the brokers of all that follow.
setDefaultTimeout(TIMEOUT_MS)
const RECORD_BYTES_MAX = 200_000

/** The long form of the fault tests sets the number for one broker and for three alike. */
const killsOr = (short: number) => Number(process.env.HEADRACE_TEST_FAULT_RUNS ?? short)

function harnessOf(kafka: Kafka, kills: number, close: () => Promise<void>): LogHarness {
  const options = { brokers: kafka.brokers, clientId: 'conformance', replication: kafka.brokers.length }
  return {
    kills,
    recordBytesMax: RECORD_BYTES_MAX,
    open: () => openKafkaLog(options),
    startSending: async (topic, partitions) => {
      const log = await openKafkaLog(options)
      return startSending(kafka, log, topic, partitions)
    },
    retain: (log, topic) => expireHalf(kafka, log, topic),
    close,
  }
}

/** Brokers are killed in turn, each started again before the next. */
async function startSending(
  kafka: Kafka,
  log: Log,
  topic: string,
  partitions: number,
): Promise<KillableSender> {
  const acks: Ack[] = []
  const stopping = new AbortController()
  const options = { topic, partitions, from: 0, deadlineMs: 15_000 }
  const done = sendNumbered(log, options, (more) => acks.push(...more), stopping.signal)
  let turn = 0
  return {
    acks,
    async kill() {
      const broker = turn++ % kafka.brokers.length
      await kafka.kill(broker, 'SIGKILL')
      await kafka.start(broker)
    },
    async stop() {
      stopping.abort()
      await done
      await log.close()
    },
  }
}

/** Kafka looks at retention only in whole segments of at least 1 MiB, so the request that does the same is used. */
async function expireHalf(kafka: Kafka, log: Log, topic: string): Promise<void> {
  const { end } = await log.bounds(topic, 0)
  const settings = kafkaSettings({ brokers: kafka.brokers, clientId: 'conformance' })
  const links = settings.seeds.map((seed) => new Link(seed, settings))
  const partitions = [{ partitionIndex: 0, offset: BigInt(Math.floor(end / 2)) }]
  // Only the leader does it; the others say that they are not.
  for (const link of links)
    await link.ask<deleteRecordsV2.DeleteRecordsResponse>((connection, done) =>
      deleteRecordsV2.api(connection, [{ name: topic, partitions }], 5_000, done),
    )
  for (const link of links) link.destroy()
  await waitFor('removal of records', async () => (await log.bounds(topic, 0)).start > 0, 60_000)
}

if (!skipKafka()) {
  logConformance(
    'kafka with one broker',
    async () => harnessOf(await sharedKafka(), killsOr(8), async () => {}),
    TIMEOUT_MS,
  )
  logConformance(
    'kafka with three brokers',
    async () => {
      const kafka = await startKafka({ brokers: 3, settings: QUICK_TO_NOTICE })
      return harnessOf(kafka, killsOr(12), () => kafka.stop())
    },
    TIMEOUT_MS,
  )
}
