/**
 * The audit (I4): every raw offset below the load progress against what is in ClickHouse. In: receipts, erasures, sums
 * and, where they differ, single places. Out: per raw partition the counts, and every offset that does not add up.
 *
 * What must hold: exact (a missing and a doubled row do not cancel: count, distinct places and hash sum are compared),
 * and no false alarm under live traffic (`progress.ts` says what is below the load progress; rows of `outcomes` are
 * compared only when what the log held of them at the time of the receipts is loaded).
 * Cost: receipts are read in pages, ClickHouse gets one query per 4 million offsets and table; what differs is bisected
 * (`compare.ts`). About 0.1 µs of CPU per row in ClickHouse, and less here (`bench/audit.ts`).
 */
import type { Sql } from '../catalog/index.ts'
import type { Log } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { CheckedReceipt } from './check-receipt.ts'
import { type Comparison, REST, ROWS, Search } from './compare.ts'
import { type Erasures, readErasures } from './erasures.ts'
import { type Finding, offsetsOf } from './findings.ts'
import { type AcceptedLoss, readLosses } from './losses.ts'
import { outcomesLoaded } from './outcomes-loaded.ts'
import { type LaneProgress, readProgress } from './progress.ts'
import { readReceipt } from './receipts.ts'
import { auditSpools, type SpoolAudit } from './spools.ts'
import { tiledReceipts } from './tiling.ts'

export type AuditDeps = { sql: Sql; log: Log; warehouse: Warehouse }

/** Offsets [from, to) of one raw partition. */
export type OffsetRange = { logId: string; partition: number; from: number; to: number }

export type AuditOptions = {
  /** How long to wait for rows of `outcomes` that are on their way. Default 10 s. */
  waitMs?: number
  /** What to look at, widened to whole receipts; the report has an entry for each, in order. Default: everything. */
  ranges?: readonly OffsetRange[]
  /** Findings per raw partition after which it looks no further. Default 1,000. */
  findingsMax?: number
}

export type PartitionAudit = {
  topic: string
  logId: string
  partition: number
  /** Audited: offsets [from, through). */
  from: number
  through: number
  /** Decided by ingest below this. */
  decidedThrough: number
  /** In the raw log below this. */
  receivedThrough: number
  /** Offsets by end state, from the receipts. */
  stored: number
  duplicate: number
  dropped: number
  deadLettered: number
  /** Raw records that were gone before ingest read them, as `headrace repair gap` recorded it. */
  lost: number
  /** Stored rows that a deletion took, and that retention took. */
  erased: number
  expired: number
  /** Rows that should be in `events` by receipts and erasures, and what is there. */
  rowsExpected: number
  rowsPresent: number
  sourcesPresent: number
  /** Offsets that should be in `outcomes`, and how many of them are there. */
  outcomesExpected: number
  outcomesPresent: number
  /** False when rows of `outcomes` were still on their way after `waitMs`: then they were not compared. */
  outcomesCompared: boolean
  /** Offsets below this were compared with `outcomes`, too. */
  outcomesThrough: number
  findings: Finding[]
  /** True when there are more findings than these. */
  cut: boolean
}

export type AuditReport = {
  partitions: PartitionAudit[]
  /** Raw records that were given up, as operators accepted it. */
  losses: AcceptedLoss[]
  /** Every spool of capture that is registered. */
  spools: SpoolAudit[]
  /** Spools with a finding: events may be on their way to the raw log that no partition shows yet. */
  spoolFindings: number
  /** Offsets in findings. */
  unaccounted: number
  exact: boolean
}

const WAIT_MS = 10_000
const FINDINGS_MAX = 1_000
/** What one query sums up: bounds its bitmap, and the runs of equal outcomes that are held here. */
const CHUNK_OFFSETS = 4_000_000
const CHUNK_RUNS = 200_000

