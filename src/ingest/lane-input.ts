/**
 * One lane of a partition number: a reader of the raw topic, and where the lane stands. A pending read survives
 * while the other lane is worked on; what becomes of it, records or a failure, is kept until it is asked for.
 */
import type { Place } from '../event/index.ts'
import type { Reader, StoredRecord } from '../log/index.ts'
import { endsWithin } from '../platform/index.ts'
import { ingestError } from './errors.ts'
import { type LaneId, type LanePosition, name } from './fence.ts'

/** A read that gave as much was cut by the size of the log's pieces, and not by its end: more is there at once. */
const PIECE_BYTES = 2 ** 19
/** Of raw records put together: above it a batch costs no less for each event, and holds its persons for longer. */
const GATHERED_BYTES = 4 * 2 ** 20
/** What is on the disk is there by then; what has yet to be sent is not waited for. */
const GATHER_MS = 20

export class LaneInput {
  private buffer: StoredRecord[] = []
  private reading = false
  private pending: Promise<void> | undefined
  private failure: { error: unknown } | undefined
  nextOffset: number
  /** Everything below is known to be in `events`; Postgres learns it with the next batch, or when idle. */
  producedThrough: number
  /** What Postgres has as produced_through. */
  markedThrough: number
  last: Place | undefined

  constructor(
    readonly id: LaneId,
    readonly historical: boolean,
    private readonly reader: Reader,
    position: LanePosition,
    /** Called when there are records, when the read failed, and when the reader closed. */
    private readonly changed: () => void,
  ) {
    this.nextOffset = position.nextOffset
    this.producedThrough = position.producedThrough
    this.markedThrough = position.producedThrough
    this.last = position.last
  }

  get ready(): boolean {
    return this.buffer.length > 0
  }

  /** Starts to read unless records are waiting, or a read is on its way. Throws what the last read failed with. */
  read(limit: { records: number; bytes: number }): void {
    const { failure } = this
    this.failure = undefined
    if (failure) throw failure.error
    if (this.ready || this.reading) return
    this.reading = true
    this.pending = this.reader
      .next(limit)
      .then(
        (records) => {
          this.buffer = records
        },
        (error: unknown) => {
          this.failure = { error }
        },
      )
      .finally(() => {
        this.reading = false
        this.changed()
      })
  }

  /**
   * The records read, and, when the lane is behind, those that come next, up to 4 MiB: a batch has costs of its own, and a
   * piece of the embedded log is only 1 MiB. They must continue where the lane stands. What a further read fails with is
   * thrown at the next one. `more`: the lane has further ones now.
   */
  async take(limit: { records: number; bytes: number }): Promise<{ records: StoredRecord[]; more: boolean }> {
    const bytesMax = Math.min(limit.bytes, GATHERED_BYTES)
    const records: StoredRecord[] = []
    let bytes = 0
    for (;;) {
      for (const record of this.buffer) records.push(record)
      const piece = bytesOf(this.buffer)
      this.buffer = []
      bytes += piece
      const left = { records: limit.records - records.length, bytes: bytesMax - bytes }
      const more = piece >= PIECE_BYTES || left.records <= 0
      if (!more || left.records <= 0 || left.bytes < PIECE_BYTES || this.failure) {
        this.refuseGap(records)
        return { records, more }
      }
      this.read(left)
      await endsWithin(this.pending, GATHER_MS)
    }
  }

  private refuseGap(records: readonly StoredRecord[]): void {
    for (let i = 0; i < records.length; i++) {
      const expected = this.nextOffset + i
      const { offset } = records[i]!
      if (offset !== expected) {
        throw ingestError(
          'HR_INGEST_GAP',
          `${name(this.id)} gives offset ${offset} where ${expected} is next`,
        )
      }
    }
  }

  close(): Promise<void> {
    return this.reader.close()
  }
}

function bytesOf(records: readonly StoredRecord[]): number {
  return records.reduce((sum, { header, value }) => sum + header.length + value.length, 0)
}
