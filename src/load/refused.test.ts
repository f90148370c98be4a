/** Rows that ClickHouse refuses, and a ClickHouse that is away or whose answers are lost (I1, I2, I5). */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { EVENT_TIME_MS } from '../../test/support/rows.ts'
import { startTcpProxy, type TcpProxy } from '../../test/support/tcp-proxy.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import {
  DEAD_LETTERS,
  deadLetterCode,
  decodeOutcomes,
  encodeRowHeader,
  PERSON,
  STORED,
  sourceHash,
  TOPICS,
  writerPartition,
} from '../event/index.ts'
import { audit } from '../ledger/index.ts'
import { openEmbeddedLog } from '../log/index.ts'
import { untilLoaded } from '../repair/index.ts'
import { openWarehouse } from '../warehouse/index.ts'
import { bench, benchForEachTest, servers, stored } from './bench.fixture.ts'
import { sendBatch } from './left-behind.fixture.ts'
import { PARTITIONS } from './load.fixture.ts'
import { loadMetrics } from './metrics.ts'

benchForEachTest()

/** A dead letter of an earlier time. */
function otherLetter(): { header: Uint8Array; value: Uint8Array } {
  const source = { logId: bench.rawId, partition: 0, offset: 1_000, sub: 0 }
  const value = DEAD_LETTERS.encode({
    team_id: 5,
    uuid: bench.rawId,
    event: '',
    distinct_id: '',
    reason: 'unreadable_event',
    detail: '',
    step: 'prepare',
    timestamp: EVENT_TIME_MS,
    raw_header: new Uint8Array(),
    raw_value: new Uint8Array(),
    _log_id: source.logId,
    _partition: source.partition,
    _offset: source.offset,
    _sub: source.sub,
  })
  const timestampMs = EVENT_TIME_MS
  return {
    header: encodeRowHeader({ source, prev: undefined, teamId: 5, timestampMs, restamped: false }),
    value,
  }
}

async function letters() {
  return bench.warehouse.query<{
    _offset: number
    _sub: number
    reason: string
    step: string
    raw_value: string
    detail: string
  }>(
    'SELECT _offset, _sub, reason, step, raw_value, detail FROM dead_letters FINAL WHERE _log_id = {id:UUID} ORDER BY _partition, _offset, _sub',
    { id: bench.rawId },
  )
}

