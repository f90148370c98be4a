/**
 * One lane of a partition number: a reader of the raw topic, and where the lane stands. A pending read survives
 * while the other lane is worked on.
 */
import type { Place } from '../event/index.ts'
import type { Reader, StoredRecord } from '../log/index.ts'
import { ingestError } from './errors.ts'
import { type LaneId, type LanePosition, name } from './fence.ts'

export class LaneInput {
  private buffer: StoredRecord[] = []
  private waiting: Promise<void> | undefined
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
  ) {
    this.nextOffset = position.nextOffset
    this.producedThrough = position.producedThrough
    this.markedThrough = position.producedThrough
    this.last = position.last
  }

  get ready(): boolean {
    return this.buffer.length > 0
  }

  /** Starts to read unless records are waiting already. Resolves when there are some, or the reader closed. */
  whenReady(limit: { records: number; bytes: number }): Promise<void> {
    if (this.ready) return Promise.resolve()
    this.waiting ??= this.reader.next(limit).then(
      (records) => {
        this.waiting = undefined
        this.buffer = records
      },
      (error) => {
        this.waiting = undefined
        throw error
      },
    )
    return this.waiting
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
