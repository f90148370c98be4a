/**
 * Whether row topics are loaded as far as they go now: what has no chain of its own (all but `events`) can be compared
 * only then, since a row that is on its way is not missing.
 */
import type { Sql } from '../catalog/index.ts'
import { partitionsOf, type RowTopic, writerPartition } from '../event/index.ts'
import { neededFrom } from '../load/index.ts'
import type { Log } from '../log/index.ts'

type Deps = { sql: Sql; log: Log; partitions: number }
export type TopicPart = { topic: RowTopic; partition: number }

const LOOK_AGAIN_MS = 100

/** Every partition of `topics` that belongs to partition number `number`, or to any. */
export function topicParts(
  topics: readonly RowTopic[],
  partitions: number,
  number: number | undefined,
): TopicPart[] {
  return topics.flatMap((topic) => {
    const wanted = number === undefined ? undefined : bothWriters(topic, number, partitions)
    return Array.from({ length: partitionsOf(topic, partitions) }, (_, partition) => ({
      topic,
      partition,
    })).filter(({ partition }) => wanted === undefined || wanted.has(partition))
  })
}

function bothWriters(topic: RowTopic, number: number, partitions: number): Set<number> {
  return new Set([
    writerPartition(topic, 'ingest', number, partitions),
    writerPartition(topic, 'load', number, partitions),
  ])
}

/** First offset of each `topic/partition` that may not be loaded. */
export async function loadedTo(
  { sql, log }: Deps,
  topics: readonly RowTopic[],
): Promise<Map<string, number>> {
  const logIds = new Map((await log.describe([...topics])).map(({ name, logId }) => [name, logId]))
  return neededFrom(sql, logIds)
}

/** Those of `parts` (`topic/partition`) that are not loaded to where they end now, after `waitMs` at the latest. */
export async function lateParts(
  deps: Deps,
  parts: readonly TopicPart[],
  waitMs: number,
): Promise<Set<string>> {
  const topics = [...new Set(parts.map(({ topic }) => topic))]
  const ends = new Map<string, number>()
  for (const { topic, partition } of parts)
    ends.set(`${topic}/${partition}`, (await deps.log.bounds(topic, partition)).end)
  const deadline = performance.now() + waitMs
  for (;;) {
    const loaded = await loadedTo(deps, topics)
    const late = [...ends].filter(([part, end]) => (loaded.get(part) ?? 0) < end).map(([part]) => part)
    if (late.length === 0 || performance.now() >= deadline) return new Set(late)
    await Bun.sleep(LOOK_AGAIN_MS)
  }
}
