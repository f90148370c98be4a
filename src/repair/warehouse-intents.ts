/**
 * Inserts that load handed over (state `repair`). Their rows lie below the load progress, so that a repair of their
 * ranges brings in what they lack; then they are done. In: what was compared. An intent is settled only when all raw
 * partitions of its partition numbers were compared from its begin to behind everything that had been decided when it
 * was written, and nothing was left over.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { partitionsOf, type RowTopic, TOPICS } from '../event/index.ts'

export type Compared = { logId: string; partition: number; from: number; to: number; clean: boolean }

export type IntentRepair = { settled: number; left: number }

type Range = { topic: RowTopic; partition: number; last: Record<string, [number, number]> }
type Intent = { id: string; ranges: Range[] }

const STATE_TOPICS: ReadonlySet<string> = new Set([TOPICS.persons, TOPICS.personDistinctIds, TOPICS.groups])

/** `stateClean`: all state was compared and nothing was left over. */
export async function settleIntents(
  sql: Sql,
  compared: readonly Compared[],
  stateClean: boolean,
  options: { partitions: number; apply: boolean },
): Promise<IntentRepair> {
  const intents = await guardState(
    'read load intents',
    () => sql<Intent[]>`
      SELECT id, ranges FROM load_intent WHERE state = 'repair' ORDER BY created_at, id`,
  )
  const result = { settled: 0, left: 0 }
  for (const intent of intents) {
    const whole = await isCovered(sql, intent, compared, stateClean, options.partitions)
    if (whole) result.settled++
    else result.left++
    if (whole && options.apply)
      await guardState(
        'settle a load intent',
        () => sql`
          UPDATE load_intent SET state = 'done', settled_at = now() WHERE id = ${intent.id} AND state = 'repair'`,
      )
  }
  return result
}

async function isCovered(
  sql: Sql,
  intent: Intent,
  compared: readonly Compared[],
  stateClean: boolean,
  partitions: number,
): Promise<boolean> {
  for (const { topic, partition, last } of intent.ranges) {
    if (STATE_TOPICS.has(topic)) {
      if (!stateClean) return false
      continue
    }
    const number = partitionsOf(topic, partitions) > partitions ? partition % partitions : partition
    const lanes = await guardState(
      'read ingest fences',
      () => sql<{ log_id: string }[]>`SELECT log_id FROM ingest_fence WHERE partition = ${number}`,
    )
    for (const { log_id: logId } of lanes) {
      const one = compared.find((lane) => lane.logId === logId && lane.partition === number)
      if (!one?.clean || one.from > (last?.[logId]?.[0] ?? 0)) return false
      if (await hasOlder(sql, logId, number, one.to, intent.id)) return false
    }
  }
  return true
}

/**
 * Whether anything behind `to` had been decided when the intent was written. A receipt that was merged of several of one
 * day has the time of the last.
 */
async function hasOlder(
  sql: Sql,
  logId: string,
  partition: number,
  to: number,
  intentId: string,
): Promise<boolean> {
  return guardState('read receipts', async () => {
    const older = await sql`
      SELECT FROM receipt WHERE log_id = ${logId} AND partition = ${partition} AND to_offset > ${to}
        AND CASE checksum WHEN 0 THEN date_trunc('day', created_at, 'UTC') ELSE created_at END <= (SELECT created_at FROM load_intent WHERE id = ${intentId}) LIMIT 1`
    return older.length > 0
  })
}