/** Audits every raw partition that ingest ever read. Throws retriable errors when a part cannot be reached. */
export async function audit(deps: AuditDeps, options: AuditOptions = {}): Promise<AuditReport> {
  const auditor = await Auditor.open(deps, options)
  const partitions: PartitionAudit[] = []
  for (const range of options.ranges ??
    auditor.lanes.map((lane) => ({ ...lane, from: 0, to: lane.nextOffset })))
    partitions.push(await auditor.compare(range))
  const unaccounted = partitions.reduce((sum, { findings }) => sum + offsetsOf(findings), 0)
  const spools = await auditSpools(deps.sql)
  const losses = await readLosses(deps.sql)
  const spoolFindings = spools.filter(({ finding }) => finding !== undefined).length
  const compared = partitions.every(({ outcomesCompared }) => outcomesCompared)
  return { partitions, losses, spools, spoolFindings, unaccounted, exact: unaccounted === 0 && compared }
}

/** Compares ranges with ClickHouse as it must be below the load progress of one moment, however many they are. */
export class Auditor {
  private readonly byKey: ReadonlyMap<string, LaneProgress>

  private constructor(
    private readonly deps: AuditDeps,
    readonly lanes: readonly LaneProgress[],
    private readonly outcomesReady: ReadonlySet<number>,
    private readonly findingsMax: number,
  ) {
    this.byKey = new Map(lanes.map((lane) => [laneKey(lane), lane]))
  }

  static async open(deps: AuditDeps, options: Omit<AuditOptions, 'ranges'> = {}): Promise<Auditor> {
    const { waitMs = WAIT_MS, findingsMax = FINDINGS_MAX } = options
    const lanes = await readProgress(deps.sql)
    // Asked after the progress was read: what receipts below it promise is in the log by then, below these ends.
    const ready = await outcomesLoaded(deps, lanes, waitMs)
    return new Auditor(deps, lanes, ready, findingsMax)
  }

  laneOf(range: { logId: string; partition: number }): LaneProgress {
    const lane = this.byKey.get(laneKey(range))
    if (!lane) throw new Error(`no fence of raw partition ${laneKey(range)}`)
    return lane
  }

  compare(range: OffsetRange): Promise<PartitionAudit> {
    const lane = this.laneOf(range)
    const one = new LaneAudit(this.deps, lane, this.findingsMax)
    return one.run(range.from, Math.min(range.to, lane.nextOffset), this.outcomesReady.has(lane.partition))
  }
}

function laneKey({ logId, partition }: { logId: string; partition: number }): string {
  return `${logId}/${partition}`
}

/** One raw partition: receipts in, chunks of them compared as soon as they are full. */
class LaneAudit {
  private readonly result: PartitionAudit
  private readonly search: Search

  constructor(
    private readonly deps: AuditDeps,
    private readonly lane: LaneProgress,
    findingsMax: number,
  ) {
    this.result = {
      topic: lane.topic,
      logId: lane.logId,
      partition: lane.partition,
      from: 0,
      through: 0,
      decidedThrough: lane.nextOffset,
      receivedThrough: lane.nextOffset,
      stored: 0,
      duplicate: 0,
      dropped: 0,
      deadLettered: 0,
      lost: 0,
      erased: 0,
      expired: 0,
      rowsExpected: 0,
      rowsPresent: 0,
      sourcesPresent: 0,
      outcomesExpected: 0,
      outcomesPresent: 0,
      outcomesCompared: false,
      outcomesThrough: 0,
      findings: [],
      cut: false,
    }
    this.search = new Search(deps.warehouse, lane, this.result.findings, findingsMax)
  }

  async run(start: number, to: number, outcomesReady: boolean): Promise<PartitionAudit> {
    const { deps, lane, result } = this
    const from = await this.uncut(start)
    result.from = result.through = result.outcomesThrough = from
    result.outcomesCompared = outcomesReady
    result.receivedThrough = await receivedThrough(deps.log, lane)
    let chunk: CheckedReceipt[] = []
    let runs = 0
    const report = (finding: Finding) => result.findings.push(finding)
    for await (const receipt of tiledReceipts(deps.sql, lane, from, to, report)) {
      // Behind the load progress they must lie side by side, and that is all.
      if (receipt.to > lane.loadedThrough) continue
      if (chunk.length > 0 && chunk.at(-1)!.to !== receipt.from) {
        await this.compare(chunk, chunk.length)
        chunk = []
        runs = 0
      }
      chunk.push(receipt)
      runs += receipt.runs.length
      if (runs < CHUNK_RUNS && receipt.to - chunk[0]!.from < CHUNK_OFFSETS) continue
      chunk = chunk.slice(await this.compare(chunk, 0))
      runs = chunk.reduce((sum, left) => sum + left.runs.length, 0)
    }
    if (chunk.length > 0) await this.compare(chunk, 0)
    result.findings.sort((a, b) => a.from - b.from)
    result.cut = this.search.cut
    return result
  }

