/**
 * `headrace up`: everything on one machine. Says which processes there are and in which order they come and go; how
 * they are kept alive is `src/supervisor/`.
 *
 * Start: lock on the data folder and free addresses → Postgres and, beside it, the warehouse → state and topics →
 * capture, ingest, load, deliver. Each role then waits for what it needs by itself, so nothing here waits for a slow one.
 * Stop: capture first, so that nothing new comes in, then each stage behind it, Postgres last; all within 10 s.
 */

import { mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import pino from 'pino'
import { type Project, parseAddress, postgresBuffersMb, SETTINGS, type Settings } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import { type Logger, processMetrics } from '../observe/index.ts'
import {
  Child,
  formatLine,
  lockDataFolder,
  makeRunFolder,
  PostgresKeeper,
  type PostgresLevel,
  postgresLevel,
  ROLES,
  type Role,
  roleSocket,
  serveApi,
  stopShareMs,
  supervisorError,
  unreadyRoles,
} from '../supervisor/index.ts'
import { Context, postgresDir } from './context.ts'
import { EXIT, type ExitCode, sentence } from './exit.ts'
import { type DeploymentFlags, settingsOf, withDeployment } from './options.ts'
import { readyMessage } from './ready-message.ts'

/** From the signal to our own end. */
const STOP_MS_MAX = 9_500
/** What Postgres may take of it at the end. */
const POSTGRES_STOP_MS = 2_000
const READY_POLL_MS = 100
/** Lines that wait for whoever reads our output. */
const OUTPUT_BYTES_MAX = 4 * 1024 * 1024
const RETRY_MS = 1_000
const MAIN = resolve(import.meta.dir, '../main.ts')

type UpFlags = DeploymentFlags & { jsonLogs?: boolean }

export function addUp(program: Command, done: (code: ExitCode) => void): void {
  withDeployment(program.command('up'))
    .description('start everything on this machine and keep it running')
    .option('--json-logs', 'print every line as JSON')
    .addHelpText(
      'after',
      `
Examples:
  headrace up
  headrace up --data-dir /var/lib/headrace
  headrace up --log kafka://k1:9092,k2:9092 --postgres postgres://headrace@db/headrace --clickhouse http://ch:8123`,
    )
    .action(async (flags: UpFlags) => done(await up(settingsOf(flags), flags.jsonLogs === true)))
}

async function up(settings: Settings, json: boolean): Promise<ExitCode> {
  mkdirSync(settings.dataDir, { recursive: true })
  const lock = lockDataFolder(settings.dataDir)
  try {
    await refuseTakenAddresses(settings)
    makeRunFolder(settings.dataDir)
    const { WAREHOUSE_PROCESS_ENV } = await import('../warehouse/index.ts')
    return await new Deployment(settings, json, WAREHOUSE_PROCESS_ENV).run()
  } finally {
    lock.release()
  }
}

class Deployment {
  private readonly logger: Logger
  private readonly stopping = new AbortController()
  private readonly children: Child[]
  private readonly postgres: PostgresKeeper | undefined
  private busy: string | undefined = 'supervisor: is starting'
  private readonly startedMs = performance.now()
  private linesLeftOut = 0

  constructor(
    private readonly settings: Settings,
    private readonly json: boolean,
    warehouseEnv: Record<string, string>,
  ) {
    this.logger = this.loggerOf('supervisor')
    this.postgres =
      settings.postgres === 'embedded'
        ? new PostgresKeeper({
            dataDir: postgresDir(settings),
            buffersMb: postgresBuffersMb(settings.postgresBuffersMb),
            logger: this.logger,
            onLine: this.postgresLines(),
          })
        : undefined
    const env = childEnvironment(settings)
    this.children = ROLES.filter((role) => role !== 'warehouse' || settings.clickhouse === 'embedded').map(
      (role) =>
        new Child({
          role,
          command: [process.execPath, '--smol', MAIN, role, '--supervised'],
          env: role === 'warehouse' ? { ...env, ...warehouseEnv } : env,
          socket: roleSocket(settings.dataDir, role),
          logger: this.logger,
          onLine: (line) => this.print(role, line),
        }),
    )
  }

  async run(): Promise<ExitCode> {
    processMetrics()
    process.stdout.on('error', () => {})
    const ended = new Promise<void>((stop) => {
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => stop())
    })
    void ended.then(() => this.stopping.abort())
    const roles = this.children.map(({ role }) => ({ role, socket: roleSocket(this.settings.dataDir, role) }))
    const api = serveApi({
      listen: parseAddress(this.settings.apiAddress),
      roles,
      status: () => this.status(),
      notReady: () => this.busy,
    })
    const code: ExitCode = EXIT.done
    try {
      const project = await this.start()
      if (project) await this.awaitReady(roles, project)
      await ended
    } finally {
      this.stopping.abort()
      await this.stop()
      await api.stop()
    }
    return code
  }

  /** Undefined when the stop came first. */
  private async start(): Promise<Project | undefined> {
    this.child('warehouse')?.start()
    const prepared = await this.prepare()
    if (!prepared || this.stopping.signal.aborted) return undefined
    this.startOnce('capture')
    for (const role of ['ingest', 'load', 'deliver'] as const) this.child(role)?.start()
    return prepared
  }

  private startOnce(role: Role): void {
    const child = this.child(role)
    if (child?.state === 'stopped') child.start()
  }

  /** State and topics. Waits for servers that are away; throws what only a human can mend. */
  private async prepare(): Promise<Project | undefined> {
    await this.postgres?.start()
    const { signal } = this.stopping
    while (!signal.aborted) {
      const context = new Context(this.settings, 'supervisor', 2)
      try {
        const { deployment, project } = await context.prepareState()
        await context.checkedLog(deployment)
        return project
      } catch (error) {
        if (!isRetriable(error)) throw error
        this.busy = `supervisor: ${sentence(error, 'info')}`
        this.logger.warn(`waits for a dependency: ${sentence(error, 'info')}`)
        // It has a spool: what is sent while Kafka is away must not be refused.
        if (this.settings.log !== 'embedded') this.startOnce('capture')
        await delay(RETRY_MS, undefined, { signal }).catch(() => {})
      } finally {
        await context.close()
      }
    }
    return undefined
  }

  private async awaitReady(roles: { role: Role; socket: string }[], project: Project): Promise<void> {
    const { signal } = this.stopping
    this.busy = undefined
    let said = ''
    while (!signal.aborted) {
      const reasons = await unreadyRoles(roles)
      if (reasons.size === 0) {
        const readyMs = Math.round(performance.now() - this.startedMs)
        this.logger.info({ readyMs }, 'ready')
        if (!this.json) process.stdout.write(readyMessage(this.settings, project.token))
        return
      }
      const waits = [...reasons].map(([role, reason]) => `${role} ${reason}`).join('; ')
      if (waits !== said) this.logger.debug(`not ready yet: ${waits}`)
      said = waits
      await delay(READY_POLL_MS, undefined, { signal }).catch(() => {})
    }
  }

  private async stop(): Promise<void> {
    this.busy = 'supervisor: is stopping'
    this.logger.info('stopping')
    const end = performance.now() + STOP_MS_MAX
    const deadline = this.postgres ? end - POSTGRES_STOP_MS : end
    for (const [at, child] of this.children.entries()) {
      await child.stop(stopShareMs(deadline - performance.now(), this.children.length - at))
    }
    await this.postgres?.stop(end - performance.now())
    this.logger.info('stopped')
  }

  private child(role: Role): Child | undefined {
    return this.children.find((child) => child.role === role)
  }

  private status() {
    const own = { role: 'supervisor', state: 'healthy', pid: process.pid, restarts: 0 }
    const { postgres } = this
    const keeper = postgres
      ? [{ role: 'postgres', state: postgres.state, pid: postgres.pid, restarts: postgres.restarts }]
      : []
    const children = this.children.map(({ role, state, pid, restarts }) => ({ role, state, pid, restarts }))
    return [own, ...keeper, ...children]
  }

  private loggerOf(role: string): Logger {
    return pino(
      { base: { role }, level: this.settings.logLevel, timestamp: pino.stdTimeFunctions.isoTime },
      { write: (line: string) => this.print(role, line.trimEnd()) },
    )
  }

  /** The server speaks in plain lines; they get a level, like those of a role. */
  private postgresLines(): (line: string) => void {
    const logger = this.loggerOf('postgres')
    let level: PostgresLevel = 'info'
    return (line) => {
      level = postgresLevel(line, level)
      logger[level](line)
    }
  }

  /** A reader that has gone or does not keep up must neither end us nor fill the memory: then lines are left out. */
  private print(role: string, line: string): void {
    if (process.stdout.writableLength > OUTPUT_BYTES_MAX) {
      this.linesLeftOut++
      return
    }
    const format = { json: this.json, colour: process.stdout.isTTY === true }
    if (this.linesLeftOut > 0) {
      const left = `${this.linesLeftOut} lines were left out, because the output was not read`
      this.linesLeftOut = 0
      process.stdout.write(`${formatLine('supervisor', left, format)}\n`)
    }
    process.stdout.write(`${formatLine(role, line, format)}\n`)
  }
}

