/**
 * Sends dead letters again, in the background of a capture process: the raw topics have one kind of writer, capture. In:
 * jobs in Postgres. Out: raw records with `replay_of`, in the order in which they were captured, at a bounded rate.
 *
 * ```
 * planned ──(a: noted, with the end of the partition)──▶ sending ──(b: append, c: ack)──▶ ──(d: noted)──▶ replayed
 * ```
 * A runner that dies at (a)…(d) leaves letters in `sending`. Whoever comes next reads the partition from the noted end on:
 * what is there is noted, what is not is planned again. An append of the dead runner that lands behind that look is a copy:
 * the first one that ingest reads has taken over the claim of the dead letter, so the second is a duplicate.
 *
 * Never in the way of live traffic: small chunks at the rate of the job, none while ingest is behind on the partition. A
 * partition on which it stands still keeps its own letters waiting only; when all that are left wait so, the next job has its
 * turn. What the world does (a server is away, another process writes the partition) lets go of the job, which is tried
 * again; whatever else goes wrong ends the job at most, with a sentence, and never the capture process.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { HeadraceError, isRetriable, RAW_TOPICS } from '../event/index.ts'
import type { Log, Producer, TopicState } from '../log/index.ts'
import { counter, type Logger } from '../observe/index.ts'
import { type Backoff, backoffMs, pause } from '../platform/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { type Sendable, send, sentenceOf, sizeTrouble, topicFor, within } from './chunk.ts'
import {
  type Change,
  type Doubtful,
  doubtfulLetters,
  endJob,
  type Job,
  type JobLetter,
  LeaseLost,
  type LetterPart,
  moveLetters,
  nextLetters,
  releaseJob,
  renew,
  takeJob,
} from './jobs.ts'
import { bytesKey, readBytes } from './letters.ts'
import { rawAgain, replayedBy } from './raw-again.ts'
import { STORED_BESIDE, storedBeside } from './stored-beside.ts'

export type ReplayerDeps = {
  sql: Sql
  log: Log
  /** Opened when there is work. */
  warehouse(): Promise<Warehouse>
  logger: Logger
  /** How often an idle runner looks for a job. */
  lookEveryMs?: number
  leaseMs?: number
  /** How long ingest may stand still on a partition before its letters let others go first. */
  stillMs?: number
  /** For tests: called between what must survive a death there. */
  onStep?(step: ReplayStep): Promise<void> | void
}
/** Noted as being sent; sent and acknowledged; noted as replayed. */
export type ReplayStep = 'marked' | 'appended' | 'noted'

const LOOK_EVERY_MS = 2_000
/** Above the deadline of a send and a query. */
const LEASE_MS = 60_000
const SEND_DEADLINE_MS = 20_000
const BACKOFF: Backoff = { firstMs: 250, maxMs: 5_000 }
/** A chunk shares the log's commit with live requests. */
const CHUNK_LETTERS = 100
const BYTES_PER_SECOND = 4 << 20
/** Raw records that ingest has not read yet, beyond which a replay waits: a second or less of ingest's work. */
const BEHIND_RECORDS_MAX = 10_000
const BEHIND_LOOK_MS = 500
const STILL_MS = 5_000
/** Beside what can be tried again anywhere: a job is never at fault for these, and another process may be right. */
const OF_THE_WORLD: ReadonlySet<string> = new Set(['HR_LOG_NOT_WRITER', 'HR_WAREHOUSE_QUERY_REFUSED'])

const replayed = counter('headrace_dead_letters_replayed_total', 'Dead letters that were sent again.')
const failed = counter(
  'headrace_dead_letters_replay_failed_total',
  'Dead letters that an order to send them again could not send; `headrace dead-letters show` says why.',
)
const stopped = counter(
  'headrace_dead_letters_replays_stopped_total',
  'Orders to send dead letters again that an error has stopped; `headrace dead-letters jobs` says why.',
)

export class Replayer {
  private readonly runner: string = crypto.randomUUID()
  private readonly stopping = new AbortController()
  private readonly running: Promise<void>

  /** Works until `stop`. */
  constructor(private readonly deps: ReplayerDeps) {
    this.running = this.run()
  }

