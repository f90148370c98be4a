/** Rows that ClickHouse lacks, has twice, or should not have: afterwards the audit is exact, and no row came twice. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { startTcpProxy } from '../../test/support/tcp-proxy.ts'
import {
  DEAD_LETTERS,
  EVENTS,
  encodeOutcomes,
  encodeRowHeader,
  LOST,
  STORED,
  TOPICS,
  writerPartition,
} from '../event/index.ts'
import { formatAudit, rollUp } from '../ledger/index.ts'
import { openWarehouse, type Warehouse } from '../warehouse/index.ts'
import { formatRows, type RowsOptions, type RowsRepair } from './index.ts'
import { bench, benchForEachTest, type Captured, servers, TOKEN } from './repair.fixture.ts'
import type { RepairStep } from './warehouse-insert.ts'

setDefaultTimeout(60_000)

benchForEachTest()

const UUID = '018f4b2e-0000-7000-8000-0000000000aa'
/** Every kind of end, and two months. */
const MIXED: Captured[] = [
  { json: '{"$set":{"n":1}}', distinctId: 'anna' },
  { json: '{}', distinctId: 'anon', timestampMs: Date.UTC(2026, 1, 1) },
  { json: '{"properties":{"$anon_distinct_id":"anon"}}', event: '$identify', distinctId: 'anna' },
  { json: 'no json' },
  { json: '{}', token: 'nobody' },
  {
    json: '{"properties":{"$group_type":"company","$group_key":"c","$group_set":{"n":1}}}',
    event: '$groupidentify',
    distinctId: 'carl',
  },
  { json: '{}', uuid: UUID },
  { json: '{}', uuid: UUID },
  { json: '{"properties":{"$anon_distinct_id":"null"}}', event: '$identify', distinctId: 'dora' },
]
const ROWS = ['events', 'outcomes', 'dead_letters', 'ingestion_warnings']
const STATE = ['person', 'person_distinct_id_overrides', 'groups']

const repair = (options?: Partial<RowsOptions>, warehouse?: Warehouse) => bench.repairRows(options, warehouse)

const command = (sql: string) => bench.deps.warehouse.command(sql, { id: bench.rawId })
const deleteRows = (table: string, where: string) =>
  command(`ALTER TABLE ${table} DELETE WHERE _log_id = {id:UUID} AND ${where} SETTINGS mutations_sync = 2`)

/** Of this raw log, without FINAL, so that a copy shows. */
async function rowsOf(table: string): Promise<string[]> {
  const rows = await bench.deps.warehouse.query<{ row: string }>(
    `SELECT concat(toString(_offset), '/', toString(_sub)) AS row FROM ${table} WHERE _log_id = {id:UUID} ORDER BY _offset, _sub`,
    { id: bench.rawId },
  )
  return rows.map(({ row }) => row)
}

/** Without what says when it was inserted. */
async function contentOf(table: string): Promise<unknown[]> {
  return bench.deps.warehouse.query(
    `SELECT * EXCEPT (_timestamp${table === 'events' ? ', inserted_at, _restamped' : ''}) FROM ${table} FINAL
     WHERE _log_id = {id:UUID} ORDER BY ${table === 'ingestion_warnings' ? '_offset, type' : '_offset'}`,
    { id: bench.rawId },
  )
}

async function exact() {
  const report = await bench.audit()
  expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
  expect(report.partitions.every(({ outcomesCompared }) => outcomesCompared)).toBe(true)
  return report
}

async function sendAndLoad(events: Captured[] = MIXED): Promise<void> {
  await bench.capture(events)
  await bench.ingested(events.length)
  await bench.loaded()
}

/** As after a restore of an empty ClickHouse. */
async function emptyAll(): Promise<void> {
  for (const table of [...ROWS, ...STATE]) await command(`TRUNCATE TABLE ${table}`)
}

async function forgetRowTopics(): Promise<void> {
  for (const topic of [TOPICS.events, TOPICS.outcomes, TOPICS.deadLetters, TOPICS.ingestionWarnings])
    await bench.forgetOutput(topic)
}

