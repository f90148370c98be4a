/**
 * The rows of one partition of a row topic that wait to be cut. In: records of the log from the load fence on. Out:
 * ranges with their rows. What must hold: rows stand in offset order; in topic `events` each row continues the chain
 * of its raw partition: copies are passed over, a gap ends the input. Pure but for its own memory; about 1 µs a row.
 */
import { Chain, decodeRowHeader, type RowHeader, type Source } from '../event/index.ts'
import type { StoredRecord } from '../log/index.ts'
import { type Cuttable, monthOf } from './cut.ts'
import { loadError } from './errors.ts'
import type { Fence, FenceMove, LastPlaces } from './intent.ts'

/**
 * Of all rows of the other tables. Their headers do not say in which month ClickHouse keeps them (`row-record.ts`), and who
 * sent months apart by what they do say, under one token, would lose rows: two inserts would meet in one month, and the
 * second would be taken for a copy of the first.
 */
const ONE_MONTH = 0

/** A row that waits, or is on its way. */
export type BufferedRow = Cuttable & {
  /** In the row topic. */
  readonly offset: number
  readonly source: Source
  /** Who the row belongs to; 0 when not known. */
  readonly teamId: number
  /** When the log took the record, epoch ms. */
  readonly appendedMs: number
}

/** Where an input reads. `chained`: topic `events`, whose rows are judged by `Chain`. */
export type InputPlace = { logId: string; topic: string; partition: number; chained: boolean }

export class PartitionInput {
  readonly waiting: BufferedRow[] = []
  waitingBytes = 0
  /** Copies passed over since the last call of `takeCopies`. */
  private copies = 0
  private readonly chain: Chain
  private readOffset: number
  private fence: Fence

  constructor(
    readonly place: InputPlace,
    fence: Fence,
  ) {
    this.fence = fence
    this.readOffset = fence.next
    this.chain = new Chain(fence.last)
  }

  /** The next offset to read. */
  get nextOffset(): number {
    return this.readOffset
  }

  /** Everything below is in an intent. */
  get fenceOffset(): number {
    return this.fence.next
  }

  /** True when there are records behind the last cut, if only copies. */
  get movable(): boolean {
    return this.readOffset > this.fence.next
  }

  /**
   * Takes up records that follow what was taken up before; returns the bytes of the rows. Throws HR_LOAD_GAP or
   * HR_LOAD_UNREADABLE at the first record that must not be passed; those before it are kept.
   */
  accept(records: StoredRecord[]): number {
    let bytes = 0
    for (const record of records) {
      if (record.offset !== this.readOffset) {
        throw this.gap(`offset ${this.readOffset} was to be read next, the log gave ${record.offset}`)
      }
      const header = this.readHeader(record)
      if (!this.place.chained || this.judge(header, record.offset)) {
        this.waiting.push({
          row: record.value,
          month: this.place.chained ? monthOf(header.timestampMs) : ONE_MONTH,
          offset: record.offset,
          source: header.source,
          teamId: header.teamId,
          appendedMs: record.appendedMs,
        })
        bytes += record.value.length
        this.waitingBytes += record.value.length
      }
      this.readOffset++
    }
    return bytes
  }

  private readHeader(record: StoredRecord): RowHeader {
    try {
      return decodeRowHeader(record.header)
    } catch (cause) {
      const { topic, partition } = this.place
      throw loadError(
        'HR_LOAD_UNREADABLE',
        `${topic}/${partition} offset ${record.offset} carries no row header: ${(cause as Error).message}`,
        cause,
      )
    }
  }

  private judge({ source, prev }: RowHeader, offset: number): boolean {
    switch (this.chain.take(source, prev)) {
      case 'accept':
        return true
      case 'copy':
        this.copies++
        return false
      case 'gap': {
        const last = this.chain.last(source.logId)
        const had = last ? `${last.offset}/${last.sub}` : 'none'
        const wants = prev ? `${prev.offset}/${prev.sub}` : 'none'
        throw this.gap(
          `the row at offset ${offset} (raw ${source.logId}/${source.partition} ${source.offset}/${source.sub}) follows row ${wants}, but the last one here was ${had}`,
        )
      }
    }
  }

  private gap(what: string) {
    return loadError('HR_LOAD_GAP', `gap in ${this.place.topic}/${this.place.partition}: ${what}`)
  }

  /**
   * Takes the first `count` waiting rows out; with all of them, also the copies behind them. The fence of this
   * input moves at once: the caller writes the move to Postgres, or throws this input away.
   */
  cut(count: number): FenceMove & { rows: BufferedRow[] } {
    const all = count === this.waiting.length
    const rows = this.waiting.splice(0, count)
    const to = all ? this.readOffset : this.waiting[0]!.offset
    const lastAfter = this.place.chained ? advance(this.fence.last, rows) : this.fence.last
    const { logId, topic, partition } = this.place
    const range = { logId, topic, partition, from: this.fence.next, to, last: this.fence.last }
    for (const { row } of rows) this.waitingBytes -= row.length
    this.fence = { next: to, last: lastAfter }
    return { range, lastAfter, rows }
  }

  takeCopies(): number {
    const { copies } = this
    this.copies = 0
    return copies
  }
}

/** The last places behind `rows`, which follow `last` in a chain. */
export function advance(last: LastPlaces, rows: readonly BufferedRow[]): LastPlaces {
  const after = { ...last }
  const logs = new Set<string>()
  for (let i = rows.length - 1; i >= 0; i--) {
    const { logId, offset, sub } = rows[i]!.source
    if (logs.has(logId)) continue
    logs.add(logId)
    after[logId] = [offset, sub]
  }
  return after
}
