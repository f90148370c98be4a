/**
 * Tells of the spools that this process holds: metrics for Prometheus, rows for the register in Postgres. Postgres is
 * told at each change of state and every few seconds, one statement at a time, and is never waited for: while it is
 * away its rows are old, which an audit sees.
 */
import { hostname } from 'node:os'
import {
  forgetSpools,
  reportSpools,
  type SpoolReport,
  type SpoolState,
  type Sql,
} from '../../catalog/index.ts'
import type { Logger } from '../../observe/index.ts'
import { pause, Signal } from '../../platform/index.ts'
import { LAST_REPORT_MS, PUBLISH_EVERY_MS, REPORT_EVERY_MS } from './limits.ts'
import {
  bytesGauge,
  bytesMaxGauge,
  oldestGauge,
  recordsGauge,
  reportFailures,
  stateGauge,
} from './metrics.ts'
import type { Spool } from './spool.ts'

type Held = { spool: Spool; state: SpoolState }

const STATE_NUMBERS: Record<SpoolState, number> = { direct: 0, spooling: 1, draining: 2, damaged: 1 }

export class Reporter {
  private readonly held = new Map<string, Held>()
  private readonly changed = new Signal()
  private readonly stopping = new AbortController()
  private readonly publishing: ReturnType<typeof setInterval>
  private readonly running: Promise<void>
  private warned = false
  private turn: Promise<unknown> = Promise.resolve()
  /** Something was not told yet. */
  private news = false

  constructor(
    private readonly sql: Sql | undefined,
    private readonly logger: Logger,
    bytesMax: number,
  ) {
    bytesMaxGauge.set(bytesMax)
    this.publishing = setInterval(() => this.publish(), PUBLISH_EVERY_MS)
    this.publishing.unref()
    this.running = this.sql ? this.report(this.sql) : Promise.resolve()
  }

  /** The process's own spool comes first; what it is doing is what the process is doing. */
  hold(spool: Spool, state: SpoolState): void {
    this.held.set(spool.folder.id, { spool, state })
    this.tell()
  }

  changeState(spool: Spool, state: SpoolState, own: boolean): void {
    const held = this.held.get(spool.folder.id)
    if (!held) return
    held.state = state
    if (own) stateGauge.set(STATE_NUMBERS[state])
    this.publish()
    this.tell()
  }

  /** Damaged, or given back to the next process: its row stays as it was told last. */
  async letGo(spool: Spool): Promise<void> {
    const held = this.held.get(spool.folder.id)
    this.held.delete(spool.folder.id)
    if (held) await this.attempt(() => reportSpools(this.sql!, [reportOf(held)]))
  }

  /**
   * Takes a drained spool off the register. False when Postgres did not hear it: then the folder must stay, so that
   * the row is not left behind by whoever could take it off.
   */
  async forget(spool: Spool): Promise<boolean> {
    this.held.delete(spool.folder.id)
    this.publish()
    return this.attempt(() => forgetSpools(this.sql!, [spool.folder.id]))
  }

  async close(): Promise<void> {
    clearInterval(this.publishing)
    this.stopping.abort()
    await this.running
  }

  /** True when it was told in time, or when there is nobody to tell. */
  private async attempt(work: () => Promise<unknown>): Promise<boolean> {
    if (!this.sql) return true
    return Promise.race([this.inTurn(work), pause(LAST_REPORT_MS).then(() => false)])
  }

  /** One statement at a time, so that none lands behind a later one. */
  private inTurn(work: () => Promise<unknown>): Promise<boolean> {
    const told = this.turn.then(work).then(
      () => {
        this.warned = false
        return true
      },
      (error: unknown) => this.failed(error),
    )
    this.turn = told
    return told
  }

  private tell(): void {
    this.news = true
    this.changed.notify()
  }

  private async report(sql: Sql): Promise<void> {
    const { signal } = this.stopping
    while (!signal.aborted) {
      if (!this.news) await this.changed.wait(signal, REPORT_EVERY_MS)
      this.news = false
      if (signal.aborted || this.held.size === 0) continue
      let heard = false
      const ended = new Signal()
      const told = this.inTurn(() => reportSpools(sql, [...this.held.values()].map(reportOf)))
      void told.then((success) => {
        heard = success
        ended.notify()
      })
      // A statement that hangs is waited for, so that they do not pile up; but not at the end.
      await ended.wait(signal)
      if (!heard) await pause(REPORT_EVERY_MS, signal)
    }
  }

  private failed(error: unknown): false {
    reportFailures.inc()
    if (!this.warned) {
      const docs = 'docs/runbooks/spool.md#register'
      this.logger.warn({ err: error, docs }, 'Postgres was not told of the spools; it is tried again')
    }
    this.warned = true
    return false
  }

  private publish(): void {
    let records = 0
    let bytes = 0
    let oldestMs = 0
    const nowMs = Date.now()
    for (const { spool } of this.held.values()) {
      records += spool.backlog
      bytes += spool.bytesHeld
      oldestMs = Math.max(oldestMs, spool.ageMs(nowMs))
    }
    recordsGauge.set(records)
    bytesGauge.set(bytes)
    oldestGauge.set(oldestMs / 1000)
  }
}

function reportOf({ spool, state }: Held): SpoolReport {
  return {
    id: spool.folder.id,
    host: hostname(),
    folder: spool.folder.path,
    accepted: spool.accepted,
    drained: spool.drained,
    bytes: spool.bytesHeld,
    state,
  }
}