  /** Finishes the chunk in flight. */
  async stop(): Promise<void> {
    this.stopping.abort()
    await this.running
  }

  private async run(): Promise<void> {
    const { sql, logger, lookEveryMs = LOOK_EVERY_MS, leaseMs = LEASE_MS } = this.deps
    const { signal } = this.stopping
    let failures = 0
    while (!signal.aborted) {
      try {
        const job = await takeJob(sql, this.runner, leaseMs)
        if (job) await this.work(job)
        else await pause(lookEveryMs, signal)
        failures = 0
      } catch (error) {
        failures++
        // A server that is away is told of by those who cannot do without it.
        logger[isRetriable(error) ? 'debug' : isOfTheWorld(error) ? 'warn' : 'error'](
          { err: error },
          'dead letters cannot be sent again now',
        )
        await pause(backoffMs(failures, BACKOFF), signal)
      }
    }
  }

  /** Until the job is done or stopped, another has it, or we stop. Throws what Postgres throws. */
  private async work(job: Job): Promise<void> {
    const { sql, log, logger } = this.deps
    const producer = log.producer({ name: 'replay', deadlineMs: SEND_DEADLINE_MS })
    try {
      await this.settle(job)
      const waitsFor = await this.sendAll(job, producer)
      if (waitsFor !== undefined || this.stopping.signal.aborted)
        await releaseJob(sql, job, this.runner, waitsFor)
      else {
        await endJob(sql, job, this.runner)
        logger.info({ job: job.id }, 'dead letters were sent again')
      }
    } catch (error) {
      if (error instanceof LeaseLost) return
      if (isOfTheWorld(error)) {
        await releaseJob(sql, job, this.runner, sentenceOf(error)).catch(() => {})
        throw error
      }
      stopped.inc()
      const why = sentenceOf(error)
      logger.error(
        { err: error, job: job.id, docs: 'docs/guides/dead-letters.md' },
        `a replay was stopped: ${why}`,
      )
      await endJob(sql, job, this.runner, why)
    } finally {
      await producer.close()
    }
  }

  /** Finds out what a dead runner has sent. */
  private async settle(job: Job): Promise<void> {
    const { sql } = this.deps
    for (const doubtful of await doubtfulLetters(sql, job)) {
      const changes = await this.lookFor(job, doubtful)
      if (!changes) return
      await moveLetters(sql, job, this.runner, changes)
      count(changes)
    }
  }

  /** Undefined when we stop before it is known. */
  private async lookFor(
    job: Job,
    { logId, partition, from, letters }: Doubtful,
  ): Promise<(readonly [JobLetter, Change])[] | undefined> {
    const topic = (await this.topics()).find((one) => one.logId === logId)
    const bounds = topic && (await this.deps.log.bounds(topic.name, partition))
    if (!topic || !bounds || from < bounds.start) {
      const detail = `whether it was sent is not known: the raw log no longer holds offset ${from} of partition ${partition} of log ${logId}; \`headrace trace\` tells what there is of its uuid`
      return letters.map((letter) => [letter, { state: 'failed', detail }])
    }
    const wanted = new Set(letters.map(placeOf))
    const found = new Map<string, number>()
    for await (const records of this.deps.log.read(topic.name, partition, from, bounds.end)) {
      for (const { header, offset } of records) {
        const source = replayedBy(header)
        if (source && wanted.delete(placeOf(source))) found.set(placeOf(source), offset)
      }
      if (wanted.size === 0) break
      if (this.stopping.signal.aborted) return undefined
      await renew(this.deps.sql, job, this.runner, 'looks for what was sent before')
    }
    return letters.map((letter) => {
      const offset = found.get(placeOf(letter))
      return [letter, offset === undefined ? { state: 'planned' } : { state: 'replayed', place: { offset } }]
    })
  }

