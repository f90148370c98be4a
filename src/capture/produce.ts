/**
 * The way of accepted events into the log: one total order per capture process. Requests hand over their records and
 * are answered when those are durable, in the log or, while that is out of reach, in the spool.
 *
 * ```
 * write ─▶ queue of groups ─▶ (gate) ─▶ one group at a time ─┬─ direct ─▶ log
 *                                                            └─ else ──▶ spool ─▶ drainer ─▶ log   (spool/detour.ts)
 * ```
 * What must hold: at most one group is on its way. A group that the log does not take goes to the spool before anything
 * that came after it, whole but for requests that were refused. A group is answered by its deadline: the answer time,
 * counted from its first request. A request with a record that is too large is refused whole, and no other of its group.
 * What is fatal is told once and nothing is taken any more.
 * Cost: a push per request, one send per group; no timer at low load, full groups at high load.
 */
import {
  type Bytes,
  HeadraceError,
  packRawHeader,
  partitionOf,
  type RawHeader,
  TOPICS,
} from '../event/index.ts'
import { type Log, logError, type Producer, type SendRecord } from '../log/index.ts'
import { histogram, type Logger } from '../observe/index.ts'
import { failpoint } from '../platform/index.ts'
import { captureError, errorDocs } from './errors.ts'
import { type Group, GroupQueue } from './group.ts'
import type { Detour } from './spool/index.ts'
import { partitionKeyOf } from './validate.ts'
import { endsBy, within } from './wait.ts'

