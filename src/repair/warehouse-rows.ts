/**
 * Makes ClickHouse agree with the receipts again (`headrace repair rows`): after it was restored, lost a part, got a row
 * twice, or load could not be sure of an insert. In: receipts, ClickHouse, the log. Out: every row below the load
 * progress is there once, from the row topics, else from raw records; persons, overrides and groups are those of
 * Postgres; inserts that load handed over are settled. What can neither be found nor made is named.
 *
 * What must hold: a row that is there is never inserted; only offsets below the load progress are touched, so that load
 * goes on meanwhile; cut off at any point, another run finds out what is left by asking. Nothing is remembered but the
 * inserts under way (warehouse-attempts.ts), so there is nothing to resume from that could be wrong.
 * Cost where nothing is wrong: three sums in ClickHouse for each 500,000 offsets, one look-up for each person.
 */
import { EVENTS, INGESTION_WARNINGS, TOPICS } from '../event/index.ts'
import type { RemakeDeps } from '../ingest/index.ts'
import { type LaneProgress, readProgress } from '../ledger/index.ts'
import { syncReplicas, untilNothingIsCopied, type Warehouse } from '../warehouse/index.ts'
import type { Lane } from './lost-receipts.ts'
import { withRepairLock } from './warehouse-attempts.ts'
import { type Doubled, removeCopies } from './warehouse-copies.ts'
import { fenceIntents } from './warehouse-fence.ts'
import { type InsertDeps, type RepairStep, settleOpenAttempts } from './warehouse-insert.ts'
import { type Compared, type IntentRepair, settleIntents } from './warehouse-intents.ts'
import { type Keeps, keepsOf } from './warehouse-kept.ts'
import { type LaneRepair, LaneRun, refusedBy } from './warehouse-lane.ts'
import { lateParts, topicParts } from './warehouse-late.ts'
import { ROW_KINDS } from './warehouse-plan.ts'
import { repairState, type StateRepair } from './warehouse-state.ts'
import { type LaneRange, repairWarnings } from './warehouse-warnings.ts'

export type RowsDeps = RemakeDeps & { warehouse: Warehouse }

export type RowsOptions = {
  /** Only this raw topic, partition number, and raw offsets [from, to). Default: all. */
  topic?: string
  partition?: number
  from?: number
  to?: number
  /** False: only shows what would be done. */
  apply: boolean
  /** Deletes rows that no receipt knows of. */
  deleteUnexpected?: boolean
  /** Records as lost what can neither be found nor made. */
  acceptLoss?: boolean
  /** How long rows that are on their way may take. Default 10 s. */
  waitMs?: number
  /** Told while it works. */
  progress?: (progress: { offsets: number; of: number }) => void
  /** Tests only: receipts of one page. */
  pageReceipts?: number
  /** Tests only: called at each step of a write. */
  reached?: (step: RepairStep) => Promise<void> | void
}

export type RowsRepair = {
  applied: boolean
  /** Inserts of an earlier repair that had been cut off. */
  attempts: number
  /** Rows that were sent under the token of an insert that load had handed over. */
  fenced: number
  lanes: LaneRepair[]
  warnings: number
  /** Rows that are there more than once still. */
  doubledLeft: number
  /** Undefined when only a part of the raw log was asked for. */
  state: StateRepair | undefined
  intents: IntentRepair
  /** Something was wrong. */
  found: boolean
  /** Something is wrong still, or could not be compared. */
  left: boolean
}

const WAIT_MS = 10_000
const TABLES = [...ROW_KINDS.map(({ table }) => table), INGESTION_WARNINGS]
const OTHER_TOPICS = [TOPICS.outcomes, TOPICS.deadLetters, TOPICS.ingestionWarnings] as const

/** Throws HR_REPAIR_BUSY, HR_REPAIR_RETENTION, and retriable errors, after which it is run again. */
export async function repairRows(deps: RowsDeps, options: RowsOptions): Promise<RowsRepair> {
  const work = (hold: () => Promise<void>) =>
    new RowsRun({ ...deps, hold, reached: options.reached ?? (() => {}) }, options).run()
  return options.apply ? withRepairLock(deps.sql, work) : work(async () => {})
}

class RowsRun {
  private readonly keeps = new Map<string, Keeps>()
  private readonly doubled: Doubled[] = []
  private done = 0
  private total = 0

  constructor(
    private readonly deps: InsertDeps,
    private readonly options: RowsOptions,
  ) {}