/** Every setting, so that a child starts with exactly ours. */
function childEnvironment(settings: Settings): Record<string, string> {
  const env: Record<string, string> = {}
  // Of Bun's HTTP client, over all servers: with its 256, receivers that hang would hold up all others.
  env.BUN_CONFIG_MAX_HTTP_REQUESTS = '16384'
  for (const [name, value] of Object.entries(process.env)) if (value !== undefined) env[name] = value
  for (const [key, spec] of Object.entries(SETTINGS)) env[spec.env] = String(settings[key as keyof Settings])
  return env
}

/** A role that cannot bind would die again and again; before anything runs, one sentence is kinder. */
async function refuseTakenAddresses(settings: Settings): Promise<void> {
  const addresses = ['captureAddress', 'apiAddress'] as const
  const wanted =
    settings.clickhouse === 'embedded' ? ([...addresses, 'warehouseAddress'] as const) : addresses
  for (const key of wanted) {
    const { hostname, port } = parseAddress(settings[key])
    const error = await tryToListen(hostname, port)
    if (error) {
      throw supervisorError(
        'HR_SUPERVISOR_ADDRESS_TAKEN',
        `cannot listen on ${settings[key]} (${error.code ?? error.message}); give another address with ${SETTINGS[key].env}`,
        error,
      )
    }
  }
}

function tryToListen(hostname: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((settle) => {
    const server = createServer()
    server.once('error', (error) => settle(error))
    server.listen(port, hostname, () => server.close(() => settle(undefined)))
  })
}
