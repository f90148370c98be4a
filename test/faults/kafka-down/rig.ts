/**
 * What the fault tests of capture stand on: three real brokers behind proxies that can be cut, held back and slowed, a
 * real Postgres, and some `headrace capture`, each a process on its own data folder with its own clients.
 *
 * `prove()` ends a scenario: the clients finish, the spools run empty, and then everything that came into Kafka is
 * held against everything that was promised since the rig began.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { listSpools, openPostgres, type Sql } from '../../../src/catalog/index.ts'
import { applyPlan, deploymentTopics, type Log, openKafkaLog, planTopics } from '../../../src/log/index.ts'
import { type Kafka, startKafka } from '../../support/kafka.ts'
import { startPostgresByUrl, type UrlPostgres } from '../../support/postgres.ts'
import { cleanEnvironment, freePorts } from '../../support/product.ts'
import { waitFor } from '../../support/wait-for.ts'
import { seeded } from '../crash.ts'
import { LIVES_ON, type Life } from '../kept-process.ts'
import { CaptureProcess } from './capture-process.ts'
import { Ledger } from './ledger.ts'
import { Network } from './network.ts'
import { Proof, RawTopics } from './proof.ts'
import { SENDER_KINDS, Sender, type SenderKind } from './sender.ts'

const TOKEN = 'phc_test'
const PARTITIONS = 8
const BROKERS = 3
const MIN_INSYNC = 2
/** Under a machine that is busy with the load itself. */
const EMPTY_MS_MAX = 180_000
const NAMED_DEFECTS_MAX = 5

export type RigOptions = {
  captures: number
  seed: number
  /** Between two requests of one client, ms. */
  sendEveryMs: number
  say(line: string): void
}

export class Rig {
  readonly ledger = new Ledger()
  readonly random: () => number
  readonly network: Network
  /** Asked at each start of a capture process. */
  nextLife: () => Life = () => LIVES_ON
  private readonly proof: Proof
  private readonly rawTopics: RawTopics
  private senders: Sender[] = []

  private constructor(
    readonly options: RigOptions,
    readonly kafka: Kafka,
    private readonly postgres: UrlPostgres,
    private readonly sql: Sql,
    private readonly log: Log,
    /** For whatever a scenario keeps; gone at the end. */
    readonly folder: string,
    readonly captures: CaptureProcess[],
  ) {
    this.random = seeded(options.seed)
    this.network = new Network(kafka.proxies)
    this.proof = new Proof(this.ledger.sent, { token: TOKEN, partitions: PARTITIONS })
    this.rawTopics = new RawTopics(log, PARTITIONS)
  }

  static async start(options: RigOptions): Promise<Rig> {
    const folder = mkdtempSync(join(tmpdir(), 'headrace-kafka-down-'))
    const [kafka, postgres] = await Promise.all([
      startKafka({ brokers: BROKERS, proxied: true }),
      startPostgresByUrl(),
    ])
    const log = await openKafkaLog({ brokers: kafka.brokers, clientId: 'proof' })
    const wanted = deploymentTopics({
      partitions: PARTITIONS,
      replication: BROKERS,
      minInsyncReplicas: MIN_INSYNC,
    })
    await applyPlan(log, planTopics(wanted, []))
    const sql = openPostgres({ url: postgres.url, name: 'proof', connectionsMax: 1 })
    const captures: CaptureProcess[] = []
    const rig = new Rig(options, kafka, postgres, sql, log, folder, captures)
    try {
      const ports = freePorts(options.captures)
      for (const [index, port] of ports.entries()) {
        const capture = new CaptureProcess(`capture-${index + 1}`, folder, port, rig.environment(), () =>
          rig.nextLife(),
        )
        captures.push(capture)
        // One after the other: the first one migrates.
        await capture.up()
      }
      await rig.direct()
    } catch (error) {
      await rig.stop()
      throw error
    }
    return rig
  }

  /** Of a capture process. */
  private environment(settings: Record<string, string> = {}): Record<string, string> {
    return {
      ...cleanEnvironment(),
      HEADRACE_LOG: `kafka://${this.kafka.proxiedBrokers.join(',')}`,
      HEADRACE_POSTGRES: this.postgres.url,
      HEADRACE_PROJECT_TOKEN: TOKEN,
      HEADRACE_PARTITIONS: String(PARTITIONS),
      HEADRACE_KAFKA_REPLICATION: String(BROKERS),
      HEADRACE_KAFKA_MIN_INSYNC_REPLICAS: String(MIN_INSYNC),
      ...settings,
    }
  }

