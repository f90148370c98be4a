/**
 * Looks for a uuid among the raw records that ClickHouse may not know yet: those behind the load progress. Bounded:
 * each partition gives its share of the newest records, about 1 µs each.
 */
import type { Sql } from '../catalog/index.ts'
import { decodeRawHeader, type Source } from '../event/index.ts'
import type { Log, StoredRecord, TopicState } from '../log/index.ts'
import { type LaneProgress, readProgress } from './progress.ts'

/** Looked through below the load progress, too: the row in `outcomes` of what is not stored may come a little later. */
const MARGIN_OFFSETS = 1_000

/** `pending`: raw records that are not loaded yet. `complete`: all of them were looked through. */
export type Tail = { found: Source[]; scanned: number; pending: number; complete: boolean }

/** Looks for the uuid in raw records whose rows may not be loaded yet, newest partitions and all lanes alike. */
export async function scanTail(
  deps: { sql: Sql; log: Log },
  topics: TopicState[],
  uuid: string,
  recordsMax: number,
): Promise<Tail> {
  const lanes = await readProgress(deps.sql)
  const tail: Tail = { found: [], scanned: 0, pending: 0, complete: true }
  const ranges: { topic: TopicState; partition: number; from: number; pending: number; end: number }[] = []
  for (const topic of topics) {
    for (let partition = 0; partition < topic.partitions; partition++) {
      const { start, end } = await deps.log.bounds(topic.name, partition)
      const lane = lanes.find((lane) => lane.logId === topic.logId && lane.partition === partition)
      const pending = Math.max(start, lane ? pendingFrom(lane) : 0)
      tail.pending += end - pending
      const from = Math.max(start, pending - MARGIN_OFFSETS)
      if (from < end) ranges.push({ topic, partition, from, pending, end })
    }
  }
  // Each partition gets its share of the newest records: what was just sent is what is asked for.
  const share = Math.max(1, Math.floor(recordsMax / Math.max(1, ranges.length)))
  for (const { topic, partition, from, pending, end } of ranges) {
    const first = Math.max(from, end - share)
    if (first > pending) tail.complete = false
    for await (const records of deps.log.read(topic.name, partition, first, end)) {
      tail.scanned += records.length
      for (const record of records) {
        if (uuidOf(record) !== uuid) continue
        tail.found.push({ logId: topic.logId, partition, offset: record.offset, sub: 0 })
      }
    }
  }
  return tail
}

/** Rows below are in ClickHouse; what is not stored may still be on its way, hence the produced part, too. */
function pendingFrom(lane: LaneProgress): number {
  return Math.min(lane.loadedThrough, lane.producedThrough)
}

/** Undefined when the header cannot be read. */
function uuidOf(record: StoredRecord): string | undefined {
  try {
    return decodeRawHeader(record.header).uuid
  } catch {
    return undefined
  }
}
