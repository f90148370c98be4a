/**
 * Where each raw partition stands against the raw log, as ingest sees it when it opens the partition: in order, or
 * why it halts. In: fences and the bounds of the log. Out: one state per lane and partition. Reads only.
 */
import { guardState, type Sql, type Transaction } from '../catalog/index.ts'
import { RAW_TOPICS } from '../event/index.ts'
import { otherRecords } from '../ingest/index.ts'
import type { Log } from '../log/index.ts'

/**
 * `retention`: unread records are gone. `recreated`: another log id. `went_back`: it ends before what was read, or holds
 * other records there.
 */
export type LaneTrouble = 'retention' | 'recreated' | 'went_back'

export type Fence = { logId: string; nextOffset: number; producedThrough: number }

export type LaneState = {
  topic: string
  partition: number
  /** As the topic is now. */
  logId: string
  start: number
  end: number
  /** Of this log id; undefined when nothing of it was read yet. */
  fence: Fence | undefined
  /** Open fences of logs that had this name before. */
  former: Fence[]
  trouble: LaneTrouble | undefined
}

type FenceRow = {
  log_id: string
  topic: string
  partition: number
  next_offset: number
  produced_through: number
}

export async function readLanes(deps: { sql: Sql; log: Log }): Promise<LaneState[]> {
  const topics = await deps.log.describe([...RAW_TOPICS])
  const lanes: LaneState[] = []
  for (const { name, partitions } of topics) {
    for (let partition = 0; partition < partitions; partition++)
      lanes.push(await readLane(deps.sql, deps.log, name, partition))
  }
  return lanes
}

/** One of them; in a transaction its fences stay locked. */
export async function readLane(
  sql: Sql | Transaction,
  log: Log,
  topic: string,
  partition: number,
): Promise<LaneState> {
  const [described] = await log.describe([topic])
  const logId = described!.logId
  const { start, end } = await log.bounds(topic, partition)
  const rows = await guardState(
    'read ingest fences',
    () => sql<FenceRow[]>`
      SELECT log_id, topic, partition, next_offset, produced_through FROM ingest_fence
      WHERE topic = ${topic} AND partition = ${partition} AND closed_at IS NULL ORDER BY log_id FOR UPDATE`,
  )
  const fences = rows.map((row) => ({
    logId: row.log_id,
    nextOffset: row.next_offset,
    producedThrough: row.produced_through,
  }))
  const fence = fences.find((one) => one.logId === logId)
  const former = fences.filter((one) => one.logId !== logId)
  let trouble = troubleOf(fence, former, start, end)
  if (!trouble && fence && (await otherRecords(sql, log, { topic, partition, logId }, fence.nextOffset)))
    trouble = 'went_back'
  return { topic, partition, logId, start, end, fence, former, trouble }
}

function troubleOf(
  fence: Fence | undefined,
  former: readonly Fence[],
  start: number,
  end: number,
): LaneTrouble | undefined {
  if (!fence) return former.length > 0 ? 'recreated' : start > 0 ? 'retention' : undefined
  if (fence.nextOffset > end) return 'went_back'
  return fence.producedThrough < start ? 'retention' : undefined
}
