/**
 * Tries events again that failed alone, in the partitions of this process. In: rows that are due, a few hundred at once.
 * Out: requests by the same targets, circuits and pace as everything else; a row that is gone, or waits longer.
 * One pass at a time; a pass ends when all its requests have. Cost when idle: one query a second.
 */
import { deliveryUuid } from '../event/index.ts'
import { pause } from '../platform/index.ts'
import { EventView } from './event-view.ts'
import type { Ended } from './job.ts'
import { deliverMetrics } from './metrics.ts'
import { deliveryRecord } from './outbox.ts'
import { type DueRetry, dueRetries, type RetryResult, settleRetries } from './retries.ts'
import { retryDelayMs } from './retry-delay.ts'
import type { Round } from './round.ts'
import type { RoundDeps } from './round-parts.ts'
import type { Runtime } from './runtime.ts'
import type { Delivery, Verdict } from './targets/target.ts'

const EVERY_MS = 1_000
const AT_ONCE_MAX = 500
const AT_ONCE_BYTES_MAX = 16 * 1024 * 1024

type Attempt = { due: DueRetry; view: EventView; runtime: Runtime; verdict?: Verdict }

export class RetryWorker {
  private readonly stopping = new AbortController()
  private running: Promise<void> | undefined

  constructor(
    private readonly deps: RoundDeps,
    private readonly logId: string,
    /** The rounds of this process, by partition. */
    private readonly rounds: () => ReadonlyMap<number, Round>,
    private readonly fatal: (error: unknown) => void,
  ) {}

  start(): void {
    this.running = this.run().catch((error) => this.fatal(error))
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    await this.running
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping
    while (!signal.aborted) {
      let ended = 0
      try {
        ended = await this.pass()
      } catch (error) {
        if ((error as { class?: string }).class !== 'retriable') throw error
        this.deps.logger.debug({ err: error }, 'deliveries could not be tried again; it comes again')
      }
      // Others may have waited behind those that came to their end.
      if (ended === 0) await pause(EVERY_MS, signal)
    }
  }

  /** How many came to their end. */
  private async pass(): Promise<number> {
    const { sql, directory, clock } = this.deps
    const rounds = this.rounds()
    const partitions = [...rounds.keys()]
    if (partitions.length === 0) return 0
    const nowMs = clock()
    const resting = [...directory.all()].filter(({ active, breaker }) => !active || breaker.waitMs(nowMs) > 0)
    const due = await dueRetries(
      sql,
      this.logId,
      partitions,
      resting.map(({ id }) => id),
      AT_ONCE_MAX,
      AT_ONCE_BYTES_MAX,
    )
    const byDestination = new Map<Runtime, Attempt[]>()
    for (const one of due) {
      const runtime = directory.get(one.destinationId)
      if (!runtime?.active) continue
      const attempts = byDestination.get(runtime) ?? []
      byDestination.set(runtime, attempts)
      attempts.push({
        due: one,
        view: new EventView(one.row, one.source, runtime.destination.teamId),
        runtime,
      })
    }
    await Promise.all([...byDestination].map(([runtime, attempts]) => this.send(runtime, attempts)))
    const tried = [...byDestination.values()].flat().filter(({ verdict }) => verdict !== undefined)
    if (this.stopping.signal.aborted) return 0
    this.deps.reached('retries_answered')
    let ended = 0
    for (const [partition, round] of rounds) {
      const own = tried.filter((attempt) => attempt.due.partition === partition)
      if (own.length > 0 && !round.over.aborted) ended += await this.settle(round, own)
    }
    return ended
  }

  private async send(runtime: Runtime, attempts: readonly Attempt[]): Promise<void> {
    const { signal } = this.stopping
    const running: Promise<void>[] = []
    for (let from = 0; from < attempts.length; from += runtime.target.batchMax) {
      const turn = await runtime.turn(signal)
      if (turn === undefined) break
      const request = attempts.slice(from, from + runtime.target.batchMax)
      const deliveries: Delivery[] = request.map(({ view }) => ({
        id: deliveryUuid(runtime.idsOf, view.origin),
        view,
      }))
      const sent = runtime.send(deliveries, signal).then((verdicts) => {
        request.forEach((attempt, i) => {
          attempt.verdict = verdicts[i]!
        })
      })
      running.push(sent)
      if (turn === 'probe') await sent
    }
    await Promise.all(running)
  }

  private async settle(round: Round, attempts: readonly Attempt[]): Promise<number> {
    const { sql, producer, clock, random } = this.deps
    const results = attempts.map((attempt) => resultOf(attempt, random()))
    const nowMs = clock()
    const records = attempts.flatMap(({ view, runtime }, i) => {
      const { end, attempts: before, status, response } = results[i]!
      if (end === undefined) return []
      const ended: Ended = { view, state: end, attempts: before + 1, status, response }
      return [deliveryRecord(runtime.destination, ended, round.key.partition, nowMs)]
    })
    if (records.length > 0) await round.stored(() => producer.send(records))
    await round.stored(() => settleRetries(sql, round.key, results))
    for (const { end, destinationId, orderKey } of results) {
      if (end === undefined) continue
      round.settled(destinationId, orderKey)
      const { kind } = this.deps.directory.get(destinationId)?.destination ?? { kind: '' }
      deliverMetrics.events.inc({ kind, state: end })
    }
    return records.length
  }
}

/** An attempt that failed is the last one when the time for retries is over; so after an outage there is always one. */
function resultOf({ due, runtime, verdict }: Attempt, random: number): RetryResult {
  const { kind, status, response, waitMs } = verdict!
  const tooOld = due.ageMs >= runtime.destination.config.retryForS * 1_000
  const end =
    kind === 'delivered'
      ? 'delivered'
      : kind === 'refused' || (kind === 'failed' && tooOld)
        ? 'failed'
        : undefined
  return { ...due, end, status, response, nextInMs: retryDelayMs(due.attempts + 1, random, waitMs) }
}
