/**
 * The sockets of capture: takes connections, and keeps their number below a limit.
 *
 * ```
 *            more than the limit, though idle ones were closed
 *  listening ─────────────────────────────────────────────────▶ refusing      (the system refuses new connections;
 *      ▲                                                           │           those that stand are served once more)
 *      └───────────────── below nine tenths of it ─────────────────┘
 *  stop(): from both states, no way back
 * ```
 * Must hold: the process never comes near its limit of open files, because at it the server turns in a busy loop, and
 * the log cannot open its own. Connections are counted as open files since the start, so a few of the log's are among
 * them; where the system does not tell them (not Linux), there is no limit but the system's.
 * Cost: one `stat` every quarter of a second.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import type { Server } from 'bun'
import { counter, gauge, type Logger } from '../observe/index.ts'

export type ListenerOptions = {
  hostname: string
  port: number
  idleSeconds: number
  connectionsMax: number
  logger: Logger
  fetch(request: Request, server: Server<undefined>): Response | Promise<Response>
  error(error: unknown): Response
}

/** Far above any body limit: limits are ours, so that their answers are ours. */
const BUN_BODY_BYTES_MAX = Number.MAX_SAFE_INTEGER
const LOOK_MS = 250
/** Of the open files that the system allows, connections may take this; the log and its clients need some too. */
const OPEN_FILES_SHARE = 0.8
/** New connections are taken again below this share of the limit, so that the state does not flicker. */
const LISTEN_AGAIN = 0.9
const OPEN_FILES = '/proc/self/fd'

const connectionsGauge = gauge(
  'headrace_capture_connections',
  'Open connections, give or take the few files that the log opened since the start.',
)
const connectionsMaxGauge = gauge(
  'headrace_capture_connections_max',
  'Limit of headrace_capture_connections.',
)
const idleClosedTotal = counter(
  'headrace_capture_idle_connections_closed_total',
  'Idle connections that were closed because there were too many.',
)
const refusingTotal = counter(
  'headrace_capture_refusing_total',
  'Times that new connections began to be refused because there were too many.',
)

export class Listener {
  readonly connectionsMax: number
  /** True while new connections are refused. */
  refusing = false
  private current: Server<undefined>
  /** Listen no more, and still have connections. */
  private readonly retired = new Set<Server<undefined>>()
  private readonly port: number
  private readonly filesBefore = openFiles() ?? 0
  private readonly timer: ReturnType<typeof setInterval>
  private stopped = false

  constructor(private readonly options: ListenerOptions) {
    this.connectionsMax = Math.min(options.connectionsMax, Math.floor(openFilesMax() * OPEN_FILES_SHARE))
    this.current = this.listen(options.port)
    this.port = this.current.port ?? options.port
    this.timer = setInterval(() => this.look(), LOOK_MS)
    this.timer.unref()
  }

  /** Where it listens, without a slash at the end. */
  get url(): string {
    return this.current.url.origin
  }

  get pendingRequests(): number {
    let count = this.current.pendingRequests
    for (const server of this.retired) count += server.pendingRequests
    return count
  }

  /** Brings the metrics up to date. */
  publish(): void {
    connectionsGauge.set(this.connections())
    connectionsMaxGauge.set(this.connectionsMax)
  }

  /** No new connections from now on, and those that are idle are closed. */
  stop(): void {
    this.stopped = true
    clearInterval(this.timer)
    if (!this.refusing) this.retire()
  }

  /** Closes what is left, in the middle of whatever it does. */
  async closeAll(): Promise<void> {
    this.stop()
    await Promise.all([this.current, ...this.retired].map((server) => server.stop(true)))
  }

  private listen(port: number): Server<undefined> {
    const { hostname, idleSeconds, fetch, error } = this.options
    return Bun.serve({
      hostname,
      port,
      idleTimeout: idleSeconds,
      maxRequestBodySize: BUN_BODY_BYTES_MAX,
      fetch,
      error,
    })
  }

  private retire(): void {
    const server = this.current
    this.retired.add(server)
    // Resolves when its last connection has ended.
    void server.stop().then(() => this.retired.delete(server))
  }

  private connections(): number {
    return Math.max(0, (openFiles() ?? 0) - this.filesBefore)
  }

  private look(): void {
    const { connectionsMax } = this
    let count = this.connections()
    if (!this.refusing && count > connectionsMax) {
      const closed = this.current.closeIdleConnections()
      idleClosedTotal.inc(closed)
      count -= closed
      if (count > connectionsMax) this.refuse(count)
    } else if (this.refusing && count < connectionsMax * LISTEN_AGAIN) {
      this.listenAgain()
    }
  }

  private refuse(count: number): void {
    this.refusing = true
    refusingTotal.inc()
    this.retire()
    this.options.logger.warn(
      { connections: count, connectionsMax: this.connectionsMax, docs: 'docs/guides/capture-limits.md' },
      'too many connections; new ones are refused until some have ended',
    )
  }

  private listenAgain(): void {
    if (this.stopped) return
    try {
      this.current = this.listen(this.port)
    } catch (error) {
      this.options.logger.error({ err: error }, 'capture cannot listen again yet')
      return
    }
    this.refusing = false
    this.options.logger.info('new connections are taken again')
  }
}

/** Undefined where the system does not tell. */
function openFiles(): number | undefined {
  try {
    // Since Linux 6.2 the size is their number; before, they have to be listed, which takes 1 ms for each 1,000.
    return statSync(OPEN_FILES).size || readdirSync(OPEN_FILES).length
  } catch {
    return undefined
  }
}

function openFilesMax(): number {
  try {
    const line = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))
    return line ? Number(line[1]) : Number.POSITIVE_INFINITY
  } catch {
    return Number.POSITIVE_INFINITY
  }
}
