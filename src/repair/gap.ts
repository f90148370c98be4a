/**
 * A gap in the raw log: unread records were removed by retention, or the topic was recreated. In: an operator who
 * accepts the loss. Out, per partition and in one transaction: receipts of what nobody can read any more, which say
 * what rows say of it and else `lost`; the latter as an accepted loss, too; the former log's fence closed, and the
 * fence of the log as it is now where it can be read.
 *
 * What must hold: nothing that can still be read is skipped; nothing is called lost of which the row topics or
 * ClickHouse have a row; a second run finds nothing to do; a dry run does all of
 * it and rolls back, so that it shows exactly what would be done.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import type { Place } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { repairError } from './errors.ts'
import { makeGroupTypes, newGroupTypes } from './group-types.ts'
import { type Fence, type LaneState, readLane, readLanes } from './lanes.ts'
import { amendUnproduced, insertGone, type Lane, listState, type Range } from './lost-receipts.ts'
import { readLostTimeline } from './lost-timeline.ts'

export type RepairDeps = { sql: Sql; log: Log; warehouse: Warehouse; partitions: number }

export type LostRange = {
  topic: string
  partition: number
  logId: string
  from: number
  /** Exclusive; undefined when the log is gone and nobody knows its end. */
  to: number | undefined
  cause: 'retention' | 'recreated'
  /** When ingest last decided something of this log, epoch ms. */
  lastDecidedMs: number | undefined
  /** When the first record that can be read was appended, epoch ms. */
  goesOnMs: number | undefined
}

/**
 * Where ingest goes on. `kept`: offsets that a restored Postgres had decided in the time that it lost and whose raw
 * records are gone: their rows stay and get receipts, but what they did to persons and groups cannot be made again.
 */
export type GapRepair = {
  topic: string
  partition: number
  lost: LostRange[]
  kept: (Range & { logId: string })[]
  goesOnAt: number
}

export type GapOptions = {
  /** Only this partition number. Default: all. */
  partition?: number
  /** False: only shows what would be done. */
  apply: boolean
}

/** Throws HR_REPAIR_LOG_WENT_BACK, before anything is changed, and retriable errors. */
export async function repairGaps(deps: RepairDeps, options: GapOptions): Promise<GapRepair[]> {
  const lanes = (await readLanes(deps)).filter(
    ({ partition, trouble }) =>
      trouble !== undefined && (options.partition === undefined || partition === options.partition),
  )
  for (const lane of lanes) refuseWentBack(lane)
  const repairs: GapRepair[] = []
  for (const { topic, partition } of lanes) {
    const repair = await repairOne(deps, topic, partition, options.apply)
    if (repair) repairs.push(repair)
  }
  return repairs
}

export function refuseWentBack({ trouble, topic, partition, fence, end }: LaneState): void {
  if (trouble !== 'went_back') return
  const { nextOffset } = fence!
  const what =
    end < nextOffset
      ? `ends at offset ${end}, but everything below ${nextOffset} was read already: what is sent now gets the offsets ${end} to ${nextOffset - 1} a second time and would be taken for copies`
      : `holds other records below offset ${nextOffset} than were read there: it lost records, and what was sent since has their offsets and would be taken for copies`
  throw repairError(
    'HR_REPAIR_LOG_WENT_BACK',
    `${topic}/${partition} ${what}. No position mends that; bring the lost records back, or recreate the topic and give up what cannot be read (docs/runbooks/ingest-halted.md#the-log-lost-records)`,
  )
}

class DryRun extends Error {}

async function repairOne(
  deps: RepairDeps,
  topic: string,
  partition: number,
  apply: boolean,
): Promise<GapRepair | undefined> {
  let repair: GapRepair | undefined
  try {
    await guardState(`repair of ${topic}/${partition}`, () =>
      transaction(deps.sql, async (tx) => {
        repair = await repairLane(tx, deps, topic, partition)
        if (!apply) throw new DryRun()
      }),
    )
  } catch (error) {
    if (!(error instanceof DryRun || (error as Error).cause instanceof DryRun)) throw error
  }
  return repair
}

async function repairLane(
  tx: Transaction,
  deps: RepairDeps,
  topic: string,
  partition: number,
): Promise<GapRepair | undefined> {
  const state = await readLane(tx, deps.log, topic, partition)
  refuseWentBack(state)
  if (state.trouble === undefined) return undefined
  const given: GivenUp[] = []
  for (const former of state.former) given.push(await closeFormer(tx, deps, state, former))
  given.push(await passRetention(tx, deps, state))
  const lost = given.flatMap((one) => one.lost)
  const goesOnMs = await appendedAt(deps.log, state)
  for (const range of lost) {
    range.goesOnMs = goesOnMs
    await tx`
      INSERT INTO ingest_loss (log_id, partition, from_offset, topic, to_offset, cause)
      VALUES (${range.logId}, ${partition}, ${range.from}, ${topic}, ${range.to ?? null}, ${range.cause})
      ON CONFLICT (log_id, partition, from_offset) DO UPDATE SET to_offset = excluded.to_offset`
  }
  const goesOnAt = Math.max(state.start, state.fence?.nextOffset ?? 0)
  return { topic, partition, lost, kept: given.flatMap((one) => one.kept), goesOnAt }
}

type GivenUp = Pick<GapRepair, 'lost' | 'kept'>

