/**
 * Drains spools that nobody holds: of a capture process that died and was not started again, or that was one of more.
 * Looks for one every few seconds, drains it, removes it, and looks again; one at a time. They are only drained, never
 * written, and their events are older than those of the process's own spool but of another process: no order is due
 * between the two. One that fails is left alone for a while, so that it does not keep those behind it waiting.
 */
import type { Log } from '../../log/index.ts'
import type { Logger } from '../../observe/index.ts'
import { pause } from '../../platform/index.ts'
import { setAside } from './aside.ts'
import { Drainer, type DrainStep, isUnreadable } from './drainer.ts'
import { countDamaged, countTooLarge, listIds, SpoolFolder } from './folder.ts'
import { ADOPT_EVERY_MS, DRAIN_SEND_MS, LEAVE_ALONE_MS } from './limits.ts'
import { damagedGauge, tooLargeGauge } from './metrics.ts'
import type { Reporter } from './reporter.ts'
import { Spool, type SpoolOptions } from './spool.ts'

export type AdopterDeps = {
  dir: string
  spool: SpoolOptions
  log: Log
  /** Resolves when the log's topics are known to be right. */
  ready: Promise<void>
  reporter: Reporter
  logger: Logger
  onFatal(error: unknown): void
  everyMs?: number
}

export class Adopter {
  private readonly stopping = new AbortController()
  /** The log may be sent to, or a stop is wanted. One for all spools: a promise that pends keeps whatever waits for it. */
  private readonly released: Promise<void>
  private readonly running: Promise<void>
  /** Ids of those that failed → when they may be tried again (performance.now). */
  private readonly leftAlone = new Map<string, number>()

  constructor(private readonly deps: AdopterDeps) {
    const stopped = new Promise<void>((resolve) => {
      this.stopping.signal.addEventListener('abort', () => resolve(), { once: true })
    })
    this.released = Promise.race([deps.ready, stopped])
    this.running = this.run()
  }

  /** Ends after the send in flight; what is not drained stays for the next process. */
  async close(): Promise<void> {
    this.stopping.abort()
    await this.running
  }

  private async run(): Promise<void> {
    const { dir, everyMs = ADOPT_EVERY_MS } = this.deps
    const { signal } = this.stopping
    while (!signal.aborted) {
      let adopted = false
      try {
        damagedGauge.set(countDamaged(dir))
        tooLargeGauge.set(countTooLarge(dir))
        adopted = await this.adoptOldest()
      } catch (error) {
        this.warn(error)
      }
      if (!adopted) await pause(everyMs, signal)
    }
  }

  /** False when there was none that could be adopted. Throws when the folders cannot be listed. */
  private async adoptOldest(): Promise<boolean> {
    const { dir } = this.deps
    const nowMs = performance.now()
    for (const [id, untilMs] of this.leftAlone) if (untilMs <= nowMs) this.leftAlone.delete(id)
    for (const id of listIds(dir)) {
      if (this.leftAlone.has(id)) continue
      try {
        const folder = SpoolFolder.claim(dir, id)
        if (!folder) continue
        await this.adopt(folder)
        return true
      } catch (error) {
        this.leftAlone.set(id, performance.now() + LEAVE_ALONE_MS)
        this.warn(error, id)
      }
      if (this.stopping.signal.aborted) break
    }
    return false
  }

  private warn(error: unknown, spool?: string): void {
    const docs = 'docs/runbooks/spool.md#left-alone'
    this.deps.logger.error({ err: error, spool, docs }, 'a spool that nobody holds was left alone')
  }

  private async adopt(folder: SpoolFolder): Promise<void> {
    const { log, logger, reporter, spool: options } = this.deps
    let spool: Spool
    try {
      spool = await Spool.open(folder, options)
    } catch (error) {
      if (isUnreadable(error)) folder.quarantine(error.message)
      else folder.release()
      throw error
    }
    logger.info({ spool: folder.path, events: spool.backlog }, 'adopts a spool that nobody holds')
    reporter.hold(spool, 'draining')
    const producer = log.producer({ name: 'capture drain', deadlineMs: DRAIN_SEND_MS })
    try {
      const drainer = new Drainer(spool, producer, (record, why) => setAside(this.deps, record, why))
      await this.finish(spool, await this.drain(spool, drainer))
    } finally {
      await spool.close()
      folder.release()
      await producer.close()
    }
  }

  /** Until it is empty or something ends it. */
  private async drain(spool: Spool, drainer: Drainer): Promise<DrainStep> {
    const { signal } = this.stopping
    await this.released
    for (;;) {
      if (signal.aborted) return { kind: 'empty' }
      const step = await drainer.step(signal)
      this.deps.reporter.changeState(spool, step.kind === 'failed' ? 'spooling' : 'draining', false)
      if (step.kind === 'empty' || step.kind === 'damaged' || step.kind === 'fatal') return step
    }
  }

  private async finish(spool: Spool, last: DrainStep): Promise<void> {
    const { logger, reporter, onFatal } = this.deps
    const { folder } = spool
    if (last.kind === 'damaged') {
      reporter.changeState(spool, 'damaged', false)
      await reporter.letGo(spool)
      await spool.close()
      folder.quarantine(last.error.message)
      const docs = 'docs/runbooks/spool.md#damaged'
      logger.error({ err: last.error, spool: folder.path, docs }, 'a spool holds events that cannot be read')
    } else if (last.kind === 'fatal') {
      onFatal(last.error)
      await reporter.letGo(spool)
    } else if (!spool.isEmpty) {
      await reporter.letGo(spool)
    } else if (await reporter.forget(spool)) {
      await spool.close()
      folder.remove()
      logger.info({ spool: folder.path }, 'a spool that nobody held is drained')
    } else {
      // Its row could not be taken off: it is adopted again, and found empty, until Postgres hears of it.
      await pause(ADOPT_EVERY_MS, this.stopping.signal)
    }
  }
}
