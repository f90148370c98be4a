/**
 * What the fault tests of load stand on: a log that rows and their receipts are written to, a real Postgres, the real
 * engine, and loaders that are started again whenever they end, each with a network of its own to the engine.
 *
 * `prove()` ends a scenario: the stream stops, all is worked off, and then `count()` without FINAL, the distinct
 * sources, the dead letters and the audit must tell of exactly what was sent.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { migrateState, openPostgres, type Sql } from '../../../src/catalog/index.ts'
import { ROW_TOPICS, TOPICS } from '../../../src/event/index.ts'
import { audit, formatAudit } from '../../../src/ledger/index.ts'
import { type Log, openEmbeddedLog, openKafkaLog } from '../../../src/log/index.ts'
import type { Failpoint } from '../../../src/platform/index.ts'
import { type Kafka, startKafka } from '../../support/kafka.ts'
import { createTopics } from '../../support/rows.ts'
import { waitFor } from '../../support/wait-for.ts'
import { seeded } from '../crash.ts'
import { PostgresServer } from '../ingest/server.ts'
import { LIVES_ON, type Life } from '../kept-process.ts'
import type { LoadPlan } from '../workers/plan.ts'
import { bundleWorkers, type Stopped, WorkerProcess } from '../workers/process.ts'
import { Engine } from './engine.ts'
import { Stream } from './stream.ts'
import { type Hurt, Wire } from './wire.ts'

const PARTITIONS = 4
const PROCESSES = 2
const FLUSH_MS = 150
/** The stream holds back beyond: records that are not in an intent yet. */
const LAG_MAX = 2_000
const LOOK_MS = 200
const WORKED_OFF_MS_MAX = 240_000
/** Kafka gives the partitions of a silent member away after this long. */
const SESSION_MS = 1_500
const NAMED_DEFECTS_MAX = 3
const CONNECTIONS_MAX = 4

export type RigOptions = { kafka: boolean; seed: number; say(line: string): void }

export type Proven = {
  rows: number
  refused: number
  offsets: number
  inserts: number
  parts: number
  months: number
  engineKills: number
}

export class Rig {
  readonly random: () => number
  readonly loaders: WorkerProcess[] = []
  /** Asked at each start of a loader, by its number. */
  nextLife: (loader: number) => Life = () => LIVES_ON
  /** Told when a loader stands still at a place. */
  stopped: (loader: number, place: Failpoint, goOn: () => void) => void = (_, __, goOn) => goOn()
  /** Asked at each insert: what happens to it on its way. */
  hurt: () => Hurt | undefined = () => undefined
  /** Kills the sender of an insert that is to come late. */
  killedByHurt: (loader: number) => Promise<void> = async () => {}
  private readonly wires: Wire[] = []
  private readonly births: (() => WorkerProcess)[] = []
  private readonly stream: Stream
  private lagging = 0
  /** Records below the load fences, as far as is known. */
  loadedSoFar = 0
  private looking = true
  private readonly looks: Promise<void>

  private constructor(
    readonly options: RigOptions,
    readonly engine: Engine,
    private readonly postgres: PostgresServer,
    private readonly sql: Sql,
    private readonly log: Log,
    private readonly rawId: string,
    private readonly folder: string,
    private readonly kafka: Kafka | undefined,
  ) {
    this.random = seeded(options.seed)
    this.looks = this.look()
    const deps = { log, sql, rawId, partitions: PARTITIONS }
    this.stream = new Stream(deps, this.random, () => this.lagging > LAG_MAX)
  }

  static async start(options: RigOptions): Promise<Rig> {
    const folder = mkdtempSync(join(tmpdir(), 'headrace-load-faults-'))
    const [postgres, engine, kafka] = await Promise.all([
      PostgresServer.start(),
      Engine.start(),
      options.kafka ? startKafka({ brokers: 1 }) : undefined,
    ])
    const dir = join(folder, 'log')
    const log = kafka
      ? await openKafkaLog({ brokers: kafka.brokers, clientId: 'rig' })
      : await openEmbeddedLog({ dir })
    const ids = await createTopics(log, PARTITIONS)
    const sql = openPostgres({ url: postgres.url, name: 'rig', connectionsMax: CONNECTIONS_MAX })
    await migrateState(sql)
    const bundles = await bundleWorkers(folder)
    const rawId = ids.get(TOPICS.raw)!
    const rig = new Rig(options, engine, postgres, sql, log, rawId, folder, kafka)
    for (let i = 0; i < PROCESSES; i++) {
      const wire = await Wire.start(
        engine.url,
        rig.random,
        () => rig.hurt(),
        () => rig.killedByHurt(i),
      )
      rig.wires.push(wire)
      const plan: LoadPlan = {
        name: `load-${i + 1}`,
        log: kafka ? { brokers: kafka.brokers, sessionTimeoutMs: SESSION_MS } : { dir },
        postgres: postgres.url,
        warehouse: wire.url,
        partitions: PARTITIONS,
        flushMs: FLUSH_MS,
      }
      const stopped: Stopped = (place, goOn) => rig.stopped(i, place, goOn)
      rig.births.push(() => new WorkerProcess(bundles.load, plan, () => rig.nextLife(i), stopped))
    }
    return rig
  }

  /** The loaders start, each with a first life as `nextLife` says by now. */
  begin(): void {
    for (const birth of this.births) this.loaders.push(birth())
  }

  get rows(): number {
    return this.stream.rows
  }

  /** One partition gets a row that ClickHouse refuses. */
  spoil(): void {
    this.stream.spoil()
  }

