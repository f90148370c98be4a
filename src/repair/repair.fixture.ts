/**
 * A whole small deployment for the tests of repair: a log with one partition, a real Postgres whose state
 * can be saved and restored, a real ClickHouse engine. Roles run until a condition holds, and stop.
 */

import { afterAll, afterEach, beforeAll, beforeEach } from 'bun:test'
import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { plainHeader } from '../../test/support/raw-header.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import {
  ensureDefaultProject,
  openPostgres,
  ProjectCatalog,
  readSettings,
  type Sql,
} from '../catalog/index.ts'
import {
  ByteReader,
  encodeRawHeader,
  partitionsOf,
  RAW_TOPICS,
  type RawHeader,
  ROW_TOPICS,
  type RowTopic,
  TOPICS,
} from '../event/index.ts'
import { type Ingest, startIngest } from '../ingest/index.ts'
import { type AuditReport, audit } from '../ledger/index.ts'
import { type Load, startLoad } from '../load/index.ts'
import { EmbeddedLog } from '../log/embedded/embedded-log.ts'
import type { Log } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { rawEnds, untilIngested, untilLoaded } from './settled.ts'
import { type RowsOptions, type RowsRepair, repairRows } from './warehouse-rows.ts'

export const TOKEN = 'repaired'
const WITHIN_MS = 25_000
/** Of all that a test does while roles are at work. */
const WORK_MS = 55_000
const RECORD_BYTES_MAX = 4 * 2 ** 20
const logger = pino({ level: 'silent' })

type RawTopic = (typeof RAW_TOPICS)[number]
export type Captured = { json: string } & Partial<RawHeader>

export class Servers {
  private constructor(
    readonly postgres: TestPostgres,
    readonly warehouse: TestWarehouse,
  ) {}

  static async start(): Promise<Servers> {
    const [postgres, warehouse] = await Promise.all([startTestPostgres(), startTestWarehouse()])
    await ensureDefaultProject(postgres.sql, TOKEN)
    // A state that is saved is copied as a template, which nobody may be connected to.
    await postgres.sql.end()
    return new Servers(postgres, warehouse)
  }

  async stop(): Promise<void> {
    await Promise.all([this.postgres.stop(), this.warehouse.stop()])
  }
}

export class Bench {
  private captured = 0

  private constructor(
    readonly servers: Servers,
    readonly dir: string,
    readonly log: Log,
    public sql: Sql,
    /** Of these `retain` removes what nobody holds back. */
    private readonly shortLived: readonly string[],
  ) {}

  /** `other`: instead of an embedded log, without any of our topics; it is closed with the bench. */
  static async open(
    servers: Servers,
    shortLived: readonly string[] = [TOPICS.raw],
    other?: Log,
  ): Promise<Bench> {
    const dir = await mkdtemp(join(tmpdir(), 'headrace-repair-'))
    const log = other ?? new EmbeddedLog({ dir: join(dir, 'log'), segmentBytes: 1_000 })
    const bench = new Bench(servers, dir, log, openSql(servers), shortLived)
    await bench.sql`
      TRUNCATE ingest_fence, receipt, ingest_loss, ingest_redo, state_republish, load_fence, load_intent,
        person_distinct_id, person, group_type, group_state, repair_attempt CASCADE`
    for (const topic of [...RAW_TOPICS, ...ROW_TOPICS]) await bench.createTopic(topic)
    return bench
  }

  private async createTopic(name: RawTopic | RowTopic): Promise<void> {
    await this.log.createTopic({
      name,
      partitions: partitionsOf(name, 1),
      recordBytesMax: RECORD_BYTES_MAX,
      ...(this.shortLived.includes(name) ? { retentionMs: 1 } : {}),
    })
  }

  get deps() {
    return { sql: this.sql, log: this.log, warehouse: this.servers.warehouse.warehouse, partitions: 1 }
  }

  /** Sends events to a raw topic, by default one after the other of the same person. */
  async capture(events: Captured[], topic: RawTopic = TOPICS.raw): Promise<void> {
    const producer = this.log.producer({ name: 'capture', deadlineMs: 10_000 })
    for (const { json, ...changes } of events) {
      const n = this.captured++
      const header = encodeRawHeader(
        plainHeader({
          token: TOKEN,
          distinctId: 'd',
          event: 'e',
          uuid: `018f4b2e-0000-7000-8000-${String(n).padStart(12, '0')}`,
          timestampMs: Date.UTC(2026, 0, 1) + n,
          ...changes,
        }),
      )
      await producer.send([{ topic, partition: 0, header, value: Buffer.from(json) }])
    }
    await producer.close()
  }

