/**
 * What the fault tests of ingest stand on: a log with the raw topics being written to, a real Postgres, and ingest
 * processes that are started again whenever they end.
 *
 * `prove()` ends a scenario: the load stops, all is worked off, and then the raw log since its beginning is folded anew
 * and held against the output topics and Postgres.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensureDefaultProject, migrateState, openPostgres, type Sql } from '../../../src/catalog/index.ts'
import { RAW_TOPICS, TOPICS } from '../../../src/event/index.ts'
import { deploymentTopics, type Log, openEmbeddedLog, openKafkaLog } from '../../../src/log/index.ts'
import { type Kafka, startKafka } from '../../support/kafka.ts'
import { waitFor } from '../../support/wait-for.ts'
import { seeded } from '../crash.ts'
import { LIVES_ON, type Life } from '../kept-process.ts'
import { checkReceipts } from './check-receipts.ts'
import { checkRows } from './check-rows.ts'
import { checkState } from './check-state.ts'
import { Findings } from './findings.ts'
import { bundleWorker, IngestProcess } from './ingest-process.ts'
import { Load } from './load.ts'
import { readFences, readOutput, readRaw, readReceipts, readState } from './read.ts'
import { PostgresServer } from './server.ts'
import { Story, TOKEN } from './story.ts'
import type { WorkerPlan } from './worker-plan.ts'

export const PARTITIONS = 4
const PROCESSES = 2
/** A row with properties of EVENT_BYTES_TOO_LARGE is larger, any other one is not. */
const ROW_BYTES_MAX = 65_536
const EVENTS_PER_SECOND = 240
/** The load holds back beyond. */
const LAG_MAX = 1_500
const LOOK_MS = 200
const WORKED_OFF_MS_MAX = 180_000
const NAMED_DEFECTS_MAX = 3
/** Kafka gives the partitions of a silent member away after this long; how long a zombie is silent. */
const SESSION_MS = 1_500
const ZOMBIE_MS = { embedded: 400, kafka: 2 * SESSION_MS }
/** Small batches, many of them. */
const SETTINGS = { HEADRACE_INGEST_BATCH_EVENTS_MAX: '25', HEADRACE_INGEST_LINGER_MS: '5' }
const CONNECTIONS_MAX = 4

export type RigOptions = { kafka: boolean; seed: number; say(line: string): void }

export type Proven = {
  records: number
  stored: number
  duplicates: number
  dropped: number
  deadLettered: number
  persons: number
  receipts: number
  restamped: number
  /** Rows and outcomes that were produced again. */
  copies: number
}

