/**
 * Finds rows in a row topic by the raw offsets that they came from. In: a raw partition and offsets. Out: the first
 * record of each place that the topic still holds, as ClickHouse got it. Positions in the topic are found by halving,
 * since rows of a raw partition lie in its order but for copies of a replay; `thorough` reads all of it instead, for what
 * must not be declared gone. Memory: one page of records.
 */
import {
  ByteReader,
  DEAD_LETTERS,
  decodeRowHeader,
  type Place,
  type RowTopic,
  type Source,
  TOPICS,
} from '../event/index.ts'
import type { Log, StoredRecord } from '../log/index.ts'
import type { Lane } from './lost-receipts.ts'

export type LogRow = Place & { row: Uint8Array; timestampMs: number }

export type RowTopicPart = { topic: RowTopic; partition: number }

/** Fewer records than this are read one after the other. */
const HALVED_RECORDS_MIN = 2_000
/** How far one look reads to find a record of this raw log among those of the other lane. */
const LOOK_RECORDS = 500

export async function* rowsInLog(
  log: Log,
  part: RowTopicPart,
  lane: Lane,
  places: readonly Place[],
  thorough: boolean,
): AsyncGenerator<LogRow> {
  if (places.length === 0) return
  const wanted = new Set(places.map(keyOf))
  let first = places[0]!.offset
  let last = first
  for (const { offset } of places) {
    first = Math.min(first, offset)
    last = Math.max(last, offset)
  }
  const { start, end } = await log.bounds(part.topic, part.partition)
  const from = thorough ? start : await locate(log, part, lane, first, { start, end })
  for await (const records of log.read(part.topic, part.partition, from, end)) {
    for (const { header, value } of records) {
      const { source, timestampMs } = decodeRowHeader(header)
      if (!isOf(source, lane)) continue
      if (wanted.has(keyOf(source)) && !isOfState(part, value) && wanted.delete(keyOf(source)))
        yield { offset: source.offset, sub: source.sub, row: value, timestampMs }
      if (wanted.size === 0 || (!thorough && source.offset > last)) return
    }
  }
}

/** Load's letter of a person or a group: it has a place of which its row says nothing (warehouse-places.ts). */
function isOfState({ topic }: RowTopicPart, value: Uint8Array): boolean {
  return topic === TOPICS.deadLetters && DEAD_LETTERS.decode(new ByteReader(value)).step.startsWith('load:')
}

/** A position in front of the first row with an offset of at least `offset`, unless copies are in the way. */
async function locate(
  log: Log,
  part: RowTopicPart,
  lane: Lane,
  offset: number,
  bounds: { start: number; end: number },
): Promise<number> {
  let { start: low, end: high } = bounds
  while (high - low > HALVED_RECORDS_MIN) {
    const middle = low + Math.floor((high - low) / 2)
    const found = await firstOf(log, part, lane, middle, Math.min(high, middle + LOOK_RECORDS))
    if (found === undefined) break
    if (found >= offset) high = middle
    else low = middle
  }
  return low
}

async function firstOf(
  log: Log,
  { topic, partition }: RowTopicPart,
  lane: Lane,
  from: number,
  to: number,
): Promise<number | undefined> {
  for await (const records of log.read(topic, partition, from, to)) {
    const found = records.map(sourceOf).find((source) => isOf(source, lane))
    if (found) return found.offset
  }
  return undefined
}

function sourceOf({ header }: StoredRecord): Source {
  return decodeRowHeader(header).source
}

function isOf(source: Source, lane: Lane): boolean {
  return source.logId === lane.logId && source.partition === lane.partition
}

export function keyOf({ offset, sub }: Place): string {
  return `${offset}/${sub}`
}
