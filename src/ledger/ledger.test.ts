import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { createTopics, EVENT_TIME_MS, RawPartition, rawRecord, uuidAt } from '../../test/support/rows.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import {
  ByteReader,
  DEAD_LETTERS,
  DUPLICATE,
  deadLetterCode,
  dropCode,
  EVENTS,
  encodeOutcomes,
  INGESTION_WARNINGS,
  type OffsetOutcome,
  OUTCOMES,
  STORED,
  sourceHash,
  TOPICS,
} from '../event/index.ts'
import { type Log, openEmbeddedLog, type Producer } from '../log/index.ts'
import {
  audit,
  type Finding,
  formatAudit,
  formatTrace,
  lastErrors,
  mergeReceipts,
  readOutcomeCounts,
  recentOf,
  rollUp,
  type TraceEntry,
  trace,
  UnaccountedWatch,
} from './index.ts'
import { tiledReceipts } from './tiling.ts'
import { noteCompared, readGaps, readTotals } from './watch-state.ts'

setDefaultTimeout(60_000)

const PARTITIONS = 2
let postgres: TestPostgres
let servers: TestWarehouse
beforeAll(async () => {
  ;[postgres, servers] = await Promise.all([startTestPostgres(), startTestWarehouse()])
})
afterAll(async () => {
  await Promise.all([postgres.stop(), servers.stop()])
})

let dir: string
let log: Log
let producer: Producer
let ids: Map<string, string>
let raw: RawPartition[]
let rawId: string
beforeEach(async () => {
  await postgres.sql`TRUNCATE load_fence, load_intent, receipt, ingest_fence, erasures, audit_progress, audit_gap, receipt_hourly`
  dir = await mkdtemp(join(tmpdir(), 'headrace-ledger-'))
  log = await openEmbeddedLog({ dir })
  ids = await createTopics(log, PARTITIONS)
  rawId = ids.get(TOPICS.raw)!
  producer = log.producer({ name: 'test', deadlineMs: 10_000 })
  raw = [0, 1].map((partition) => new RawPartition({ sql: postgres.sql, producer, rawId, partition }))
})
afterEach(async () => {
  await producer.close()
  await log.close()
  await rm(dir, { recursive: true, force: true })
})

const S = { code: STORED, rows: 1 }
const S2 = { code: STORED, rows: 2 }
const DUP = { code: DUPLICATE, rows: 0 }
const REFUSED = deadLetterCode('refused_by_warehouse')
/** Of three rows ClickHouse refused the middle one. */
const PART = { code: STORED, rows: 2, gone: [{ sub: 1, code: REFUSED }] }
const DROP = { code: dropCode('illegal_distinct_id'), rows: 0 }
const DEAD = { code: deadLetterCode('unreadable_event'), rows: 0 }

const deps = () => ({ sql: postgres.sql, log, warehouse: servers.warehouse })

/** What the load does, by hand: rows of a topic partition from the log into ClickHouse, and the fence. */
async function loadAll(partition: number): Promise<void> {
  for (const [topic, table] of [
    [TOPICS.events, EVENTS],
    [TOPICS.outcomes, OUTCOMES],
  ] as const) {
    const [fence] = await postgres.sql`
      SELECT next_offset FROM load_fence WHERE topic = ${topic} AND partition = ${partition}`
    const { end } = await log.bounds(topic, partition)
    const rows: Uint8Array[] = []
    for await (const records of log.read(topic, partition, fence?.next_offset ?? 0, end)) {
      rows.push(...records.map(({ value }) => value))
    }
    await servers.warehouse.insertRows({ table, rows, token: Bun.randomUUIDv7() })
    const [last] = await postgres.sql`
      SELECT last_offset, last_sub FROM ingest_fence WHERE log_id = ${rawId} AND partition = ${partition}`
    const places = last?.last_offset === null ? {} : { [rawId]: [last!.last_offset, last!.last_sub] }
    await postgres.sql`
      INSERT INTO load_fence (log_id, partition, topic, next_offset, last)
      VALUES (${ids.get(topic)!}, ${partition}, ${topic}, ${end}, ${JSON.stringify(topic === TOPICS.events ? places : {})}::text::jsonb)
      ON CONFLICT (log_id, partition) DO UPDATE SET next_offset = excluded.next_offset, last = excluded.last`
  }
}

const MIXED: OffsetOutcome[] = [S, S, DUP, S2, DROP, S, DEAD, S, S, DUP]