/** As load does with a person that ClickHouse refuses: a letter at the place of its batch's first offset. */
async function buryPerson(offset: number): Promise<void> {
  const row = {
    ...{ team_id: 1, uuid: UUID, event: '', distinct_id: '', reason: 'refused_by_warehouse', detail: 'x' },
    ...{ step: `load:${TOPICS.persons}`, timestamp: Date.UTC(2026, 0, 1), raw_header: new Uint8Array() },
    ...{ raw_value: Buffer.from('row'), _log_id: bench.rawId, _partition: 0, _offset: offset, _sub: 0 },
  }
  const source = { logId: bench.rawId, partition: 0, offset, sub: 0 }
  const header = { source, prev: undefined, teamId: 1, timestampMs: row.timestamp, restamped: false }
  const producer = bench.log.producer({ name: 'load', deadlineMs: 10_000 })
  const partition = writerPartition(TOPICS.deadLetters, 'load', 0, 1)
  await producer.send([
    {
      topic: TOPICS.deadLetters,
      partition,
      header: encodeRowHeader(header),
      value: DEAD_LETTERS.encode(row),
    },
  ])
  await producer.close()
}

class Cut extends Error {}
const cutAt = (step: RepairStep) => (reached: RepairStep) => {
  if (reached === step) throw new Cut()
}

const tableOf = (repaired: RowsRepair, table: string) =>
  repaired.lanes[0]!.tables.find((one) => one.table === table)!

