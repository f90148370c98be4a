/**
 * What the fault tests of ingest stand on: a log with the raw topics being written to, a real Postgres, and ingest
 * processes that are started again whenever they end; behind them one load process and a real ClickHouse engine.
 *
 * `prove()` ends a scenario: the load stops, all is worked off, and then the raw log since its beginning is folded anew
 * and held against the output topics, Postgres and ClickHouse.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensureDefaultProject, migrateState, openPostgres, type Sql } from '../../../src/catalog/index.ts'
import { RAW_TOPICS, ROW_TOPICS, TOPICS } from '../../../src/event/index.ts'
import { deploymentTopics, type Log, openEmbeddedLog, openKafkaLog } from '../../../src/log/index.ts'
import { type Kafka, startKafka } from '../../support/kafka.ts'
import { cleanEnvironment } from '../../support/product.ts'
import { waitFor } from '../../support/wait-for.ts'
import { startTestWarehouse, type TestWarehouse } from '../../support/warehouse.ts'
import { seeded } from '../crash.ts'
import { LIVES_ON, type Life } from '../kept-process.ts'
import type { IngestPlan, LoadPlan } from '../workers/plan.ts'
import { bundleWorkers, type Stopped, WorkerProcess } from '../workers/process.ts'
import { stopMerges } from './check-warehouse.ts'
import { Load } from './load.ts'
import type { RawRecord } from './model.ts'
import { type Proven, proveAll } from './proof.ts'
import { readFences, readLane } from './read.ts'
import { PostgresServer } from './server.ts'
import { Story, TOKEN } from './story.ts'
import { publishNext } from './transformed.ts'

export const PARTITIONS = 4
const PROCESSES = 2
const HEADRACE = join(import.meta.dir, '../../../headrace')
/** A row with properties of EVENT_BYTES_TOO_LARGE is larger, any other one is not. */
const ROW_BYTES_MAX = 65_536
const EVENTS_PER_SECOND = 240
/** The load holds back beyond. */
const LAG_MAX = 1_500
const LOOK_MS = 200
const WORKED_OFF_MS_MAX = 180_000
/** Kafka gives the partitions of a silent member away after this long; how long a zombie is silent. */
const SESSION_MS = 1_500
/** Seldom: the machine is busy with those that die. */
const LOAD_FLUSH_MS = 3_000
const ZOMBIE_MS = { embedded: 400, kafka: 2 * SESSION_MS }
/** Small batches, many of them. */
const SETTINGS = { HEADRACE_INGEST_BATCH_EVENTS_MAX: '25', HEADRACE_INGEST_LINGER_MS: '5' }
const CONNECTIONS_MAX = 4

export type RigOptions = {
  kafka: boolean
  seed: number
  /** Sets of transformations are published, one at the start and one with each round; see transformed.ts. */
  transform?: boolean
  say(line: string): void
}

export class Rig {
  readonly random: () => number
  readonly story: Story
  readonly processes: WorkerProcess[] = []
  /** Asked at each start of an ingest process. */
  nextLife: () => Life = () => LIVES_ON
  load: Load | undefined
  private acked = 0
  /** Decided records of raw topics that are not there any more. */
  private readonly former: RawRecord[] = []
  /** What went with such a topic and was decided by nobody. */
  private readonly lost: RawRecord[] = []
  private lagging = 0
  private fencesSum = 0
  private looking = true
  private readonly looks: Promise<void>

  private constructor(
    readonly options: RigOptions,
    readonly postgres: PostgresServer,
    readonly sql: Sql,
    readonly log: Log,
    private readonly folder: string,
    private readonly kafka: Kafka | undefined,
    private readonly teamId: number,
    private readonly warehouse: TestWarehouse,
    readonly loader: WorkerProcess,
  ) {
    this.random = seeded(options.seed)
    this.story = new Story(PARTITIONS, this.random)
    this.looks = this.look()
  }