/** Three mixed batches in partition 0 and one in partition 1, all loaded. */
async function clean(): Promise<void> {
  for (let i = 0; i < 3; i++) await raw[0]!.batch(MIXED)
  await raw[1]!.batch([S, S, S])
  await loadAll(0)
  await loadAll(1)
}

async function findings() {
  const report = await audit(deps(), { waitMs: 0 })
  return report.partitions.flatMap(({ partition, findings }) =>
    findings.map(({ kind, from, to }) => `${partition}: ${kind} ${from}..${to - 1}`),
  )
}

const remove = (table: string, offset: number, sub = 0) =>
  servers.warehouse.command(
    `ALTER TABLE ${table} DELETE WHERE _log_id = {id:UUID} AND _partition = 0 AND _offset = {offset:UInt64} AND _sub = {sub:UInt16} SETTINGS mutations_sync = 2`,
    { id: rawId, offset, sub },
  )

describe('audit', () => {
  test('clean: every offset is accounted for, by end state', async () => {
    await clean()
    const report = await audit(deps())
    expect(report.exact).toBe(true)
    const [zero, one] = report.partitions
    expect(zero).toMatchObject({
      from: 0,
      through: 30,
      stored: 18,
      duplicate: 6,
      dropped: 3,
      deadLettered: 3,
      rowsExpected: 21,
      rowsPresent: 21,
      outcomesExpected: 12,
      outcomesPresent: 12,
      outcomesCompared: true,
      findings: [],
    })
    expect(one).toMatchObject({ through: 3, stored: 3, rowsPresent: 3 })
    expect(formatAudit(report)).toMatch(/exact: every audited offset is accounted for/)
  })

  test('one row missing', async () => {
    await clean()
    await remove('events', 15)
    expect(await findings()).toEqual(['0: row_missing 15..15'])
  })

  test('one of two rows of an event missing', async () => {
    await clean()
    await remove('events', 13, 1)
    const report = await audit(deps())
    expect(report.partitions[0]!.findings).toEqual([
      { kind: 'row_missing', from: 13, to: 14, detail: '1 of 2 rows' },
    ])
    expect(formatAudit(report)).toMatch(/raw_events\/0 offset 13 {2}row_missing: 1 of 2 rows/)
    expect(report.unaccounted).toBe(1)
  })

  test('one row doubled, another missing: they do not cancel', async () => {
    await clean()
    await servers.warehouse.command('SYSTEM STOP MERGES events')
    const doubled: Uint8Array[] = []
    for await (const records of log.read(TOPICS.events, 0, 0, 2)) doubled.push(records[1]!.value)
    await servers.warehouse.insertRows({ table: EVENTS, rows: doubled, token: Bun.randomUUIDv7() })
    await servers.warehouse.command('SYSTEM START MERGES events')
    expect(await findings()).toEqual(['0: row_doubled 1..1'])
    await remove('events', 5)
    expect((await findings()).sort()).toContain('0: row_missing 5..5')
  })

  test('an event of which ClickHouse refused a row, and its row before or behind it missing', async () => {
    for (const outcomes of [
      [S, PART, S],
      [S, S],
    ])
      await raw[0]!.batch(outcomes)
    await loadAll(0)
    expect((await audit(deps(), { waitMs: 0 })).partitions[0]).toMatchObject({
      stored: 5,
      rowsExpected: 6,
      outcomesPresent: 1,
      findings: [],
    })
    await recordErasure([2])
    await remove('events', 2)
    expect(await findings()).toEqual([])
    await remove('events', 1, 2)
    await remove('outcomes', 1, 1)
    expect(await findings()).toEqual(['0: row_missing 1..1', '0: outcome_missing 1..1'])
  })

  test('a row that no receipt knows of', async () => {
    await clean()
    const stray = new RawPartition({ sql: postgres.sql, producer, rawId, partition: 0 })
    const rows = stray.rows([S, S, S])
    await servers.warehouse.insertRows({ table: EVENTS, rows: [rows[2]!.value], token: Bun.randomUUIDv7() })
    expect(await findings()).toEqual(['0: row_unexpected 2..2'])
  })

  test('an outcome missing, and one too many', async () => {
    await clean()
    await remove('outcomes', 12)
    expect(await findings()).toEqual(['0: outcome_missing 12..12'])
  })

  const changes: [string, () => Promise<unknown>, string[]][] = [
    [
      'a count of a receipt changed',
      () => postgres.sql`UPDATE receipt SET stored = stored - 1 WHERE partition = 0 AND from_offset = 10`,
      ['0: receipt_inconsistent 10..19'],
    ],
    [
      'a hash sum of a receipt changed',
      () => postgres.sql`UPDATE receipt SET hash_sum = hash_sum + 1 WHERE partition = 0 AND from_offset = 20`,
      ['0: receipt_inconsistent 20..29'],
    ],
    [
      'an outcome of a receipt changed with its counts',
      () => {
        const changed = encodeOutcomes([S, DUP, DUP, S2, DROP, S, DEAD, S, S, DUP])
        return postgres.sql`
          UPDATE receipt SET outcomes = ${changed}, stored = stored - 1, duplicate = duplicate + 1, stored_rows = stored_rows - 1
          WHERE partition = 0 AND from_offset = 10`
      },
      ['0: outcome_missing 11..11', '0: row_unexpected 11..11'],
    ],
    [
      'outcomes of a receipt that cannot be read',
      () => postgres.sql`UPDATE receipt SET outcomes = '\\x0a' WHERE partition = 0 AND from_offset = 0`,
      ['0: receipt_inconsistent 0..9'],
    ],
    [
      'a receipt removed',
      () => postgres.sql`DELETE FROM receipt WHERE partition = 0 AND from_offset = 10`,
      ['0: receipt_missing 10..19'],
    ],
    [
      'the newest receipt removed',
      () => postgres.sql`DELETE FROM receipt WHERE partition = 0 AND from_offset = 20`,
      ['0: receipt_missing 20..29'],
    ],
    [
      'a receipt that lies over the next',
      () => postgres.sql`UPDATE receipt SET to_offset = 12 WHERE partition = 0 AND from_offset = 0`,
      ['0: receipt_inconsistent 0..11', '0: receipt_overlap 10..11'],
    ],
  ]
  for (const [name, change, expected] of changes) {
    test(name, async () => {
      await clean()
      await change()
      expect((await findings()).sort()).toEqual(expected)
    })
  }

  test('what is on its way is no finding, whatever is done of it', async () => {
    await clean()
    // Decided and produced, not loaded.
    await raw[0]!.batch(MIXED)
    expect((await audit(deps(), { waitMs: 0 })).partitions[0]).toMatchObject({ through: 30, findings: [] })
    // The fence has moved, the rows are not there: an open intent.
    const { end } = await log.bounds(TOPICS.events, 0)
    const before = { [rawId]: [28, 0] }
    await postgres.sql`
      INSERT INTO load_intent (id, table_name, ranges, rows, bytes, checksum) VALUES (gen_random_uuid(), 'events',
        ${JSON.stringify([{ logId: ids.get(TOPICS.events), topic: TOPICS.events, partition: 0, from: 21, to: end, last: before }])}::text::jsonb, 7, 1, 1)`
    await postgres.sql`
      UPDATE load_fence SET last = ${JSON.stringify({ [rawId]: [38, 0] })}::text::jsonb, next_offset = ${end}
      WHERE topic = 'events' AND partition = 0`
    expect((await audit(deps(), { waitMs: 0 })).partitions[0]).toMatchObject({ through: 30, findings: [] })
    // Under repair it is missing.
    await postgres.sql`UPDATE load_intent SET state = 'repair'`
    expect((await findings()).length).toBeGreaterThan(0)
  })

  test('offsets behind the last row that are all dropped are covered', async () => {
    await clean()
    await raw[0]!.batch([DROP, DROP, DUP])
    await loadAll(0)
    expect((await audit(deps())).partitions[0]).toMatchObject({ through: 33, dropped: 5, findings: [] })
  })

  test('a running audit looks at what is new, and again at what did not add up', async () => {
    await clean()
    const watch = new UnaccountedWatch(deps(), pino({ level: 'silent' }))
    expect(await watch.check()).toBe(0)
    await raw[0]!.batch(MIXED)
    await loadAll(0)
    await remove('events', 31)
    expect(await watch.check()).toBe(1)
    expect(await watch.check()).toBe(1)
    const again: Uint8Array[] = []
    for await (const records of log.read(TOPICS.events, 0, 21, 28)) {
      for (const { value } of records) {
        if (EVENTS.decode(new ByteReader(value))._offset === 31) again.push(value)
      }
    }
    await servers.warehouse.insertRows({ table: EVENTS, rows: again, token: Bun.randomUUIDv7() })
    expect(await watch.check()).toBe(0)
  })

  test('a running audit goes on after a restart, and looks at everything again now and then', async () => {
    await clean()
    const limits = { newOffsetsMax: 100, againOffsetsMax: 20, passEveryS: 0 }
    const restarted = () => new UnaccountedWatch(deps(), pino({ level: 'silent' }), limits)
    expect(await restarted().check()).toBe(0)
    const progress = () => postgres.sql`
      SELECT audited_through, pass_next, pass_ended_at IS NOT NULL AS ended FROM audit_progress WHERE log_id = ${rawId} AND partition = 0`
    expect([...(await progress())]).toEqual([{ audited_through: 30, pass_next: 0, ended: false }])
    // Below what was found exact: only the pass can see it, and it comes there with its second piece.
    await remove('events', 21)
    const found: number[] = []
    for (let i = 0; i < 6 && found.at(-1) !== 1; i++) found.push(await restarted().check())
    expect(found.at(-1)).toBe(1)
    expect(found[0]).toBe(0)
  })

  test('a running audit comes to the newest in steps, and goes on behind a hole', async () => {
    await clean()
    await remove('events', 21)
    const watch = new UnaccountedWatch(deps(), pino({ level: 'silent' }), { newOffsetsMax: 10 })
    const found: number[] = []
    for (let step = 0; step < 3; step++) found.push(await watch.check())
    expect(found).toEqual([0, 0, 1])
  })
})

