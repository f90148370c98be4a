/**
 * Keeps the embedded Postgres running for as long as the supervisor does. It has no program of ours around it: the
 * server's own process is our child. When it dies it is started again, for ever; the roles wait meanwhile.
 *
 *   stopped ── start() ──▶ running ──exit──▶ backing off ──▶ running …
 *      ▲                                │
 *      └──────────── stop() ────────────┘
 */
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../catalog/index.ts'
import type { Logger } from '../observe/index.ts'
import { pause } from '../platform/index.ts'
import { FORGIVEN_AFTER_MS, restartDelayMs } from './verdict.ts'

export class PostgresKeeper {
  state: 'stopped' | 'starting' | 'healthy' | 'backing off' | 'stopping' = 'stopped'
  restarts = 0
  private server: EmbeddedPostgres | undefined
  private keeping: Promise<void> = Promise.resolve()
  private readonly ending = new AbortController()

  constructor(
    private readonly options: {
      /** `<data>/postgres`. */
      dataDir: string
      /** Memory for pages of its tables, in MB. */
      buffersMb: number
      logger: Logger
      onLine(line: string): void
    },
  ) {}

  get pid(): number | undefined {
    return this.server?.pid
  }

  /** Resolves when it takes connections. Throws HR_POSTGRES_* when it cannot start for the first time. */
  async start(): Promise<void> {
    this.state = 'starting'
    this.server = await this.launch()
    this.state = 'healthy'
    this.keeping = this.keep(this.server)
  }

  /** Resolves when the server is gone; one that takes longer than `withinMs` is killed, and recovers at its next start. */
  async stop(withinMs: number): Promise<void> {
    this.state = 'stopping'
    this.ending.abort()
    const kill = setTimeout(() => {
      if (this.pid === undefined) return
      this.options.logger.warn(`postgres did not stop within ${withinMs} ms and is killed`)
      process.kill(this.pid, 'SIGKILL')
    }, withinMs)
    await this.server?.stop()
    await this.keeping
    clearTimeout(kill)
    this.state = 'stopped'
  }

  private launch(): Promise<EmbeddedPostgres> {
    const { dataDir, buffersMb, onLine } = this.options
    return startEmbeddedPostgres({ dataDir, buffersMb, log: onLine })
  }

  private async keep(first: EmbeddedPostgres): Promise<void> {
    const { signal } = this.ending
    let server = first
    let startedMs = performance.now()
    for (let deaths = 1; ; deaths++) {
      const exit = await server.exited
      this.server = undefined
      if (signal.aborted) return
      if (performance.now() - startedMs > FORGIVEN_AFTER_MS) deaths = 1
      const how = exit.signal ? `was killed by ${exit.signal}` : `exited with code ${exit.code}`
      this.options.logger.warn(`postgres ${how}; it is started again`)
      for (;;) {
        this.state = 'backing off'
        await pause(restartDelayMs(deaths), signal)
        if (signal.aborted) return
        this.state = 'starting'
        try {
          server = await this.launch()
          break
        } catch (error) {
          deaths++
          this.options.logger.error({ err: error }, 'postgres could not be started')
        }
      }
      this.restarts++
      startedMs = performance.now()
      this.server = server
      this.state = 'healthy'
      if (signal.aborted) await server.stop()
    }
  }
}
