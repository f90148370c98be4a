import { describe, expect, test } from 'bun:test'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createTopics, EVENT_TIME_MS } from '../../test/support/rows.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { openPostgres } from '../catalog/index.ts'
import { EVENTS, encodeRowHeader, type HeadraceError, PERSON, TOPICS } from '../event/index.ts'
import { bench, benchForEachTest, servers, stored } from './bench.fixture.ts'
import { startLoad } from './index.ts'
import { InputReader } from './input-reader.ts'
import { Lane } from './lane.ts'
import { PARTITIONS } from './load.fixture.ts'
import { RowMemory } from './memory.ts'
import { loadMetrics } from './metrics.ts'

benchForEachTest()

const copies = async () => (await loadMetrics.copies.get()).values[0]?.value ?? 0

const WITHIN_MS = 25_000

async function gapOf(partition: number): Promise<number | undefined> {
  const { values } = await loadMetrics.gap.get()
  return values.find(({ labels }) => labels.group === 'load' && Number(labels.partition) === partition)?.value
}

/** A row of `persons`, with a source as ingest gives it. */
function personRecord(partition: number, offset: number) {
  const source = { logId: bench.rawId, partition, offset, sub: 0 }
  return {
    topic: TOPICS.persons,
    partition,
    header: encodeRowHeader({
      source,
      prev: undefined,
      teamId: 77,
      timestampMs: EVENT_TIME_MS,
      restamped: false,
    }),
    value: PERSON.encode({
      id: bench.rawId,
      created_at: EVENT_TIME_MS,
      team_id: 77,
      properties: `{"offset":${offset}}`,
      is_identified: 0,
      is_deleted: 0,
      version: offset,
    }),
  }
}

describe('what the log gives is in ClickHouse once', () => {
  test('rows of every topic, also those that come later; fences and intents agree', async () => {
    await bench.load()
    for (const raw of bench.raw) await bench.producer.send(raw.rows(stored(500)))
    await bench.producer.send([personRecord(0, 1), personRecord(0, 2)])
    await bench.waitForRows(1000)
    await bench.producer.send(bench.raw[1]!.rows(stored(7)))
    await bench.waitForRows(1007)
    await bench.waitForSettled()
    expect(await bench.stored()).toEqual({ rows: 1007, sources: 1007 })
    const fences = await bench.sql`
      SELECT partition, next_offset, last FROM load_fence WHERE topic = 'events' ORDER BY partition`
    expect(fences.map((fence) => ({ ...fence }))).toEqual([
      { partition: 0, next_offset: 500, last: { [bench.rawId]: [499, 0] } },
      { partition: 1, next_offset: 507, last: { [bench.rawId]: [506, 0] } },
    ])
    await waitFor(
      'the newest person',
      async () => {
        const found = await bench.warehouse.query<{ properties: string }>(
          'SELECT properties FROM person FINAL WHERE id = {id:UUID}',
          { id: bench.rawId },
        )
        return found[0]?.properties === '{"offset":2}'
      },
      10_000,
    )
  })

  test('copies are passed over and counted', async () => {
    const before = await copies()
    const rows = bench.raw[0]!.rows(stored(10))
    await bench.producer.send([
      ...rows,
      ...rows.slice(3),
      ...bench.raw[0]!.rows(stored(5)),
      ...rows.slice(0, 2),
    ])
    await bench.load()
    await bench.waitForRows(15)
    await waitFor(
      'the fence behind the last copy',
      async () => {
        const [fence] =
          await bench.sql`SELECT next_offset FROM load_fence WHERE topic = 'events' AND partition = 0`
        return fence?.next_offset === 24
      },
      10_000,
    )
    expect(await bench.stored()).toEqual({ rows: 15, sources: 15 })
    expect((await copies()) - before).toBe(9)
  })

  test('events over 60 months go in cuts of at most 50', async () => {
    const month = (offset: number) => Date.UTC(2019, offset, 3)
    await bench.producer.send(bench.raw[0]!.rows(stored(60), month))
    await bench.load()
    await bench.waitForRows(60)
    await bench.waitForSettled()
    expect(await bench.stored()).toEqual({ rows: 60, sources: 60 })
    const cuts = await bench.sql`SELECT rows FROM load_intent ORDER BY created_at`
    expect(cuts.map(({ rows }) => rows)).toEqual([50, 10])
  })

  test('however fast rows come, inserts into a table keep their distance and grow', async () => {
    const EVERY_MS = 300
    await bench.load({ settings: { loadFlushMs: EVERY_MS, loadBusyPercent: 100, loadMemoryMb: 64 } })
    let sent = 0
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 20; i++) {
        await bench.producer.send(bench.raw[i % PARTITIONS]!.rows(stored(50)))
        sent += 50
      }
      await bench.waitForRows(sent - 500)
    }
    await bench.waitForRows(sent)
    await bench.waitForSettled()
    const cuts = await bench.sql<{ rows: number; gap_ms: number | null }[]>`
      SELECT rows, (extract(epoch FROM created_at - lag(created_at) OVER (ORDER BY created_at)) * 1000)::float8 AS gap_ms
      FROM load_intent WHERE table_name = 'events' ORDER BY created_at`
    // Postgres says when it was written, which is a little after it was cut.
    for (const { gap_ms } of cuts) if (gap_ms !== null) expect(gap_ms).toBeGreaterThan(EVERY_MS / 2)
    expect(Math.max(...cuts.map(({ rows }) => rows))).toBeGreaterThan(500)
    expect(await bench.stored()).toEqual({ rows: sent, sources: sent })
  })

  test('two loaders share the partitions, one leaves, the other goes on', async () => {
    const first = await bench.load()
    const send = async () => {
      for (const raw of bench.raw) await bench.producer.send(raw.rows(stored(200)))
    }
    await send()
    const second = await bench.load()
    for (let i = 0; i < 5; i++) await send()
    await first.stop()
    for (let i = 0; i < 5; i++) await send()
    await bench.waitForRows(11 * 200 * PARTITIONS)
    await bench.waitForSettled()
    const all = 11 * 200 * PARTITIONS
    expect(await bench.stored()).toEqual({ rows: all, sources: all })
    expect(await second.notReady()).toBeUndefined()
  })
})