describe('what a running audit reads and knows', () => {
  const through = async () =>
    (
      await postgres.sql<{ through: number }[]>`
        SELECT audited_through AS through FROM audit_progress WHERE log_id = ${rawId} ORDER BY partition`
    ).map((row) => row.through)

  test('what it has compared is noted piece by piece: killed on its way it goes on from there', async () => {
    await clean()
    let questions = 0
    const warehouse: typeof servers.warehouse = {
      ...servers.warehouse,
      query: (sql, params) => {
        if (++questions > 5) throw new Error('killed')
        return servers.warehouse.query(sql, params)
      },
    }
    const silent = pino({ level: 'silent' })
    const limits = { pieceOffsets: 10 }
    const killed = new UnaccountedWatch({ ...deps(), warehouse }, silent, limits)
    await expect(killed.check()).rejects.toThrow('killed')
    const [zero] = await through()
    expect(zero).toBeGreaterThan(0)
    expect(zero).toBeLessThan(30)
    questions = 0
    expect(await new UnaccountedWatch(deps(), silent, limits).check()).toBe(0)
    expect(await through()).toEqual([30, 3])
  })

  test('a call is bounded over all raw partitions, and none keeps another waiting', async () => {
    for (let i = 0; i < 6; i++) for (const one of raw) await one.batch([S, S, DUP, S, S])
    for (const partition of [0, 1]) await loadAll(partition)
    const watch = new UnaccountedWatch(deps(), pino({ level: 'silent' }), { newOffsetsMax: 20 })
    await watch.check()
    expect(await through()).toEqual([10, 10])
    const waits = await readTotals(postgres.sql)
    await watch.check()
    await watch.check()
    expect(await through()).toEqual([30, 30])
    expect((await readTotals(postgres.sql)).auditedAtS).toBeGreaterThan(waits.auditedAtS)
  })

  test('a raw partition that was never looked at is as old as its first batch', async () => {
    await clean()
    await postgres.sql`UPDATE receipt SET created_at = now() - interval '1 hour' WHERE partition = 1`
    await postgres.sql`
      INSERT INTO audit_progress (log_id, partition, audited_through, audited_at, pass_ended_at)
      VALUES (${rawId}, 0, 30, now(), now())`
    const ageS = Date.now() / 1000 - (await readTotals(postgres.sql)).auditedAtS
    expect(ageS).toBeGreaterThan(3_500)
    expect(ageS).toBeLessThan(3_700)
    expect((await readTotals(postgres.sql)).passEndedAtS).toBe(0)
    await new UnaccountedWatch(deps(), pino({ level: 'silent' })).check()
    expect(Date.now() / 1000 - (await readTotals(postgres.sql)).auditedAtS).toBeLessThan(60)
  })

  const addGaps = (count: number, apart: number, length: number) => postgres.sql`
    INSERT INTO audit_gap (log_id, partition, from_offset, to_offset, unaccounted)
    SELECT ${rawId}, 0, n * ${apart}::bigint, n * ${apart}::bigint + ${length}::bigint, ${length}::bigint
    FROM generate_series(0, ${count}::int - 1) AS n`
  const sizeOf = (ranges: readonly { from: number; to: number }[]) =>
    ranges.reduce((sum, { from, to }) => sum + to - from, 0)

  test('of very many gaps far from each other it reads some, and nothing between them', async () => {
    await addGaps(200_000, 1_000_000, 1)
    const first = await readGaps(postgres.sql, 4_000_000)
    expect([first.length, sizeOf(first)]).toEqual([64, 64])
    await postgres.sql`UPDATE audit_gap SET found_at = now() WHERE from_offset < 64000000`
    const next = await readGaps(postgres.sql, 4_000_000)
    expect(next[0]!.from).toBe(64_000_000)
  })

  test('gaps side by side are one range, and a long one is looked at in parts', async () => {
    await addGaps(1_000, 100, 1)
    expect(await readGaps(postgres.sql, 4_000_000)).toEqual([
      { logId: rawId, partition: 0, from: 0, to: 99_901 },
    ])
    expect(sizeOf(await readGaps(postgres.sql, 50_000))).toBeLessThanOrEqual(50_000)
    await clean()
    await postgres.sql`DELETE FROM audit_gap`
    await addGaps(1, 1, 1_000)
    const part = await audit(deps(), { waitMs: 0, ranges: await readGaps(postgres.sql, 10) })
    await noteCompared(postgres.sql, part.partitions[0]!, {})
    expect([...(await postgres.sql`SELECT from_offset, to_offset, unaccounted FROM audit_gap`)]).toEqual([
      { from_offset: 10, to_offset: 1_000, unaccounted: 990 },
    ])
  })
})