describe('a row that ClickHouse refuses', () => {
  test('is waited for with its letter, which load writes behind the ends of before', async () => {
    await sendBatch(0, 50, [17, 40])
    await bench.load()
    const { sql, log } = bench
    const deps = { sql, log, partitions: PARTITIONS, says: () => {} }
    await untilLoaded(deps, performance.now() + 20_000)
    expect(await letters()).toHaveLength(2)
  })

  test('goes alone to the dead letters, its receipt says so, its neighbours are stored', async () => {
    await sendBatch(0, 50, [17, 40])
    await sendBatch(1, 20, [])
    await bench.load()
    await bench.waitForRows(68)
    await waitFor('dead letters', async () => (await letters()).length === 2, 20_000)
    expect(await bench.stored()).toEqual({ rows: 68, sources: 68 })
    const found = await letters()
    expect(found.map(({ _offset, reason, step }) => [_offset, reason, step])).toEqual([
      [17, 'refused_by_warehouse', 'load'],
      [40, 'refused_by_warehouse', 'load'],
    ])
    expect(found[0]!.raw_value).toBe('{"event":"$pageview","n":17}')
    expect(found[0]!.detail).toMatch(/insert into events: ClickHouse says \d+/)
    const outcomes = await bench.warehouse.query(
      'SELECT _offset, state, reason FROM outcomes FINAL WHERE _log_id = {id:UUID} ORDER BY _offset',
      { id: bench.rawId },
    )
    expect(outcomes).toEqual([
      { _offset: 17, state: 'dead_lettered', reason: 'refused_by_warehouse' },
      { _offset: 40, state: 'dead_lettered', reason: 'refused_by_warehouse' },
    ])
    const [receipt] = await bench.sql`SELECT * FROM receipt WHERE partition = 0`
    const codes = decodeOutcomes(receipt!.outcomes)
    expect(codes[17]).toEqual({ code: deadLetterCode('refused_by_warehouse'), rows: 0 })
    expect(codes[18]).toEqual({ code: STORED, rows: 1 })
    let hashSum = 0
    for (let offset = 0; offset < 50; offset++) {
      if (offset !== 17 && offset !== 40) hashSum += sourceHash({ offset, sub: 0 })
    }
    expect([
      receipt!.stored,
      receipt!.dead_lettered,
      receipt!.stored_rows,
      Number(receipt!.hash_sum),
    ]).toEqual([48, 2, 48, hashSum])
    await bench.waitForSettled()
    expect((await bench.intents()).repair).toBeUndefined()
  })

  test('one of several rows of an event: its receipt keeps which one, and the others are stored', async () => {
    const several = (rows: number) => ({ code: STORED, rows })
    // The rows 0/1, 2/0 and 2/1.
    await sendBatch(0, [several(3), several(1), several(2)], [1, 4, 5])
    await bench.load()
    await waitFor('dead letters', async () => (await letters()).length === 3, 20_000)
    await bench.waitForRows(3)
    await bench.waitForSettled()
    const refused = deadLetterCode('refused_by_warehouse')
    const gone = (...subs: number[]) => subs.map((sub) => ({ sub, code: refused }))
    const [receipt] = await bench.sql`SELECT * FROM receipt WHERE partition = 0`
    expect(decodeOutcomes(receipt!.outcomes)).toEqual([
      { code: STORED, rows: 2, gone: gone(1) },
      { code: STORED, rows: 1 },
      { code: refused, rows: 0, gone: gone(0, 1) },
    ])
    const report = await audit({ sql: bench.sql, log: bench.log, warehouse: bench.warehouse })
    expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
    expect(report.partitions[0]).toMatchObject({ stored: 2, deadLettered: 1, rowsPresent: 3 })
  })

  for (const step of ['split', 'buried'] as const) {
    test(`a loader killed after "${step}" leaves an heir that finishes`, async () => {
      await sendBatch(0, 20, [9])
      const child = bench.spawn(step, 'SIGKILL')
      await child.exited
      await bench.load()
      await bench.waitForRows(19)
      await waitFor('the dead letter', async () => (await letters()).length === 1, 20_000)
      await bench.waitForSettled()
      expect(await bench.stored()).toEqual({ rows: 19, sources: 19 })
      const [receipt] = await bench.sql`SELECT stored, dead_lettered FROM receipt WHERE partition = 0`
      expect({ ...receipt }).toEqual({ stored: 19, dead_lettered: 1 })
    })
  }

  test('another process is slow to let go of where dead letters go: it waits, says so, and goes on', async () => {
    const [slow, quick] = await Promise.all([
      openEmbeddedLog({ dir: bench.dir }),
      openEmbeddedLog({ dir: bench.dir, writerWaitMs: 100 }),
    ])
    try {
      // Where a loader writes for partition 0.
      const partition = writerPartition(TOPICS.deadLetters, 'load', 0, PARTITIONS)
      const record = { topic: TOPICS.deadLetters, partition, ...otherLetter() }
      await slow.producer({ name: 'slow', deadlineMs: 10_000 }).send([record])
      await sendBatch(0, 20, [9])
      const load = await bench.load({ log: quick })
      await waitFor(
        'a sentence',
        async () => (await load.notReady())?.includes('another live process writes dead_letters') === true,
        20_000,
      )
      await slow.close()
      await waitFor(
        'the dead letter',
        async () => (await letters()).some(({ _offset }) => _offset === 9),
        20_000,
      )
      await bench.waitForRows(19)
      await bench.waitForSettled()
      expect(await load.notReady()).toBeUndefined()
      const { values } = await loadMetrics.retries.get()
      expect(values.find(({ labels }) => labels.code === 'HR_LOG_NOT_WRITER')?.value).toBeGreaterThan(0)
      // The next one may write there at once.
      const next = await openEmbeddedLog({ dir: bench.dir, writerWaitMs: 0 })
      try {
        const producer = next.producer({ name: 'next', deadlineMs: 10_000 })
        expect(await producer.send([record])).toHaveLength(1)
      } finally {
        await next.close()
      }
      await load.stop()
    } finally {
      await Promise.all([slow.close(), quick.close()])
    }
  })

  test('a state row goes to the dead letters and changes no receipt', async () => {
    const source = { logId: bench.rawId, partition: 0, offset: 3, sub: 0 }
    const header = encodeRowHeader({
      source,
      prev: undefined,
      teamId: 5,
      timestampMs: EVENT_TIME_MS,
      restamped: false,
    })
    const good = PERSON.encode({
      id: bench.rawId,
      created_at: EVENT_TIME_MS,
      team_id: 5,
      properties: '{}',
      is_identified: 0,
      is_deleted: 0,
      version: 1,
    })
    // Cut off in the middle: the bytes of the next row would be read into it.
    const bad = good.subarray(0, 20)
    const record = (value: Uint8Array) => ({ topic: TOPICS.persons, partition: 0, header, value })
    await bench.producer.send([record(good), record(bad)])
    await bench.load()
    await waitFor('the dead letter', async () => (await letters()).length === 1, 20_000)
    expect((await letters())[0]!.step).toBe('load:person')
    await bench.waitForSettled()
    const persons = await bench.warehouse.query('SELECT version FROM person WHERE id = {id:UUID}', {
      id: bench.rawId,
    })
    expect(persons).toEqual([{ version: 1 }])
  })
})

