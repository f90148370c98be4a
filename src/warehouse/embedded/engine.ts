/**
 * A pool of sessions on one data folder of the in-process ClickHouse engine. In: one statement with the settings,
 * parameters, database and format it wants. Out: the bytes of the result, or ClickHouse's own error.
 *
 * A session runs one statement at a time, so the pool's size bounds what the engine does at once. A session keeps
 * what was SET on it; each lease therefore brings it from what it has to what the request wants, and a session
 * whose state is in doubt is closed and replaced. Reads never take the last session, so that inserts do not starve
 * behind slow queries; nor do inserts, so that a trace is answered under load.
 *
 *     idle ──lease──▶ running ──done──▶ idle
 *                        └──state in doubt──▶ replaced ──▶ idle
 *
 * Cost: 0.5 ms for a lease that must change settings, else nothing.
 */
import { createRequire } from 'node:module'
import type { Session } from 'chdb'
import { warehouseError } from '../errors.ts'
import { quoteName, quoteString } from './sql-text.ts'

// Loaded lazily: importing the addon maps the engine's 550 MB library into the process.
const require = createRequire(import.meta.url)

export type Statement = {
  sql: string
  format: string
  database: string
  settings: ReadonlyMap<string, string>
  /** Query parameters, in ClickHouse's escaped text form. */
  params: ReadonlyMap<string, string>
  kind: 'read' | 'insert'
  /** The statement itself changes the session. */
  changesSession: boolean
}

export type StatementResult = { bytes: Uint8Array; elapsedSeconds: number; rows: number; rowBytes: number }

export type EngineOptions = {
  dir: string
  sessionsMax: number
  /** Statements that may wait for a session; one more is refused. */
  waitingMax: number
  connectionArgs: string[]
  /** Settings of every session; a request may override them. */
  baseSettings: ReadonlyMap<string, string>
}

type Waiter = { kind: Statement['kind']; resolve(session: PooledSession): void; reject(error: Error): void }

type PooledSession = {
  session: Session
  database: string
  applied: Map<string, string>
  /** Names of parameters that were once set; ClickHouse cannot unset them. */
  params: Map<string, string>
}

/** An error with ClickHouse's number, made by us and not by the engine. */
export function exception(code: number, text: string, type: string): Error {
  return new Error(`Code: ${code}. DB::Exception: ${text} (${type})`)
}

export class Engine {
  private readonly idle: PooledSession[] = []
  private readonly waiting: Waiter[] = []
  private readonly running = { read: 0, insert: 0 }
  private open = 0
  private finished = 0
  private closed = false

  private constructor(private readonly options: EngineOptions) {}

  /** Opens the folder; the first session starts the engine (0.1 to 0.4 s). Throws when it cannot be read. */
  static open(options: EngineOptions): Engine {
    const engine = new Engine(options)
    engine.idle.push(engine.newSession())
    return engine
  }

  /** What runs and waits now, and how many statements have ended so far. */
  get load(): { running: number; waiting: number; finished: number } {
    const running = this.running.read + this.running.insert
    return { running, waiting: this.waiting.length, finished: this.finished }
  }

  /** Runs one statement. Rejects with the engine's error, or 202 when too many wait. */
  async run(statement: Statement): Promise<StatementResult> {
    const pooled = await this.lease(statement.kind)
    let doubtful = true
    try {
      const session = await this.prepare(pooled, statement)
      const result = await session.queryAsync(statement.sql, { format: statement.format })
      doubtful = false
      return {
        bytes: result.bytes(),
        elapsedSeconds: result.elapsed,
        rows: result.rowsRead,
        rowBytes: result.bytesRead,
      }
    } catch (error) {
      // The engine's answer to a bad statement leaves the session as it was; anything else leaves doubt.
      doubtful = exceptionCode(error) === undefined
      throw error
    } finally {
      this.giveBack(pooled, statement.kind, doubtful || statement.changesSession)
    }
  }

  /**
   * Refuses what waits, lets what runs finish for at most `waitMs`, closes the sessions. A statement cannot be
   * interrupted: when one is still running then, its session stays open and the process should end (false).
   */
  async close(waitMs: number): Promise<boolean> {
    this.closed = true
    for (const waiter of this.waiting.splice(0)) waiter.reject(shuttingDown())
    let timer: ReturnType<typeof setTimeout> | undefined
    if (this.load.running > 0)
      await new Promise<void>((resolve) => {
        this.onQuiet = resolve
        timer = setTimeout(resolve, waitMs)
      })
    clearTimeout(timer)
    for (const pooled of this.idle.splice(0)) this.discard(pooled)
    return this.load.running === 0
  }
  private onQuiet: (() => void) | undefined