/** As a deletion records the rows of partition 0 that it takes: these offsets, in one range. */
async function recordErasure(offsets: number[], done = true): Promise<void> {
  const hashSum = offsets.reduce((sum, offset) => sum + sourceHash({ offset, sub: 0 }), 0)
  await postgres.sql`
    INSERT INTO erasures (run_id, state, table_name, log_id, partition, from_offset, to_offset, rows, hash_sum, erased_at)
    VALUES (gen_random_uuid(), 'erased', 'events', ${rawId}, 0, ${offsets[0]!}, ${offsets.at(-1)! + 1}, ${offsets.length},
      ${hashSum}, ${done ? postgres.sql`now()` : null})`
}

describe('I4: what a deletion took', () => {
  // 11 is stored, in a batch of its own receipt; 8 and 10 lie in two receipts.
  test('is no false alarm, also over the end of a receipt', async () => {
    await clean()
    for (const offset of [8, 10, 11]) await remove('events', offset)
    await recordErasure([8, 10, 11])
    const report = await audit(deps(), { waitMs: 0 })
    expect(report.partitions[0]).toMatchObject({ erased: 3, rowsExpected: 18, rowsPresent: 18, findings: [] })
  })

  test('hides no other row that is missing, and that one is named', async () => {
    await clean()
    for (const offset of [8, 10, 11, 15]) await remove('events', offset)
    await recordErasure([8, 11, 15])
    expect(await findings()).toEqual(['0: row_missing 10..10'])
  })

  test('is no false alarm when it goes while the audit runs', async () => {
    await clean()
    let asked = 0
    const { warehouse } = servers
    const watched: typeof warehouse = {
      ...warehouse,
      query: async (...args) => {
        if (asked++ === 0) {
          await recordErasure([15])
          await remove('events', 15)
        }
        return warehouse.query(...args)
      },
    }
    const report = await audit({ ...deps(), warehouse: watched }, { waitMs: 0 })
    expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
    expect(asked).toBeGreaterThan(0)
  })

  test('is another than was recorded', async () => {
    await clean()
    for (const offset of [8, 10]) await remove('events', offset)
    await recordErasure([8, 11])
    await recordErasure([15])
    expect(await findings()).toEqual(['0: erasure_differs 8..11', '0: erasure_differs 15..15'])
  })

  test('may be there or not while it is under way, but not for ever', async () => {
    await clean()
    await recordErasure([8, 10, 11], false)
    expect(await findings()).toEqual([])
    await remove('events', 8)
    expect(await findings()).toEqual([])
    await remove('events', 15)
    expect(await findings()).toEqual(['0: row_missing 15..15'])
    await postgres.sql`UPDATE erasures SET recorded_at = now() - interval '25 hours'`
    expect(await findings()).toEqual(['0: erasure_stopped 8..11', '0: row_missing 15..15'])
  })
})