  /** Clients of all `kinds` for every capture process. */
  load(kinds: readonly SenderKind[] = SENDER_KINDS): void {
    const round = this.ledger.sent.size
    for (const capture of this.captures)
      for (const [index, kind] of kinds.entries()) {
        const name = `${capture.name}-${round}-${index}`
        this.senders.push(new Sender(name, kind, capture, TOKEN, this.options.sendEveryMs, this.ledger))
      }
  }

  /** Stops all captures, which must leave nothing, and starts them with other settings. */
  async reconfigure(settings: (capture: CaptureProcess) => Record<string, string>): Promise<void> {
    await this.stopCleanly()
    for (const capture of this.captures) capture.resume(this.environment(settings(capture)))
    for (const capture of this.captures) await capture.up()
    await this.direct()
  }

  /** Until `events` more are acknowledged. */
  async more(events: number, withinMs = 60_000): Promise<void> {
    const until = this.ledger.acked + events
    await waitFor(
      `${events} more acknowledged events`,
      () => this.ledger.acked >= until,
      withinMs,
      () => this.told(),
    )
  }

  /** Until every capture process says so of one of its metrics. */
  async all(what: string, holds: (metrics: Record<string, number>) => boolean, withinMs = EMPTY_MS_MAX) {
    const check = async () => {
      for (const capture of this.captures) {
        const metrics = await capture.metrics()
        if (!metrics || !holds(metrics)) return false
      }
      return true
    }
    await waitFor(what, check, withinMs, () => this.told())
  }

  spooling = () =>
    this.all('captures that spool', (metrics) => metrics.headrace_capture_spool_state === 1, 30_000)

  /** Every event goes straight to Kafka. */
  direct = () =>
    this.all(
      'captures on the direct way',
      (metrics) => metrics.headrace_capture_spool_state === 0 && metrics.headrace_capture_spool_records === 0,
    )

  /** Ends the load and proves it; throws one error with all that is wrong. */
  async prove(): Promise<{ events: number; copies: number }> {
    await Promise.all(this.senders.map((sender) => sender.end()))
    this.senders = []
    await this.direct()
    await waitFor(
      'a register in which all accepted events are drained',
      async () => {
        const spools = await listSpools(this.sql)
        const isDrained = spools.every(
          ({ accepted, drained, state }) => accepted === drained && state === 'direct',
        )
        return isDrained && spools.length === this.captures.length
      },
      EMPTY_MS_MAX,
      () => this.told(),
    )
    await this.rawTopics.show(this.proof)
    const findings = [...this.proof.findings()]
    for (const defects of [this.ledger.defects, ...this.captures.map((capture) => capture.defects)])
      if (defects.length > 0)
        findings.push(`${defects.length} defects, such as ${defects.slice(0, NAMED_DEFECTS_MAX).join('\n')}`)
    if (findings.length > 0) throw new Error(findings.join('\n'))
    return { events: this.ledger.acked, copies: this.proof.copies }
  }

  /** Each ends with success: nothing unanswered, nothing in a spool, no folder and no row left of one. */
  async stopCleanly(): Promise<void> {
    const codes = await Promise.all(this.captures.map((capture) => capture.stop()))
    if (codes.some((code) => code !== 0))
      throw new Error(`captures stopped with exit codes ${codes.join(', ')}\n${this.told()}`)
    for (const { dataDir } of this.captures) {
      const spools = join(dataDir, 'spool')
      const left = existsSync(spools) ? readdirSync(spools) : []
      if (left.length > 0) throw new Error(`${spools} still has ${left.join(', ')}`)
    }
    const rows = await listSpools(this.sql)
    if (rows.length > 0) throw new Error(`the register still has ${JSON.stringify(rows)}`)
  }

  /** After a failure: ends the captures and their load at once, so that what a scenario lent them can go. */
  async release(): Promise<void> {
    for (const sender of this.senders) void sender.end()
    if (this.senders.length > 0) await Promise.all(this.captures.map((capture) => capture.abandon()))
  }

  told(): string {
    const { defects, now } = this.ledger
    const captures = this.captures.map((capture) => `${capture.name}:\n${capture.told()}`)
    return [JSON.stringify(now), ...defects.slice(0, NAMED_DEFECTS_MAX), ...captures].join('\n')
  }

  async stop(): Promise<void> {
    await Promise.all(this.captures.map((capture) => capture.abandon()))
    await this.sql.end({ timeout: 1 })
    await this.log.close()
    await Promise.all([this.kafka.stop(), this.postgres.stop()])
    rmSync(this.folder, { recursive: true, force: true })
  }
}
