/**
 * Waiting until everything in front of some positions of the raw log has come to its end: decided by ingest, sent to the
 * row topics, loaded into ClickHouse. Who changes stored rows (a deletion, a squash) needs that: no further row that
 * was made with an old look at the state can come then. Reads positions; changes nothing.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { RAW_TOPICS, ROW_TOPICS, type RowTopic, TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import { pause } from '../platform/index.ts'
import { repairError } from './errors.ts'
import { lateParts, topicParts } from './warehouse-late.ts'

export type SettleDeps = { sql: Sql; log: Log; partitions: number; says: (sentence: string) => void }

/** The end of one raw partition. */
export type RawEnd = { logId: string; topic: string; partition: number; end: number }

const LOOK_MS = 50

export async function rawEnds({ log }: Pick<SettleDeps, 'log'>): Promise<RawEnd[]> {
  const ends: RawEnd[] = []
  for (const { name, logId, partitions } of await log.describe([...RAW_TOPICS])) {
    for (let partition = 0; partition < partitions; partition++)
      ends.push({ logId, topic: name, partition, end: (await log.bounds(name, partition)).end })
  }
  return ends
}

/** Ingest has decided and produced everything below `ends`. Throws HR_REPAIR_WAITS after `deadlineMs`. */
export async function untilIngested(
  { sql, says }: SettleDeps,
  ends: readonly RawEnd[],
  deadlineMs: number,
): Promise<void> {
  await until(deadlineMs, says, async () => {
    const fences = await guardState(
      'read ingest fences',
      () => sql<{ log_id: string; partition: number; produced_through: number; closed: boolean }[]>`
        SELECT log_id, partition, produced_through, closed_at IS NOT NULL AS closed FROM ingest_fence`,
    )
    const reached = new Map(
      fences.map((fence) => [
        `${fence.log_id}/${fence.partition}`,
        fence.closed ? Number.MAX_SAFE_INTEGER : fence.produced_through,
      ]),
    )
    const behind = ends.filter(
      ({ logId, partition, end }) => (reached.get(`${logId}/${partition}`) ?? 0) < end,
    )
    const [first] = behind
    return first && `ingest has not come to offset ${first.end} of ${first.topic}/${first.partition} yet`
  })
}

const REPAIR_FIRST = '`headrace repair rows --yes` first, then this once more'

/** Load itself writes these: the ends of rows that ClickHouse refuses. What it refuses of them waits for a repair. */
const ENDS_OF_LOAD: readonly RowTopic[] = [TOPICS.deadLetters, TOPICS.outcomes]

/** Everything that the row topics hold now is in ClickHouse, and nothing waits for a repair. Else HR_REPAIR_WAITS. */
export async function untilLoaded(deps: SettleDeps, deadlineMs: number): Promise<void> {
  await noRepairOpen(deps)
  await loadedAsOfNow(
    deps,
    ROW_TOPICS.filter((topic) => !ENDS_OF_LOAD.includes(topic)),
    deadlineMs,
  )
  // Their ends are asked only now, when all that comes of refused rows is in them.
  await loadedAsOfNow(deps, ENDS_OF_LOAD, deadlineMs)
  await noRepairOpen(deps)
}

/** A later repair ends both: what it sends then must not come behind who changed the rows. */
async function noRepairOpen({ sql }: Pick<SettleDeps, 'sql'>): Promise<void> {
  const [open] = await guardState(
    'look for what a repair has to end',
    () => sql<{ intents: boolean; attempts: boolean }[]>`
      SELECT EXISTS (SELECT FROM load_intent WHERE state = 'repair') AS intents,
        EXISTS (SELECT FROM repair_attempt WHERE state = 'open') AS attempts`,
  )
  if (open!.intents)
    throw repairError(
      'HR_REPAIR_WAITS',
      `ClickHouse may lack rows of an insert that load handed over: ${REPAIR_FIRST}`,
    )
  if (open!.attempts)
    throw repairError(
      'HR_REPAIR_WAITS',
      `a repair of rows was cut off, and its rows may be missing: ${REPAIR_FIRST}`,
    )
}

async function loadedAsOfNow(
  deps: SettleDeps,
  topics: readonly RowTopic[],
  deadlineMs: number,
): Promise<void> {
  const parts = topicParts(topics, deps.partitions, undefined)
  const late = await lateParts(deps, parts, Math.max(0, deadlineMs - performance.now()))
  const [first] = late
  if (first !== undefined)
    throw repairError(
      'HR_REPAIR_WAITS',
      `${first} is not loaded into ClickHouse yet (${late.size} partitions in all)`,
    )
}

/**
 * No row below `ends` is known to be missing in ClickHouse: a repair would bring it back after it was taken out on purpose,
 * since only what is there is put on record. Throws HR_REPAIR_WAITS.
 */
export async function nothingMissing(
  { sql }: Pick<SettleDeps, 'sql'>,
  ends: readonly RawEnd[],
): Promise<void> {
  const [gap] = await guardState(
    'look for what is missing',
    () => sql`
      SELECT FROM audit_gap g WHERE NOT EXISTS (
        SELECT FROM jsonb_to_recordset(${JSON.stringify(ends)}::text::jsonb) AS e("logId" uuid, partition int, "end" bigint)
        WHERE e."logId" = g.log_id AND e.partition = g.partition AND e."end" <= g.from_offset) LIMIT 1`,
  )
  if (gap)
    throw repairError(
      'HR_REPAIR_WAITS',
      `the audit misses rows in ClickHouse, and a later repair would bring them back: ${REPAIR_FIRST}, when \`headrace audit\` finds nothing`,
    )
}

/** Looks until `waitsFor` has nothing to say. Throws HR_REPAIR_WAITS with what it said last. */
export async function until(
  deadlineMs: number,
  says: (sentence: string) => void,
  waitsFor: () => Promise<string | undefined>,
  lookMs = LOOK_MS,
): Promise<void> {
  for (;;) {
    const sentence = await waitsFor()
    if (sentence === undefined) return
    if (performance.now() >= deadlineMs) throw repairError('HR_REPAIR_WAITS', sentence)
    says(sentence)
    await pause(lookMs)
  }
}
