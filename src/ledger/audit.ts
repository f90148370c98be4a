/**
 * The audit (I4): every raw offset below the load progress against what is in ClickHouse. In: receipts, sums and, where
 * they differ, single places. Out: per raw partition the counts, and every offset that does not add up.
 *
 * What must hold: exact (a missing and a doubled row do not cancel: count, distinct places and hash sum are compared),
 * and no false alarm under live traffic (`progress.ts` says what is below the load progress; rows of `outcomes` are
 * compared only when what the log held of them at the time of the receipts is loaded).
 * Cost: one query per million offsets and table; where it differs, log2(receipts) more and one per receipt at fault.
 */
import type { Sql } from '../catalog/index.ts'
import { EVENTS, type OffsetOutcome, OUTCOMES, type Table } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import { presentSources, type Warehouse } from '../warehouse/index.ts'
import { type CheckedReceipt, checkReceipt, checkTiling } from './check-receipt.ts'
import { compareOutcomes, compareRows, type Finding, offsetsOf, type PresentPlace } from './findings.ts'
import { type AcceptedLoss, readLosses } from './losses.ts'
import { outcomesLoaded } from './outcomes-loaded.ts'
import { type LaneProgress, readProgress } from './progress.ts'
import { auditSpools, type SpoolAudit } from './spools.ts'

export type AuditDeps = { sql: Sql; log: Log; warehouse: Warehouse }

