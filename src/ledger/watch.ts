/**
 * The audit that never stops. Each call compares what was loaded since the last, looks again at what did not add up
 * (it may have been mended), and goes on with a pass that looks at everything once more, about once a day: rows can
 * vanish long after they were right. What it knows is in Postgres (`watch-state.ts`), so a restart goes on where it was.
 * What was compared is noted piece by piece, so that a process that is killed loses one piece of at most 4 million offsets.
 * Cost of a call, over all raw partitions: at most 20 million new offsets, and twice 4 million old ones, each about 0.1 µs
 * in ClickHouse, and a few look-ups per raw partition.
 */
import { gauge, type Logger } from '../observe/index.ts'
import { type AuditDeps, Auditor, type OffsetRange, type PartitionAudit } from './audit.ts'
import { offsetsOf } from './findings.ts'
import { noteCompared, readGaps, readTotals, readWatched, type Watched } from './watch-state.ts'

/** Over all raw partitions and per call, of what was never compared: bounds how long a call takes after a long stop. */
const NEW_OFFSETS_MAX = 20_000_000
/** Over all raw partitions and per call: of the pass over everything, and again of what did not add up. */
const AGAIN_OFFSETS_MAX = 4_000_000
/** After so many it is noted how far it is. */
const PIECE_OFFSETS = 4_000_000
/** The least time from the beginning of one pass over a raw partition to that of the next. */
const PASS_EVERY_S = 24 * 3_600

const unaccounted = gauge(
  'headrace_unaccounted_events',
  'Raw offsets below the load progress that do not add up (invariant I4). Must be 0.',
)
const audited = gauge('headrace_audited_events', 'Raw offsets that the running audit has compared.')
const auditedAt = gauge(
  'headrace_audit_timestamp_seconds',
  'When the running audit last looked at everything that was new, in the raw partition that waits longest for it.',
)
const passEndedAt = gauge(
  'headrace_audit_pass_timestamp_seconds',
  'When everything had last been looked at again, in the raw partition that waits longest for it; 0 = never.',
)

export type WatchLimits = {
  newOffsetsMax: number
  againOffsetsMax: number
  pieceOffsets: number
  passEveryS: number
}

/** `check` is meant to be called every minute or so, one call at a time and in one process. */
export class UnaccountedWatch {
  private readonly limits: WatchLimits

  constructor(
    private readonly deps: AuditDeps,
    private readonly logger: Logger,
    limits: Partial<WatchLimits> = {},
  ) {
    this.limits = {
      newOffsetsMax: NEW_OFFSETS_MAX,
      againOffsetsMax: AGAIN_OFFSETS_MAX,
      pieceOffsets: PIECE_OFFSETS,
      passEveryS: PASS_EVERY_S,
      ...limits,
    }
  }

  /** Audits what is new and a piece of what is old; gives the number of offsets that do not add up. */
  async check(): Promise<number> {
    const { sql } = this.deps
    const { passEveryS, newOffsetsMax, againOffsetsMax } = this.limits
    const watched = await readWatched(sql, passEveryS)
    const auditor = await Auditor.open(this.deps)
    for (const gap of await readGaps(sql, againOffsetsMax)) await this.compare(auditor, gap)
    for (const { lane, offsets } of sharesOf(auditor, watched, newOffsetsMax))
      await this.compareNew(auditor, lane, offsets)
    for (const range of passRanges(watched, againOffsetsMax)) await this.compare(auditor, range, range.to)
    return await showAudit(this.deps)
  }

  /** What was compared before. */
  private async compare(auditor: Auditor, range: OffsetRange, passTo?: number): Promise<void> {
    const one = await auditor.compare(range)
    this.tell(one)
    await noteCompared(this.deps.sql, one, { passTo: isCompared(one) ? passTo : undefined })
  }

  /** The next `offsets` of a raw partition, as far as they are loaded; notes each piece. */
  private async compareNew(auditor: Auditor, lane: Watched, offsets: number): Promise<void> {
    const { loadedThrough } = auditor.laneOf(lane)
    const end = lane.auditedThrough + offsets
    for (let from = lane.auditedThrough; ; ) {
      const to = Math.min(from + this.limits.pieceOffsets, end)
      const one = await auditor.compare({ ...lane, from, to })
      this.tell(one)
      const isAll = isCompared(one) && to >= loadedThrough
      await noteCompared(this.deps.sql, one, { audited: isAll ? 'all' : 'piece' })
      if (isAll || !isCompared(one) || to >= end || one.outcomesThrough <= from) return
      from = one.outcomesThrough
    }
  }

  private tell({ topic, partition, findings }: PartitionAudit): void {
    if (findings.length === 0) return
    const fields = { unaccounted: offsetsOf(findings), topic, partition, first: findings.slice(0, 3) }
    this.logger.error(
      { ...fields, docs: 'docs/runbooks/ledger.md#unaccounted' },
      `${offsetsOf(findings)} events of ${topic}/${partition} do not add up; \`headrace audit\` lists them`,
    )
  }
}

/** Sets the metrics from what is known of all processes' audits; gives the number of offsets that do not add up. */
export async function showAudit({ sql }: Pick<AuditDeps, 'sql'>): Promise<number> {
  const totals = await readTotals(sql)
  unaccounted.set(totals.unaccounted)
  audited.set(totals.audited)
  auditedAt.set(totals.auditedAtS)
  passEndedAt.set(totals.passEndedAtS)
  return totals.unaccounted
}

/**
 * How much of what is new each raw partition may have compared: those with little all of it, the others the same share of
 * the rest, so that one that is far behind keeps no other waiting.
 */
function sharesOf(
  auditor: Auditor,
  watched: readonly Watched[],
  offsetsMax: number,
): { lane: Watched; offsets: number }[] {
  const lanes = watched
    .map((lane) => ({ lane, offsets: Math.max(0, auditor.laneOf(lane).nextOffset - lane.auditedThrough) }))
    .sort((a, b) => a.offsets - b.offsets)
  let left = offsetsMax
  return lanes.map(({ lane, offsets }, i) => {
    const share = Math.min(offsets, Math.ceil(left / (lanes.length - i)))
    left -= share
    return { lane, offsets: share }
  })
}

/** The next ranges of the passes that are due, those that wait longest first. */
function passRanges(watched: readonly Watched[], offsetsMax: number): OffsetRange[] {
  const ranges: OffsetRange[] = []
  let left = offsetsMax
  for (const { logId, partition, auditedThrough, passNext, passDue } of watched) {
    if (!passDue || left <= 0) continue
    const to = Math.min(auditedThrough, passNext + left)
    left -= to - passNext
    ranges.push({ logId, partition, from: passNext, to })
  }
  return ranges
}

/** Whether both tables were compared and every finding is known. */
function isCompared({ outcomesCompared, cut }: PartitionAudit): boolean {
  return outcomesCompared && !cut
}