  /** Ingest at work until `done`; a fatal end throws. */
  async ingest(done: (ingest: Ingest) => Promise<boolean>, withinMs = WITHIN_MS): Promise<void> {
    const projects = new ProjectCatalog(this.sql)
    let fatal: unknown
    const ingest = await startIngest({
      settings: readSettings({ HEADRACE_DATA_DIR: this.dir }),
      log: this.log,
      sql: this.sql,
      projects,
      partitions: 1,
      logger,
      lookMs: 100,
      fatal: (error) => {
        fatal ??= error
      },
    })
    try {
      await waitFor(
        'ingest to come so far',
        async () => fatal !== undefined || (await done(ingest)),
        withinMs,
      )
    } finally {
      await ingest.stop()
      await projects.close()
    }
    if (fatal) throw fatal
  }

  async ingested(through: number, topic: RawTopic = TOPICS.raw): Promise<void> {
    await this.ingest(async () => {
      const [fence] = await this.sql`
        SELECT produced_through FROM ingest_fence WHERE topic = ${topic} AND closed_at IS NULL`
      return fence?.produced_through === through
    })
  }

  /** Ingest and load at work until `work` is over. */
  async atWork<T>(work: () => Promise<T>): Promise<T> {
    let over = false
    const begun = work().finally(() => {
      over = true
    })
    // A role that ended is told in front of what it kept from going on.
    begun.catch(() => {})
    const isOver = async () => over
    await Promise.all([this.ingest(isOver, WORK_MS), this.load(isOver, WORK_MS)])
    return begun
  }

  /** While roles are at work: all that was captured is in ClickHouse. */
  async settled(): Promise<void> {
    const deps = { ...this.deps, says: () => {} }
    await untilIngested(deps, await rawEnds(deps), performance.now() + WITHIN_MS)
    // Ids that moved are sent behind the batch.
    await waitFor(
      'moved ids to be sent',
      async () => (await this.sql`SELECT FROM pending_move LIMIT 1`).length === 0,
      WITHIN_MS,
    )
    await untilLoaded(deps, performance.now() + WITHIN_MS)
  }

  ingestHalts(sentence: string): Promise<void> {
    return this.ingest(async (ingest) => (await ingest.notReady())?.includes(sentence) === true)
  }

  /** Load at work until `done`. */
  async load(done: (load: Load) => Promise<boolean>, withinMs = WITHIN_MS): Promise<void> {
    const load = await startLoad({
      ...this.deps,
      settings: { loadFlushMs: 100, loadBusyPercent: 100, loadMemoryMb: 64 },
      logger,
    })
    try {
      await waitFor('load to come so far', () => done(load), withinMs)
    } finally {
      await load.stop()
    }
  }

  /** Everything that is in the log, and no insert open. */
  loaded(): Promise<void> {
    return this.load(async () => {
      for (const [topic, partition] of [
        ...ROW_TOPICS.map((name) => [name, 0] as const),
        [TOPICS.outcomes, 1] as const,
      ]) {
        const [fence] = await this.sql`
          SELECT next_offset FROM load_fence WHERE topic = ${topic} AND partition = ${partition}`
        if ((fence?.next_offset ?? 0) < (await this.log.bounds(topic, partition)).end) return false
      }
      const [open] = await this.sql`SELECT count(*)::int AS n FROM load_intent WHERE state = 'open'`
      return open!.n === 0
    })
  }

  loadHalts(sentence: string): Promise<void> {
    return this.load(async (load) => (await load.notReady())?.includes(sentence) === true)
  }

  /** `headrace repair rows --yes`. */
  async repairRows(
    options: Partial<RowsOptions> = {},
    warehouse: Warehouse = this.deps.warehouse,
  ): Promise<RowsRepair> {
    const projects = new ProjectCatalog(this.sql)
    try {
      return await repairRows(
        { ...this.deps, warehouse, projects, logger },
        { apply: true, waitMs: 1_000, ...options },
      )
    } finally {
      await projects.close()
    }
  }

  /** As if one had ended between its insert and the answer. */
  async cutOffRepair(): Promise<void> {
    await this.sql`
      INSERT INTO repair_attempt (id, table_name, log_id, partition, places, rows)
      VALUES (gen_random_uuid(), 'events', ${this.rawId}, 0, '[[0, 1, 0]]', 1)`
  }