describe('old receipts', () => {
  const KEEP_HOURS = 24
  const watch = () => new UnaccountedWatch(deps(), pino({ level: 'silent' }))

  async function age(): Promise<void> {
    await postgres.sql`UPDATE receipt SET created_at = date_trunc('day', now()) - interval '3 days' + (from_offset * interval '1 s')`
  }

  test('are merged by day once they are audited, and the audit finds the same in them', async () => {
    await clean()
    await age()
    expect(await mergeReceipts(postgres.sql, KEEP_HOURS)).toBe(0)
    expect(await watch().check()).toBe(0)
    await rollUp(postgres.sql, KEEP_HOURS)
    expect(await mergeReceipts(postgres.sql, KEEP_HOURS)).toBe(2)
    expect(await mergeReceipts(postgres.sql, KEEP_HOURS)).toBe(0)
    const [receipt] =
      await postgres.sql`SELECT from_offset, to_offset, stored FROM receipt WHERE partition = 0`
    expect(receipt).toEqual({ from_offset: 0, to_offset: 30, stored: 18 })
    expect((await audit(deps(), { waitMs: 0 })).partitions[0]).toMatchObject({
      through: 30,
      stored: 18,
      findings: [],
    })
    await remove('events', 15)
    await remove('outcomes', 22)
    expect(await findings()).toEqual(['0: row_missing 15..15', '0: outcome_missing 22..22'])
  })

  test('stay when something of them does not add up, or they are of different days', async () => {
    await clean()
    await age()
    await remove('events', 11)
    await postgres.sql`UPDATE receipt SET created_at = created_at - interval '1 day' WHERE partition = 0 AND from_offset = 0`
    expect(await watch().check()).toBe(1)
    await rollUp(postgres.sql, KEEP_HOURS)
    expect(await mergeReceipts(postgres.sql, KEEP_HOURS)).toBe(0)
  })

  test('that are merged between two pages of an audit are no hole', async () => {
    await clean()
    await age()
    await watch().check()
    await rollUp(postgres.sql, KEEP_HOURS)
    const read: { from: number; to: number }[] = []
    const problems: Finding[] = []
    const lane = { logId: rawId, partition: 0 }
    for await (const { from, to } of tiledReceipts(
      postgres.sql,
      lane,
      0,
      30,
      (one) => problems.push(one),
      1,
    )) {
      read.push({ from, to })
      if (read.length === 1) await mergeReceipts(postgres.sql, KEEP_HOURS)
    }
    expect(problems).toEqual([])
    expect(read).toEqual([
      { from: 0, to: 10 },
      { from: 10, to: 30 },
    ])
  })
})