  static async start(options: RigOptions): Promise<Rig> {
    const folder = mkdtempSync(join(tmpdir(), 'headrace-ingest-faults-'))
    const [postgres, warehouse, kafka] = await Promise.all([
      PostgresServer.start(),
      startTestWarehouse(),
      options.kafka ? startKafka({ brokers: 1 }) : undefined,
    ])
    const dir = join(folder, 'log')
    const log = kafka
      ? await openKafkaLog({ brokers: kafka.brokers, clientId: 'rig' })
      : await openEmbeddedLog({ dir })
    const sql = openPostgres({ url: postgres.url, name: 'rig', connectionsMax: CONNECTIONS_MAX })
    await migrateState(sql)
    const { teamId } = await ensureDefaultProject(sql, TOKEN)
    if (options.transform) await publishNext(sql, teamId)
    for (const topic of deploymentTopics({ partitions: PARTITIONS }))
      await log.createTopic(
        topic.name === TOPICS.events ? { ...topic, recordBytesMax: ROW_BYTES_MAX } : topic,
      )
    await stopMerges(warehouse.warehouse)
    const bundles = await bundleWorkers(folder)
    const common = {
      log: kafka ? { brokers: kafka.brokers, sessionTimeoutMs: SESSION_MS } : { dir },
      postgres: postgres.url,
      partitions: PARTITIONS,
    }
    const { url } = warehouse
    const loadPlan: LoadPlan = { ...common, name: 'load', warehouse: url, flushMs: LOAD_FLUSH_MS }
    const loader = new WorkerProcess(bundles.load, loadPlan, () => LIVES_ON, goesOnAfter(0))
    const rig = new Rig(options, postgres, sql, log, folder, kafka, teamId, warehouse, loader)
    for (let i = 1; i <= PROCESSES; i++) {
      const name = `ingest-${i}`
      // On one machine the processes share the dedup indexes; else each has its own.
      const dataDir = join(folder, kafka ? name : 'data')
      const plan: IngestPlan = { ...common, name, dataDir, settings: SETTINGS }
      rig.processes.push(
        new WorkerProcess(bundles.ingest, plan, () => rig.nextLife(), goesOnAfter(rig.zombieMs)),
      )
    }
    return rig
  }

  /** Another version of the transformations, if any: what is in flight is of the one before. */
  async publishNext(): Promise<void> {
    if (this.options.transform) await publishNext(this.sql, this.teamId)
  }

  /** How long a process that stops itself is silent. */
  get zombieMs(): number {
    return this.kafka ? ZOMBIE_MS.kafka : ZOMBIE_MS.embedded
  }

  /** Ends of lives that nobody caused. */
  get defects(): string[] {
    return [...this.processes, this.loader].flatMap(({ defects }) => defects)
  }

  /** Captures from now on, until `prove`. */
  startLoad(): Load {
    const isBehind = () => this.lagging > LAG_MAX
    this.load = new Load(this.log, this.story, EVENTS_PER_SECOND, isBehind, this.random)
    return this.load
  }

  /** Raw records that are not decided yet, as far as is known. */
  get lag(): number {
    return this.lagging
  }

  /** Raw records that are decided, as far as is known. */
  get decidedSoFar(): number {
    return this.fencesSum
  }

  /** Until ingest has decided `records` more than now. */
  async moved(records: number, withinMs: number): Promise<void> {
    const until = this.fencesSum + records
    await waitFor(
      `${records} more records decided`,
      () => this.fencesSum >= until,
      withinMs,
      () => this.told(),
    )
  }

  /** How many records are, by the fences; asked until there is an answer. */
  async decided(): Promise<number> {
    for (;;) {
      const decided = await this.askDecided().catch(() => undefined)
      if (decided !== undefined) return decided
      await Bun.sleep(LOOK_MS / 4)
    }
  }

  private async askDecided(): Promise<number> {
    const [row] = await this.sql<{ decided: number }[]>`
      SELECT coalesce(sum(next_offset), 0)::bigint AS decided FROM ingest_fence WHERE closed_at IS NULL`
    return row!.decided
  }

  async until(what: string, holds: () => boolean | Promise<boolean>, withinMs: number): Promise<void> {
    await waitFor(what, holds, withinMs, () => this.told())
  }

  /** The load ends, and all that it captured is decided. */
  async workOff(): Promise<void> {
    await this.endLoad()
    await this.until('end of the lag', () => this.isWorkedOff(), WORKED_OFF_MS_MAX)
  }

  async endLoad(): Promise<void> {
    await this.load?.end()
    this.acked += this.load?.acked ?? 0
    this.load = undefined
  }

