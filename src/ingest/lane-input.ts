/**
 * One lane of a partition number: a reader of the raw topic, and where the lane stands. A pending read survives
 * while the other lane is worked on; what becomes of it, records or a failure, is kept until it is asked for.
 */
import type { Place } from '../event/index.ts'
import type { Reader, StoredRecord } from '../log/index.ts'
import { ingestError } from './errors.ts'
import { type LaneId, type LanePosition, name } from './fence.ts'

export class LaneInput {
  private buffer: StoredRecord[] = []
  private reading = false
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
    this.reader
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

  /** The records read, which must continue where the lane stands. */
  take(): StoredRecord[] {
    const records = this.buffer
    this.buffer = []
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
    return records
  }

  close(): Promise<void> {
    return this.reader.close()
  }
}