describe('rows that are missing', () => {
  test('one event that was removed by hand comes back as it was, and nothing else changes', async () => {
    await sendAndLoad()
    const before = await Promise.all(ROWS.map(contentOf))
    expect((await repair()).found).toBe(false)
    await deleteRows('events', '_offset = 2')
    await deleteRows('outcomes', '_offset = 4')
    await deleteRows('dead_letters', '_offset = 3')
    await deleteRows('ingestion_warnings', '_offset = 8')

    const dry = await repair({ apply: false })
    expect(tableOf(dry, 'events')).toMatchObject({ missing: 1, fromLog: 1, fromRaw: 0, gone: 0 })
    expect(formatRows(dry)).toContain('nothing was changed (without --yes)')
    expect((await bench.audit()).unaccounted).toBe(2)

    // Only the range that was asked for.
    await repair({ topic: TOPICS.raw, partition: 0, from: 3, to: 8 })
    expect(await rowsOf('events')).toEqual(['0/0', '1/0', '5/0', '6/0', '8/0'])
    await deleteRows('outcomes', '_offset = 4')
    await deleteRows('dead_letters', '_offset = 3')

    let second: unknown
    const done = await repair({
      reached: async (step) => {
        if (step === 'promised') second ??= await repair().catch((error: unknown) => error)
      },
    })
    expect(second).toMatchObject({ code: 'HR_REPAIR_BUSY' })
    expect(done).toMatchObject({ found: true, left: false, warnings: 1 })
    expect(done.lanes).toEqual(dry.lanes)
    await exact()
    expect(await Promise.all(ROWS.map(contentOf))).toEqual(before)
    expect(await rowsOf('events')).toEqual(['0/0', '1/0', '2/0', '5/0', '6/0', '8/0'])
    expect(await repair()).toMatchObject({ found: false, left: false })
  })

  test('a month that was dropped, and then everything, rows and state alike', async () => {
    await sendAndLoad()
    const before = await Promise.all(ROWS.map(contentOf))
    await command(`ALTER TABLE events DROP PARTITION 202602`)
    expect(tableOf(await repair(), 'events')).toMatchObject({ missing: 1, fromLog: 1 })
    await exact()

    await emptyAll()
    const done = await repair()
    expect(done).toMatchObject({ left: false, state: { persons: 5, overrides: 1, groups: 1 } })
    await exact()
    expect(await Promise.all(ROWS.map(contentOf))).toEqual(before)
    const [state] = await bench.deps.warehouse.query<{ persons: number; alive: number; overrides: number }>(
      `SELECT (SELECT count() FROM person FINAL) AS persons,
         (SELECT count() FROM person FINAL WHERE is_deleted = 0) AS alive,
         (SELECT count() FROM person_distinct_id_overrides FINAL) AS overrides`,
    )
    expect(state).toEqual({ persons: 5, alive: 4, overrides: 1 })
    // Load goes on where it stood.
    await bench.capture([{ json: '{}' }])
    await bench.ingested(MIXED.length + 1)
    await bench.loaded()
    await exact()
    expect(await repair()).toMatchObject({ found: false })
  })

  test('what the row topics no longer hold is made from raw records, with the outcomes of then', async () => {
    await sendAndLoad()
    const before = await Promise.all(ROWS.map(contentOf))
    await forgetRowTopics()
    await emptyAll()
    // Today this option would drop them.
    await bench.sql`UPDATE project SET settings = '{"ingestion":{"dropEventsOlderThanSeconds":1}}'`
    const done = await repair()
    await bench.sql`UPDATE project SET settings = '{}'`
    expect(tableOf(done, 'events')).toMatchObject({ missing: 6, fromLog: 0, fromRaw: 6, gone: 0 })
    expect(done.left).toBe(false)
    await exact()
    const identity = (rows: unknown[]) =>
      (rows as Record<string, unknown>[]).map(
        ({ uuid, event, distinct_id, state, reason, type, _offset }) => ({
          uuid,
          event,
          distinct_id,
          state,
          reason,
          type,
          _offset,
        }),
      )
    const after = await Promise.all(ROWS.map(contentOf))
    expect(after.map(identity)).toEqual(before.map(identity))
    const [stamps] = await bench.deps.warehouse.query<{ restamped: number }>(
      'SELECT countIf(_restamped) AS restamped FROM events WHERE _log_id = {id:UUID}',
      { id: bench.rawId },
    )
    expect(stamps!.restamped).toBe(6)
  })

  test('large events are made anew a few at a time', async () => {
    const large = (n: number) => ({
      json: JSON.stringify({ properties: { n, text: 'x'.repeat(3 * 2 ** 20) } }),
    })
    await sendAndLoad([large(0), { json: '{}' }, large(2), large(3)])
    const propertiesOf = () =>
      bench.deps.warehouse.query(
        'SELECT _offset, properties FROM events WHERE _log_id = {id:UUID} ORDER BY _offset',
        {
          id: bench.rawId,
        },
      )
    const before = await propertiesOf()
    await forgetRowTopics()
    await deleteRows('events', '_offset != 1')
    expect(tableOf(await repair(), 'events')).toMatchObject({ missing: 3, fromRaw: 3, gone: 0 })
    // No diff of megabytes when it fails.
    expect(Bun.deepEquals(await propertiesOf(), before)).toBe(true)
  })

  test('what neither holds is said, and becomes a loss only when that is accepted', async () => {
    await sendAndLoad()
    await forgetRowTopics()
    await bench.retain()
    await deleteRows('events', '_offset IN (1, 2)')
    await deleteRows('outcomes', '_offset = 3')
    await deleteRows('dead_letters', '_offset = 3')
    const said = await repair()
    expect(said.left).toBe(true)
    expect(tableOf(said, 'events')).toMatchObject({ missing: 2, gone: 2 })
    expect(formatRows(said)).toContain('raw_events/0 1..2  events: no log holds it any more')
    expect((await bench.audit()).unaccounted).toBe(3)

    // What was rolled up already follows.
    await bench.sql`TRUNCATE audit_progress, receipt_hourly`
    await bench.sql`INSERT INTO audit_progress (log_id, partition, audited_through) VALUES (${bench.rawId}, 0, ${MIXED.length})`
    await rollUp(bench.sql, 1_000)
    const storedOf = async (code: number) => {
      const [row] = await bench.sql<{ events: number }[]>`
        SELECT coalesce(sum(events), 0)::int AS events FROM receipt_hourly WHERE team_id = 1 AND code = ${code}`
      return row!.events
    }
    expect([await storedOf(STORED), await storedOf(LOST)]).toEqual([6, 0])

    // Cut off between the two tables.
    await expect(repair({ acceptLoss: true, reached: cutAt('given_up') })).rejects.toThrow(Cut)
    expect(await repair({ acceptLoss: true })).toMatchObject({ left: false })
    expect([await storedOf(STORED), await storedOf(LOST)]).toEqual([4, 2])
    const report = await exact()
    expect(report.partitions[0]).toMatchObject({ stored: 4, lost: 2, deadLettered: 1 })
    expect(report.losses).toMatchObject([{ from: 1, to: 3, cause: 'warehouse' }])
    expect(formatAudit(report)).toContain('lost: ClickHouse lost rows that no log holds any more')
    expect(await repair()).toMatchObject({ found: false })
  })

  test('nothing is given up while its raw record is there', async () => {
    await sendAndLoad()
    await forgetRowTopics()
    await deleteRows('events', '_offset IN (0, 2)')
    await bench.sql`UPDATE project SET token = 'another'`
    const said = await repair({ acceptLoss: true })
    await bench.sql`UPDATE project SET token = ${TOKEN}`
    expect(said.left).toBe(true)
    expect(tableOf(said, 'events')).toMatchObject({ missing: 2, gone: 2 })
    expect(formatRows(said)).toContain('raw_events/0 offset 0  events: its event cannot be read today')
    expect(formatRows(said)).not.toContain('--accept-loss')
    expect((await bench.audit()).losses).toEqual([])
    expect(tableOf(await repair(), 'events')).toMatchObject({ missing: 2, fromRaw: 2 })
    await exact()
  })

  test('the letter of a refused person stands for no event: it is neither too many nor in its place', async () => {
    await buryPerson(0)
    await buryPerson(3)
    await sendAndLoad()
    expect(await rowsOf('dead_letters')).toEqual(['0/0', '3/0', '3/0'])
    expect(await repair({ deleteUnexpected: true })).toMatchObject({ found: false, left: false })
    await deleteRows('dead_letters', `_offset = 3 AND NOT startsWith(step, 'load')`)
    expect(tableOf(await repair(), 'dead_letters')).toMatchObject({ missing: 1, fromLog: 1, unexpected: 0 })
    expect(await rowsOf('dead_letters')).toEqual(['0/0', '3/0', '3/0'])
    await deleteRows('outcomes', '_offset = 3')
    await command(`INSERT INTO dead_letters SELECT * REPLACE (toUInt64(1) AS _offset)
      FROM (SELECT * FROM dead_letters WHERE _log_id = {id:UUID} AND _offset = 3)`)
    expect(tableOf(await repair({ deleteUnexpected: true }), 'dead_letters')).toMatchObject({ unexpected: 1 })
    expect(await rowsOf('dead_letters')).toEqual(['0/0', '1/0', '3/0', '3/0'])
    await exact()
  })

  test('what the retention of the table has taken stays away', async () => {
    await sendAndLoad([{ json: '{}' }, { json: '{}', timestampMs: Date.now() }])
    await deleteRows('events', '_offset < 2')
    await command('ALTER TABLE events MODIFY TTL toDateTime(timestamp) + toIntervalDay(90)')
    try {
      expect(tableOf(await repair(), 'events')).toMatchObject({ missing: 2, expired: 1, fromLog: 1 })
      expect(await rowsOf('events')).toEqual(['1/0'])
    } finally {
      await command('ALTER TABLE events REMOVE TTL')
    }
  })
})

