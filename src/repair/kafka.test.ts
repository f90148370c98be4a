/** On a real Kafka: a raw topic that was deleted and made again has another id there, too, and repair goes on with it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { type Kafka, sharedKafka, skipKafka } from '../../test/support/kafka.ts'
import { RAW_TOPICS, ROW_TOPICS } from '../event/index.ts'
import { openKafkaLog } from '../log/index.ts'
import { repairGaps } from './index.ts'
import { Bench, Servers } from './repair.fixture.ts'

setDefaultTimeout(120_000)

describe.skipIf(skipKafka())('the raw topic was recreated on Kafka', () => {
  let kafka: Kafka
  let servers: Servers
  beforeAll(async () => {
    ;[kafka, servers] = await Promise.all([sharedKafka(), Servers.start()])
  })
  afterAll(() => servers?.stop())

  test('the former log is closed with what rows say of it, and the new one is read from its start', async () => {
    const log = await openKafkaLog({ brokers: kafka.brokers, clientId: 'repair', sessionTimeoutMs: 6_000 })
    const bench = await Bench.open(servers, [], log)
    try {
      const former = await bench.learnRawId()
      await bench.capture([{ json: '{}' }, { json: '{}' }])
      await bench.ingested(2)
      // As after a crash before it was noted: the rows are in the log all the same.
      await bench.sql`UPDATE ingest_fence SET produced_through = 0`
      await bench.recreateRaw()
      expect(await bench.learnRawId()).not.toBe(former)
      await bench.capture([{ json: '{}' }])
      await bench.ingestHalts('was recreated')
      const [repair] = await repairGaps(bench.deps, { apply: true })
      expect(repair!.lost).toMatchObject([{ logId: former, from: 2, to: undefined, cause: 'recreated' }])
      await bench.ingested(1)
      await bench.loaded()
      const report = await bench.audit()
      expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
      const [stored] = await bench.deps.warehouse.query<{ n: number }>('SELECT count() AS n FROM events')
      expect(stored!.n).toBe(3)
    } finally {
      for (const topic of [...RAW_TOPICS, ...ROW_TOPICS]) await log.deleteTopic(topic)
      await bench.close()
    }
  })
})
