/**
 * A stretch of one partition of `events` as a destination works on it. In: records, in order, from exactly where a cursor
 * stands. Out: the events in it that are new, each with its place in the topic. Must hold: copies are passed over, a gap
 * ends it (`src/event/chain.ts`). The chain can be asked for at any event of it, since a destination may stop in the middle. About 1 µs a record.
 */
import { decodeRowHeader, judgeRow, type Place, type RowHeader } from '../event/index.ts'
import type { StoredRecord } from '../log/index.ts'
import { deliverError } from './errors.ts'
import { EventView } from './event-view.ts'

/** As `Chain` stores them: per raw log id the last accepted place. */
export type LastPlaces = Record<string, [number, number]>

/** A place in the topic together with the chain there. */
export type Spot = { next: number; last: LastPlaces }

export class Batch {
  private readonly perProject = new Map<number, number>()

  private constructor(
    readonly begin: Spot,
    readonly views: readonly EventView[],
    /** Of each view in the topic; undefined for rows from ClickHouse, which know their sources only. */
    private readonly offsets: readonly number[] | undefined,
    /** Behind its last record. */
    readonly end: Spot,
  ) {
    for (const { teamId } of views) this.perProject.set(teamId, (this.perProject.get(teamId) ?? 0) + 1)
  }

  /**
   * `adopt`: the cursor was put somewhere without knowing what came before, so the first row of each raw log is taken as it
   * is. Throws HR_DELIVER_GAP, HR_DELIVER_UNREADABLE.
   */
  static read(begin: Spot, records: readonly StoredRecord[], adopt: boolean, where: string): Batch {
    const lasts = new Map<string, Place>()
    for (const [logId, [offset, sub]] of Object.entries(begin.last)) lasts.set(logId, { offset, sub })
    const views: EventView[] = []
    const offsets: number[] = []
    let next = begin.next
    for (const record of records) {
      if (record.offset !== next)
        throw deliverError(
          'HR_DELIVER_GAP',
          `gap in ${where}: offset ${next} was to be read next, the log gave ${record.offset}`,
        )
      next++
      const { source, prev, teamId } = readHeader(record, where)
      const last = lasts.get(source.logId)
      const verdict = last === undefined && adopt ? 'accept' : judgeRow(last, prev, source)
      if (verdict === 'copy') continue
      if (verdict === 'gap')
        throw deliverError(
          'HR_DELIVER_GAP',
          `gap in ${where}: the row at offset ${record.offset} (raw ${source.logId}/${source.partition} ${source.offset}/${source.sub}) follows row ${prev ? `${prev.offset}/${prev.sub}` : 'none'}, but the last one here was ${last ? `${last.offset}/${last.sub}` : 'none'}`,
        )
      lasts.set(source.logId, source)
      views.push(new EventView(record.value, source, teamId))
      offsets.push(record.offset)
    }
    return new Batch(begin, views, offsets, { next, last: advance(begin.last, views, views.length) })
  }

  /** Rows from ClickHouse, in the order of their sources; `end` undefined: the topic offset stays where it is. */
  static ofHistory(begin: Spot, views: readonly EventView[], end?: Spot): Batch {
    const after = { next: begin.next, last: advance(begin.last, views, views.length) }
    return new Batch(begin, views, undefined, end ?? after)
  }

  /** How many of the first `count` views are of a project. */
  countOf(teamId: number, count: number): number {
    if (count >= this.views.length) return this.perProject.get(teamId) ?? 0
    let found = 0
    for (let i = 0; i < count; i++) if (this.views[i]!.teamId === teamId) found++
    return found
  }

  /** Where a cursor stands when the views below `index` are settled and the others are not. */
  spotAt(index: number): Spot {
    if (index >= this.views.length) return this.end
    const next = this.offsets ? this.offsets[index]! : this.begin.next
    return { next, last: advance(this.begin.last, this.views, index) }
  }
}

/** The chain behind the first `count` views. */
function advance(last: LastPlaces, views: readonly EventView[], count: number): LastPlaces {
  const after = { ...last }
  for (let i = 0; i < count; i++) {
    const { source } = views[i]!
    after[source.logId] = [source.offset, source.sub]
  }
  return after
}

function readHeader(record: StoredRecord, where: string): RowHeader {
  try {
    return decodeRowHeader(record.header)
  } catch (cause) {
    throw deliverError(
      'HR_DELIVER_UNREADABLE',
      `${where} offset ${record.offset} carries no row header: ${(cause as Error).message}`,
      cause,
    )
  }
}