  /** As an operator by mistake: what nobody has decided is lost. Ingest must have nothing at hand. Gives how much it is. */
  async recreateRaw(): Promise<number> {
    const fences = await readFences(this.sql)
    const [raw] = await this.log.describe([TOPICS.raw])
    const { logId } = raw!
    const before = this.lost.length
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const fence = fences.find((one) => one.log_id === logId && one.partition === partition)
      const records = await readLane(this.log, { topic: TOPICS.raw, logId, partition })
      const decided = fence?.next_offset ?? 0
      this.former.push(...records.filter(({ offset }) => offset < decided))
      this.lost.push(...records.filter(({ offset }) => offset >= decided))
    }
    await this.log.deleteTopic(TOPICS.raw)
    await this.log.createTopic(
      deploymentTopics({ partitions: PARTITIONS }).find(({ name }) => name === TOPICS.raw)!,
    )
    return this.lost.length - before
  }

  /** `headrace repair …` as an operator runs it. */
  async repair(...words: string[]): Promise<{ code: number; text: string }> {
    const cli = Bun.spawn([HEADRACE, 'repair', ...words], {
      env: {
        ...cleanEnvironment(),
        HEADRACE_DATA_DIR: this.folder,
        HEADRACE_PARTITIONS: String(PARTITIONS),
        HEADRACE_POSTGRES: this.postgres.url,
        HEADRACE_CLICKHOUSE: this.warehouse.url,
        HEADRACE_LOG: this.kafka ? `kafka://${this.kafka.brokers.join(',')}` : 'embedded',
      },
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const [out, errors] = await Promise.all([
      new Response(cli.stdout).text(),
      new Response(cli.stderr).text(),
    ])
    return { code: await cli.exited, text: out + errors }
  }

  /** Ends the load and proves all since the rig began; throws one error with all that is wrong. */
  async prove(): Promise<Proven> {
    await this.workOff()
    await this.until('load of all rows', () => this.isLoaded(), WORKED_OFF_MS_MAX)
    const { log, sql, teamId, former, lost, defects } = this
    const { warehouse } = this.warehouse
    const captured = this.acked - lost.length
    return proveAll({ log, sql, warehouse, teamId, partitions: PARTITIONS, former, lost, captured, defects })
  }

  told(): string {
    const told = [...this.processes, this.loader].map((process) => `${process.name}:\n${process.told()}`)
    return [`${this.lagging} behind`, ...told].join('\n')
  }

  async stop(): Promise<void> {
    this.looking = false
    await this.load?.end().catch(() => {})
    await Promise.all([...this.processes, this.loader].map((process) => process.abandon()))
    await this.looks
    await this.sql.end({ timeout: 1 })
    await this.log.close()
    await Promise.all([this.kafka?.stop(), this.postgres.remove(), this.warehouse.stop()])
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Every process ends with success. */
  async stopCleanly(): Promise<void> {
    const codes = await Promise.all([...this.processes, this.loader].map((process) => process.stop()))
    if (codes.some((code) => code !== 0))
      throw new Error(`ingest and load stopped with exit codes ${codes.join(', ')}\n${this.told()}`)
  }

  private async isWorkedOff(): Promise<boolean> {
    const [row] = await this.sql<{ done: number; pending: number }[]>`
      SELECT (SELECT coalesce(sum(produced_through), 0)::bigint FROM ingest_fence WHERE closed_at IS NULL) AS done,
        (SELECT count(*) FROM pending_move)::int + (SELECT count(*) FROM state_republish)::int AS pending`
    return row!.done === (await this.end()) && row!.pending === 0
  }

  private async isLoaded(): Promise<boolean> {
    const [open] = await this.sql<{ n: number }[]>`
      SELECT count(*)::int AS n FROM load_intent WHERE state = 'open'`
    if (open!.n > 0) return false
    const fences = await this.sql<{ topic: string; partition: number; next_offset: number }[]>`
      SELECT topic, partition, next_offset FROM load_fence`
    const loaded = new Map(fences.map((fence) => [`${fence.topic}/${fence.partition}`, fence.next_offset]))
    for (const { name, partitions } of await this.log.describe([...ROW_TOPICS]))
      for (let partition = 0; partition < partitions; partition++)
        if ((loaded.get(`${name}/${partition}`) ?? 0) < (await this.log.bounds(name, partition)).end)
          return false
    return true
  }

  private async end(): Promise<number> {
    let sum = 0
    for (const topic of RAW_TOPICS)
      for (let partition = 0; partition < PARTITIONS; partition++)
        sum += (await this.log.bounds(topic, partition)).end
    return sum
  }

  private async look(): Promise<void> {
    while (this.looking) {
      // While Postgres is away, what it said last stands.
      const asked = this.askDecided().catch(() => undefined)
      this.fencesSum = (await Promise.race([asked, Bun.sleep(LOOK_MS)])) ?? this.fencesSum
      this.lagging = (await this.end()) - this.fencesSum
      await Bun.sleep(LOOK_MS)
    }
  }
}

/** What a stopped process is given. */
function goesOnAfter(zombieMs: number): Stopped {
  return (_place, goOn) => setTimeout(goOn, zombieMs)
}