  /** The nearest start of a receipt, at or in front of `offset`, that no record of an erasure reaches over. */
  private async uncut(offset: number): Promise<number> {
    const { logId, partition } = this.lane
    for (let at = offset; ; ) {
      const covering = await readReceipt(this.deps.sql, logId, partition, at)
      at = covering?.from ?? at
      const erasures = await readErasures(this.deps.sql, this.lane, at - 1, at + 1)
      if (at === 0 || !erasures.cutBy(at)) return at
      at--
    }
  }

  /**
   * Compares as many of the receipts as can be told apart from the next, at least `atLeast`; gives how many. Those
   * whose rows a record of an erasure shares with the next receipt wait for it.
   */
  private async compare(receipts: CheckedReceipt[], atLeast: number): Promise<number> {
    const { lane, result } = this
    const erasures = await readErasures(this.deps.sql, lane, receipts[0]!.from, receipts.at(-1)!.to + 1)
    let count = receipts.length
    while (count > atLeast && erasures.cutBy(receipts[count - 1]!.to)) count--
    if (count === 0) return 0
    const chunk = receipts.slice(0, count)
    for (const receipt of chunk) this.count(receipt)
    const from = chunk[0]!.from
    const to = chunk.at(-1)!.to
    result.through = to
    result.erased += erasures.count(ROWS.table.name, 'erased', from, to)
    result.expired += erasures.count(ROWS.table.name, 'expired', from, to)
    const rows = await this.compareWith(ROWS, chunk, erasures)
    result.rowsExpected += rows.expected
    result.rowsPresent += rows.present.rows
    result.sourcesPresent += rows.present.sources
    // The newest batch may be on its way to the log still.
    let produced = count
    while (
      produced > 0 &&
      (chunk[produced - 1]!.to > lane.producedThrough ||
        (produced < count && erasures.cutBy(chunk[produced - 1]!.to)))
    )
      produced--
    if (!result.outcomesCompared || produced === 0) return count
    const rest = await this.compareWith(REST, chunk.slice(0, produced), erasures)
    result.outcomesExpected += rest.expected
    result.outcomesPresent += rest.present.sources
    result.outcomesThrough = chunk[produced - 1]!.to
    return count
  }

  /** What was found is looked at once more when a deletion recorded or took rows meanwhile. */
  private async compareWith(by: Comparison, chunk: readonly CheckedReceipt[], erasures: Erasures) {
    const { findings } = this.result
    const before = findings.length
    const compared = await this.search.compare(chunk, by, erasures)
    if (findings.length === before) return compared
    const now = await readErasures(this.deps.sql, this.lane, chunk[0]!.from, chunk.at(-1)!.to + 1)
    if (now.isAs(erasures)) return compared
    findings.length = before
    return await this.search.compare(chunk, by, now)
  }

  private count({ stored, duplicate, dropped, deadLettered, lost, finding }: CheckedReceipt): void {
    const { result } = this
    result.stored += stored
    result.duplicate += duplicate
    result.dropped += dropped
    result.deadLettered += deadLettered
    result.lost += lost
    if (finding) result.findings.push(finding)
  }
}

/** The end of the raw partition; of a topic that is gone, what was decided. */
async function receivedThrough(log: Log, lane: LaneProgress): Promise<number> {
  const [topic] = await log.describe([lane.topic])
  if (topic?.logId !== lane.logId) return lane.nextOffset
  const { end } = await log.bounds(lane.topic, lane.partition)
  return Math.max(end, lane.nextOffset)
}