  /** All that load consists of and stands on dies at one moment, but for the log, which others write; and comes back. */
  async losePower(): Promise<void> {
    await this.stream.without(async () => {
      const died = this.loaders.map((loader) => loader.kill())
      await Promise.all([...died, this.engine.restart(), this.postgres.kill()])
      await this.postgres.start()
    })
  }

  /** Since a loader stood still: gives whether others have settled what was open then, and loaded on in each partition. */
  async heirs(): Promise<() => Promise<boolean>> {
    const { sql } = this
    const at = (await sql<{ at: string }[]>`SELECT clock_timestamp()::text AS at`)[0]!.at
    return async () => {
      const [row] = await sql<{ went_on: boolean }[]>`
        SELECT NOT EXISTS (SELECT 1 FROM load_intent WHERE state = 'open' AND created_at < ${at}::text::timestamptz)
          AND (SELECT bool_and(updated_at > ${at}::text::timestamptz) FROM load_fence WHERE topic = ${TOPICS.events}) AS went_on`
      return row!.went_on
    }
  }

  /** Records that are in no intent yet, as far as is known. */
  get lag(): number {
    return this.lagging
  }

  async until(what: string, holds: () => boolean | Promise<boolean>, withinMs: number): Promise<void> {
    await waitFor(what, holds, withinMs, () => this.told())
  }

  /** Ends the stream and proves all since the rig began; throws one error with all that is wrong. */
  async prove(): Promise<Proven> {
    await this.stream.end()
    await this.until('end of the lag', () => this.isWorkedOff(), WORKED_OFF_MS_MAX)
    const { sql, log, engine, rawId, stream } = this
    const { warehouse } = engine
    const wrong = this.loaders
      .flatMap((loader) => loader.defects)
      .slice(0, NAMED_DEFECTS_MAX)
      .map((defect) => `a defect: ${defect}`)
    type Stored = { rows: number; sources: number; months: number }
    const [stored] = await warehouse.query<Stored>(
      `SELECT count() AS rows, uniqExact(_partition, _offset, _sub) AS sources, uniqExact(toYYYYMM(timestamp)) AS months
       FROM events WHERE _log_id = {rawId:UUID}`,
      { rawId },
    )
    if (stored!.rows !== stream.rows || stored!.sources !== stream.rows)
      wrong.push(
        `${stored!.rows} rows of ${stored!.sources} sources are stored, and ${stream.rows} were sent`,
      )
    const [letters] = await warehouse.query<{ sources: number }>(
      'SELECT uniqExact(_partition, _offset, _sub) AS sources FROM dead_letters WHERE _log_id = {rawId:UUID}',
      { rawId },
    )
    if (letters!.sources !== stream.refused)
      wrong.push(`${letters!.sources} rows are dead-lettered, and ${stream.refused} were sent to be refused`)
    const [intents] = await sql<{ repair: number; done: number }[]>`
      SELECT count(*) FILTER (WHERE state = 'repair')::int AS repair, count(*) FILTER (WHERE state = 'done')::int AS done
      FROM load_intent`
    if (intents!.repair > 0) wrong.push(`${intents!.repair} intents wait for a repair`)
    const report = await audit({ sql, log, warehouse })
    if (!report.exact) wrong.push(formatAudit(report))
    if (wrong.length > 0) throw new Error(wrong.join('\n'))
    const [parts] = await warehouse.query<{ n: number }>(
      `SELECT count() AS n FROM system.parts WHERE active AND table = 'events' AND database = currentDatabase()`,
    )
    return {
      rows: stored!.rows,
      refused: stream.refused,
      offsets: report.partitions.reduce((sum, { from, through }) => sum + through - from, 0),
      inserts: intents!.done,
      parts: parts!.n,
      months: stored!.months,
      engineKills: engine.kills,
    }
  }

  told(): string {
    return [
      `${this.lagging} behind`,
      ...this.loaders.map((loader) => `${loader.name}:\n${loader.told()}`),
    ].join('\n')
  }

  /** Every loader ends with success. */
  async stopCleanly(): Promise<void> {
    const codes = await Promise.all(this.loaders.map((loader) => loader.stop()))
    if (codes.some((code) => code !== 0))
      throw new Error(`the loaders stopped with exit codes ${codes.join(', ')}\n${this.told()}`)
  }

  async stop(): Promise<void> {
    this.looking = false
    await this.stream.end().catch(() => {})
    await Promise.all(this.loaders.map((loader) => loader.abandon()))
    await this.looks
    await this.sql.end({ timeout: 1 })
    await this.log.close()
    await Promise.all(this.wires.map((wire) => wire.close()))
    await Promise.all([this.kafka?.stop(), this.postgres.remove(), this.engine.remove()])
    rmSync(this.folder, { recursive: true, force: true })
  }

  private async isWorkedOff(): Promise<boolean> {
    const [row] = await this.sql<{ open: number }[]>`
      SELECT count(*)::int AS open FROM load_intent WHERE state = 'open'`
    return row!.open === 0 && (await this.behind()) === 0
  }

  private async behind(): Promise<number> {
    const [row] = await this.sql<{ next: number }[]>`
      SELECT coalesce(sum(next_offset), 0)::bigint AS next FROM load_fence`
    let end = 0
    for (const { name, partitions } of await this.log.describe([...ROW_TOPICS])) {
      for (let partition = 0; partition < partitions; partition++)
        end += (await this.log.bounds(name, partition)).end
    }
    this.loadedSoFar = Number(row!.next)
    return end - this.loadedSoFar
  }

  private async look(): Promise<void> {
    while (this.looking) {
      this.lagging = await this.behind().catch(() => this.lagging)
      await Bun.sleep(LOOK_MS)
    }
  }
}