describe('rows that are too many', () => {
  const copy = async (offset: number, changes = '') => {
    await command('SYSTEM STOP MERGES events')
    await command(
      `INSERT INTO events SELECT * ${changes} FROM (SELECT * FROM events WHERE _log_id = {id:UUID} AND _offset = ${offset})
       SETTINGS insert_deduplicate = 0`,
    )
  }

  test('a row that was doubled by hand is there once, also when the copy has another key', async () => {
    await sendAndLoad()
    await copy(0)
    await copy(5, `REPLACE ('somebody else' AS distinct_id, true AS _restamped)`)
    const dry = await repair({ apply: false })
    expect(tableOf(dry, 'events')).toMatchObject({ missing: 0, doubled: 2 })
    expect(formatRows(dry)).toContain(
      '2 rows that were there more than once: the later copies would be deleted',
    )
    await command('SYSTEM START MERGES events')
    expect(await repair()).toMatchObject({ left: false, doubledLeft: 0 })
    await exact()
    expect(await rowsOf('events')).toEqual(['0/0', '1/0', '2/0', '5/0', '6/0', '8/0'])
    const [kept] = await bench.deps.warehouse.query<{ distinct_id: string }>(
      'SELECT distinct_id FROM events WHERE _log_id = {id:UUID} AND _offset = 5',
      { id: bench.rawId },
    )
    expect(kept!.distinct_id).toBe('carl')
  })

  test('of copies that differ the first one stays: as ingest stamped it, else the oldest', async () => {
    await sendAndLoad()
    const before = await contentOf('events')
    const later = `now64(6) + toIntervalHour(1) AS inserted_at, '{"later":1}' AS person_properties`
    const earlier = `inserted_at - toIntervalHour(1) AS inserted_at`
    await copy(0, `REPLACE (true AS _restamped, ${later})`)
    await copy(1, `REPLACE (${later})`)
    // Stored before, but stamped anew: as a repair that an insert of then came after.
    await copy(2, `REPLACE (true AS _restamped, ${earlier}, '{"earlier":1}' AS person_properties)`)
    await copy(5, `REPLACE (true AS _restamped, ${later}, 'somebody else' AS distinct_id)`)
    const startMerges = async (step: RepairStep) => {
      if (step === 'chosen') await command('SYSTEM START MERGES events')
    }
    expect(await repair({ reached: startMerges })).toMatchObject({ left: false, doubledLeft: 0 })
    expect(await contentOf('events')).toEqual(before)
    const [stamps] = await bench.deps.warehouse.query<{ n: number }>(
      'SELECT countIf(_restamped) AS n FROM events WHERE _log_id = {id:UUID}',
      { id: bench.rawId },
    )
    expect(stamps!.n).toBe(0)
    await exact()
  })

  test('the copy that stays does so when the server merges meanwhile, and keeps the newest', async () => {
    await sendAndLoad()
    const before = await contentOf('events')
    await copy(0, `REPLACE (true AS _restamped, '{"later":1}' AS person_properties)`)
    const merged = async (step: RepairStep) => {
      if (step === 'chosen') await command('SYSTEM START MERGES events')
      if (step !== 'copied') return
      // As a merge does, which may be refused here for what other tests have emptied.
      const [newest] = await bench.deps.warehouse.query<{ at: string }>(
        `SELECT toString(argMax(toUnixTimestamp64Micro(inserted_at), toUInt32(splitByChar('_', _part)[2]))) AS at
         FROM events WHERE _log_id = {id:UUID} AND _offset = 0`,
        { id: bench.rawId },
      )
      await deleteRows('events', `_offset = 0 AND toUnixTimestamp64Micro(inserted_at) != ${newest!.at}`)
    }
    expect(await repair({ reached: merged })).toMatchObject({ left: false, doubledLeft: 0 })
    expect(await contentOf('events')).toEqual(before)
    await exact()
  })

  test('an insert and a delete that answer to nobody are waited for', async () => {
    await sendAndLoad()
    await copy(0)
    await copy(1, `REPLACE (true AS _restamped, '{"later":1}' AS person_properties)`)
    const { port } = new URL(servers.warehouse.url)
    const proxy = await startTcpProxy({ target: { host: '127.0.0.1', port: Number(port) } })
    const unanswered = new Set<string>()
    const asked = new Map<number, string>()
    proxy.onRequest = ({ id }, chunk) => {
      asked.set(id, /ALTER TABLE|INSERT INTO events \(/.exec(chunk.toString('latin1'))?.[0] ?? '')
    }
    proxy.onAnswer = (pair, chunk) => {
      const verb = asked.get(pair.id)!
      if (verb !== '' && !unanswered.has(verb)) pair.cut()
      unanswered.add(verb)
      return chunk
    }
    const warehouse = openWarehouse({ url: `http://127.0.0.1:${proxy.port}` })
    try {
      const startMerges = async (step: RepairStep) => {
        if (step === 'chosen') await command('SYSTEM START MERGES events')
      }
      const done = await repair({ reached: startMerges }, warehouse)
      expect(done).toMatchObject({ left: false, doubledLeft: 0 })
      expect([...unanswered].sort()).toEqual(['', 'ALTER TABLE', 'INSERT INTO events ('])
      await exact()
    } finally {
      await warehouse.close()
      await proxy.close()
    }
  })

  test('a row that no receipt knows of is named, and goes only when that is wanted', async () => {
    await sendAndLoad()
    await copy(0, 'REPLACE (toUInt64(4) AS _offset)')
    await command('SYSTEM START MERGES events')
    const said = await repair()
    expect(said.left).toBe(true)
    expect(tableOf(said, 'events')).toMatchObject({ unexpected: 1 })
    expect(await repair({ deleteUnexpected: true })).toMatchObject({ left: false })
    await exact()
  })
})

describe('inserts that load handed over', () => {
  const handOver = () =>
    bench.sql`UPDATE load_intent SET state = 'repair', error = 'test' WHERE state = 'done'`

  test('are settled when all that they cover is there, and not by a part of it', async () => {
    await sendAndLoad()
    const handed = await handOver()
    await deleteRows('events', '_offset IN (0, 5)')
    expect(await repair({ from: 0, to: 3 })).toMatchObject({ left: true, intents: { settled: 0 } })
    const done = await repair()
    expect(done).toMatchObject({ left: false, intents: { settled: handed.count, left: 0 } })
    await exact()
  })

  test('are no second copy when their owner wakes late, wherever the repair was cut off', async () => {
    await sendAndLoad()
    await handOver()
    // As if it had never been sent: ClickHouse does not know its token.
    const id = Bun.randomUUIDv7()
    await bench.sql`UPDATE load_intent SET id = ${id} WHERE table_name = 'events'`
    await deleteRows('events', '_offset >= 0')
    await expect(repair({ reached: cutAt('fenced') })).rejects.toThrow(Cut)
    expect(await repair()).toMatchObject({ left: false, intents: { left: 0 } })
    const rows = await rawRowsOf(TOPICS.events)
    await bench.deps.warehouse.insertRows({ table: EVENTS, rows, token: id })
    expect(await rowsOf('events')).toEqual(['0/0', '1/0', '2/0', '5/0', '6/0', '8/0'])
    await exact()
  })

  test('stay when rows behind them are not there yet, and when something is gone', async () => {
    await sendAndLoad()
    await handOver()
    await forgetRowTopics()
    await bench.retain()
    await deleteRows('events', '_offset = 0')
    const { intents, left } = await repair()
    expect(left).toBe(true)
    expect(intents.left).toBeGreaterThan(0)
    expect((await repair({ acceptLoss: true })).intents.left).toBe(0)
  })
})

describe('offsets that are not compared', () => {
  const handOver = () =>
    bench.sql`UPDATE load_intent SET state = 'repair', error = 'test' WHERE state = 'done' AND table_name NOT LIKE '%person%'`

  /** One receipt for each event. */
  async function sendOneByOne(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await bench.capture([{ json: '{}' }])
      await bench.ingested(i + 1)
    }
    await bench.loaded()
  }

  test('a receipt that is not there or cannot be read is said, and settles nothing', async () => {
    await sendOneByOne(3)
    await handOver()
    const [receipt] = await bench.sql`SELECT * FROM receipt WHERE from_offset = 1`
    const whole = receipt!.outcomes as Uint8Array
    const bad: [string, () => Promise<unknown>][] = [
      [
        'its receipt cannot be read',
        () => bench.sql`UPDATE receipt SET outcomes = '\\xff' WHERE from_offset = 1`,
      ],
      [
        'two receipts speak of it',
        () => bench.sql`UPDATE receipt SET outcomes = ${whole}, to_offset = 3 WHERE from_offset = 1`,
      ],
      [
        'no receipt says what became of it',
        () => bench.sql`UPDATE receipt SET partition = 7 WHERE from_offset = 1`,
      ],
    ]
    for (const [why, change] of bad) {
      await change()
      const said = await repair()
      expect(said).toMatchObject({ left: true, intents: { left: 1 } })
      expect(formatRows(said)).toContain(`not compared: ${why}`)
    }
    await bench.sql`UPDATE receipt SET to_offset = 2, partition = 0 WHERE from_offset = 1`
    expect(await repair()).toMatchObject({ left: false, intents: { settled: 1, left: 0 } })
  })

  test('receipts that are merged meanwhile are read to their end', async () => {
    await sendOneByOne(5)
    const [second] = await bench.sql`SELECT outcomes FROM receipt WHERE from_offset = 1`
    await bench.sql`UPDATE receipt SET outcomes = '\\xff' WHERE from_offset = 1`
    await deleteRows('events', '_offset IN (0, 4)')
    let merged = false
    const said = await repair({
      pageReceipts: 2,
      reached: async () => {
        if (merged) return
        merged = true
        const both = encodeOutcomes(Array.from({ length: 2 }, () => ({ code: STORED, rows: 1 })))
        await bench.sql`DELETE FROM receipt WHERE from_offset = 4`
        await bench.sql`
          UPDATE receipt SET to_offset = 5, outcomes = ${both}, stored = 2, stored_rows = 2 WHERE from_offset = 3`
      },
    })
    expect(tableOf(said, 'events')).toMatchObject({ missing: 2 })
    expect(said.lanes[0]!.leftOver).toMatchObject([{ table: 'receipt', from: 1, to: 2 }])
    await bench.sql`UPDATE receipt SET outcomes = ${second!.outcomes} WHERE from_offset = 1`
    expect(await rowsOf('events')).toEqual(['0/0', '1/0', '2/0', '3/0', '4/0'])
    // From the middle of a receipt.
    await deleteRows('events', '_offset IN (3, 4)')
    expect(tableOf(await repair({ from: 4, pageReceipts: 1 }), 'events')).toMatchObject({ missing: 1 })
    expect(tableOf(await repair(), 'events')).toMatchObject({ missing: 1 })
  })

  test('a warning that ClickHouse refuses is left, and settles nothing', async () => {
    await sendAndLoad()
    await handOver()
    await deleteRows('ingestion_warnings', '_offset = 8')
    await command('ALTER TABLE ingestion_warnings ADD CONSTRAINT refused CHECK _offset != 8')
    try {
      const said = await repair()
      expect(said).toMatchObject({ left: true, warnings: 1 })
      // Those of persons and groups are settled.
      expect(said.intents.left).toBeGreaterThan(0)
      expect(said.lanes[0]!.leftOver).toMatchObject([{ table: 'ingestion_warnings', from: 8, to: 9 }])
    } finally {
      await command('ALTER TABLE ingestion_warnings DROP CONSTRAINT refused')
    }
    expect(await repair()).toMatchObject({ left: false, intents: { left: 0 } })
  })
})