/** Nothing of this log can be read any more: what no row speaks of is lost. */
async function closeFormer(
  tx: Transaction,
  deps: RepairDeps,
  { topic, partition }: LaneState,
  former: Fence,
): Promise<GivenUp> {
  const lane: Lane = { topic, partition, logId: former.logId }
  const { ranges, given, through } = await giveUp(tx, deps, lane, former, undefined)
  await tx`
    UPDATE ingest_fence SET closed_at = now() WHERE log_id = ${lane.logId} AND partition = ${partition}`
  const cause = 'recreated' as const
  const lost: LostRange[] = ranges.map((range) => ({ ...given, ...range, cause }))
  const tail = lost.at(-1)
  if (tail?.to === through) tail.to = undefined
  else lost.push({ ...given, cause, from: through, to: undefined })
  return { lost, kept: keptOf(lane, former, through, ranges) }
}

/** Everything below `start` is gone. The fence of a log that was never read is made here. */
async function passRetention(tx: Transaction, deps: RepairDeps, state: LaneState): Promise<GivenUp> {
  const { topic, partition, logId, start } = state
  const lane: Lane = { topic, partition, logId }
  await tx`
    INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through)
    VALUES (${logId}, ${partition}, ${topic}, 0, 0) ON CONFLICT DO NOTHING`
  const fence = state.fence ?? { logId, nextOffset: 0, producedThrough: 0 }
  if (fence.producedThrough >= start) return { lost: [], kept: [] }
  const { ranges, given } = await giveUp(tx, deps, lane, fence, start)
  return {
    lost: ranges.map((range) => ({ ...given, ...range, cause: 'retention' })),
    kept: keptOf(lane, fence, start, ranges),
  }
}

/**
 * Receipts for everything below `start` (undefined: everything) that has no final one, the fence behind it, and state
 * listed to be sent again where rows of a lost time speak of it. `ranges` are lost, everything is settled to `through`.
 */
async function giveUp(
  tx: Transaction,
  deps: RepairDeps,
  lane: Lane,
  fence: Fence,
  start: number | undefined,
): Promise<{ ranges: Range[]; given: Omit<LostRange, 'from' | 'to' | 'cause'>; through: number }> {
  const given = { ...lane, lastDecidedMs: await decidedAt(tx, lane), goesOnMs: undefined }
  const { logId, partition } = lane
  const asked = new Map([[logId, fence.producedThrough]])
  const timeline = await readLostTimeline(deps, partition, asked, logId)
  const decided = timeline.decided.get(logId) ?? new Map()
  const decidedTo = [...decided.keys()].reduce((to, offset) => Math.max(to, offset + 1), fence.nextOffset)
  const through = Math.max(fence.nextOffset, start ?? decidedTo)
  const { lost: ranges, last: before } = await amendUnproduced(
    tx,
    deps.log,
    lane,
    fence,
    start ?? fence.nextOffset,
    decided,
  )
  let last = before
  if (fence.nextOffset < through) {
    const known = { decided, projects: timeline.projects.get(logId) ?? new Map() }
    const gone = await insertGone(tx, lane, { from: fence.nextOffset, to: through }, known, last)
    last = gone.last
    const [first] = gone.lost
    const newest = ranges.at(-1)
    if (first && newest?.to === first.from) first.from = ranges.pop()!.from
    ranges.push(...gone.lost)
  }
  if (decidedTo > fence.nextOffset) {
    await makeGroupTypes(tx, await newGroupTypes(tx, timeline))
    await listState(tx, timeline.state)
  }
  await moveFence(tx, lane, through, start ?? through, last)
  return { ranges, given, through }
}

/** Of [fence, through) what is not lost. */
function keptOf(
  { logId }: Lane,
  { nextOffset }: Fence,
  through: number,
  lost: readonly Range[],
): GapRepair['kept'] {
  const kept: GapRepair['kept'] = []
  let at = nextOffset
  for (const { from, to } of lost) {
    if (from > at) kept.push({ logId, from: at, to: from })
    at = Math.max(at, to)
  }
  if (at < through) kept.push({ logId, from: at, to: through })
  return kept
}

async function moveFence(
  tx: Transaction,
  { logId, partition }: Lane,
  nextOffset: number,
  producedThrough: number,
  last: Place | undefined,
): Promise<void> {
  await tx`
    UPDATE ingest_fence SET next_offset = ${nextOffset}, produced_through = ${producedThrough},
      last_offset = ${last?.offset ?? null}, last_sub = ${last?.sub ?? null}, updated_at = now()
    WHERE log_id = ${logId} AND partition = ${partition}`
}

async function decidedAt(tx: Transaction, { logId, partition }: Lane): Promise<number | undefined> {
  const [row] = await tx<{ ms: number | null }[]>`
    SELECT (extract(epoch FROM created_at) * 1000)::float8 AS ms FROM receipt
    WHERE log_id = ${logId} AND partition = ${partition} ORDER BY from_offset DESC LIMIT 1`
  return row?.ms ?? undefined
}

async function appendedAt(
  log: Log,
  { topic, partition, start, end }: LaneState,
): Promise<number | undefined> {
  if (start >= end) return undefined
  for await (const [record] of log.read(topic, partition, start, start + 1)) return record!.appendedMs
  return undefined
}
