/**
 * The door of a producer: a send passes when the topics of its records are known and none of its records is one that
 * these topics cannot take. Sends whose topics must be looked up first wait here, and so does what comes behind them:
 * the order stays.
 */
import { logError } from '../errors.ts'
import type { SendRecord } from '../log.ts'
import { backoffMs, pause } from './backoff.ts'
import { isHeadraceError } from './faults.ts'
import type { Send } from './send-queue.ts'
import type { TopicLimits } from './topic-limits.ts'

export class Admission {
  private waiting: Send[] = []
  private working = false
  private closed = false

  constructor(
    private readonly limits: TopicLimits,
    private readonly pass: (send: Send) => void,
    private readonly signal: AbortSignal,
  ) {}

  /**
   * Too large, or a partition that is not there: refused before anything is sent. A topic whose limits are not known
   * yet passes here; it is judged again when they are.
   */
  refusal(records: SendRecord[]) {
    let last: string | undefined
    let limit = undefined as ReturnType<TopicLimits['get']>
    for (let i = 0; i < records.length; i++) {
      const { topic, partition, header, value } = records[i]!
      if (topic !== last) {
        last = topic
        limit = this.limits.get(topic)
      }
      if (limit === undefined) continue
      const size = header.length + value.length
      if (size > limit.recordBytesMax)
        return logError(
          'HR_LOG_RECORD_TOO_LARGE',
          `a record of ${size} bytes is larger than topic ${topic} allows (${limit.recordBytesMax})`,
        )
      if (partition < 0 || partition >= limit.partitions || !Number.isInteger(partition))
        return logError(
          'HR_LOG_WRONG_TOPIC',
          `partition ${partition} of topic ${topic} does not exist: it has ${limit.partitions}`,
        )
    }
    return undefined
  }

  /** Passes the send on, now or after its topics were looked up, or fails it. */
  enter(send: Send): void {
    if (this.waiting.length === 0 && this.knows(send.records)) {
      this.pass(send)
      return
    }
    this.waiting.push(send)
    if (!this.working) void this.work()
  }

  /** What waits fails when its topics cannot be looked up at the first try. */
  close(): void {
    this.closed = true
  }

  private knows(records: SendRecord[]): boolean {
    let last: string | undefined
    for (let i = 0; i < records.length; i++) {
      const { topic } = records[i]!
      if (topic === last) continue
      last = topic
      if (this.limits.get(topic) === undefined) return false
    }
    return true
  }

  private async work(): Promise<void> {
    this.working = true
    for (let failures = 0; this.waiting.length > 0; ) {
      const send = this.waiting[0]!
      if (send.settled) {
        this.waiting.shift()
        continue
      }
      try {
        await this.limits.load([...new Set(send.records.map((record) => record.topic))])
        failures = 0
      } catch (error) {
        const failure = isHeadraceError(error) ? error : logError('HR_LOG_UNAVAILABLE', String(error), error)
        if (failure.class !== 'retriable') send.fail(failure)
        else await pause(backoffMs(failures++), this.signal)
        if (this.closed) send.fail(failure)
        continue
      }
      if (send.settled) continue
      this.waiting.shift()
      const refused = this.refusal(send.records)
      if (refused) send.fail(refused)
      else this.pass(send)
    }
    this.working = false
  }
}
