/**
 * Whether Postgres went back in time: a backup was restored, or a standby took over that had not heard of the newest
 * batches. In: the fences of a partition number, and what was produced. Out: nothing, or HR_INGEST_STATE_BEHIND.
 *
 * Exact, in both directions. A row is produced only after the batch that made it was applied, so in a state that never
 * went back no row of an offset at or above the fence can exist; the dedup index is written after the batch, too. And
 * when a batch was applied and produced that this state does not know, its rows lie behind the marks of the newest
 * receipt that it knows (output-marks.ts), so reading from there finds them. The read is what the last batch produced;
 * on any machine, since it asks only the log (for as long as the row topics keep it).
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { decodeRowHeader, formatSource, type RowTopic, type Source, TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import { ingestError } from './errors.ts'
import { identityError } from './identity/errors.ts'
import type { Marks, Stretch } from './output-marks.ts'

type Deps = { sql: Sql; log: Log }
type Lane = { logId: string; topic: string }

/** Each raw offset ends as a row of one of these two. */
const DECIDING_TOPICS = [TOPICS.events, TOPICS.outcomes] as const

/**
 * Throws HR_INGEST_STATE_BEHIND when something of `partition` was produced that is not below the fence, or below
 * what is approved to be done once more. `indexed` is how far this machine's dedup index goes.
 */
export async function refuseStateBehind(
  deps: Deps,
  lanes: readonly Lane[],
  partition: number,
  indexed: (logId: string) => number,
): Promise<void> {
  // In this order: the index is behind the fence as it is read after it.
  const index = new Map(lanes.map(({ logId }) => [logId, indexed(logId)]))
  const known = await knownThrough(deps.sql, lanes, partition)
  const { row, cut } = await findAhead(deps, partition, known)
  if (!row) {
    if (cut) refuseByIndex(lanes, partition, index, known)
    return
  }
  const { source, at } = row
  const now = (await knownThrough(deps.sql, lanes, partition)).get(source.logId)
  if (now !== undefined && now > source.offset) {
    throw identityError('HR_INGEST_FENCE', `another process moved the fence of partition ${partition}`)
  }
  const { topic } = lanes.find(({ logId }) => logId === source.logId)!
  throw behind(topic, partition, now ?? 0, `${at} holds the row of ${formatSource(source)}`)
}

/**
 * Rows that would tell are removed. Where they are all there and none tells, an index that is ahead is no reason to halt:
 * the batch that it knows was applied and lost before anything of it was produced, and is decided anew.
 */
function refuseByIndex(
  lanes: readonly Lane[],
  partition: number,
  index: ReadonlyMap<string, number>,
  known: ReadonlyMap<string, number>,
): void {
  for (const { logId, topic } of lanes) {
    const through = known.get(logId)
    if (through === undefined || index.get(logId)! <= through) continue
    throw behind(
      topic,
      partition,
      through,
      `the dedup index of this machine knows its offsets below ${index.get(logId)}`,
    )
  }
}

function behind(topic: string, partition: number, through: number, evidence: string) {
  return ingestError(
    'HR_INGEST_STATE_BEHIND',
    `Postgres knows ${topic}/${partition} only below offset ${through}, but ${evidence}: Postgres was restored to an earlier state; see \`headrace repair\``,
  )
}

/** By log id: offsets below are applied, or approved to be done once more. Absent: `openFence` has to say what is wrong. */
async function knownThrough(
  sql: Sql,
  lanes: readonly Lane[],
  partition: number,
): Promise<Map<string, number>> {
  return guardState('read fences', async () => {
    const rows = await sql<{ log_id: string; topic: string; next_offset: number; closed: boolean }[]>`
      SELECT f.log_id, f.topic, greatest(f.next_offset, (SELECT max(r.to_offset) FROM ingest_redo r
          WHERE r.log_id = f.log_id AND r.partition = f.partition)) AS next_offset,
        f.closed_at IS NOT NULL AS closed
      FROM ingest_fence f WHERE f.partition = ${partition}`
    const known = new Map<string, number>()
    for (const { logId, topic } of lanes) {
      const own = rows.find((row) => row.log_id === logId)
      if (own) known.set(logId, own.next_offset)
      else if (!rows.some((row) => row.topic === topic && !row.closed)) known.set(logId, 0)
    }
    return known
  })
}

