/**
 * Whether the load fence went back in time: Postgres was restored, and ClickHouse holds rows that were loaded after
 * the backup. Going on would load them a second time. In: the fence of one `events` partition, no open intent in front
 * of it. Out: nothing, or HR_LOAD_STATE_BEHIND. No false alarm: rows are sent only after the intent that moved the
 * fence past them was written. Cost: one look-up per raw log on the projection by source, when a partition is opened.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { RAW_TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { ask } from './ask.ts'
import { loadError } from './errors.ts'
import type { Fence, LastPlaces } from './intent.ts'

type At = { topic: string; partition: number }

/** `reread` gives the fence as it is now: another loader may have moved it since. Throws HR_LOAD_STATE_BEHIND, HR_LOAD_FENCE. */
export async function refuseFenceBehind(
  deps: { sql: Sql; log: Log; warehouse: Warehouse },
  at: At,
  fence: Fence,
  reread: () => Promise<Fence>,
): Promise<void> {
  const ahead = await findAhead(deps, at.partition, fence.last)
  if (!ahead) return
  const { next } = await reread()
  if (next !== fence.next) {
    throw loadError('HR_LOAD_FENCE', `another loader moved the fence of ${at.topic}/${at.partition}`)
  }
  throw loadError(
    'HR_LOAD_STATE_BEHIND',
    `Postgres has ${at.topic}/${at.partition} loaded below offset ${next}, but ClickHouse holds the row of ${ahead}, which comes after it: Postgres was restored to an earlier state; see \`headrace repair\``,
  )
}

/** A source in ClickHouse behind the last place of its raw log; undefined when there is none. */
async function findAhead(
  { sql, log, warehouse }: { sql: Sql; log: Log; warehouse: Warehouse },
  partition: number,
  last: LastPlaces,
): Promise<string | undefined> {
  for (const logId of await rawLogsKnown({ sql, log }, partition, last)) {
    const [offset, sub] = last[logId] ?? [0, -1]
    const [found] = await ask<{ offset: number; sub: number }>(
      warehouse,
      `SELECT _offset AS offset, _sub AS sub FROM events
       WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset >= {offset:UInt64}
         AND (_offset > {offset:UInt64} OR _sub > {sub:Int32}) LIMIT 1`,
      { logId, partition, offset, sub },
    )
    if (found) return `${logId}/${partition}/${found.offset}/${found.sub}`
  }
  return undefined
}

/**
 * Raw logs that rows of a partition number can be of: those that there are, those that the load fence knows, and those
 * that ingest has read, of topics that were recreated since, too.
 */
export async function rawLogsKnown(
  { sql, log }: { sql: Sql; log: Log },
  partition: number,
  last: LastPlaces,
): Promise<Set<string>> {
  const raw = await log.describe([...RAW_TOPICS])
  const read = await guardState(
    'read raw logs',
    () => sql<{ log_id: string }[]>`SELECT log_id FROM ingest_fence WHERE partition = ${partition}`,
  )
  return new Set([...raw.map(({ logId }) => logId), ...Object.keys(last), ...read.map((row) => row.log_id)])
}
