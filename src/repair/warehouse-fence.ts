/**
 * Inserts that load handed over can land late: their owner was paused between its last look at the lock and the send. Each
 * would be a second copy of what the repair brought in under another token. So what ClickHouse lacks of such an insert is
 * sent under the insert's own token first: of this one and a late one, whichever comes second is swallowed. In: intents in
 * state `repair`, the row topic. Out: rows, or none where ClickHouse knows the token already; the repair asks afterwards what
 * is there. Safe to repeat and to cut off: the intent stays in its state, and the next repair does the same first.
 *
 * Only `events`: copies in the other tables replace each other. What the row topic holds no more cannot be sent; then a late
 * insert is a copy that the audit names. Memory: the rows of one insert, at most 128 MB.
 */
import { guardState } from '../catalog/index.ts'
import { decodeRowHeader, EVENTS, formatSource, isRejected, type Source, TOPICS } from '../event/index.ts'
import type { InsertDeps } from './warehouse-insert.ts'
import type { Keeps } from './warehouse-kept.ts'
import type { MadeRow } from './warehouse-make.ts'
import { stillMissing } from './warehouse-places.ts'
import type { LaneRange } from './warehouse-warnings.ts'

type Range = { logId: string; topic: string; partition: number; from: number; to: number }
type Intent = { id: string; ranges: Range[] }
type Lane = Pick<Source, 'logId' | 'partition'>

/** Sends what is missing of `ranges`; gives how many rows that were. */
export async function fenceIntents(
  deps: InsertDeps,
  ranges: readonly LaneRange[],
  keeps: Keeps,
): Promise<number> {
  const intents = await guardState(
    'read load intents',
    () => deps.sql<Intent[]>`
      SELECT id, ranges FROM load_intent WHERE state = 'repair' AND table_name = ${EVENTS.name} ORDER BY created_at, id`,
  )
  let sent = 0
  for (const intent of intents) {
    const missing: MadeRow[] = []
    const rows = await rowsOf(deps, intent)
    for (const range of ranges) {
      const asked = rows.filter((row) => isIn(range, row))
      const lacking = await stillMissing(deps.warehouse, EVENTS, range, asked)
      const kept = await keeps(range, lacking)
      for (const [i, row] of lacking.entries()) if (kept[i]) missing.push(row)
    }
    if (missing.length === 0) continue
    await deps.hold()
    try {
      await deps.warehouse.insertRows({
        table: EVENTS,
        rows: missing.map(({ row }) => row),
        token: intent.id,
      })
    } catch (error) {
      // Refused, it cannot land either; which row it is shows when they are brought in.
      if (!isRejected(error)) throw error
    }
    await deps.reached('fenced')
    sent += missing.length
  }
  return sent
}

type TopicRow = MadeRow & Lane

/** The rows of an intent that the topic still holds; of copies the first. */
async function rowsOf({ log }: InsertDeps, { ranges }: Intent): Promise<TopicRow[]> {
  const rows = new Map<string, TopicRow>()
  const [topic] = await log.describe([TOPICS.events])
  for (const { logId, partition, from, to } of ranges) {
    if (topic?.logId !== logId) continue
    const { start, end } = await log.bounds(TOPICS.events, partition)
    for await (const records of log.read(
      TOPICS.events,
      partition,
      Math.max(from, start),
      Math.min(to, end),
    )) {
      for (const { header, value } of records) {
        const { source, timestampMs } = decodeRowHeader(header)
        const key = formatSource(source)
        if (!rows.has(key)) rows.set(key, { ...source, row: value, timestampMs })
      }
    }
  }
  return [...rows.values()]
}

function isIn(range: LaneRange, { logId, partition, offset }: TopicRow): boolean {
  return range.logId === logId && range.partition === partition && offset >= range.from && offset < range.to
}