test('its connections to Postgres end again and again, in whatever it is doing: nothing is lost, nothing twice', async () => {
  const sql = openPostgres({ url: servers.postgres.url, name: 'load-ended', connectionsMax: 16 })
  try {
    const load = await bench.load({
      sql,
      settings: { loadFlushMs: 20, loadBusyPercent: 100, loadMemoryMb: 64 },
    })
    let sent = 0
    for (let round = 0; round < 40; round++) {
      await bench.producer.send(bench.raw[round % PARTITIONS]!.rows(stored(25)))
      sent += 25
      // The moment differs from round to round: right away, or when some of the rows are there.
      if (round % 3 === 0) await bench.waitForRows(sent - 25)
      await bench.sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'load-ended%'`
    }
    await bench.waitForRows(sent)
    await bench.waitForSettled()
    expect(await bench.stored()).toEqual({ rows: sent, sources: sent })
    expect((await bench.intents()).repair).toBeUndefined()
    await load.stop()
  } finally {
    await sql.end({ timeout: 1 })
  }
})

describe('what is missing is not passed over', () => {
  test('a gap stops its partition number after the rows before it; the other goes on', async () => {
    const load = await bench.load()
    const lost = bench.raw[0]!.rows(stored(30))
    await bench.producer.send([...lost.slice(0, 10), ...lost.slice(11)])
    await bench.producer.send(bench.raw[1]!.rows(stored(30)))
    await waitFor('a halt', async () => (await load.notReady()) !== undefined, 10_000)
    expect(await load.notReady()).toMatch(
      /load of partition 0 stopped: gap in events\/0: the row at offset 10/,
    )
    await bench.waitForRows(40)
    await bench.producer.send(bench.raw[1]!.rows(stored(5)))
    await bench.waitForRows(45)
    expect(await bench.stored()).toEqual({ rows: 45, sources: 45 })
    expect(await gapOf(0)).toBe(1)
  })

  test('a gap that is mended by hand is passed without a restart, and the rows behind it are there', async () => {
    const load = await bench.load()
    const all = bench.raw[0]!.rows(stored(30))
    await bench.producer.send([...all.slice(0, 10), ...all.slice(11)])
    await waitFor('a halt', async () => (await load.notReady()) !== undefined, 10_000)
    await bench.waitForRows(10)
    await bench.waitForSettled()
    await bench.warehouse.insertRows({ table: EVENTS, rows: [all[10]!.value], token: Bun.randomUUIDv7() })
    await bench.sql`
      UPDATE load_fence SET last = ${JSON.stringify({ [bench.rawId]: [10, 0] })}::text::jsonb
      WHERE topic = 'events' AND partition = 0 AND next_offset = 10`
    expect(await gapOf(0)).toBe(1)
    await bench.waitForRows(30)
    await waitFor('it goes on', async () => (await load.notReady()) === undefined, 10_000)
    expect(await gapOf(0)).toBe(0)
    await bench.producer.send(bench.raw[0]!.rows(stored(5)))
    await bench.waitForRows(35)
    expect(await bench.stored()).toEqual({ rows: 35, sources: 35 })
  })

  test('a topic that was made anew is not taken for the old one', async () => {
    await bench.sql`
      INSERT INTO load_fence (log_id, partition, topic, next_offset)
      VALUES ('00000000-0000-4000-8000-000000000000', 0, 'events', 12)`
    const load = await bench.load()
    await waitFor('a halt', async () => (await load.notReady()) !== undefined, 10_000)
    expect(await load.notReady()).toMatch(/topic events was made anew.*loaded up to 12/)
    await bench.sql`DELETE FROM load_fence WHERE topic = 'events' AND partition = 0`
    await waitFor('it goes on', async () => (await load.notReady()) === undefined, WITHIN_MS)
    expect(await gapOf(0)).toBe(0)
  })

  test('a topic that was made anew while this process ran is not read at the old offsets', async () => {
    const oldIds = new Map(bench.ids)
    await bench.sql`
      INSERT INTO load_fence (log_id, partition, topic, next_offset) VALUES (${oldIds.get(TOPICS.events)!}, 0, 'events', 10)`
    await bench.log.deleteTopic(TOPICS.events)
    await createTopics(bench.log, PARTITIONS)
    await bench.producer.send(bench.raw[0]!.rows(stored(30)))
    const end = Promise.withResolvers<HeadraceError>()
    const lane = new Lane('events', {
      ...bench.deps(),
      logIds: oldIds,
      memory: new RowMemory(64 * 2 ** 20, 1),
      partitionsOfTopic: PARTITIONS,
      clock: Date.now,
      flushMs: 200,
      busyPercent: 100,
      reached: () => {},
      fatal: end.reject,
    })
    const goesOn = () => end.reject(new Error('it goes on'))
    const reader = new InputReader(lane, oldIds, TOPICS.events, 0, { stopped: end.resolve, goesOn })
    reader.start()
    try {
      expect((await end.promise).message).toMatch(/topic events was made anew.*loaded up to 10/)
    } finally {
      await reader.close()
    }
  })
})

test('what was not loaded is kept by retention as soon as its partition is ours', async () => {
  await bench.producer.send(bench.raw[0]!.rows(stored(10)))
  await bench.load()
  const started = performance.now()
  const committed = (topic: string) => bench.log.committed('load', topic, 0)
  await waitFor('positions', async () => (await committed(TOPICS.persons)) === 0, WITHIN_MS)
  expect(await committed(TOPICS.events)).toBeNumber()
  // Long before the next look that only the clock brings.
  expect(performance.now() - started).toBeLessThan(3_000)
})

test('a start that fails half-way leaves no member behind', async () => {
  const groups = join(bench.dir, 'groups')
  const obstacle = join(groups, 'load_outcomes')
  mkdirSync(groups, { recursive: true })
  writeFileSync(obstacle, '')
  await expect(startLoad(bench.deps())).rejects.toMatchObject({ code: 'HR_LOG_UNAVAILABLE' })
  expect(readdirSync(join(groups, 'load', 'members'))).toEqual([])
  rmSync(obstacle)
  await bench.load()
})