  private lease(kind: Statement['kind']): Promise<PooledSession> {
    if (this.closed) return Promise.reject(shuttingDown())
    if (this.mayRun(kind)) return Promise.resolve(this.take(kind))
    if (this.waiting.length >= this.options.waitingMax)
      return Promise.reject(
        exception(
          202,
          `Too many simultaneous queries. Maximum: ${this.options.sessionsMax} running and ${this.options.waitingMax} waiting.`,
          'TOO_MANY_SIMULTANEOUS_QUERIES',
        ),
      )
    return new Promise((resolve, reject) => this.waiting.push({ kind, resolve, reject }))
  }

  private mayRun(kind: Statement['kind']): boolean {
    const { sessionsMax } = this.options
    const busy = this.running.read + this.running.insert
    return busy < sessionsMax && (sessionsMax === 1 || this.running[kind] < sessionsMax - 1)
  }

  private take(kind: Statement['kind']): PooledSession {
    const pooled = this.idle.pop() ?? this.newSession()
    this.running[kind]++
    return pooled
  }

  private giveBack(pooled: PooledSession, kind: Statement['kind'], discard: boolean): void {
    this.running[kind]--
    this.finished++
    if (discard) this.discard(pooled)
    else this.idle.push(pooled)
    for (let i = 0; i < this.waiting.length; ) {
      const waiter = this.waiting[i]!
      if (!this.mayRun(waiter.kind)) {
        i++
        continue
      }
      this.waiting.splice(i, 1)
      try {
        waiter.resolve(this.take(waiter.kind))
      } catch (error) {
        waiter.reject(error as Error)
      }
    }
    if (this.running.read + this.running.insert === 0) this.onQuiet?.()
  }

  private newSession(): PooledSession {
    const chdb = require('chdb') as typeof import('chdb')
    let session: Session
    try {
      session = new chdb.Session(this.options.dir, { connectionArgs: this.options.connectionArgs })
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      throw warehouseError(
        'HR_WAREHOUSE_ENGINE',
        `the warehouse engine did not open ${this.options.dir}: ${text}`,
        error,
      )
    }
    this.open++
    return { session, database: 'default', applied: new Map(), params: new Map() }
  }

  private discard(pooled: PooledSession): void {
    // The engine shuts down with its last session, so that one is replaced before it goes.
    if (this.open === 1 && !this.closed) this.idle.push(this.newSession())
    pooled.session.close()
    this.open--
  }

  /** Brings the session to what the statement wants; gives the session to run it on. */
  private async prepare(pooled: PooledSession, statement: Statement): Promise<Session> {
    const wanted = new Map([...this.options.baseSettings, ...statement.settings])
    if (statesStaleParam(pooled, statement)) {
      const fresh = this.newSession()
      pooled.session.close()
      this.open--
      Object.assign(pooled, fresh)
    }
    const changes: string[] = []
    for (const [name, value] of wanted)
      if (pooled.applied.get(name) !== value) changes.push(`${name} = ${quoteString(value)}`)
    for (const name of pooled.applied.keys()) if (!wanted.has(name)) changes.push(`${name} = DEFAULT`)
    for (const [name, value] of statement.params)
      if (pooled.params.get(name) !== value) changes.push(`param_${name} = ${quoteString(value)}`)
    const before: string[] = []
    if (pooled.database !== statement.database) before.push(`USE ${quoteName(statement.database)}`)
    if (changes.length > 0) before.push(`SET ${changes.join(', ')}`)
    if (before.length === 0) return pooled.session
    try {
      for (const sql of before) await pooled.session.queryAsync(sql, { format: 'Null' })
    } catch (error) {
      // How much of it took hold is not known.
      const fresh = this.newSession()
      pooled.session.close()
      this.open--
      Object.assign(pooled, fresh)
      throw error
    }
    pooled.database = statement.database
    pooled.applied = wanted
    for (const [name, value] of statement.params) pooled.params.set(name, value)
    return pooled.session
  }
}

/** A parameter of an earlier request that this statement names but does not bring would be filled in silently. */
function statesStaleParam(pooled: PooledSession, statement: Statement): boolean {
  for (const name of pooled.params.keys())
    if (!statement.params.has(name) && new RegExp(`\\{\\s*${name}\\s*:`).test(statement.sql)) return true
  return false
}

/** The number in ClickHouse's `Code: N. DB::Exception: …`; undefined when it is another kind of error. */
export function exceptionCode(error: unknown): number | undefined {
  const match = /Code: (\d+)\. DB::/.exec(error instanceof Error ? error.message : String(error))
  return match ? Number(match[1]) : undefined
}

function shuttingDown(): Error {
  return exception(210, 'The warehouse is shutting down', 'NETWORK_ERROR')
}
