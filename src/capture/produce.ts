/**
 * The way of accepted events into the log: one producer for all requests, which joins what arrives while a send is in
 * flight into the next one (group commit: no timer at low load, full batches at high load). Resolves when durable.
 */
import { encodeRawHeader, HeadraceError, partitionOf, type RawHeader, TOPICS } from '../event/index.ts'
import type { Log, LogRecord, Producer } from '../log/index.ts'
import { histogram, type Logger } from '../observe/index.ts'
import { captureError, errorDocs } from './errors.ts'
import { partitionKeyOf } from './validate.ts'

const ackSeconds = histogram(
  'headrace_capture_ack_seconds',
  'From handing the events of a request to the log to its acknowledgement.',
  [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
)

/** The record of an event: its bytes as they came, and what capture found out. */
export function rawRecord(
  header: RawHeader,
  value: Uint8Array,
  historical: boolean,
  partitions: number,
): LogRecord {
  return {
    topic: historical ? TOPICS.rawHistorical : TOPICS.raw,
    partition: partitionOf(partitionKeyOf(header), partitions),
    header: encodeRawHeader(header),
    value,
  }
}

/** A log that refuses is told of at most this often; every refusal is counted. */
const WARN_EVERY_MS = 10_000

export class RawWriter {
  private readonly producer: Producer
  private warnedMs = Number.NEGATIVE_INFINITY
  private failed = false

  /** `onFatal` hears once of an error after which this process must stop. */
  constructor(
    log: Log,
    private readonly answerMs: number,
    private readonly logger: Logger,
    private readonly onFatal: (error: unknown) => void,
  ) {
    this.producer = log.producer({ name: 'capture', deadlineMs: answerMs })
  }

  /**
   * Resolves when all `records` are durable. Throws HR_CAPTURE_LOG_UNAVAILABLE, HR_CAPTURE_DISK_FULL (retriable),
   * HR_CAPTURE_EVENT_TOO_LARGE, or HR_CAPTURE_INTERNAL after telling `onFatal`.
   */
  async write(records: LogRecord[]): Promise<void> {
    const from = performance.now()
    try {
      await this.producer.send(records)
    } catch (error) {
      throw this.refusal(error)
    }
    ackSeconds.observe((performance.now() - from) / 1000)
  }

  /** What the client is told. The log's own words name folders and brokers, so they stay in our log. */
  private refusal(error: unknown): HeadraceError {
    if (error instanceof HeadraceError) {
      if (error.code === 'HR_LOG_RECORD_TOO_LARGE') {
        return captureError('HR_CAPTURE_EVENT_TOO_LARGE', 'an event is larger than the log takes', error)
      }
      if (error.class === 'retriable') {
        this.warn(error)
        return error.code === 'HR_LOG_DISK_FULL'
          ? captureError('HR_CAPTURE_DISK_FULL', 'the disk is full; send the events again later', error)
          : captureError(
              'HR_CAPTURE_LOG_UNAVAILABLE',
              `the log did not take the events within ${this.answerMs} ms; send them again with the same uuids`,
              error,
            )
      }
    }
    if (!this.failed) this.onFatal(error)
    this.failed = true
    return captureError('HR_CAPTURE_INTERNAL', 'the log failed; capture stops', error)
  }

  private warn(error: HeadraceError): void {
    const now = performance.now()
    if (now - this.warnedMs < WARN_EVERY_MS) return
    this.warnedMs = now
    const docs = errorDocs(error.code)
    this.logger.warn({ code: error.code, docs }, `the log does not take events: ${error.message}`)
  }

  close(): Promise<void> {
    return this.producer.close()
  }
}
