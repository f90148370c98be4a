/**
 * One role as a child process that is kept alive. In: a command. Out: its lines, its state. It asks the child over its
 * Unix socket whether its loop turns, kills it when it hangs, and starts it again when it is gone, for ever.
 *
 * ```
 *             start()                     first answer
 *  stopped ───────────▶ starting ─────────────────────────▶ healthy
 *     ▲                  ▲    │                                │
 *     │      delay over  │    │ exit, or no answer for 30 s    │ exit, or no answer for 10 s
 *     │                  │    ▼ (then SIGKILL)                 │ (then SIGKILL)
 *     │               backing off ◀────────────────────────────┘
 *     │ exit             │
 *  stopping ◀────────────┴── stop() from every state: SIGTERM, at the deadline SIGKILL
 * ```
 * The delay doubles with each death in a row and is forgotten after half a minute of health (`verdict.ts`).
 * The child holds the other end of a pipe on its standard input: when we die, however we die, the pipe closes and the
 * child stops by itself. It runs in a session of its own, so that Ctrl-C reaches us only and we keep the order.
 */
import { rmSync } from 'node:fs'
import type { Logger } from '../observe/index.ts'
import { readLines } from './log-stream.ts'
import { askRole, type Role } from './run-folder.ts'
import { judgeChild, restartDelayMs } from './verdict.ts'

/** A healthy child is asked this often; a starting one as often as `STARTING_POLL_MS`. */
const POLL_MS = 2_000
/** One that did not answer is asked again soon, so that it is known for hung when its time is over. */
const DOUBTED_POLL_MS = 500
const STARTING_POLL_MS = 100
const ANSWER_MS_MAX = 2_000

export type ChildState = 'stopped' | 'starting' | 'healthy' | 'backing off' | 'stopping'

export type ChildOptions = {
  role: Role
  command: string[]
  env: Record<string, string>
  socket: string
  logger: Logger
  /** A line that the child printed. */
  onLine(line: string): void
}

export class Child {
  readonly role: Role
  state: ChildState = 'stopped'
  /** Starts after the first. */
  restarts = 0
  private process: Bun.Subprocess<'pipe', 'pipe', 'pipe'> | undefined
  /** Ends of the current process, with all its lines read. */
  private gone: Promise<void> = Promise.resolve()
  /** In a row; set back when forgiven. */
  private deaths = 0
  private healthyMs = 0
  private answeredMs = 0
  private unanswered = 0
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly options: ChildOptions) {
    this.role = options.role
  }

  get pid(): number | undefined {
    return this.process?.pid
  }

  /** Deaths since it was last healthy for long. */
  get deathsInARow(): number {
    return this.deaths
  }

  start(): void {
    if (this.state === 'stopping') return
    // A dead process leaves its socket behind, and a socket that exists cannot be bound again.
    rmSync(this.options.socket, { force: true })
    this.state = 'starting'
    this.answeredMs = performance.now()
    this.unanswered = 0
    const process = Bun.spawn(this.options.command, {
      env: this.options.env,
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'pipe',
      detached: true,
    })
    this.process = process
    const read = Promise.all([
      readLines(process.stdout, this.options.onLine),
      readLines(process.stderr, this.options.onLine),
    ]).catch((error: unknown) =>
      this.options.logger.warn({ err: error }, `cannot read what ${this.role} says`),
    )
    this.gone = process.exited.then(() => read).then(() => this.onExit(process))
    this.pollIn(STARTING_POLL_MS)
  }

  /** Resolves when the process is gone; after `withinMs` it is killed. Never starts again. */
  async stop(withinMs: number): Promise<void> {
    clearTimeout(this.timer)
    this.state = 'stopping'
    if (this.process) {
      this.process.kill('SIGTERM')
      const kill = setTimeout(() => {
        this.options.logger.warn(`${this.role} did not stop within ${withinMs} ms and is killed`)
        this.kill('SIGKILL')
      }, withinMs)
      await this.gone
      clearTimeout(kill)
    }
    this.state = 'stopped'
  }

  /** Sends a signal to the process, if there is one. */
  kill(signal: NodeJS.Signals): void {
    this.process?.kill(signal)
  }

  private onExit(process: Bun.Subprocess): void {
    if (this.process !== process) return
    this.process = undefined
    clearTimeout(this.timer)
    if (this.state === 'stopping') return
    this.deaths++
    const delayMs = restartDelayMs(this.deaths)
    const how = process.signalCode
      ? `was killed by ${process.signalCode}`
      : `exited with code ${process.exitCode}`
    this.options.logger.warn(
      { deathsInARow: this.deaths, delayMs },
      `${this.role} ${how}; it is started again`,
    )
    this.state = 'backing off'
    this.timer = setTimeout(() => {
      this.restarts++
      this.start()
    }, delayMs)
  }

  private pollIn(ms: number): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.poll(), ms)
  }

  private async poll(): Promise<void> {
    const asked = this.process
    const alive = await askRole(this.options.socket, '/_liveness', ANSWER_MS_MAX).then(
      (answer) => answer.ok,
      () => false,
    )
    if (this.process !== asked || (this.state !== 'starting' && this.state !== 'healthy')) return
    const now = performance.now()
    if (alive) {
      this.answeredMs = now
      this.unanswered = 0
      if (this.state === 'starting') {
        this.state = 'healthy'
        this.healthyMs = now
      }
    } else this.unanswered++
    const verdict = judgeChild({
      state: this.state,
      silentMs: now - this.answeredMs,
      unanswered: this.unanswered,
      healthyMs: this.state === 'healthy' ? now - this.healthyMs : 0,
    })
    if (verdict === 'forgive') this.deaths = 0
    if (verdict === 'kill') {
      this.options.logger.error(
        `${this.role} has not answered for ${Math.round(now - this.answeredMs)} ms and is killed`,
      )
      // onExit goes on from here.
      this.kill('SIGKILL')
      return
    }
    this.pollIn(this.state === 'starting' ? STARTING_POLL_MS : alive ? POLL_MS : DOUBTED_POLL_MS)
  }
}
