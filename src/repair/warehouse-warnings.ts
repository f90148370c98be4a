/**
 * Ingestion warnings that ClickHouse lacks. No receipt counts them, so the topic is what says that there was one: what it
 * still holds below the load progress is compared and inserted. Older ones come along when their event is made again
 * from its raw record. Cost: a read of the topic, which is small, and one query for each 5,000 warnings.
 */
import { ByteReader, decodeRowHeader, INGESTION_WARNINGS, type Place, TOPICS } from '../event/index.ts'
import { type InsertDeps, insertMade, type RefusedRow } from './warehouse-insert.ts'
import type { Keeps } from './warehouse-kept.ts'
import { loadedTo } from './warehouse-late.ts'
import type { LaneOf, MadeRow } from './warehouse-make.ts'

/** Raw offsets [from, to) of one raw partition. */
export type LaneRange = LaneOf & { from: number; to: number }

type Warning = MadeRow & { lane: LaneRange; type: string }

const CHUNK_WARNINGS = 5_000

export type WarningsRepair = { missing: number; refused: (RefusedRow & { lane: LaneRange })[] }

/** What was missing, and what of it ClickHouse refuses, of all raw ranges of one partition number. */
export async function repairWarnings(
  deps: InsertDeps,
  ranges: readonly LaneRange[],
  keeps: Keeps,
  apply: boolean,
): Promise<WarningsRepair> {
  const topic = TOPICS.ingestionWarnings
  const { partition } = ranges[0]!
  const { start, end } = await deps.log.bounds(topic, partition)
  const loaded = (await loadedTo(deps, [topic])).get(`${topic}/${partition}`) ?? 0
  let waiting: Warning[] = []
  const result: WarningsRepair = { missing: 0, refused: [] }
  const compare = async () => {
    for (const [lane, some] of Map.groupBy(waiting, (warning) => warning.lane)) {
      const lacking = await lackingOf(deps, lane, some, keeps)
      result.missing += lacking.length
      if (!apply) continue
      for (const refused of await insertMade(deps, INGESTION_WARNINGS, lane, lacking))
        result.refused.push({ ...refused, lane })
    }
    waiting = []
  }
  for await (const records of deps.log.read(
    topic,
    partition,
    start,
    Math.min(end, Math.max(start, loaded)),
  )) {
    for (const { header, value } of records) {
      const { source, timestampMs } = decodeRowHeader(header)
      const lane = ranges.find(({ logId }) => logId === source.logId)
      if (!lane || source.offset < lane.from || source.offset >= lane.to) continue
      const { type } = INGESTION_WARNINGS.decode(new ByteReader(value))
      waiting.push({ lane, type, offset: source.offset, sub: source.sub, row: value, timestampMs })
    }
    if (waiting.length >= CHUNK_WARNINGS) await compare()
  }
  await compare()
  return result
}

async function lackingOf(
  { warehouse }: InsertDeps,
  lane: LaneRange,
  warnings: readonly Warning[],
  keeps: Keeps,
): Promise<Warning[]> {
  const offsets = warnings.map(({ offset }) => offset)
  const present = await warehouse.query<Place & { type: string }>(
    `SELECT DISTINCT _offset AS offset, _sub AS sub, type FROM ${INGESTION_WARNINGS.name}
     WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset >= {from:UInt64} AND _offset <= {to:UInt64}`,
    { logId: lane.logId, partition: lane.partition, from: Math.min(...offsets), to: Math.max(...offsets) },
  )
  const there = new Set(present.map(({ offset, sub, type }) => `${offset}/${sub}/${type}`))
  const lacking = warnings.filter(({ offset, sub, type }) => !there.has(`${offset}/${sub}/${type}`))
  const kept = await keeps(lane, lacking)
  return lacking.filter((_, i) => kept[i])
}