const ackSeconds = histogram(
  'headrace_capture_ack_seconds',
  'From handing over the first events of a group to the acknowledgement of the log or the spool.',
  [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
)
const groupRecords = histogram(
  'headrace_capture_group_records',
  'Events that became durable together.',
  [1, 5, 20, 100, 500, 2_000, 10_000, 20_000],
)

/** The record of an event: its bytes as they came, and what capture found out. */
export function rawRecord(
  header: RawHeader,
  value: Bytes,
  historical: boolean,
  partitions: number,
): SendRecord {
  return {
    topic: historical ? TOPICS.rawHistorical : TOPICS.raw,
    partition: partitionOf(partitionKeyOf(header), partitions),
    header: packRawHeader(header),
    value,
  }
}

/** A log that refuses is told of at most this often; every refusal is counted. */
const WARN_EVERY_MS = 10_000
/** Of a group's time this much stays for the spool when the log does not take it. */
const SPOOL_MS_MIN = 1_000

export type WriterOptions = {
  log: Log
  /** Without one, what the log does not take is refused. */
  detour: Detour | undefined
  /** A request is answered within this. */
  answerMs: number
  /** Of it, what the log has before its records go to the spool. */
  logMs: number
  /** Header and value of one record. */
  recordBytesMax: number
  /** Records that wait or are on their way, also on one that was given up. */
  queueBytesMax: number
  logger: Logger
  /** Hears once of an error after which this process must stop. */
  onFatal(error: unknown): void
}

export class RawWriter {
  private readonly producer: Producer
  private readonly queue: GroupQueue
  private running: Promise<void> | undefined
  private warnedMs = Number.NEGATIVE_INFINITY
  private broken: HeadraceError | undefined
  /** Requests that were not answered yet. */
  private waiting = 0

  constructor(private readonly options: WriterOptions) {
    const { log, detour, answerMs, logMs } = options
    this.producer = log.producer({ name: 'capture', deadlineMs: detour ? logMs : answerMs })
    this.queue = new GroupQueue(options.queueBytesMax)
  }

  /**
   * Resolves when all `records` of one request are durable. Throws HR_CAPTURE_EVENT_TOO_LARGE, HR_CAPTURE_BUSY,
   * HR_CAPTURE_LOG_UNAVAILABLE, HR_CAPTURE_DISK_FULL, HR_CAPTURE_SPOOL_FULL, HR_CAPTURE_SPOOL_UNAVAILABLE (retriable),
   * or HR_CAPTURE_INTERNAL after telling `onFatal`.
   */
  async write(records: SendRecord[]): Promise<void> {
    if (this.broken) throw this.broken
    const { recordBytesMax } = this.options
    let bytes = 0
    for (let i = 0; i < records.length; i++) {
      const { header, value } = records[i]!
      const size = header.length + value.length
      if (size > recordBytesMax) throw tooLarge(`an event with its header has ${size} bytes`)
      bytes += size
    }
    const group = this.queue.add(records, bytes)
    if (!group) {
      throw captureError(
        'HR_CAPTURE_BUSY',
        `capture is storing as much as it may at a time (${this.options.queueBytesMax} bytes); send this again later`,
      )
    }
    this.running ??= this.run()
    this.waiting++
    try {
      await group.done
    } finally {
      this.waiting--
    }
    const refused = group.refused?.get(records)
    if (refused) throw refused
  }

  /** Undefined when events can be stored now, else one sentence why not. */
  async notReady(): Promise<string | undefined> {
    const { detour, log } = this.options
    if (this.broken) return this.broken.message
    if (!detour) return log.notReady()
    const full = await detour.notReady()
    if (full === undefined || detour.state !== 'direct') return full
    return log.notReady()
  }

  /** Waits for what was handed over, up to `untilMs` (performance.now). Gives how many requests are left. */
  async close(untilMs: number): Promise<number> {
    while (this.running && (await endsBy(this.running, untilMs)));
    // A send that was given up may take its whole time; the process ends before.
    await endsBy(this.producer.close(), untilMs)
    return this.waiting
  }

  private async run(): Promise<void> {
    // Requests of the same turn of the event loop join the first group.
    await new Promise((resolve) => setImmediate(resolve))
    const gate = this.options.detour?.gate
    while (this.queue.length > 0) {
      const isIn = !gate || gate.enter() || (await gate.pass(this.leftMs(this.queue.oldest!)))
      const group = this.queue.take()!
      try {
        // The gate stays shut while a spool is replaced, which a disk that hangs makes long.
        if (!isIn) throw this.refusal(this.late(group))
        await this.store(group)
        ackSeconds.observe((performance.now() - group.fromMs) / 1000)
        groupRecords.observe(group.records)
        group.stored()
      } catch (error) {
        group.failed(error)
      }
      this.queue.over(group)
      if (isIn) gate?.leave()
    }
    this.running = undefined
  }

  /** Throws what the requests of the group are told. */
  private async store(group: Group): Promise<void> {
    const { detour } = this.options
    if (this.broken) throw this.broken
    if (!detour) return this.storeDirect(group)
    if (detour.state === 'direct' && (await this.tryDirect(group, detour))) return
    const leftMs = this.leftMs(group)
    if (leftMs <= 0) throw this.late(group)
    const records = group.all()
    if (records.length === 0) return
    try {
      await within(group.usedBy(detour.append(records)), leftMs, () => this.late(group))
    } catch (error) {
      throw this.refusal(error)
    }
  }

  private async storeDirect(group: Group): Promise<void> {
    const leftMs = this.leftMs(group)
    if (leftMs <= 0) throw this.late(group)
    try {
      await within(group.usedBy(this.sendDirect(group)), leftMs, () => this.late(group))
    } catch (error) {
      group.isGivenUp = true
      throw this.refusal(error)
    }
  }

  /** False when the log did not take the group, so that it must go to the spool. */
  private async tryDirect(group: Group, detour: Detour): Promise<boolean> {
    const { logMs } = this.options
    const leftMs = Math.min(logMs, this.leftMs(group) - SPOOL_MS_MIN)
    let sending: Promise<void> | undefined
    try {
      if (leftMs <= 0) throw logError('HR_LOG_DEADLINE', 'the log is so slow that no time is left for a send')
      sending = group.usedBy(this.sendDirect(group))
      failpoint('produce_sent')
      await within(sending, leftMs, () =>
        logError('HR_LOG_DEADLINE', `no acknowledgement within ${Math.round(leftMs)} ms`),
      )
      failpoint('acked')
      return true
    } catch (error) {
      group.isGivenUp = true
      if (!(error instanceof HeadraceError) || error.class !== 'retriable') throw this.refusal(error)
      detour.begin(error, sending)
      return false
    }
  }

  private async sendDirect(group: Group): Promise<void> {
    try {
      await this.producer.send(group.all())
    } catch (error) {
      if (!isTooLarge(error)) throw error
      await this.sendSingly(group)
    }
  }

  /**
   * The topic takes less than it did at the start: only the requests that are too large must suffer. Ends when the group
   * is given up: the spool has it then, but for the requests refused so far, and what were sent or refused later would
   * be in the log in front of what came before it, or refused and stored.
   */
  private async sendSingly(group: Group): Promise<void> {
    for (const request of group.requests) {
      if (group.isGivenUp) return
      try {
        await this.producer.send(request)
      } catch (error) {
        if (!isTooLarge(error)) throw error
        if (group.isGivenUp) return
        group.refused ??= new Map()
        group.refused.set(request, tooLarge('an event is larger than the log takes', error))
      }
    }
  }

  private leftMs(group: Group): number {
    return group.fromMs + this.options.answerMs - performance.now()
  }

  private late(group: Group): HeadraceError {
    const waitedMs = Math.round(performance.now() - group.fromMs)
    return captureError(
      this.options.detour ? 'HR_CAPTURE_SPOOL_UNAVAILABLE' : 'HR_CAPTURE_LOG_UNAVAILABLE',
      `the events were not durable after ${waitedMs} ms; send them again with the same uuids`,
    )
  }

  /** What the client is told. The log's own words name folders and brokers, so they stay in our log. */
  private refusal(error: unknown): HeadraceError {
    if (error instanceof HeadraceError) {
      if (error.class === 'retriable') {
        this.warn(error)
        return error.status !== undefined && error.code.startsWith('HR_CAPTURE_')
          ? error
          : this.notTaken(error)
      }
      if (isTooLarge(error)) return tooLarge('an event is larger than the log takes', error)
    }
    if (!this.broken) this.options.onFatal(error)
    this.broken ??= captureError('HR_CAPTURE_INTERNAL', 'the log failed; capture stops', error)
    return this.broken
  }

  private notTaken(error: HeadraceError): HeadraceError {
    const { detour, answerMs } = this.options
    if (error.code === 'HR_LOG_DISK_FULL') {
      return detour
        ? captureError('HR_CAPTURE_SPOOL_FULL', 'the spool is full; send the events again later', error)
        : captureError('HR_CAPTURE_DISK_FULL', 'the disk is full; send the events again later', error)
    }
    return captureError(
      detour ? 'HR_CAPTURE_SPOOL_UNAVAILABLE' : 'HR_CAPTURE_LOG_UNAVAILABLE',
      `the events could not be stored within ${answerMs} ms; send them again with the same uuids`,
      error,
    )
  }

  private warn(error: HeadraceError): void {
    const now = performance.now()
    if (now - this.warnedMs < WARN_EVERY_MS) return
    this.warnedMs = now
    const docs = errorDocs(error.code)
    this.options.logger.warn({ code: error.code, docs }, `events are refused: ${error.message}`)
  }
}

function isTooLarge(error: unknown): error is HeadraceError {
  return error instanceof HeadraceError && error.code === 'HR_LOG_RECORD_TOO_LARGE'
}

function tooLarge(what: string, cause?: unknown): HeadraceError {
  return captureError('HR_CAPTURE_EVENT_TOO_LARGE', what, cause)
}