describe('roll-up', () => {
  const HOUR = Date.UTC(2026, 10, 1, 8) / 3_600_000
  const all = { fromMs: 0, toMs: Date.now() + 3_600_000 }
  const told = async () =>
    (await readOutcomeCounts(postgres.sql, all)).map(
      ({ hourMs, teamId, sdk, state, reason, events }) =>
        `${teamId === 0 ? '' : hourMs / 3_600_000 - HOUR} ${teamId} ${sdk} ${state} ${reason} ${events}`,
    )

  test('counts each receipt once, and what its counts do not say under no project', async () => {
    await clean()
    const counts = [
      [HOUR, 1, 'web', STORED, 6],
      [HOUR, 1, 'web', DUPLICATE, 2],
      [HOUR + 1, 2, 'ios', DROP.code, 1],
      [HOUR + 1, 2, 'ios', DEAD.code, 1],
    ]
    await postgres.sql`
      UPDATE receipt SET counts = ${JSON.stringify(counts)}::text::jsonb WHERE partition = 0 AND from_offset < 20`
    // Ingest had stored offset 11; ClickHouse refused it.
    await postgres.sql`
      UPDATE receipt SET outcomes = ${encodeOutcomes([S, DEAD, DUP, S2, DROP, S, DEAD, S, S, DUP])}
      WHERE partition = 0 AND from_offset = 10`
    await postgres.sql`
      INSERT INTO audit_progress (log_id, partition, audited_through) VALUES (${rawId}, 0, 20), (${rawId}, 1, 3)`
    const expected = [
      `0 1 web stored  11`,
      `0 1 web duplicate  4`,
      `0 1 web dead_lettered unreadable_event 1`,
      `1 2 ios dropped illegal_distinct_id 2`,
      `1 2 ios dead_lettered unreadable_event 2`,
      ` 0  stored  3`,
    ]
    expect(await rollUp(postgres.sql, 876_000)).toBe(3)
    expect(await told()).toEqual(expected)
    expect(await rollUp(postgres.sql, 876_000)).toBe(0)
    expect(await told()).toEqual(expected)
  })

  test('moves what was stored under its project, also when the batch was of several hours and SDKs', async () => {
    await clean()
    const counts = [
      [HOUR, 1, 'web', STORED, 4],
      [HOUR + 1, 1, 'ios', STORED, 2],
      [HOUR, 1, 'web', DUPLICATE, 2],
      [HOUR, 2, 'web', DROP.code, 1],
      [HOUR, 1, 'web', DEAD.code, 1],
    ]
    await postgres.sql`
      UPDATE receipt SET counts = ${JSON.stringify(counts)}::text::jsonb,
        outcomes = ${encodeOutcomes([S, DEAD, DUP, S2, DROP, S, DEAD, S, S, DUP])}
      WHERE partition = 0 AND from_offset = 0`
    await postgres.sql`INSERT INTO audit_progress (log_id, partition, audited_through) VALUES (${rawId}, 0, 10)`
    await rollUp(postgres.sql, 876_000)
    const expected = [
      '0 1 web stored  3',
      '0 1 web duplicate  2',
      '0 1 web dead_lettered unreadable_event 2',
      '0 2 web dropped illegal_distinct_id 1',
      '1 1 ios stored  2',
    ]
    expect((await told()).sort()).toEqual(expected.sort())
  })

  test('is by day once the detail is over, and says the same', async () => {
    await postgres.sql`
      INSERT INTO receipt_hourly SELECT timestamptz '2020-01-01 00:00Z' + h * interval '1 hour', 1, 'web', 0, 10
      FROM generate_series(0, 30) AS h`
    for (let i = 0; i < 2; i++) {
      await rollUp(postgres.sql, 24)
      expect(
        await postgres.sql`SELECT extract(day FROM hour AT TIME ZONE 'UTC')::int AS day, events FROM receipt_hourly ORDER BY 1`,
      ).toEqual([
        { day: 1, events: 240 },
        { day: 2, events: 70 },
      ] as never)
    }
  })
})

