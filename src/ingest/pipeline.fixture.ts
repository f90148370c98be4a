/**
 * Ingest on real parts for tests: an embedded log with one partition and a real Postgres, fresh for each test. What
 * is captured goes straight to the raw topic; `run` works until a condition holds, and stops.
 */

import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'bun:test'
import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { plainHeader } from '../../test/support/raw-header.ts'
import { createTopics } from '../../test/support/rows.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import {
  type EmbeddedPostgres,
  ensureDefaultProject,
  ProjectCatalog,
  readSettings,
  type Settings,
  type Sql,
  startEmbeddedPostgres,
} from '../catalog/index.ts'
import { ByteReader, encodeRawHeader, type RawHeader, TOPICS } from '../event/index.ts'
import { type Log, openEmbeddedLog, type StoredRecord } from '../log/index.ts'
import { type Ingest, startIngest } from './index.ts'

export const TOKEN = 'hostile'
export const WITHIN_MS = 30_000
/** Less than what the rows of the largest batches come to. */
const QUEUE_BYTES_MAX = 16 * 2 ** 20
const WRITER_WAIT_MS = 200

export type Captured = { json: string } & Partial<RawHeader>

export class Pipeline {
  private postgres!: TestPostgres
  private revived: EmbeddedPostgres | undefined
  private dir!: string
  log!: Log

  /** Registers the set-up with the test file. */
  constructor() {
    beforeAll(async () => {
      this.postgres = await startTestPostgres()
      await ensureDefaultProject(this.sql, TOKEN)
    })
    afterAll(async () => {
      await this.postgres.stop()
      await this.revived?.stop()
    })
    beforeEach(async () => {
      this.dir = await mkdtemp(join(tmpdir(), 'headrace-ingest-'))
      this.log = await this.openLog()
      await this
        .sql`TRUNCATE ingest_fence, receipt, person_distinct_id, person, group_type, group_state CASCADE`
      await this.sql`TRUNCATE cookieless_salt, cookieless_visitor`
      await createTopics(this.log, 1)
    })
    afterEach(async () => {
      await this.log.close()
      await rm(this.dir, { recursive: true })
    })
  }

  get sql(): Sql {
    return this.postgres.sql
  }

  /** The log as another process has it. */
  openLog(): Promise<Log> {
    return openEmbeddedLog({ dir: this.dir, queueBytesMax: QUEUE_BYTES_MAX, writerWaitMs: WRITER_WAIT_MS })
  }

  /** `before`: how many were captured before these. */
  async capture(bodies: Captured[], before = 0): Promise<void> {
    const producer = this.log.producer({ name: 'capture', deadlineMs: 10_000 })
    for (const [i, { json, ...changes }] of bodies.entries()) {
      const header = encodeRawHeader(
        plainHeader({
          token: TOKEN,
          distinctId: 'd',
          event: 'e',
          uuid: `018f4b2e-0000-7000-8000-${String(before + i).padStart(12, '0')}`,
          timestampMs: Date.UTC(2026, 0, 1) + i,
          ...changes,
        }),
      )
      await producer.send([{ topic: TOPICS.raw, partition: 0, header, value: Buffer.from(json) }])
    }
    await producer.close()
  }

  /** Ingest at work until `done`; a fatal end fails the test. */
  async run(
    done: (ingest: Ingest) => Promise<boolean>,
    { sql = this.sql, settings = {} }: { sql?: Sql; settings?: Partial<Settings> } = {},
  ): Promise<void> {
    // As the role does.
    const projects = new ProjectCatalog(this.sql, { unknownMs: 0 })
    let fatal: unknown
    const ingest = await startIngest({
      settings: readSettings({ HEADRACE_DATA_DIR: this.dir }, settings),
      log: this.log,
      sql,
      projects,
      partitions: 1,
      logger: pino({ level: 'silent' }),
      fatal: (error) => {
        fatal ??= error
      },
    })
    try {
      await waitFor(
        'ingest to come so far',
        async () => fatal !== undefined || (await done(ingest)),
        WITHIN_MS,
      )
    } finally {
      await ingest.stop()
      await projects.close()
    }
    expect(fatal).toBeUndefined()
  }

  /** Postgres dies, `work` is done without it, and it is back. */
  async withoutPostgres(work: () => Promise<void>): Promise<void> {
    await this.postgres.kill()
    await work()
    this.revived = await startEmbeddedPostgres({ dataDir: this.postgres.dataDir })
  }

  /** True when all that is below `offsets` is in the log, and Postgres knows it. */
  async isProduced(offsets: number): Promise<boolean> {
    const [fence] = await this.sql`SELECT produced_through FROM ingest_fence WHERE topic = ${TOPICS.raw}`
    return fence?.produced_through === offsets
  }

  /** Runs until all that was captured is produced, and gives the totals of the receipts. */
  async ingested(
    offsets: number,
    how?: { sql?: Sql; settings?: Partial<Settings> },
  ): Promise<{ stored: number; dead: number }> {
    await this.run(() => this.isProduced(offsets), how)
    const [sums] = await this
      .sql`SELECT sum(stored)::int AS stored, sum(dead_lettered)::int AS dead FROM receipt`
    return { stored: sums!.stored, dead: sums!.dead }
  }

  /** As on another machine: without the dedup index. */
  forgetIndex(): void {
    rmSync(join(this.dir, 'dedup'), { recursive: true })
  }

  async records(topic: string): Promise<StoredRecord[]> {
    const all: StoredRecord[] = []
    const { end } = await this.log.bounds(topic, 0)
    for await (const records of this.log.read(topic, 0, 0, end)) all.push(...records)
    return all
  }

  async rowsOf(topic: string): Promise<ByteReader[]> {
    return (await this.records(topic)).map(({ value }) => new ByteReader(value))
  }
}