describe('ClickHouse is away', () => {
  let proxy: TcpProxy
  beforeEach(async () => {
    proxy = await startTcpProxy({
      target: { host: '127.0.0.1', port: Number(new URL(servers.warehouse.url).port) },
    })
  })
  afterEach(() => proxy.close())
  const through = () => openWarehouse({ url: `http://127.0.0.1:${proxy.port}`, insertTimeoutMs: 2_000 })

  test('it says so, waits, and goes on by itself', async () => {
    proxy.refusing = true
    const load = await bench.load({ warehouse: through() })
    await bench.producer.send(bench.raw[0]!.rows(stored(30)))
    await waitFor('unreadiness', async () => (await load.notReady()) !== undefined, 20_000)
    expect(await load.notReady()).toMatch(/ClickHouse does not take rows/)
    proxy.refusing = false
    const back = performance.now()
    await bench.waitForRows(30)
    expect(performance.now() - back).toBeLessThan(10_000)
    await waitFor('readiness', async () => (await load.notReady()) === undefined, 10_000)
    expect(await bench.stored()).toEqual({ rows: 30, sources: 30 })
  })

  test('answers are lost: what landed is not there twice', async () => {
    let swallowed = 0
    proxy.onRequest = (pair, chunk) => {
      if (swallowed < 3 && chunk.includes('INSERT')) {
        swallowed++
        pair.swallowAnswers()
      }
    }
    await bench.load({ warehouse: through() })
    for (let i = 0; i < 5; i++) {
      await bench.producer.send(bench.raw[0]!.rows(stored(30)))
      await bench.waitForRows(30 * (i + 1))
    }
    await bench.waitForSettled()
    expect(swallowed).toBeGreaterThan(0)
    expect(await bench.stored()).toEqual({ rows: 150, sources: 150 })
  })
})

test('a question that ClickHouse refuses for a reason nobody expects holds up its table, and not the role', async () => {
  await bench.warehouse.command('RENAME TABLE events TO events_away')
  // Without the columns that load asks for.
  await bench.warehouse.command('CREATE VIEW events AS SELECT 1 AS team_id')
  await bench.raw[0]!.batch(stored(5))
  let fatal: unknown
  const load = await bench.load({
    fatal: (error) => {
      fatal ??= error
    },
  })
  await waitFor(
    'load to wait',
    async () =>
      fatal !== undefined ||
      (await load.notReady())?.includes('ClickHouse does not say which rows it has') === true,
    10_000,
  )
  expect(fatal).toBeUndefined()
  await bench.warehouse.command('DROP VIEW events')
  await bench.warehouse.command('RENAME TABLE events_away TO events')
  await bench.waitForRows(5)
  expect(await load.notReady()).toBeUndefined()
})