describe('trace', () => {
  const kinds = async (offset: number) => {
    const found = await trace(deps(), uuidAt(rawId, 0, offset))
    return found.sources.map(({ entries }) => entries.map(({ kind }) => kind))
  }

  test('each end state, with when and how it came', async () => {
    await clean()
    expect(await kinds(0)).toEqual([['received', 'decided', 'changed', 'stored']])
    expect(await kinds(2)).toEqual([['received', 'decided', 'not_stored']])
    expect(await kinds(3)).toEqual([['received', 'decided', 'changed', 'stored', 'stored']])
    expect(await kinds(4)).toEqual([['received', 'decided', 'not_stored']])
    const found = await trace(deps(), uuidAt(rawId, 0, 2).toUpperCase())
    const text = formatTrace(found)
    expect(text).toMatch(/received from test-sdk\/1\.2\.3/)
    expect(text).toMatch(/ingest decided: duplicate/)
    expect(text).toContain(`the stored copy came from ${rawId}/0/0/0`)
    expect(formatTrace(await trace(deps(), uuidAt(rawId, 0, 0)))).toContain('properties_added=n')
  })

  test('a warning, a dead letter, what was decided about it, and where it came back', async () => {
    await clean()
    const uuid = uuidAt(rawId, 0, 6)
    const source = { _log_id: rawId, _partition: 0, _offset: 6, _sub: 0 }
    const letter = DEAD_LETTERS.encode({
      ...{ team_id: 1, uuid, event: '$pageview', distinct_id: 'user-6', timestamp: EVENT_TIME_MS },
      ...{ reason: 'unreadable_event', detail: 'not\u001b[2J JSON', step: 'parse' },
      ...{ raw_header: new Uint8Array(1), raw_value: new Uint8Array(1), ...source },
    })
    const warning = INGESTION_WARNINGS.encode({
      ...{ team_id: 1, source: 'ingest', type: 'uuid_reused', details: '{}', timestamp: EVENT_TIME_MS },
      ...source,
    })
    const insert = (table: typeof DEAD_LETTERS | typeof INGESTION_WARNINGS, row: Buffer) =>
      servers.warehouse.insertRows({ table, rows: [row], token: Bun.randomUUIDv7() })
    await insert(DEAD_LETTERS, letter)
    await insert(INGESTION_WARNINGS, warning)
    const whole: TraceEntry['kind'][] = ['received', 'decided', 'warned', 'not_stored', 'dead_lettered']
    expect(await kinds(6)).toEqual([whole])

    await postgres.sql`
      INSERT INTO dead_letter_decision (log_id, partition, raw_offset, sub, step, team_id, letter_ms, bytes, state, decided_by, why)
      VALUES (${rawId}, 0, 6, 0, 'parse', 1, ${EVENT_TIME_MS}, 2, 'discarded', 'me', 'noise')`
    expect(await kinds(6)).toEqual([[...whole, 'discarded']])
    await producer.send([rawRecord(rawId, 0, 6)])
    await postgres.sql`
      UPDATE dead_letter_decision SET state = 'replayed', sent_log_id = ${rawId}, sent_from = 30, sent_offset = 30`
    expect((await kinds(6)).sort()).toEqual([
      [...whole, 'replay_asked', 'replayed'],
      ['received', 'waits_for_ingest'],
    ])
    const text = formatTrace(await trace(deps(), uuid))
    expect(text).toContain(`came back as ${rawId}/0/30/0`)
    expect(text).toContain('in the dead letters: not.[2J JSON')
    await postgres.sql`TRUNCATE dead_letter_decision`
  })

  test('lists to begin with: of a distinct id, and what was not stored', async () => {
    await clean()
    const options = { teamIds: [1], limit: 1_000, nowMs: EVENT_TIME_MS }
    const here = <T extends { source: string }>(events: T[]) =>
      events.filter(({ source }) => source.startsWith(`${rawId}/0/`))
    const ofId = here(await recentOf(servers.warehouse, 'user-2', options))
    expect(ofId.map(({ state, source }) => [state, source.slice(rawId.length)]).sort()).toEqual(
      [
        ['duplicate', '/0/2/0'],
        ['duplicate', '/0/9/0'],
        ['dead_lettered', '/0/16/0'],
        ['stored', '/0/23/0'],
        ['stored', '/0/23/1'],
      ].sort(),
    )
    const errors = here(await lastErrors(servers.warehouse, options))
    expect(errors.map(({ state }) => state).sort()).toEqual([
      ...Array(3).fill('dead_lettered'),
      ...Array(3).fill('dropped'),
    ])
    expect(await lastErrors(servers.warehouse, { ...options, teamIds: [2] })).toEqual([])
    expect(await lastErrors(servers.warehouse, { ...options, limit: 2 })).toHaveLength(2)
    expect(await lastErrors(servers.warehouse, { ...options, sinceMs: EVENT_TIME_MS + 1 })).toEqual([])
  })

  test('on its way: waits for ingest, then for load', async () => {
    await clean()
    await producer.send([rawRecord(rawId, 0, raw[0]!.offset)])
    expect(await kinds(30)).toEqual([['received', 'waits_for_ingest']])
    // The batch sends its raw record again, at the next offset; its receipt is of the first.
    await raw[0]!.batch([S])
    expect((await kinds(30)).sort()).toEqual([
      ['received', 'decided', 'waits_for_load'],
      ['received', 'waits_for_ingest'],
    ])
  })

  test('unknown: says so, and how far it looked', async () => {
    await clean()
    const found = await trace(deps(), '00000000-0000-4000-8000-00000000ffff')
    expect(found.found).toBe(false)
    expect(formatTrace(found)).toMatch(
      /not found\. ClickHouse does not know it, .* no event with this uuid was accepted/,
    )
    await producer.send(Array.from({ length: 10 }, (_, i) => rawRecord(rawId, 0, 100 + i)))
    const cut = await trace(deps(), '00000000-0000-4000-8000-00000000ffff', { scanRecordsMax: 4 })
    expect(cut.says).toMatch(/10 are not loaded yet, so it may be in front of those/)
    expect(cut.scanned).toBe(4)
    expect(trace(deps(), 'no uuid')).rejects.toThrow('"no uuid" is not a uuid')
  })
})
