/**
 * Postgres was restored to an earlier state, while the log and ClickHouse went on. In: the restored state. Out: what
 * ingest needs to go on from there. Three things are out of step, and each is mended where it is decided:
 *
 * - *decisions*: offsets above the fence were decided, and their rows are in the log and in ClickHouse. What became of
 *   each is read from the row topics and stored (ingest_redo); ingest decides them again the same way, so effects and
 *   receipts are there again and agree with the rows, whose copies no reader takes (src/ingest/redo.ts).
 * - *state rows*: persons, distinct ids and groups were sent under versions that Postgres does not know. All of them are
 *   sent again under higher versions when the decisions are made again (src/ingest/identity/republish.ts).
 * - *load*: ClickHouse has rows behind the load fences; each fence is brought to where they end (load-progress.ts).
 *
 * What must hold: one transaction per step, nothing is changed by a dry run, a second run finds nothing to do. What
 * lived in Postgres alone in the lost time (projects, options) cannot be found again; see the refusals.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { encodeOutcomes, type OffsetOutcome, type OutcomeCode, RAW_TOPICS, STORED } from '../event/index.ts'
import { UNDECIDED } from '../ingest/index.ts'
import type { Log } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { repairError } from './errors.ts'
import { refuseWentBack } from './gap.ts'
import { type GroupType, makeGroupTypes, newGroupTypes } from './group-types.ts'
import { type LaneState, readLanes } from './lanes.ts'
import { type LoadProgress, mendLoad } from './load-progress.ts'
import { listState } from './lost-receipts.ts'
import { type LostTimeline, readLostTimeline } from './lost-timeline.ts'

export type RewindDeps = { sql: Sql; log: Log; warehouse: Warehouse; partitions: number }

/** Offsets [from, to) of one raw partition that are decided once more; `decided` of them as they had been. */
export type LaneRewind = {
  topic: string
  partition: number
  logId: string
  from: number
  to: number
  decided: number
}

export type Rewind = {
  lanes: LaneRewind[]
  /** Persons, distinct ids and groups that are sent again. */
  state: number
  load: LoadProgress[]
}

/** An ingest that decides once more reads one of these at a time. */
const CHUNK_OFFSETS = 20_000

/** Throws HR_REPAIR_*, and retriable errors. With `apply` false it only shows what would be done. */
export async function rewind(deps: RewindDeps, options: { apply: boolean }): Promise<Rewind> {
  const lanes = await readLanes(deps)
  for (const lane of lanes) refuseGap(lane)
  const result: Rewind = { lanes: [], state: 0, load: [] }
  const buried = new Set<string>()
  for (let partition = 0; partition < deps.partitions; partition++) {
    const own = lanes.filter((lane) => lane.partition === partition)
    const timeline = await readLostTimeline(deps, partition, await knownThrough(deps.sql, own))
    const known = await knownThrough(deps.sql, own)
    forgetKnown(timeline, known)
    for (const source of timeline.buried) buried.add(source)
    const rewinds = rewindsOf(own, known, timeline)
    if (rewinds.length === 0) continue
    await refuseMissingProjects(deps.sql, timeline)
    const types = await newGroupTypes(deps.sql, timeline)
    result.lanes.push(...rewinds)
    result.state += timeline.state.length
    if (options.apply) await approve(deps.sql, rewinds, known, timeline, types)
  }
  result.load = await mendLoad(deps, buried, options.apply)
  return result
}

function refuseGap(lane: LaneState): void {
  refuseWentBack(lane)
  if (lane.trouble === undefined) return
  throw repairError(
    'HR_REPAIR_GAP_FIRST',
    `${lane.topic}/${lane.partition} has a gap: what lies before offset ${lane.start} cannot be read, so what it did to persons and groups cannot be made again; \`headrace repair gap\` comes first: it keeps what rows say of these offsets, and names the rest as lost`,
  )
}

