/**
 * Runs one role as this process: health first, then its dependencies, then its work, then a clean stop.
 *
 * Must hold: a dependency that is away does not end the process: it waits, says in `/_readiness` for what, and goes on
 * by itself when it is back. What waiting cannot mend (wrong setting, wrong topics, our own defect) ends it with one
 * sentence. SIGTERM, SIGINT and, under a supervisor, the end of its pipe stop it within `STOP_MS_MAX`; the exit code says
 * whether something was left undone.
 */
import { rmSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { parseAddress, type Settings } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import { createLogger, type Health, type Logger, processMetrics, serveHealth } from '../observe/index.ts'
import { type Backoff, backoffMs, pause } from '../platform/index.ts'
import { makeRunFolder, type Role, roleSocket } from '../supervisor/index.ts'
import { Context } from './context.ts'
import { EXIT, type ExitCode, exitCodeOf, sentence } from './exit.ts'
import { type DeploymentFlags, settingsOf, withDeployment } from './options.ts'

/** Below the supervisor's 10 s for everything; a role of its own has what orchestrators give, 30 s, less some. */
const STOP_MS_MAX = { supervised: 8_000, alone: 24_000 }
/** Of it, what closing the connections may take after the role has ended. */
const CLOSE_MS_MAX = 1_000
const BACKOFF: Backoff = { firstMs: 100, maxMs: 2_000 }
const EXPECTED_WAIT_MS = 5_000

/** What a stage's start function gives. */
export type RunningRole = {
  /** Ends the work within `withinMs`. Resolves with one sentence when something was left undone. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most roles leave nothing and say nothing.
  stop(withinMs: number): Promise<string | void>
  notReady(): Promise<string | undefined>
}

export type RoleStart = (boot: {
  context: Context
  settings: Settings
  logger: Logger
  /** Ends the process: the error is nobody's fault but ours, or can only be mended by a human. */
  fatal: (error: unknown) => void
}) => Promise<RunningRole>

export type RoleOptions = {
  role: Role
  settings: Settings
  /** Started by `headrace up`: its pipe on our standard input is our life line. */
  supervised: boolean
  connectionsMax: number
  start: RoleStart
}

/** The verb of a role: its flags, and its one line of help. */
export function addRole(
  program: Command,
  verb: { role: Role; description: string; connectionsMax: number; start: RoleStart },
): Command {
  const { role, description, connectionsMax, start } = verb
  return withDeployment(program.command(role))
    .description(description)
    .addOption(new Option('--supervised').hideHelp())
    .action(async (flags: DeploymentFlags & { supervised?: boolean }) => {
      const settings = settingsOf(flags)
      const code = await runRole({
        role,
        settings,
        supervised: flags.supervised === true,
        connectionsMax,
        start,
      })
      // Everything that must end has ended; the pipe to the supervisor and a library's timer must not keep us.
      process.exit(code)
    })
}

/** Resolves with the exit code when the role has stopped. */
export async function runRole({
  role,
  settings,
  supervised,
  connectionsMax,
  start,
}: RoleOptions): Promise<ExitCode> {
  const logger = createLogger(role, settings.logLevel)
  processMetrics()
  const context = new Context(settings, role, connectionsMax)
  const end = new Ending(supervised)
  let running: RunningRole | undefined
  let waitingFor = 'is starting'
  const health = openHealth(settings, role, supervised, {
    notReady: async () => (end.reached ? 'is stopping' : running ? running.notReady() : waitingFor),
  })
  const fatal = (error: unknown) => {
    logger.fatal({ err: error }, sentence(error, settings.logLevel))
    end.reach(exitCodeOf(error))
  }
  process.on('uncaughtException', fatal)
  process.on('unhandledRejection', fatal)

  for (let failures = 1; !running && !end.reached; failures++) {
    try {
      const starting = start({ context, settings, logger, fatal })
      // A start that hangs on a server must not keep us from ending; what becomes of it then is of no interest.
      starting.catch(() => {})
      running = (await Promise.race([starting, end.promise.then(() => undefined)])) ?? undefined
    } catch (error) {
      if (!isRetriable(error)) {
        fatal(error)
        break
      }
      waitingFor = sentence(error, 'info')
      // What starts at the same time as we do is simply not there yet.
      const level = performance.now() < EXPECTED_WAIT_MS ? 'info' : 'warn'
      logger[level](`waits for a dependency: ${waitingFor}`)
      await Promise.race([end.promise, pause(backoffMs(failures, BACKOFF))])
    }
  }
  if (running) logger.info('started')
  const code = await end.promise
  const stopMs = supervised ? STOP_MS_MAX.supervised : STOP_MS_MAX.alone
  // Whatever hangs now must not keep the process: durable state is durable already, the rest is a replay.
  const giveUp = setTimeout(() => {
    logger.error(`did not stop within ${stopMs} ms; ends at once`)
    process.exit(code === EXIT.done ? EXIT.finding : code)
  }, stopMs)
  try {
    const left = await running?.stop(stopMs - 2 * CLOSE_MS_MAX)
    if (left) logger.error(left)
    await Promise.race([context.close(), pause(CLOSE_MS_MAX)])
    await health.stop()
    if (left && code === EXIT.done) return EXIT.finding
  } catch (error) {
    logger.error({ err: error }, `the stop failed: ${sentence(error, settings.logLevel)}`)
    if (code === EXIT.done) return EXIT.finding
  } finally {
    clearTimeout(giveUp)
  }
  logger.info('stopped')
  return code
}

/** The one moment at which a role begins to stop, and the code with which it will exit. */
class Ending {
  reached = false
  readonly promise: Promise<ExitCode>
  private resolve!: (code: ExitCode) => void

  constructor(supervised: boolean) {
    this.promise = new Promise((resolve) => {
      this.resolve = resolve
    })
    process.on('SIGTERM', () => this.reach(EXIT.done))
    process.on('SIGINT', () => this.reach(EXIT.done))
    if (supervised) {
      process.stdin.on('end', () => this.reach(EXIT.done))
      process.stdin.on('error', () => this.reach(EXIT.done))
      process.stdin.resume()
    }
  }

  reach(code: ExitCode): void {
    this.reached = true
    this.resolve(code)
  }
}

function openHealth(
  settings: Settings,
  role: Role,
  supervised: boolean,
  health: Health,
): { stop(): Promise<void> } {
  if (!supervised && settings.healthAddress !== '')
    return serveHealth(parseAddress(settings.healthAddress), health)
  makeRunFolder(settings.dataDir)
  const socket = roleSocket(settings.dataDir, role, supervised ? undefined : process.pid)
  rmSync(socket, { force: true })
  const server = serveHealth({ unix: socket }, health)
  return {
    stop: async () => {
      await server.stop()
      rmSync(socket, { force: true })
    },
  }
}
