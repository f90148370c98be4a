/**
 * Brings what a spool holds into the log, in order: reads a large batch, sends it with a producer of its own, notes
 * durably how far it got, one batch at a time. A batch that fails is sent again, the same one, until it is in the log:
 * nothing is skipped and nothing overtakes. Only a record that the log refuses for its size, before anything is sent,
 * is found by halving and set aside (aside.ts), so that what is behind it goes on.
 *
 * Why the order of first occurrences holds, whatever lands late. Let a group be given up by the direct producer, or a
 * batch by this one: some of its records may be in the log, and more of them may land at any later time. Of each
 * partition it is always a beginning of the group's records, in order, because a producer has one batch per partition
 * on its way and gives up all behind it. The group itself comes again, whole and in order, before anything that was
 * taken after it: the spool keeps the order, sends are one at a time, and direct sends begin only when the spool is
 * empty. So the first copy of each record stands before the first copy of each later one, and whatever lands behind
 * its first copy has the same header, with the same uuid, and is dropped by ingest as a duplicate.
 */
import { HeadraceError } from '../../event/index.ts'
import type { Producer, SendRecord, StoredRecord } from '../../log/index.ts'
import { backoffMs, failpoint, pause } from '../../platform/index.ts'
import { DRAIN_BACKOFF, DRAIN_BATCH_BYTES, DRAIN_BATCH_RECORDS } from './limits.ts'
import { drainedTotal, drainFailures } from './metrics.ts'
import { fromSpool } from './record.ts'
import type { Spool } from './spool.ts'

/** What became of one step. `damaged`: the spool cannot be read on; `fatal`: this process must stop. */
export type DrainStep =
  | { kind: 'drained'; records: number; tookMs: number }
  /** One record is too large for the log, and kept elsewhere now. */
  | { kind: 'setAside' }
  | { kind: 'empty' }
  | { kind: 'failed'; error: HeadraceError }
  | { kind: 'damaged'; error: HeadraceError }
  | { kind: 'fatal'; error: unknown }

/** The next piece is `count` records from `at`. */
type Batch = { stored: StoredRecord[]; records: SendRecord[]; at: number; count: number }

/** What no waiting mends: the spool must be left to a human. */
export function isUnreadable(error: unknown): error is HeadraceError {
  return (
    error instanceof HeadraceError &&
    (error.code === 'HR_LOG_CORRUPT' || error.code === 'HR_LOG_OUT_OF_RANGE')
  )
}

function isTooLarge(error: unknown): error is HeadraceError {
  return error instanceof HeadraceError && error.code === 'HR_LOG_RECORD_TOO_LARGE'
}

export class Drainer {
  /** Read, and not known to be in the log. */
  private batch: Batch | undefined
  private failures = 0

  constructor(
    private readonly spool: Spool,
    private readonly producer: Producer,
    /** Resolves when the record is durable elsewhere. */
    private readonly setAside: (record: SendRecord, why: HeadraceError) => Promise<void>,
  ) {}

  /** One batch, or a piece of it. After a failure it pauses first, until `signal` aborts. Never throws. */
  async step(signal: AbortSignal): Promise<DrainStep> {
    if (this.failures > 0) await pause(backoffMs(this.failures, DRAIN_BACKOFF), signal)
    try {
      this.batch ??= await this.read()
    } catch (error) {
      return this.unread(error)
    }
    if (!this.batch) return { kind: 'empty' }
    try {
      return await this.bring(this.batch)
    } catch (error) {
      return this.failed(error)
    }
  }

  /** Sends the next piece, in smaller pieces while the log refuses a record of it for its size. */
  private async bring(batch: Batch): Promise<DrainStep> {
    const { records } = batch
    for (;;) {
      const { at, count } = batch
      const piece = count === records.length ? records : records.slice(at, at + count)
      const from = performance.now()
      try {
        const sending = this.producer.send(piece)
        failpoint('drain_sent')
        await sending
      } catch (error) {
        if (!isTooLarge(error)) throw error
        if (count > 1) {
          batch.count = Math.ceil(count / 2)
          continue
        }
        await this.setAside(piece[0]!, error)
        await this.pass(batch)
        return { kind: 'setAside' }
      }
      const tookMs = performance.now() - from
      failpoint('drained_before_position')
      await this.pass(batch)
      drainedTotal.inc(count)
      return { kind: 'drained', records: count, tookMs }
    }
  }

  /** The next piece needs the spool no more. */
  private async pass(batch: Batch): Promise<void> {
    const { stored, count } = batch
    const next = batch.at + count
    await this.spool.advance(stored[next - 1]!.offset + 1)
    batch.at = next
    batch.count = Math.min(2 * count, stored.length - next)
    if (batch.count === 0) this.batch = undefined
    this.failures = 0
  }

  private async read(): Promise<Batch | undefined> {
    const stored = await this.spool.read({ records: DRAIN_BATCH_RECORDS, bytes: DRAIN_BATCH_BYTES })
    if (stored.length === 0) return undefined
    const records = new Array<SendRecord>(stored.length)
    for (let i = 0; i < stored.length; i++) records[i] = fromSpool(stored[i]!)
    return { stored, records, at: 0, count: records.length }
  }

  private unread(error: unknown): DrainStep {
    if (isUnreadable(error)) return { kind: 'damaged', error }
    return this.failed(error)
  }

  private failed(error: unknown): DrainStep {
    if (!(error instanceof HeadraceError) || error.class === 'fatal') return { kind: 'fatal', error }
    this.failures++
    drainFailures.inc()
    return { kind: 'failed', error }
  }
}