  /** Until all are sent or we stop; a sentence when what is left waits for ingest. */
  private async sendAll(job: Job, producer: Producer): Promise<string | undefined> {
    const { sql } = this.deps
    const { signal } = this.stopping
    const still: LetterPart[] = []
    let waitsFor: string | undefined
    let freeAt = performance.now()
    while (!signal.aborted) {
      const letters = within(await nextLetters(sql, job, CHUNK_LETTERS, still), job)
      const [first] = letters
      if (!first) return waitsFor
      await pause(freeAt - performance.now(), signal)
      const topic = topicFor(first, await this.topics())
      const behind = await this.letIngestCatchUp(job, topic, first.partition)
      if (signal.aborted) return undefined
      if (behind !== undefined) {
        waitsFor = behind
        still.push({ logId: first.logId, partition: first.partition })
        continue
      }
      const began = performance.now()
      await this.sendChunk(job, producer, topic, letters)
      const bytes = letters.reduce((sum, letter) => sum + letter.bytes, 0)
      freeAt =
        began + Math.max((letters.length / job.eventsPerSecond) * 1_000, (bytes / BYTES_PER_SECOND) * 1_000)
    }
    return undefined
  }

  /** A sentence when ingest stands still. */
  private async letIngestCatchUp(
    job: Job,
    topic: TopicState,
    partition: number,
  ): Promise<string | undefined> {
    const { sql, log, stillMs = STILL_MS } = this.deps
    let last: { at: number; sinceMs: number } | undefined
    while (!this.stopping.signal.aborted) {
      const { end } = await log.bounds(topic.name, partition)
      const [fence] = await guardState(
        'read an ingest fence',
        () => sql<{ next_offset: number }[]>`
          SELECT next_offset FROM ingest_fence WHERE log_id = ${topic.logId} AND partition = ${partition}`,
      )
      const at = fence?.next_offset ?? 0
      const behind = end - at
      if (behind <= BEHIND_RECORDS_MAX) return undefined
      const says = `ingest is ${behind} records behind on partition ${partition}`
      await renew(sql, job, this.runner, says)
      if (last?.at !== at) last = { at, sinceMs: performance.now() }
      if (performance.now() - last.sinceMs >= stillMs) return says
      await pause(Math.min(BEHIND_LOOK_MS, stillMs), this.stopping.signal)
    }
    return undefined
  }

  private async sendChunk(
    job: Job,
    producer: Producer,
    topic: TopicState,
    letters: readonly JobLetter[],
  ): Promise<void> {
    const { sql, log, onStep } = this.deps
    const warehouse = await this.deps.warehouse()
    const bytes = await readBytes(warehouse, letters)
    const offsets = letters.map(({ offset }) => offset)
    const beside = await storedBeside({ sql, warehouse }, letters[0]!, offsets)
    const refused: [JobLetter, Change][] = []
    const sendable: Sendable[] = []
    for (const letter of letters) {
      const own = bytes.get(bytesKey(letter))
      let again = own ? rawAgain(letter, own) : 'ClickHouse no longer has its bytes'
      if (beside.has(letter.offset)) again = STORED_BESIDE
      const why = typeof again === 'string' ? again : sizeTrouble(again, topic.recordBytesMax)
      if (typeof again === 'string' || why !== undefined)
        refused.push([letter, { state: 'failed', detail: why! }])
      else sendable.push({ letter, record: { topic: topic.name, partition: letter.partition, ...again } })
    }
    const { end: from } = await log.bounds(topic.name, letters[0]!.partition)
    const marks = sendable.map(
      ({ letter }) => [letter, { state: 'sending', logId: topic.logId, from }] as const,
    )
    await moveLetters(sql, job, this.runner, [...refused, ...marks])
    count(refused)
    await onStep?.('marked')
    const sent = await send(producer, sendable)
    await onStep?.('appended')
    await moveLetters(sql, job, this.runner, sent)
    count(sent)
    await onStep?.('noted')
  }

  private topics(): Promise<TopicState[]> {
    return this.deps.log.describe([...RAW_TOPICS])
  }
}

function placeOf({ logId, offset, sub }: Pick<JobLetter, 'logId' | 'offset' | 'sub'>): string {
  return `${logId}/${offset}/${sub}`
}

function isOfTheWorld(error: unknown): boolean {
  return isRetriable(error) || (error instanceof HeadraceError && OF_THE_WORLD.has(error.code))
}

function count(changes: readonly (readonly [JobLetter, Change])[]): void {
  for (const [, { state }] of changes) {
    if (state === 'replayed') replayed.inc()
    if (state === 'failed') failed.inc()
  }
}
