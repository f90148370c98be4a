/**
 * Opens what the settings name: log, Postgres, warehouse; embedded or by URL. For roles and verbs alike, each opened
 * at its first use and closed together. `prepareState` and `openCheckedLog` are the boot checks: what they refuse,
 * they refuse with one sentence.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  bindDeployment,
  type Deployment,
  embeddedSocketDir,
  ensureDefaultProject,
  type LogKind,
  migrateState,
  openPostgres,
  type Project,
  SETTINGS,
  type Settings,
  type Sql,
} from '../catalog/index.ts'
import type { KafkaLogOptions, Log, WantedTopic } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { cliError } from './errors.ts'

export class Context {
  readonly logKind: LogKind
  private openedLog: Promise<Log> | undefined
  private openedSql: Sql | undefined
  private openedWarehouse: Promise<Warehouse> | undefined

  constructor(
    readonly settings: Settings,
    /** Shown to the servers as the name of the client. */
    readonly name: string,
    private readonly connectionsMax: number,
    /** How long one question to ClickHouse may take; default as openWarehouse says. */
    private readonly queryTimeoutMs?: number,
  ) {
    this.logKind = settings.log === 'embedded' ? 'embedded' : 'kafka'
  }

  get sql(): Sql {
    this.openedSql ??= openPostgres({
      url:
        this.settings.postgres === 'embedded'
          ? { socketDir: embeddedSocketDir(postgresDir(this.settings)) }
          : this.settings.postgres,
      name: `headrace ${this.name}`,
      connectionsMax: this.connectionsMax,
    })
    return this.openedSql
  }

  /** For verbs: throws HR_CLI_UNREACHABLE when the embedded Postgres, which only `headrace up` starts, is not there. */
  requireRunning(): void {
    const socketDir = embeddedSocketDir(postgresDir(this.settings))
    if (this.settings.postgres !== 'embedded' || existsSync(join(socketDir, '.s.PGSQL.5432'))) return
    throw cliError(
      'HR_CLI_UNREACHABLE',
      `nothing runs on the data folder ${this.settings.dataDir}; start it with \`headrace up\`, or name another with --data-dir`,
    )
  }

  /** The log, whatever state its topics are in. */
  log(): Promise<Log> {
    this.openedLog ??= openLog(this.settings, this.name)
    return this.openedLog
  }

  warehouse(): Promise<Warehouse> {
    this.openedWarehouse ??= import('../warehouse/index.ts').then(({ openWarehouse }) =>
      openWarehouse({
        url: warehouseUrl(this.settings),
        variant: this.settings.clickhouseCluster === '' ? 'single' : 'sharded',
        ...(this.queryTimeoutMs === undefined ? {} : { queryTimeoutMs: this.queryTimeoutMs }),
      }),
    )
    return this.openedWarehouse
  }

  /**
   * Brings the state to this version and binds the deployment: does nothing when both are done, and may run in any
   * number of processes at once. Throws HR_STATE_SCHEMA, HR_DEPLOYMENT_MISMATCH, HR_STATE_UNAVAILABLE.
   */
  async prepareState(): Promise<{ deployment: Deployment; project: Project }> {
    await migrateState(this.sql)
    const deployment = await bindDeployment(this.sql, {
      logKind: this.logKind,
      partitions: this.settings.partitions,
    })
    const project = await ensureDefaultProject(this.sql, this.settings.projectToken)
    return { deployment, project }
  }

  /** Makes sure that the topics of Kafka are right. Throws HR_LOG_NO_TOPIC, HR_LOG_WRONG_TOPIC, HR_LOG_UNAVAILABLE. */
  async checkKafka(log: Log, partitions: number): Promise<void> {
    const { checkTopics } = await import('../log/index.ts')
    const wanted = await this.wantedTopics(partitions)
    checkTopics(wanted, await log.describe(wanted.map((topic) => topic.name)))
  }

  /** The log with all topics right; embedded ones are made when missing. Throws HR_LOG_NO_TOPIC, HR_LOG_WRONG_TOPIC. */
  async checkedLog(deployment: Deployment): Promise<Log> {
    const { applyPlan, planTopics } = await import('../log/index.ts')
    const log = await this.log()
    if (log.kind === 'kafka') {
      await this.checkKafka(log, deployment.partitions)
      return log
    }
    const wanted = await this.wantedTopics(deployment.partitions)
    const plan = planTopics(wanted, await log.describe(wanted.map((topic) => topic.name)))
    // Another retention than at birth is no reason not to start; it holds for topics made from now on.
    await applyPlan(
      log,
      plan.filter((action) => action.kind !== 'alter'),
    )
    return log
  }

  /** Every topic as a deployment with so many partitions needs it. */
  async wantedTopics(partitions: number): Promise<WantedTopic[]> {
    const { deploymentTopics } = await import('../log/index.ts')
    const { logRetentionHours, kafkaReplication, kafkaMinInsyncReplicas } = this.settings
    return deploymentTopics({
      partitions,
      retentionMs: logRetentionHours * 3_600_000,
      ...(this.logKind === 'kafka'
        ? { replication: kafkaReplication, minInsyncReplicas: kafkaMinInsyncReplicas }
        : {}),
    })
  }

  /** The warehouse with this version's schema. Throws HR_WAREHOUSE_UNAVAILABLE, _TOO_OLD, _BAD_MIGRATION. */
  async migratedWarehouse(): Promise<Warehouse> {
    const { migrateWarehouse } = await import('../warehouse/index.ts')
    const warehouse = await this.warehouse()
    await migrateWarehouse(warehouse)
    return warehouse
  }

  async close(): Promise<void> {
    await Promise.allSettled([
      this.openedLog?.then((log) => log.close()),
      this.openedSql?.end({ timeout: 2 }),
      this.openedWarehouse?.then((warehouse) => warehouse.close()),
    ])
  }
}