/** Per raw log id: decided below, or approved to be decided once more. */
async function knownThrough(sql: Sql, lanes: readonly LaneState[]): Promise<Map<string, number>> {
  const known = new Map<string, number>()
  for (const { logId, partition } of lanes) {
    const [row] = await guardState(
      'read ingest fences',
      () => sql<{ through: number }[]>`
        SELECT greatest(0,
          (SELECT next_offset FROM ingest_fence WHERE log_id = ${logId} AND partition = ${partition}),
          (SELECT max(to_offset) FROM ingest_redo WHERE log_id = ${logId} AND partition = ${partition})) AS through`,
    )
    known.set(logId, row!.through)
  }
  return known
}

/** What a partition that is at work decided since its fence was read is nothing that was lost. */
function forgetKnown({ decided }: LostTimeline, known: ReadonlyMap<string, number>): void {
  for (const [logId, codes] of decided) {
    const through = known.get(logId)!
    for (const offset of codes.keys()) if (offset < through) codes.delete(offset)
    if (codes.size === 0) decided.delete(logId)
  }
}

function rewindsOf(
  lanes: readonly LaneState[],
  known: ReadonlyMap<string, number>,
  { decided }: LostTimeline,
): LaneRewind[] {
  const order = (lane: LaneState) => RAW_TOPICS.indexOf(lane.topic as (typeof RAW_TOPICS)[number])
  return [...lanes]
    .sort((a, b) => order(a) - order(b))
    .flatMap(({ topic, partition, logId }) => {
      const codes = decided.get(logId)
      if (!codes) return []
      let to = 0
      for (const offset of codes.keys()) to = Math.max(to, offset + 1)
      return [{ topic, partition, logId, from: known.get(logId)!, to, decided: codes.size }]
    })
}

async function refuseMissingProjects(sql: Sql, { teamIds }: LostTimeline): Promise<void> {
  const rows = await guardState(
    'read projects',
    () => sql<{ team_id: number }[]>`SELECT team_id FROM project`,
  )
  const there = new Set(rows.map((row) => row.team_id))
  const missing = [...teamIds].filter((teamId) => !there.has(teamId)).sort((a, b) => a - b)
  if (missing.length === 0) return
  throw repairError(
    'HR_REPAIR_PROJECT_MISSING',
    `events were stored for the projects with team id ${missing.join(', ')}, which the restored Postgres does not know; make them again with the same team id and token first (docs/runbooks/ingest-halted.md#postgres-was-restored)`,
  )
}

async function approve(
  sql: Sql,
  rewinds: readonly LaneRewind[],
  known: ReadonlyMap<string, number>,
  timeline: LostTimeline,
  types: readonly GroupType[],
): Promise<void> {
  await guardState('write the repair', () =>
    transaction(sql, async (tx) => {
      for (const lane of rewinds) await approveLane(tx, lane, known.get(lane.logId)!, timeline)
      await listState(tx, timeline.state)
      await makeGroupTypes(tx, types)
    }),
  )
}

async function approveLane(
  tx: Transaction,
  { topic, partition, logId, from, to }: LaneRewind,
  known: number,
  { decided }: LostTimeline,
): Promise<void> {
  await tx`
    INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through)
    VALUES (${logId}, ${partition}, ${topic}, 0, 0) ON CONFLICT DO NOTHING`
  const [fence] = await tx<{ next_offset: number }[]>`
    SELECT next_offset FROM ingest_fence WHERE log_id = ${logId} AND partition = ${partition} FOR UPDATE`
  if (fence!.next_offset > known) {
    throw repairError('HR_REPAIR_MOVED', `the fence of ${topic}/${partition} moved meanwhile; look again`)
  }
  const codes = decided.get(logId)!
  for (let at = from; at < to; at += CHUNK_OFFSETS) {
    const end = Math.min(at + CHUNK_OFFSETS, to)
    const outcomes = Array.from({ length: end - at }, (_, i) => outcomeOf(codes.get(at + i)))
    await tx`
      INSERT INTO ingest_redo (log_id, partition, from_offset, to_offset, outcomes)
      VALUES (${logId}, ${partition}, ${at}, ${end}, ${encodeOutcomes(outcomes)})`
  }
}

function outcomeOf(code: OutcomeCode | undefined): OffsetOutcome {
  return { code: code ?? UNDECIDED, rows: code === STORED ? 1 : 0 }
}