/** The first row found of an offset at or above what is known, and whether some that might tell are gone. */
async function findAhead(
  deps: Deps,
  partition: number,
  known: ReadonlyMap<string, number>,
): Promise<{ row?: { source: Source; at: string }; cut: boolean }> {
  let cut = false
  for (const stretch of await stretchesSince(deps, partition, DECIDING_TOPICS)) {
    const { topic, from, to, wanted } = stretch
    if (wanted < from) cut = true
    for await (const records of deps.log.read(topic, partition, from, to)) {
      for (const { header, offset } of records) {
        const source = sourceOf(header)
        const through = source && known.get(source.logId)
        if (source && through !== undefined && source.offset >= through) {
          return { row: { source, at: `${topic}/${partition} offset ${offset}` }, cut }
        }
      }
    }
  }
  return { cut }
}

/** Undefined when it is no header of ours: that is for the reader of the topic to judge. */
function sourceOf(header: Uint8Array): Source | undefined {
  try {
    return decodeRowHeader(header).source
  } catch {
    return undefined
  }
}

/** Clocks of Postgres and of the log may differ by so much. */
const CLOCKS_DIFFER_MS_MAX = 3_600_000

type Newest = { marks: Marks | null; created_ms: number }

/**
 * Where in the row topics everything lies that was produced after the newest batch that Postgres knows of this
 * partition number, in whichever lane or former log; or, with `logId`, that was produced of this raw log after its own
 * newest batch was applied, and of that batch itself. Only receipts say it: what else Postgres knows of these topics,
 * the load fences, may have moved on since it was restored. A receipt of a version that kept no marks says when.
 */
export async function stretchesSince(
  { sql, log }: Deps,
  partition: number,
  topics: readonly RowTopic[],
  logId?: string,
): Promise<Stretch[]> {
  const receipts = await guardState(
    'read output marks',
    () => sql<Newest[]>`
      SELECT r.marks, r.created_ms FROM (
        SELECT DISTINCT log_id FROM ingest_fence
        WHERE partition = ${partition} AND log_id = coalesce(${logId ?? null}::uuid, log_id)) AS f, LATERAL (
        SELECT outbox -> 'marks' AS marks, (extract(epoch FROM created_at) * 1000)::float8 AS created_ms FROM receipt
        WHERE log_id = f.log_id AND partition = ${partition} AND outbox IS NOT NULL
        ORDER BY from_offset DESC LIMIT 1) AS r`,
  )
  const stretches: Stretch[] = []
  for (const { name, logId } of await log.describe([...topics])) {
    const topic = name as RowTopic
    const { start, end } = await log.bounds(topic, partition)
    const wanted = await wantedFrom(log, { topic, partition, logId, start, end }, receipts)
    stretches.push({ topic, partition, from: Math.max(wanted, start), to: end, wanted })
  }
  return stretches
}

type Bounds = { topic: RowTopic; partition: number; logId: string; start: number; end: number }

/** The highest lower bound that a receipt gives; negative when the topic was made anew since. */
async function wantedFrom(log: Log, at: Bounds, receipts: readonly Newest[]): Promise<number> {
  const marked = receipts.flatMap(({ marks }) => marks?.[at.logId] ?? [])
  if (marked.length > 0) return Math.max(...marked)
  if (receipts.some(({ marks }) => marks)) return -1
  if (receipts.length === 0) return 0
  const sinceMs = Math.max(...receipts.map(({ created_ms }) => created_ms)) - CLOCKS_DIFFER_MS_MAX
  const from = await firstSince(log, at, sinceMs)
  // All that is there is younger, so something in front of it may have been, too.
  return from === at.start && at.start > 0 ? at.start - 1 : from
}

/** The first offset whose record was appended at or after `sinceMs`, by halving: one record read per step. */
async function firstSince(
  log: Log,
  { topic, partition, start, end }: Bounds,
  sinceMs: number,
): Promise<number> {
  let [low, high] = [start, end]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    let appendedMs = sinceMs
    for await (const [record] of log.read(topic, partition, middle, middle + 1))
      appendedMs = record!.appendedMs
    if (appendedMs < sinceMs) low = middle + 1
    else high = middle
  }
  return low
}