describe('cut off on its way', () => {
  test('at each step, one after the other: the next one completes it, and nothing that lands late is stored', async () => {
    await sendAndLoad()
    await emptyAll()
    const steps: RepairStep[] = ['promised', 'inserted', 'settled', 'promised', 'inserted']
    for (const step of steps) await expect(repair({ reached: cutAt(step) })).rejects.toThrow(Cut)
    expect(await repair()).toMatchObject({ left: false, attempts: 1 })
    expect(await repair()).toMatchObject({ found: false, attempts: 0 })
    await exact()
    const rows = await rawRowsOf(TOPICS.events)
    const attempts = await bench.sql`SELECT id FROM repair_attempt WHERE table_name = 'events'`
    for (const { id } of attempts) await bench.deps.warehouse.insertRows({ table: EVENTS, rows, token: id })
    expect(await rowsOf('events')).toEqual(['0/0', '1/0', '2/0', '5/0', '6/0', '8/0'])
    await exact()
  })
})

async function rawRowsOf(topic: string): Promise<Uint8Array[]> {
  const { end } = await bench.log.bounds(topic, 0)
  const rows: Uint8Array[] = []
  for await (const records of bench.log.read(topic, 0, 0, end))
    rows.push(...records.map(({ value }) => value))
  return rows
}
