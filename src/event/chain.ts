/**
 * The rule by which every reader of `events` tells a new row from a copy and from a gap. Each row names the place
 * emitted before it from the same raw partition (`prev`); `last` is the place that the reader accepted last.
 * A replay, a zombie or an abandoned send that lands late makes copies; only a loss makes a gap.
 */
import { comparePlaces, type Place, type Source } from './source.ts'

export type ChainVerdict = 'accept' | 'copy' | 'gap'

/** `last` is undefined when nothing of this raw partition was accepted yet. */
export function judgeRow(last: Place | undefined, prev: Place | undefined, source: Place): ChainVerdict {
  if (last && comparePlaces(source, last) <= 0) return 'copy'
  if (prev === undefined) return last === undefined ? 'accept' : 'gap'
  if (last === undefined) return 'gap'
  return comparePlaces(prev, last) <= 0 ? 'accept' : 'gap'
}

/** Last accepted places of one `events` partition, by raw log id: part of every cursor and intent. */
export class Chain {
  private readonly places: Map<string, Place>

  constructor(stored: Record<string, [number, number]> = {}) {
    this.places = new Map(Object.entries(stored).map(([logId, [offset, sub]]) => [logId, { offset, sub }]))
  }

  /** Judges a row and, when it is accepted, moves on. */
  take(source: Source, prev: Place | undefined): ChainVerdict {
    const verdict = judgeRow(this.places.get(source.logId), prev, source)
    if (verdict === 'accept') this.places.set(source.logId, { offset: source.offset, sub: source.sub })
    return verdict
  }

  last(logId: string): Place | undefined {
    return this.places.get(logId)
  }

  /** As stored in Postgres (`load_fence.last`, `load_intent.ranges[].last`). */
  toJSON(): Record<string, [number, number]> {
    return Object.fromEntries([...this.places].map(([logId, place]) => [logId, [place.offset, place.sub]]))
  }
}