export function postgresDir(settings: Settings): string {
  return join(settings.dataDir, 'postgres')
}

export function logDir(settings: Settings): string {
  return join(settings.dataDir, 'log')
}

export function warehouseDir(settings: Settings): string {
  return join(settings.dataDir, 'warehouse')
}

export function warehouseUrl(settings: Settings): string {
  return settings.clickhouse === 'embedded' ? `http://${settings.warehouseAddress}` : settings.clickhouse
}

async function openLog(settings: Settings, name: string): Promise<Log> {
  const { openEmbeddedLog, openKafkaLog } = await import('../log/index.ts')
  if (settings.log === 'embedded') {
    return openEmbeddedLog({ dir: logDir(settings), diskUsedRatioMax: settings.logDiskFullPercent / 100 })
  }
  return openKafkaLog(kafkaOptions(settings, name))
}

/** The Kafka settings as the log wants them. Throws HR_SETTING_INVALID when a file of a certificate cannot be read. */
function kafkaOptions(settings: Settings, name: string): KafkaLogOptions {
  const { kafkaSaslMechanism: mechanism } = settings
  const tls: NonNullable<KafkaLogOptions['tls']> = {}
  if (settings.kafkaTlsCa !== '') tls.ca = readPem('kafkaTlsCa', settings)
  if (settings.kafkaTlsCert !== '') tls.cert = readPem('kafkaTlsCert', settings)
  if (settings.kafkaTlsKey !== '') tls.key = readPem('kafkaTlsKey', settings)
  return {
    brokers: settings.log.slice('kafka://'.length).split(','),
    clientId: `headrace-${name}`,
    compression: settings.kafkaCompression,
    replication: settings.kafkaReplication,
    ...(settings.kafkaTls === 'on' ? { tls } : {}),
    ...(mechanism === 'none'
      ? {}
      : {
          sasl: {
            mechanism,
            username: settings.kafkaSaslUsername,
            password: settings.kafkaSaslPassword,
          },
        }),
  }
}

function readPem(key: 'kafkaTlsCa' | 'kafkaTlsCert' | 'kafkaTlsKey', settings: Settings): string {
  try {
    return readFileSync(settings[key], 'utf8')
  } catch (error) {
    throw cliError(
      'HR_CLI_ARGUMENT',
      `${SETTINGS[key].env} names "${settings[key]}", which cannot be read; allowed is a PEM file`,
      error,
    )
  }
}
