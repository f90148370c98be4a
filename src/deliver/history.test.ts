/** What the log no longer has comes from ClickHouse; a replay sends the past again under the ids that it had. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { DELIVERIES, EVENTS, type EventRow } from '../event/index.ts'
import { metricsText } from '../observe/index.ts'
import { sendAgain } from './again.ts'
import { DeliverBench, Receiver } from './deliver.fixture.ts'
import { eventsTopic } from './events-topic.ts'
import { readHistory, viewOfRow } from './history.ts'
import { startsAt } from './replay.ts'

setDefaultTimeout(60_000)
let postgres: TestPostgres
let warehouse: TestWarehouse
let bench: DeliverBench
let receiver: Receiver
beforeAll(async () => {
  ;[postgres, warehouse] = await Promise.all([startTestPostgres(), startTestWarehouse()])
})
afterAll(async () => {
  await Promise.all([postgres.stop(), warehouse.stop()])
})
beforeEach(async () => {
  bench = await DeliverBench.open(postgres, warehouse.warehouse)
  receiver = new Receiver()
})
afterEach(async () => {
  await bench.close()
  await receiver.stop()
})

/** As the load would have it: the rows in ClickHouse, its fence behind them. */
async function load(rows: EventRow[]): Promise<string> {
  const rawId = rows[0]!._log_id
  await warehouse.warehouse.insertRows({
    table: EVENTS,
    rows: rows.map((row) => EVENTS.encode(row)),
    token: Bun.randomUUIDv7(),
  })
  const { logId } = await eventsTopic(bench.log)
  const last = JSON.stringify({ [rawId]: [rows.at(-1)!._offset, 0] })
  await bench.sql`
    INSERT INTO load_fence (log_id, partition, topic, next_offset, last)
    VALUES (${logId}, 0, 'events', ${rows.length}, ${last}::text::jsonb)`
  return logId
}

test('rows of ClickHouse are those of the log, byte for byte, in order, from a place on', async () => {
  const rows = await bench.events(1_500, (n) => ({ properties: JSON.stringify({ n, text: 'ä"\n' }) }))
  const logId = await load(rows)
  const rawId = rows[0]!._log_id
  const key = { logId, partition: 0 }
  const at = { next: 0, last: { [rawId]: [9, 0] as [number, number] } }
  const cursor = { at, until: undefined }
  const deps = { sql: bench.sql, warehouse: warehouse.warehouse }
  const first = await readHistory(deps, key, cursor, 1_500)
  expect(first.views.map(({ source }) => source.offset)).toEqual(
    Array.from({ length: 1_000 }, (_, i) => 10 + i),
  )
  expect(first.views[0]!.bytes).toEqual(EVENTS.encode(rows[10]!))
  expect(viewOfRow(rows[10]!).json).toBe(first.views[0]!.json)
  const second = await readHistory(deps, key, { ...cursor, at: first.end }, 1_500)
  expect(second.views).toHaveLength(490)
  const end = await readHistory(deps, key, { ...cursor, at: second.end }, 1_500)
  expect(end.views).toHaveLength(0)
  expect(end.end).toEqual({ next: 1_500, last: { [rawId]: [1_499, 0] } })
})

test('a replay from a time sends what came in since, under the ids of the original, and ends', async () => {
  const original = await bench.destination('original', receiver.url)
  await bench.deliver()
  await bench.events(20)
  await bench.waitForSums('the first', original.id, ({ delivered }) => delivered === 20)
  // The log stamps by the millisecond.
  const before = Date.now()
  await waitFor('another millisecond', () => Date.now() > before + 1, 1_000)
  const fromMs = Date.now()
  await bench.events(15)
  await bench.waitForSums('all', original.id, ({ delivered }) => delivered === 35)
  const topic = await eventsTopic(bench.log)
  const deps = { log: bench.log, sql: bench.sql, warehouse: warehouse.warehouse }
  const starts = await startsAt(deps, topic, fromMs)
  const { config, secrets } = original
  const replay = await bench.store.create(
    { teamId: 1, name: 'again', kind: 'webhook', config, secrets, replayOf: original.id },
    topic,
    starts,
  )
  await bench.waitForSums('the replay', replay.id, ({ delivered }) => delivered === 15)
  // What comes in afterwards is for the original alone.
  await bench.events(5)
  await bench.waitForSums('the original goes on', original.id, ({ delivered }) => delivered === 40)
  expect((await bench.sums(replay.id)).seen).toBe(15)
  expect(receiver.ids.size).toBe(40)
  expect(receiver.got).toHaveLength(55)
})

test('a delivery that failed is sent again by hand, and counts once', async () => {
  const { id } = await bench.destination('by hand', receiver.url, { retry_for_s: 1 })
  receiver.answer = ({ body }) => new Response('', { status: body.includes('"n":3}') ? 400 : 200 })
  await bench.deliver()
  const rows = await bench.events(6)
  const failed = await bench.waitForSums('one failed', id, (sums) => sums.failed === 1)
  expect(failed.delivered).toBe(5)
  const logId = await load(rows)
  const outcomes = [...(await bench.outcomes()).values()]
  await warehouse.warehouse.insertRows({
    table: DELIVERIES,
    rows: outcomes.map((row) => DELIVERIES.encode(row)),
    token: Bun.randomUUIDv7(),
  })
  receiver.answer = () => new Response('{}')
  const destination = await bench.store.get(1, 'by hand')
  const deps = { sql: bench.sql, warehouse: warehouse.warehouse }
  expect(await sendAgain(deps, destination, logId, 0)).toBe(1)
  const sums = await bench.waitForSums('delivered', id, ({ delivered }) => delivered === 6)
  expect(sums).toMatchObject({ seen: 6, failed: 0, waiting: 0 })
  const last = [...(await bench.outcomes()).values()].find(({ _offset }) => _offset === 3)
  expect(last).toMatchObject({ state: 'delivered', status: 200 })
})

test('a gap in front of one destination stops it alone', async () => {
  const stuck = await bench.destination('stuck', receiver.url)
  const other = await bench.destination('other', receiver.url)
  await bench.deliver()
  await bench.events(5)
  for (const { id } of [stuck, other]) await bench.waitForSums('five', id, ({ delivered }) => delivered === 5)
  await bench.store.setState(stuck.id, 'paused')
  await waitFor(
    'detached',
    async () => {
      await bench.events(1)
      return (await bench.sums(stuck.id)).detached > 0
    },
    10_000,
  )
  const stood = (await bench.sums(stuck.id)).delivered
  // As if rows behind it had never come.
  await bench.sql`
    UPDATE delivery_cursor SET last = jsonb_build_object(${bench.ids.get('raw_events')!}::text, '[1, 0]'::jsonb)
    WHERE destination_id = ${stuck.id} AND next_offset IS NOT NULL`
  await bench.store.setState(stuck.id, 'active')
  const before = await bench.sums(other.id)
  await bench.events(5)
  await bench.waitForSums('the other', other.id, ({ delivered }) => delivered >= before.delivered + 5)
  const gap = async () => (await metricsText()).includes('headrace_deliver_gap{partition="0"} 1')
  await waitFor('the alarm', gap, 10_000)
  expect((await bench.sums(stuck.id)).delivered).toBe(stood)
})
