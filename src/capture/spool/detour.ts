/**
 * The detour over the spool: what a capture process does while the log is out of reach, and how it comes back.
 * ```
 *            a direct send fails or passes its budget            a send of the drainer is acknowledged
 *   direct ────────────────────────────────────────▶ spooling ──────────────────────────────────────▶ draining
 *     ▲                                                  ▲      a send of the drainer fails              │ │
 *     │                                                  └───────────────────────────────────────────────┘ │
 *     │        the log has been quick for a while, the gate is shut, the spool is empty                    │
 *     └────────────────────────────────────────────────────────────────────────────────────────────────────┘
 *   start: spooling, until the log's topics are checked and what an earlier process left is drained
 * ```
 * What must hold: while the state is not direct every group goes into the spool, behind all others, so that one
 * process keeps its order; direct sends begin only when the spool is empty, nothing is on its way into it, and no
 * earlier direct send is on its way. For that last moment the gate holds new groups in memory, HOLD_MS at most.
 *
 * It ends under any load: while draining, an append waits for a send of the drainer (PACE_MS_MAX at most), and those
 * are larger than groups. A log that is slow stays behind the spool, however long: see calm.ts.
 */
import type { Sql } from '../../catalog/index.ts'
import { HeadraceError } from '../../event/index.ts'
import type { Log, Producer, SendRecord } from '../../log/index.ts'
import type { Logger } from '../../observe/index.ts'
import { backoffMs, failpoint, pause, Signal } from '../../platform/index.ts'
import { endsBy } from '../wait.ts'
import { Adopter } from './adopter.ts'
import { setAside } from './aside.ts'
import { Calm } from './calm.ts'
import { Drainer, type DrainStep, isUnreadable } from './drainer.ts'
import { SpoolFolder } from './folder.ts'
import { Gate } from './gate.ts'
import {
  DRAIN_BACKOFF,
  DRAIN_SEND_MS,
  HANDOVER_RECORDS,
  HOLD_AGAIN_MS,
  HOLD_MS,
  LAST_REPORT_MS,
  PACE_MS_MAX,
  PROBE_EVERY_MS,
  STOP_AWAY_MS,
} from './limits.ts'
import { spooledTotal } from './metrics.ts'
import { Reporter } from './reporter.ts'
import { Spool, type SpoolOptions } from './spool.ts'

export type DetourState = 'direct' | 'spooling' | 'draining'

export type DetourDeps = {
  /** Holds the folders of all spools of this machine. */
  dir: string
  spool: SpoolOptions
  log: Log
  /** Makes sure that the log's topics are right; asked again while it fails for the world's fault. */
  checkLog(): Promise<void>
  /** An answer of the log within this is a quick one. */
  quickMs: number
  sql: Sql | undefined
  logger: Logger
  onFatal(error: unknown): void
  /** How often spools that nobody holds are looked for. */
  adoptEveryMs?: number
}

const DOCS = 'docs/runbooks/spool.md'

export class Detour {
  state: DetourState = 'spooling'
  readonly gate = new Gate()
  private readonly calm: Calm
  private readonly producer: Producer
  private readonly reporter: Reporter
  private readonly adopter: Adopter
  private readonly stopping = new AbortController()
  /** Something was appended, or a stop is wanted. */
  private readonly woken = new Signal()
  /** A send of the drainer ended. */
  private readonly stepped = new Signal()
  private drainer: Drainer
  private handOverFrom = Number.NEGATIVE_INFINITY
  private running: Promise<void>
  /** Direct sends that the writer gave up and the producer has not. */
  private abandoned = 0
  /** `close` has taken the spool that it closes. */
  private closed = false

  private constructor(
    private readonly deps: DetourDeps,
    private spool: Spool,
  ) {
    const { log, sql, logger } = deps
    this.calm = new Calm(deps.quickMs)
    this.producer = log.producer({ name: 'capture drain', deadlineMs: DRAIN_SEND_MS })
    this.reporter = new Reporter(sql, logger, deps.spool.bytesMax)
    this.drainer = this.drainerOf(spool)
    this.reporter.hold(spool, this.state)
    this.reporter.changeState(spool, this.state, true)
    const ready = this.logChecked()
    this.running = ready.then(() => this.wayBack())
    this.adopter = new Adopter({
      dir: deps.dir,
      spool: deps.spool,
      log,
      ready,
      reporter: this.reporter,
      logger,
      onFatal: deps.onFatal,
      ...(deps.adoptEveryMs === undefined ? {} : { everyMs: deps.adoptEveryMs }),
    })
  }

