/**
 * Opens what the settings name: log, Postgres, warehouse; embedded or by URL. For roles and verbs alike, each opened
 * at its first use and closed together. `prepareState` and `openCheckedLog` are the boot checks: what they refuse,
 * they refuse with one sentence.
 */
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
  type Settings,
  type Sql,
} from '../catalog/index.ts'
import { partitionsOf, TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'

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

  /** The log, whatever state its topics are in. */
  log(): Promise<Log> {
    this.openedLog ??= openLog(this.settings)
    return this.openedLog
  }

  warehouse(): Promise<Warehouse> {
    this.openedWarehouse ??= import('../warehouse/index.ts').then(({ openWarehouse }) =>
      openWarehouse({
        url: warehouseUrl(this.settings),
        variant: this.settings.clickhouseCluster === '' ? 'single' : 'sharded',
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

  /** The log with all topics right; embedded ones are made when missing. Throws HR_LOG_NO_TOPIC, HR_LOG_WRONG_TOPIC. */
  async checkedLog(deployment: Deployment): Promise<Log> {
    const log = await this.log()
    if (log.kind === 'embedded') await createMissingTopics(log, deployment, this.settings)
    return log
  }

  /** The warehouse with this version's schema. Throws HR_WAREHOUSE_UNAVAILABLE, HR_WAREHOUSE_BAD_MIGRATION. */
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

async function openLog(settings: Settings): Promise<Log> {
  const { openEmbeddedLog } = await import('../log/index.ts')
  return openEmbeddedLog({ dir: logDir(settings), diskUsedRatioMax: settings.logDiskFullPercent / 100 })
}

async function createMissingTopics(log: Log, deployment: Deployment, settings: Settings): Promise<void> {
  const names = Object.values(TOPICS)
  const there = new Set((await log.describe(names)).map((state) => state.name))
  for (const name of names) {
    if (there.has(name)) continue
    await log.createTopic({
      name,
      partitions: partitionsOf(name, deployment.partitions),
      retentionMs: settings.logRetentionHours * 3_600_000,
      recordBytesMax: 4_000_000,
    })
  }
}
