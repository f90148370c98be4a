/**
 * Whether table `outcomes` can be compared: for each partition number, whether everything that the log holds of it
 * now is loaded. Its records have no chain of their own, so their progress is the load fence against the end of the
 * log, without open intents.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import type { LaneProgress } from './progress.ts'

const LOOK_AGAIN_MS = 100

type Wanted = { partition: number; end: number }

/** The partition numbers whose outcomes are loaded, at the latest after `waitMs`. */
export async function outcomesLoaded(
  deps: { sql: Sql; log: Log },
  lanes: readonly LaneProgress[],
  waitMs: number,
): Promise<Set<number>> {
  const [topic] = await deps.log.describe([TOPICS.outcomes])
  if (!topic) return new Set()
  const numbers = new Set(lanes.map(({ partition }) => partition))
  // Both writers of a number: ingest writes p, load writes P + p.
  const offset = topic.partitions / 2
  const wanted: Wanted[] = []
  for (const number of numbers) {
    for (const partition of [number, number + offset]) {
      const { end } = await deps.log.bounds(TOPICS.outcomes, partition)
      wanted.push({ partition, end })
    }
  }
  const deadline = performance.now() + waitMs
  for (;;) {
    const behind = await partitionsBehind(deps.sql, topic.logId, wanted)
    if (behind.size === 0 || performance.now() >= deadline) {
      return new Set([...numbers].filter((number) => !behind.has(number) && !behind.has(number + offset)))
    }
    await Bun.sleep(LOOK_AGAIN_MS)
  }
}

async function partitionsBehind(sql: Sql, logId: string, wanted: readonly Wanted[]): Promise<Set<number>> {
  return guardState('read load fences', async () => {
    // Fences first: an intent that is written in between is then seen as open, or its fence as not yet moved.
    const fences = await sql<{ partition: number; next_offset: number }[]>`
      SELECT partition, next_offset FROM load_fence WHERE log_id = ${logId}`
    const open = await sql<{ ranges: { logId: string; partition: number; from: number }[] }[]>`
      SELECT ranges FROM load_intent WHERE state = 'open' AND table_name = 'outcomes'`
    const reached = new Map(fences.map(({ partition, next_offset }) => [partition, next_offset]))
    for (const range of open.flatMap(({ ranges }) => ranges)) {
      if (range.logId !== logId) continue
      reached.set(range.partition, Math.min(range.from, reached.get(range.partition) ?? 0))
    }
    return new Set(
      wanted
        .filter(({ partition, end }) => (reached.get(partition) ?? 0) < end)
        .map(({ partition }) => partition),
    )
  })
}