export class Rig {
  readonly random: () => number
  readonly story: Story
  readonly processes: IngestProcess[] = []
  /** Asked at each start of an ingest process. */
  nextLife: () => Life = () => LIVES_ON
  load: Load | undefined
  private acked = 0
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
  ) {
    this.random = seeded(options.seed)
    this.story = new Story(PARTITIONS, this.random)
    this.looks = this.look()
  }

  static async start(options: RigOptions): Promise<Rig> {
    const folder = mkdtempSync(join(tmpdir(), 'headrace-ingest-faults-'))
    const [postgres, kafka] = await Promise.all([
      PostgresServer.start(),
      options.kafka ? startKafka({ brokers: 1 }) : undefined,
    ])
    const dir = join(folder, 'log')
    const log = kafka
      ? await openKafkaLog({ brokers: kafka.brokers, clientId: 'rig' })
      : await openEmbeddedLog({ dir })
    const sql = openPostgres({ url: postgres.url, name: 'rig', connectionsMax: CONNECTIONS_MAX })
    await migrateState(sql)
    const { teamId } = await ensureDefaultProject(sql, TOKEN)
    for (const topic of deploymentTopics({ partitions: PARTITIONS }))
      await log.createTopic(
        topic.name === TOPICS.events ? { ...topic, recordBytesMax: ROW_BYTES_MAX } : topic,
      )
    const worker = await bundleWorker(folder)
    const rig = new Rig(options, postgres, sql, log, folder, kafka, teamId)
    for (let i = 1; i <= PROCESSES; i++) {
      const name = `ingest-${i}`
      const plan: WorkerPlan = {
        name,
        log: kafka ? { brokers: kafka.brokers, sessionTimeoutMs: SESSION_MS } : { dir },
        postgres: postgres.url,
        // On one machine the processes share the dedup indexes; else each has its own.
        dataDir: join(folder, kafka ? name : 'data'),
        partitions: PARTITIONS,
        settings: SETTINGS,
      }
      const zombieMs = kafka ? ZOMBIE_MS.kafka : ZOMBIE_MS.embedded
      rig.processes.push(new IngestProcess(worker, plan, () => rig.nextLife(), zombieMs))
    }
    return rig
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
    const fences = await readFences(this.sql)
    return fences.reduce((sum, fence) => sum + fence.next_offset, 0)
  }

  async until(what: string, holds: () => boolean | Promise<boolean>, withinMs: number): Promise<void> {
    await waitFor(what, holds, withinMs, () => this.told())
  }

  /** Ends the load and proves all since the rig began; throws one error with all that is wrong. */
  async prove(): Promise<Proven> {
    await this.load?.end()
    this.acked += this.load?.acked ?? 0
    this.load = undefined
    await this.until('end of the lag', () => this.isWorkedOff(), WORKED_OFF_MS_MAX)
    const findings = new Findings()
    const { model, lanes } = await readRaw(this.log, PARTITIONS)
    const output = await readOutput(this.log)
    const receipts = await readReceipts(this.sql)
    const { copies } = checkRows(model, output, findings)
    checkReceipts(model, lanes, receipts, await readFences(this.sql), findings)
    checkState(model, await readState(this.sql, this.teamId), output.state, findings)
    const isWhole = model.expected.size === this.acked
    findings.expect(isWhole, 'captured', () => `${model.expected.size} instead of ${this.acked}`)
    const defects = this.processes.flatMap((process) => process.defects)
    const sentences = [
      ...findings.sentences(),
      ...defects.slice(0, NAMED_DEFECTS_MAX).map((defect) => `${defects.length} defects, such as ${defect}`),
    ]
    if (sentences.length > 0) throw new Error(sentences.join('\n'))
    const ended = (state: string) =>
      [...model.expected.values()].filter((expected) => expected.state === state).length
    return {
      records: model.expected.size,
      stored: ended('stored'),
      duplicates: ended('duplicate'),
      dropped: ended('dropped'),
      deadLettered: ended('dead_lettered'),
      persons: model.persons().length,
      receipts: receipts.length,
      restamped: output.events.filter(({ row }) => row._restamped).length,
      copies,
    }
  }

  told(): string {
    const told = this.processes.map((process) => `${process.name}:\n${process.told()}`)
    return [`${this.lagging} behind`, ...told].join('\n')
  }

  async stop(): Promise<void> {
    this.looking = false
    await this.load?.end().catch(() => {})
    await Promise.all(this.processes.map((process) => process.abandon()))
    await this.looks
    await this.sql.end({ timeout: 1 })
    await this.log.close()
    await Promise.all([this.kafka?.stop(), this.postgres.remove()])
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Every process ends with success. */
  async stopCleanly(): Promise<void> {
    const codes = await Promise.all(this.processes.map((process) => process.stop()))
    if (codes.some((code) => code !== 0))
      throw new Error(`ingest stopped with exit codes ${codes.join(', ')}\n${this.told()}`)
  }

  private async isWorkedOff(): Promise<boolean> {
    const [row] = await this.sql<{ done: number; pending: number }[]>`
      SELECT (SELECT coalesce(sum(produced_through), 0)::bigint FROM ingest_fence) AS done,
        (SELECT count(*)::int FROM pending_move) AS pending`
    return row!.done === (await this.end()) && row!.pending === 0
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