  async run(): Promise<RowsRepair> {
    const { apply, waitMs = WAIT_MS } = this.options
    // Of a repair that was killed.
    if (apply) await untilNothingIsCopied(this.deps.warehouse, this.deps.hold)
    const all = await readProgress(this.deps.sql)
    const attempts = apply ? await settleOpenAttempts(this.deps, all) : 0
    const asked = this.rangesOf(all)
    const ranges = asked.filter(({ from, to }) => to > from)
    this.total = ranges.reduce((sum, { from, to }) => sum + to - from, 0)
    for (const table of TABLES) {
      this.keeps.set(table.name, await keepsOf(this.deps.sql, this.deps.warehouse, table))
      // What the progress covers was stored before it was read: afterwards every replica has it.
      await syncReplicas(this.deps.warehouse, table)
    }
    const fenced = apply ? await fenceIntents(this.deps, ranges, this.keeps.get(EVENTS.name)!) : 0
    // Asked after the progress was read: what it covers is in the log by then, below these ends.
    const parts = topicParts(OTHER_TOPICS, this.deps.partitions, this.options.partition)
    const lateNow = await lateParts(this.deps, parts, waitMs)
    const lanes: LaneRepair[] = []
    for (const { producedThrough, ...range } of ranges)
      lanes.push(await this.repairLane(range, producedThrough, lateNow))
    const warnings = await this.repairWarnings(lanes)
    const copiesLeft = apply ? await this.removeCopies(lanes, ranges, lateNow) : []
    const doubledLeft = copiesLeft.reduce((sum, { rows }) => sum + rows, 0)
    const compared = asked.map((range): Compared => {
      const one = lanes.find((lane) => isSame(lane, range))
      // An empty range has nothing that could be wrong.
      if (!one) return { ...range, clean: true }
      const clean =
        !this.isLeft(one) && one.othersCompared && !copiesLeft.some(({ lane }) => isSame(lane, range))
      return { ...range, to: Math.min(range.to, range.producedThrough), clean }
    })
    const state = this.isWhole ? await repairState(this.deps, { apply, waitMs }) : undefined
    const intents = await settleIntents(this.deps.sql, compared, state !== undefined, {
      partitions: this.deps.partitions,
      apply,
    })
    const behind = state ? state.persons + state.overrides + state.groups : 0
    const found =
      lanes.some(({ tables }) =>
        tables.some((table) => table.missing + table.doubled + table.unexpected > 0),
      ) || warnings + behind + intents.settled + intents.left > 0
    const late = lanes.some(({ othersCompared }) => !othersCompared)
    const left =
      late || lanes.some((lane) => this.isLeft(lane)) || (apply ? doubledLeft + intents.left > 0 : found)
    return {
      applied: apply,
      attempts,
      fenced,
      lanes,
      warnings,
      doubledLeft,
      state,
      intents,
      found,
      left,
    }
  }

  private get isWhole(): boolean {
    const { topic, partition, from, to } = this.options
    return topic === undefined && partition === undefined && from === undefined && to === undefined
  }

  private rangesOf(lanes: readonly LaneProgress[]): (LaneRange & { producedThrough: number })[] {
    const { topic, partition, from = 0, to = Number.MAX_SAFE_INTEGER } = this.options
    return lanes
      .filter((lane) => topic === undefined || lane.topic === topic)
      .filter((lane) => partition === undefined || lane.partition === partition)
      .map(({ topic, logId, partition, loadedThrough, producedThrough }) => {
        const end = Math.min(to, loadedThrough)
        return { topic, logId, partition, from: Math.min(from, end), to: end, producedThrough }
      })
  }

  private async repairLane(
    range: LaneRange,
    producedThrough: number,
    late: ReadonlySet<string>,
  ): Promise<LaneRepair> {
    const { apply, deleteUnexpected = false, acceptLoss = false, pageReceipts } = this.options
    const parts = topicParts(OTHER_TOPICS, this.deps.partitions, range.partition)
    const onTheWay = parts.some(({ topic, partition }) => late.has(`${topic}/${partition}`))
    const run = new LaneRun(this.deps, range, {
      apply,
      deleteUnexpected,
      acceptLoss,
      othersCompared: !onTheWay,
      // The newest batch may be on its way to the log still.
      othersThrough: onTheWay ? 0 : producedThrough,
      keeps: this.keeps,
      ...(pageReceipts === undefined ? {} : { pageReceipts }),
      progress: (offsets) => {
        this.done += offsets
        // Windows with copies are compared twice.
        this.options.progress?.({ offsets: Math.min(this.done, this.total), of: this.total })
      },
    })
    const repaired = await run.run()
    if (run.doubled.length > 0) this.doubled.push({ lane: range, windows: run.doubled })
    return repaired
  }

  private async repairWarnings(lanes: readonly LaneRepair[]): Promise<number> {
    let missing = 0
    const keeps = this.keeps.get(INGESTION_WARNINGS.name)!
    for (const some of Map.groupBy(lanes, ({ partition }) => partition).values()) {
      const repaired = await repairWarnings(this.deps, some, keeps, this.options.apply)
      missing += repaired.missing
      for (const { offset, why, lane } of repaired.refused) {
        const { leftOver } = some.find((one) => isSame(one, lane))!
        leftOver.push({ table: INGESTION_WARNINGS.name, from: offset, to: offset + 1, why: refusedBy(why) })
      }
    }
    return missing
  }

  /**
   * Copies go, and what had some is compared once more: a merge of the server may keep the very copy that a delete takes.
   */
  private async removeCopies(
    lanes: readonly LaneRepair[],
    ranges: readonly (LaneRange & { producedThrough: number })[],
    late: ReadonlySet<string>,
  ): Promise<(Doubled & { rows: number })[]> {
    const doubled = this.doubled.splice(0)
    const left = await removeCopies(this.deps, doubled)
    for (const { lane, windows } of doubled) {
      const { producedThrough, ...range } = ranges.find((one) => isSame(one, lane))!
      const first = lanes.find((one) => isSame(one, lane))!
      for (const window of windows) {
        const again = await this.repairLane({ ...range, ...window }, producedThrough, late)
        first.leftOver.push(...again.leftOver.filter(({ table }) => table === EVENTS.name))
      }
    }
    return left
  }

  private isLeft({ tables, leftOver }: LaneRepair): boolean {
    const unexpected = tables.some((table) => table.unexpected > 0)
    return leftOver.length > 0 || (unexpected && !this.options.deleteUnexpected)
  }
}

function isSame(a: Lane, b: Lane): boolean {
  return a.logId === b.logId && a.partition === b.partition
}
