/**
 * Waiting until everything in front of some positions of the raw log has come to its end: decided by ingest, sent to the
 * row topics, loaded into ClickHouse. Only then the rows of a person can be counted and taken, since no further one of
 * them can come. Reads positions; changes nothing.
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { RAW_TOPICS, ROW_TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import { pause } from '../platform/index.ts'
import { lateParts, topicParts } from '../repair/index.ts'
import { deletionError } from './errors.ts'

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

/** Ingest has decided and produced everything below `ends`. Throws HR_DELETION_WAITS after `deadlineMs`. */
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

/** State rows of the deletion are acknowledged by the log. */
export async function untilSent(
  { sql, says }: SettleDeps,
  deletionId: string,
  deadlineMs: number,
): Promise<void> {
  await until(deadlineMs, says, async () => {
    const [row] = await guardState(
      'look for state to be sent',
      () => sql<{ left: number }[]>`
        SELECT count(*)::int AS left FROM state_republish s
        JOIN deletion d ON d.id = ${deletionId} AND d.team_id = s.team_id
        JOIN deletion_target t ON t.deletion_id = d.id AND t.key = s.key
          AND t.kind = CASE s.kind WHEN 'person' THEN 'person' WHEN 'mapping' THEN 'distinct_id' END`,
    )
    return row!.left === 0 ? undefined : `ingest has ${row!.left} state rows of the deletion to send`
  })
}

/** Everything that the row topics hold now is in ClickHouse, and nothing waits for a repair. */
export async function untilLoaded(deps: SettleDeps, deadlineMs: number): Promise<void> {
  const [repair] = await guardState(
    'look for inserts under repair',
    () => deps.sql`SELECT FROM load_intent WHERE state = 'repair' LIMIT 1`,
  )
  if (repair)
    throw deletionError(
      'HR_DELETION_WAITS',
      'ClickHouse may lack rows of an insert that load handed over: `headrace repair rows --yes` first, then give the order again',
    )
  const parts = topicParts([...ROW_TOPICS], deps.partitions, undefined)
  const late = await lateParts(deps, parts, Math.max(0, deadlineMs - performance.now()))
  const [first] = late
  if (first !== undefined)
    throw deletionError(
      'HR_DELETION_WAITS',
      `${first} is not loaded into ClickHouse yet (${late.size} partitions in all)`,
    )
}

/** Looks until `waitsFor` has nothing to say. */
export async function until(
  deadlineMs: number,
  says: (sentence: string) => void,
  waitsFor: () => Promise<string | undefined>,
): Promise<void> {
  for (;;) {
    const sentence = await waitsFor()
    if (sentence === undefined) return
    if (performance.now() >= deadlineMs) throw deletionError('HR_DELETION_WAITS', sentence)
    says(sentence)
    await pause(LOOK_MS)
  }
}
