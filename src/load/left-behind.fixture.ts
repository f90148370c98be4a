/** An insert of `events` that a loader promised and left behind when it died, and what of it was on its way still. */
import { EVENT_TIME_MS } from '../../test/support/rows.ts'
import { EVENTS, type OffsetOutcome, type RowTopic, TABLE_OF_TOPIC, TOPICS, viewOf } from '../event/index.ts'
import type { SendRecord } from '../log/index.ts'
import { type Batch, intentOf, makeBatch, rebuildBatch } from './batch.ts'
import { bench, stored } from './bench.fixture.ts'
import { lockIntent, openFence, writeIntent } from './intent.ts'
import { PartitionInput } from './partition-input.ts'

const MONTH_MS = 31 * 86_400_000

/** Times of events: one month after the other, and again. */
export const monthsInTurn = (count: number) => (offset: number) => EVENT_TIME_MS - (offset % count) * MONTH_MS

/** Of all that is in the topic, in partitions 0 and 1, as if a loader had died when the intent was written. */
export async function leaveBehind(topic: RowTopic = TOPICS.events): Promise<{ id: string; batch: Batch }> {
  const { log, sql, ids } = bench
  const logId = ids.get(topic)!
  const chained = topic === TOPICS.events
  const ranges = await Promise.all(
    bench.raw.map(async (_, partition) => {
      const fence = await openFence(sql, { logId, topic, partition, logStart: 0 })
      const input = new PartitionInput({ logId, topic, partition, chained }, fence)
      const { end } = await log.bounds(topic, partition)
      for await (const records of log.read(topic, partition, 0, end)) input.accept(records)
      return input.cut(input.waiting.length)
    }),
  )
  const batch = makeBatch(TABLE_OF_TOPIC[topic].name, ranges)
  const id = Bun.randomUUIDv7()
  await writeIntent(sql, intentOf(batch, id), ranges)
  return { id, batch }
}

/** All rows of an open intent. */
export async function batchOf(id: string): Promise<Batch> {
  const intent = await bench.sql.begin((tx) => lockIntent(tx, id, 1_000))
  return rebuildBatch(bench.log, intent!, bench.ids)
}

/** What was on its way, arrives. */
export async function land({ rows }: Pick<Batch, 'rows'>, token: string): Promise<void> {
  await bench.warehouse.insertRows({ table: EVENTS, rows: rows.map(({ row }) => row), token })
}

/** The same record with an event name that claims to be longer than any insert; it stands behind the uuid. */
function spoiled(record: SendRecord): SendRecord {
  const value = Buffer.from(viewOf(record.value))
  value.set([255, 255, 255, 255, 127], 16)
  return { ...record, value }
}

/** Receipt and fence are those of a clean batch; the rows at `bad` are sent spoiled. */
export async function sendBatch(
  partition: number,
  events: number | OffsetOutcome[],
  bad: number[],
  timestampMs?: (offset: number) => number,
): Promise<void> {
  const raw = bench.raw[partition]!
  const { send } = bench.producer
  bench.producer.send = (records) => {
    let n = -1
    return send.call(
      bench.producer,
      records.map((record) => {
        if (record.topic === TOPICS.events) n++
        return record.topic === TOPICS.events && bad.includes(n) ? spoiled(record) : record
      }),
    )
  }
  await raw.batch(typeof events === 'number' ? stored(events) : events, timestampMs)
  bench.producer.send = send
}
