/** Records in a topic of another Kafka. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { plainEventRow } from '../../../test/support/event-row.ts'
import { type Kafka, sharedKafka, skipKafka } from '../../../test/support/kafka.ts'
import { EVENTS, murmur2, NIL_UUID } from '../../event/index.ts'
import { type Log, openKafkaLog } from '../../log/index.ts'
import { EventView } from '../event-view.ts'
import { AddressRules } from '../http/address.ts'
import { HttpClient } from '../http/client.ts'
import { targetKind } from './index.ts'

setDefaultTimeout(120_000)
const TOPIC = 'orders-of-others'
const PARTITIONS = 3
const context = {
  http: new HttpClient({ rules: new AddressRules() }),
  destinationId: NIL_UUID,
  teamId: 1,
  timeoutMs: 10_000,
  clock: Date.now,
}

function delivery(n: number) {
  const row = plainEventRow({
    distinct_id: `user-${n}`,
    properties: JSON.stringify({ n, note: 'x'.repeat(n === 3 ? 60_000 : 1) }),
  })
  const source = { logId: NIL_UUID, partition: 0, offset: n, sub: 0 }
  return { id: `0000000${n}-0000-5000-8000-000000000000`, view: new EventView(EVENTS.encode(row), source, 1) }
}

describe.skipIf(skipKafka())('a topic of another Kafka', () => {
  let kafka: Kafka
  let log: Log
  beforeAll(async () => {
    kafka = await sharedKafka()
    log = await openKafkaLog({ brokers: kafka.brokers, clientId: 'test' })
    await log.createTopic({ name: TOPIC, partitions: PARTITIONS, recordBytesMax: 20_000 })
  })
  afterAll(async () => {
    await log?.deleteTopic(TOPIC)
    await log?.close()
  })

  test('each event is a record in the partition of its distinct_id; one that is too large is refused alone', async () => {
    const target = targetKind('kafka').open({ brokers: kafka.brokers.join(), topic: TOPIC }, context)
    const { signal } = new AbortController()
    const verdicts = await target.send([delivery(1), delivery(2), delivery(3)], signal)
    expect(verdicts.map(({ kind }) => kind)).toEqual(['delivered', 'delivered', 'refused'])
    for (const n of [1, 2]) {
      const partition = murmur2(Buffer.from(`user-${n}`)) % PARTITIONS
      const { end } = await log.bounds(TOPIC, partition)
      const ids: string[] = []
      for await (const records of log.read(TOPIC, partition, 0, end))
        for (const { value } of records)
          ids.push((JSON.parse(Buffer.from(value).toString()) as { id: string }).id)
      expect(ids).toContain(delivery(n).id)
    }
    await target.close?.()
  })

  test('a topic that is not there, or brokers that are away, are tried again', async () => {
    const { signal } = new AbortController()
    for (const options of [
      { brokers: kafka.brokers.join(), topic: 'absent' },
      { brokers: '127.0.0.1:1', topic: TOPIC },
    ]) {
      const target = targetKind('kafka').open(options, { ...context, timeoutMs: 1_000 })
      expect((await target.send([delivery(1)], signal))[0]!.kind).toBe('failed')
      await target.close?.()
    }
  })
})