  /** Takes the oldest spool that nobody holds, or makes one. Throws what the disk says, HR_LOG_DISK_FULL. */
  static async open(deps: DetourDeps): Promise<Detour> {
    const spool = await openOwn(deps)
    if (spool.backlog > 0)
      deps.logger.info(
        { spool: spool.folder.path, events: spool.backlog, docs: DOCS },
        'found a spool to drain',
      )
    return new Detour(deps, spool)
  }

  get backlog(): number {
    return this.spool.backlog
  }

  notReady(): Promise<string | undefined> {
    return this.spool.notReady()
  }

  /** The log failed a direct send, which is `abandoned` when its producer still works on it. */
  begin(why: HeadraceError, unsettled?: Promise<unknown>): void {
    if (unsettled) {
      this.abandoned++
      const settle = () => {
        this.abandoned--
        this.woken.notify()
      }
      unsettled.then(settle, settle)
    }
    if (this.state !== 'direct') return
    this.calm.betrayed(performance.now())
    this.become('spooling', why)
    this.running = this.wayBack()
  }

  /** Resolves when all are durable in the spool. Throws as `Spool.append`. */
  async append(records: readonly SendRecord[]): Promise<void> {
    if (this.state === 'draining' && this.spool.backlog > 0)
      await this.stepped.wait(this.stopping.signal, PACE_MS_MAX)
    await this.spool.append(records)
    failpoint('spool_appended')
    spooledTotal.inc(records.length)
    this.woken.notify()
  }

  /** Drains until the spool is empty, or `untilMs` (performance.now) has come. Gives what is left in it. */
  async close(untilMs: number): Promise<number> {
    const { signal } = this.stopping
    const awayUntilMs = Math.min(untilMs, performance.now() + STOP_AWAY_MS)
    for (;;) {
      // While the log is away there is little to wait for.
      const leftMs = (this.state === 'spooling' ? awayUntilMs : untilMs) - performance.now()
      if (this.spool.isEmpty || leftMs <= 0) break
      await this.stepped.wait(signal, leftMs)
    }
    this.stopping.abort()
    const ended = Promise.all([this.running, this.adopter.close()])
    // A send in flight may take its whole deadline, which nobody waits for; whether it lands or not, its records stay in the spool.
    const endMs = Math.min(untilMs, performance.now() + LAST_REPORT_MS)
    await endsBy(ended, endMs)
    // Only now, since a damaged spool may just have been replaced; one that is being replaced still is left to `replace`.
    this.closed = true
    const { spool } = this
    const left = spool.backlog
    if (spool.isEmpty && (await this.reporter.forget(spool))) {
      await spool.close()
      spool.folder.remove()
    } else {
      await this.reporter.letGo(spool)
      await spool.close()
      spool.folder.release()
    }
    await this.reporter.close()
    await endsBy(this.producer.close(), endMs)
    return left
  }

  /** Never rejects: what is fatal is told, and then nothing is sent any more. */
  private async logChecked(): Promise<void> {
    const { checkLog, logger, onFatal } = this.deps
    const { signal } = this.stopping
    for (let failures = 1; !signal.aborted; failures++) {
      const from = performance.now()
      try {
        await checkLog()
        this.calm.answered(performance.now() - from, performance.now())
        return
      } catch (error) {
        if (!(error instanceof HeadraceError) || error.class !== 'retriable') {
          onFatal(error)
          break
        }
        if (failures === 1)
          logger.warn({ code: error.code, docs: DOCS }, `events go to the spool: ${error.message}`)
        await pause(backoffMs(failures, DRAIN_BACKOFF), signal)
      }
    }
    if (!signal.aborted) await new Promise(() => {})
  }

  /** Runs from leaving the direct way until it is taken again. */
  private async wayBack(): Promise<void> {
    const { signal } = this.stopping
    while (!signal.aborted) {
      const step = await this.step()
      if (step.kind === 'fatal') return
      if (step.kind === 'failed') continue
      const nowMs = performance.now()
      const mayTry = this.calm.isCalm(nowMs) && nowMs >= this.handOverFrom
      if (mayTry && this.spool.backlog <= HANDOVER_RECORDS) {
        if (await this.handOver()) return
      } else if (step.kind === 'empty') {
        await this.probe()
        if (this.spool.backlog === 0) await this.woken.wait(signal, PROBE_EVERY_MS)
      }
    }
  }

