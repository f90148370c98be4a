/**
 * Where an event came from, for ever: `(log id, partition, offset, sub)`. The log id is Kafka's topic id, or an id
 * made when an embedded topic is created, so it names the lane too, and a recreated topic is never mistaken for
 * the old one. `sub` numbers the rows when a transformation made several of one event.
 */
export type Source = {
  /** Canonical lower-case UUID of the raw topic. */
  readonly logId: string
  readonly partition: number
  /** 0 … 2^53 − 1. */
  readonly offset: number
  /** 0 … 65535. */
  readonly sub: number
}

/** A place in one raw partition: an offset and the row number in it. Ordered first by offset. */
export type Place = { readonly offset: number; readonly sub: number }

export const SUB_MAX = 65_535

/** Negative, 0 or positive, as `a` comes before, is, or comes after `b`. */
export function comparePlaces(a: Place, b: Place): number {
  return a.offset - b.offset || a.sub - b.sub
}

/** `log id/partition/offset/sub`: how a source is written in logs, tables and on the command line. */
export function formatSource(source: Source): string {
  return `${source.logId}/${source.partition}/${source.offset}/${source.sub}`
}

/** Reads what `formatSource` wrote; undefined when it is not one. */
export function parseSource(text: string): Source | undefined {
  const match = /^([0-9a-f-]{36})\/(\d+)\/(\d+)\/(\d+)$/.exec(text)
  if (!match) return undefined
  return { logId: match[1]!, partition: Number(match[2]), offset: Number(match[3]), sub: Number(match[4]) }
}

/**
 * A 32-bit hash of a source within its partition, the same that ClickHouse gives for
 * `xxHash32(concat(toString(_offset), ':', toString(_sub)))`. Audits compare sums of it.
 */
export function sourceHash(place: Place): number {
  return Bun.hash.xxHash32(`${place.offset}:${place.sub}`)
}