export type AuditOptions = {
  /** How long to wait for rows of `outcomes` that are on their way. Default 10 s. */
  waitMs?: number
  /** Per `logId/partition`: offsets below were audited before. */
  since?: ReadonlyMap<string, number>
  /** Receipts per raw partition that are looked at, from `since` on: bounds the memory. Default: all. */
  receiptsMax?: number
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
  /** Rows that the receipts promise in `events`, and what is there. */
  rowsExpected: number
  rowsPresent: number
  sourcesPresent: number
  /** Offsets that the receipts promise in `outcomes`, and how many of them are there. */
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
/** Offsets that one query sums up: bounds what ClickHouse groups in memory. */
const CHUNK_OFFSETS = 1_000_000

/** Audits every raw partition that ingest ever read. Throws retriable errors when a part cannot be reached. */
export async function audit(deps: AuditDeps, options: AuditOptions = {}): Promise<AuditReport> {
  const lanes = await readProgress(deps.sql, options.since, options.receiptsMax)
  // Asked after the receipts were read: what they promise is in the log by then, below these ends.
  const ready = await outcomesLoaded(deps, lanes, options.waitMs ?? WAIT_MS)
  const partitions: PartitionAudit[] = []
  for (const lane of lanes) {
    const from = options.since?.get(`${lane.logId}/${lane.partition}`) ?? 0
    const compareOutcomes = ready.has(lane.partition)
    partitions.push(await auditLane(deps, lane, from, compareOutcomes, options.findingsMax ?? FINDINGS_MAX))
  }
  const unaccounted = partitions.reduce((sum, { findings }) => sum + offsetsOf(findings), 0)
  const spools = await auditSpools(deps.sql)
  const losses = await readLosses(deps.sql)
  const spoolFindings = spools.filter(({ finding }) => finding !== undefined).length
  return { partitions, losses, spools, spoolFindings, unaccounted, exact: unaccounted === 0 }
}

async function auditLane(
  deps: AuditDeps,
  lane: LaneProgress,
  from: number,
  outcomesReady: boolean,
  findingsMax: number,
): Promise<PartitionAudit> {
  const result: PartitionAudit = {
    topic: lane.topic,
    logId: lane.logId,
    partition: lane.partition,
    from,
    through: lane.loadedThrough,
    decidedThrough: lane.nextOffset,
    receivedThrough: await receivedThrough(deps.log, lane),
    stored: 0,
    duplicate: 0,
    dropped: 0,
    deadLettered: 0,
    lost: 0,
    rowsExpected: 0,
    rowsPresent: 0,
    sourcesPresent: 0,
    outcomesExpected: 0,
    outcomesPresent: 0,
    outcomesCompared: outcomesReady,
    outcomesThrough: from,
    findings: [...checkTiling(lane, from)],
    cut: false,
  }
  const covered: CheckedReceipt[] = []
  for (const receipt of lane.receipts) {
    if (receipt.to > lane.loadedThrough) break
    covered.push(checkReceipt(receipt))
  }
  for (const { receipt, lost, finding } of covered) {
    result.stored += receipt.stored
    result.duplicate += receipt.duplicate
    result.dropped += receipt.dropped
    result.deadLettered += receipt.deadLettered
    result.lost += lost
    if (finding) result.findings.push(finding)
  }
  const search = new Search(deps.warehouse, lane, result, findingsMax)
  for (const chunk of chunksOf(covered, CHUNK_OFFSETS)) {
    const rows = await search.chunk(chunk, ROWS)
    result.rowsExpected += rows.expected
    result.rowsPresent += rows.present
    result.sourcesPresent += rows.sources
    // The newest batch may be on its way to the log still.
    const produced = chunk.filter(({ receipt }) => receipt.to <= lane.producedThrough)
    if (!outcomesReady || produced.length === 0) continue
    const rest = await search.chunk(produced, REST)
    result.outcomesExpected += rest.expected
    result.outcomesPresent += rest.sources
    result.outcomesThrough = produced.at(-1)!.receipt.to
  }
  result.findings.sort((a, b) => a.from - b.from)
  return result
}

/** The end of the raw partition; of a topic that is gone, what was decided. */
async function receivedThrough(log: Log, lane: LaneProgress): Promise<number> {
  const [topic] = await log.describe([lane.topic])
  if (topic?.logId !== lane.logId) return lane.nextOffset
  const { end } = await log.bounds(lane.topic, lane.partition)
  return Math.max(end, lane.nextOffset)
}

/** Runs of neighbouring receipts with at most `offsets` each; a hole ends a run. */
function chunksOf(receipts: readonly CheckedReceipt[], offsets: number): CheckedReceipt[][] {
  const chunks: CheckedReceipt[][] = []
  for (const checked of receipts) {
    const chunk = chunks.at(-1)
    const { from, to } = checked.receipt
    const fits = chunk && chunk.at(-1)!.receipt.to === from && to - chunk[0]!.receipt.from <= offsets
    if (fits) chunk.push(checked)
    else chunks.push([checked])
  }
  return chunks
}

/** One of the two comparisons: rows of `events`, or the rest in `outcomes`. */
type Comparison = {
  table: Table
  rows(checked: CheckedReceipt): number
  hashSum(checked: CheckedReceipt): bigint
  /** Whether copies that a merge will remove are a finding. */
  copiesCount: boolean
  compare(from: number, outcomes: readonly OffsetOutcome[], present: readonly PresentPlace[]): Finding[]
}

const ROWS: Comparison = {
  table: EVENTS,
  rows: ({ receipt }) => receipt.storedRows,
  hashSum: ({ receipt }) => receipt.hashSum,
  copiesCount: true,
  compare: compareRows,
}

const REST: Comparison = {
  table: OUTCOMES,
  rows: ({ rest }) => rest,
  hashSum: ({ restHashSum }) => restHashSum,
  copiesCount: false,
  compare: compareOutcomes,
}

/** Compares sums, and halves what differs until the receipts at fault are found. */
class Search {
  constructor(
    private readonly warehouse: Warehouse,
    private readonly lane: LaneProgress,
    private readonly result: PartitionAudit,
    private readonly findingsMax: number,
  ) {}

  async chunk(
    receipts: readonly CheckedReceipt[],
    by: Comparison,
  ): Promise<{ expected: number; present: number; sources: number }> {
    const { logId, partition } = this.lane
    const range = { logId, partition, from: receipts[0]!.receipt.from, to: receipts.at(-1)!.receipt.to }
    const [present] = await presentSources(this.warehouse, [range], by.table)
    let expected = 0
    let hashSum = 0n
    for (const checked of receipts) {
      expected += by.rows(checked)
      hashSum += by.hashSum(checked)
    }
    const copies = by.copiesCount ? present!.rows : present!.sources
    const agrees = present!.sources === expected && copies === expected && present!.hashSum === hashSum
    if (!agrees) await this.narrow(receipts, by)
    return { expected, present: present!.rows, sources: present!.sources }
  }

  private async narrow(receipts: readonly CheckedReceipt[], by: Comparison): Promise<void> {
    if (this.result.findings.length >= this.findingsMax) {
      this.result.cut = true
      return
    }
    if (receipts.length === 1) return this.compare(receipts[0]!, by)
    const half = receipts.length >> 1
    await this.chunk(receipts.slice(0, half), by)
    await this.chunk(receipts.slice(half), by)
  }

  private async compare({ receipt, outcomes, finding }: CheckedReceipt, by: Comparison): Promise<void> {
    // What cannot be read, or has another length than its range, says nothing of single offsets.
    if (outcomes.length !== receipt.to - receipt.from) return
    const { logId, partition } = this.lane
    const present = await this.warehouse.query<PresentPlace>(
      `SELECT _offset AS offset, _sub AS sub, count() AS copies FROM ${by.table.name}
       WHERE _log_id = {logId:UUID} AND _partition = {partition:UInt16} AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
       GROUP BY _offset, _sub ORDER BY _offset, _sub`,
      { logId, partition, from: receipt.from, to: receipt.to },
    )
    const findings = by.compare(receipt.from, outcomes, present)
    this.result.findings.push(...findings)
    // ClickHouse agrees with every outcome, so it is the receipt's sums that are wrong.
    if (findings.length === 0 && !finding) {
      this.result.findings.push({
        kind: 'receipt_inconsistent',
        from: receipt.from,
        to: receipt.to,
        detail: `its hash sum ${receipt.hashSum} is not that of its rows`,
      })
    }
  }
}
