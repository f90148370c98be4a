/** On a real Kafka: two processes share the partitions, and one goes on alone. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { type Kafka, sharedKafka, skipKafka } from '../../test/support/kafka.ts'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { RAW_TOPICS, ROW_TOPICS } from '../event/index.ts'
import { openKafkaLog } from '../log/index.ts'
import { DeliverBench, Receiver } from './deliver.fixture.ts'

setDefaultTimeout(120_000)

describe.skipIf(skipKafka())('delivery from Kafka', () => {
  let kafka: Kafka
  let postgres: TestPostgres
  beforeAll(async () => {
    ;[kafka, postgres] = await Promise.all([sharedKafka(), startTestPostgres()])
  })
  afterAll(() => postgres?.stop())

  test('two processes, then one: every event once', async () => {
    const open = () => openKafkaLog({ brokers: kafka.brokers, clientId: 'deliver', sessionTimeoutMs: 6_000 })
    const [log, otherLog] = await Promise.all([open(), open()])
    const bench = await DeliverBench.open(postgres, undefined, log)
    const receiver = new Receiver()
    try {
      const { id } = await bench.destination('all', receiver.url)
      const [first] = [await bench.deliver({ log: otherLog }), await bench.deliver()]
      for (const partition of [0, 1]) await bench.events(20, undefined, partition)
      await bench.waitForSums('both', id, ({ delivered }) => delivered === 40)
      await bench.stop(first)
      for (const partition of [0, 1]) await bench.events(20, undefined, partition)
      await bench.waitForSums('one', id, ({ delivered }) => delivered === 80)
      expect(receiver.ids.size).toBe(80)
      expect((await bench.outcomes()).size).toBe(80)
      expect(await bench.sums(id)).toMatchObject({ seen: 80, waiting: 0 })
    } finally {
      await receiver.stop()
      for (const topic of [...RAW_TOPICS, ...ROW_TOPICS]) await log.deleteTopic(topic)
      await bench.close()
      await otherLog.close()
    }
  })
})