  audit(): Promise<AuditReport> {
    return audit(this.deps, { waitMs: 1_000 })
  }

  /** Of the raw topic as it is now. */
  rawId = ''

  async learnRawId(): Promise<string> {
    const [raw] = await this.log.describe([TOPICS.raw])
    this.rawId = raw!.logId
    return this.rawId
  }

  async recreateRaw(): Promise<void> {
    await this.log.deleteTopic(TOPICS.raw)
    await this.createTopic(TOPICS.raw)
  }

  /** Removes what no member of the group holds back any more, up to the end. */
  async retain(topic: RawTopic | RowTopic = TOPICS.raw): Promise<void> {
    rmSync(join(this.dir, 'log', 'groups'), { recursive: true, force: true })
    const { end } = await this.log.bounds(topic, 0)
    await waitFor(
      'retention',
      async () => {
        await (this.log as EmbeddedLog).retainAll()
        return (await this.log.bounds(topic, 0)).start === end
      },
      WITHIN_MS,
    )
  }

  /** Deletes a row topic's records and what Postgres and ClickHouse know of its positions. */
  async forgetOutput(topic: RowTopic): Promise<void> {
    await this.log.deleteTopic(topic)
    await this.createTopic(topic)
    const [made] = await this.log.describe([topic])
    await this.sql`
      UPDATE load_fence SET log_id = ${made!.logId}, next_offset = 0 WHERE topic = ${topic}`
  }

  /** Runs `work`, and ingest on until all state that is listed was sent again. */
  async sentAgain(work: () => Promise<void>): Promise<void> {
    await work()
    await this.ingest(async () => {
      const [left] = await this.sql`SELECT count(*)::int AS n FROM state_republish`
      return left!.n === 0
    })
  }

  /** Persons and overrides of other tests are gone from ClickHouse. */
  async emptyState(): Promise<void> {
    for (const table of ['person', 'person_distinct_id_overrides', 'groups'])
      await this.deps.warehouse.command(`TRUNCATE TABLE ${table}`)
  }

  async rowsOf<T>(topic: string, decode: (reader: ByteReader) => T): Promise<T[]> {
    const rows: T[] = []
    const { end } = await this.log.bounds(topic, 0)
    for await (const records of this.log.read(topic, 0, 0, end))
      rows.push(...records.map(({ value }) => decode(new ByteReader(value))))
    return rows
  }

  /** As on another machine: without the dedup index. */
  forgetIndex(): void {
    rmSync(join(this.dir, 'dedup'), { recursive: true, force: true })
  }

  /** Saves the state as it is now. */
  async backup(): Promise<void> {
    await this.exchange(async (admin) => {
      await admin`DROP DATABASE IF EXISTS saved`
      await admin`CREATE DATABASE saved TEMPLATE headrace`
    })
  }

  /** Brings back what was saved, as a restore of a backup does. */
  async restore(): Promise<void> {
    await this.exchange(async (admin) => {
      await admin`DROP DATABASE headrace WITH (FORCE)`
      await admin`CREATE DATABASE headrace TEMPLATE saved`
    })
  }

  private async exchange(work: (admin: Sql) => Promise<void>): Promise<void> {
    await this.sql.end()
    const admin = openSql(this.servers, 'template1')
    try {
      await work(admin)
    } finally {
      await admin.end()
      this.sql = openSql(this.servers)
    }
  }

  async close(): Promise<void> {
    await this.sql.end()
    await this.log.close()
    await rm(this.dir, { recursive: true, force: true })
  }
}

function openSql({ postgres }: Servers, database = 'headrace'): Sql {
  return openPostgres({ url: { ...postgres.url, database }, name: 'repair test', connectionsMax: 20 })
}

/** Of the file that has called `benchForEachTest`. */
export let servers: Servers
export let bench: Bench

/** Servers for the tests of a file, and for each of them a bench, which `prepare` may make emptier still. */
export function benchForEachTest(prepare: (bench: Bench) => Promise<unknown> = async () => {}): void {
  beforeAll(async () => {
    servers = await Servers.start()
  })
  afterAll(() => servers.stop())
  beforeEach(async () => {
    await openBench()
    await prepare(bench)
  })
  afterEach(() => bench.close())
}

/** A new one in the place of the test's own, which is closed already. `shortLived` as in `Bench.open`. */
export async function openBench(shortLived?: readonly string[]): Promise<void> {
  bench = await Bench.open(servers, shortLived)
  await bench.learnRawId()
}