  /** One step of the drainer, with all that follows from it. */
  private async step(): Promise<DrainStep> {
    const { signal } = this.stopping
    const step = await this.drainer.step(signal)
    // The spool may be closed by now; whatever was meant, its records are still in it.
    if (signal.aborted) return { kind: 'empty' }
    if (step.kind === 'drained') {
      this.calm.answered(step.tookMs, performance.now())
      this.become('draining')
    } else if (step.kind === 'failed') {
      this.calm.failed()
      this.become('spooling', step.error)
    } else if (step.kind === 'damaged') {
      await this.replace(step.error)
    } else if (step.kind === 'fatal') {
      this.deps.onFatal(step.error)
    }
    this.stepped.notify()
    return step
  }

  /** With an empty spool nothing shows how the log is, so it is asked. */
  private async probe(): Promise<void> {
    const from = performance.now()
    const reason = await this.deps.log.notReady()
    if (reason === undefined) this.calm.answered(performance.now() - from, performance.now())
    else this.calm.failed()
  }

  /** Holds new groups, drains the rest, and takes the direct way. False when it could not be done in time. */
  private async handOver(): Promise<boolean> {
    try {
      await this.gate.shut(HOLD_MS)
      for (;;) {
        if (!this.gate.isShut || this.abandoned > 0 || this.stopping.signal.aborted) break
        if (this.spool.isEmpty) {
          this.calm.trusted(performance.now())
          this.become('direct')
          return true
        }
        const step = await this.step()
        if (step.kind !== 'drained') break
      }
      this.handOverFrom = performance.now() + HOLD_AGAIN_MS
      return false
    } finally {
      this.gate.open()
    }
  }

  /** The spool cannot be read on: it is left to a human as it is, and a new one takes its place. */
  private async replace(error: HeadraceError): Promise<void> {
    const { logger, onFatal } = this.deps
    const damaged = this.spool
    await this.gate.shut()
    try {
      this.reporter.changeState(damaged, 'damaged', true)
      await this.reporter.letGo(damaged)
      await damaged.close()
      damaged.folder.quarantine(error.message)
      const docs = `${DOCS}#damaged`
      logger.error(
        { err: error, spool: damaged.folder.path, docs },
        'the spool holds events that cannot be read',
      )
      // Nobody would close a new one.
      if (this.closed) return
      const spool = await openOwn(this.deps)
      if (this.closed) {
        await spool.close()
        spool.folder.release()
        return
      }
      this.spool = spool
      this.drainer = this.drainerOf(spool)
      this.reporter.hold(this.spool, this.state)
      this.reporter.changeState(this.spool, this.state, true)
    } catch (failure) {
      onFatal(failure)
    } finally {
      this.gate.open()
    }
  }

  private drainerOf(spool: Spool): Drainer {
    const { dir, spool: options, logger } = this.deps
    const aside = { dir, spool: options, reporter: this.reporter, logger }
    return new Drainer(spool, this.producer, (record, why) => setAside(aside, record, why))
  }

  private become(state: DetourState, why?: HeadraceError): void {
    if (this.state === state) return
    const { logger } = this.deps
    this.state = state
    this.reporter.changeState(this.spool, state, true)
    const facts = { state, events: this.spool.backlog, docs: DOCS }
    if (state === 'spooling') {
      logger.warn(
        { ...facts, code: why?.code },
        `the log does not take events, they go to the spool: ${why?.message}`,
      )
    } else if (state === 'draining') logger.info(facts, 'the log takes events again; the spool is drained')
    else logger.info(facts, 'the spool is empty; events go to the log')
  }
}

async function openOwn({ dir, spool, logger }: DetourDeps): Promise<Spool> {
  for (;;) {
    const folder = SpoolFolder.claimOldest(dir) ?? SpoolFolder.make(dir)
    try {
      return await Spool.open(folder, spool)
    } catch (error) {
      if (!folder.found || !isUnreadable(error)) {
        folder.release()
        throw error
      }
      folder.quarantine(error.message)
      logger.error({ err: error, spool: folder.path, docs: `${DOCS}#damaged` }, 'a spool cannot be opened')
    }
  }
}
