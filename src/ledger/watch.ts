/**
 * The audit that never stops. Each call compares what was loaded since the last, looks again at what did not add up
 * (it may have been mended), and goes on with a pass that looks at everything once more, about once a day: rows can
 * vanish long after they were right. What it knows is in Postgres (`watch-state.ts`), so a restart goes on where it was.
 * Cost of a call: what is new plus at most 4 million offsets, each about 0.1 µs in ClickHouse, and a few look-ups per
 * raw partition.
 */
import { gauge, type Logger } from '../observe/index.ts'
import { type AuditDeps, audit, type OffsetRange, type PartitionAudit } from './audit.ts'
import { offsetsOf } from './findings.ts'
import { noteCompared, readGaps, readTotals, readWatched, type Watched } from './watch-state.ts'

/** Per raw partition and call, of what was never compared: bounds how long a call takes after a long stop. */
const NEW_OFFSETS_MAX = 20_000_000
/** Over all raw partitions and per call, of what was compared before. */
const AGAIN_OFFSETS_MAX = 4_000_000
/** The least time from the beginning of one pass over a raw partition to that of the next. */
const PASS_EVERY_S = 24 * 3_600

const unaccounted = gauge(
  'headrace_unaccounted_events',
  'Raw offsets below the load progress that do not add up (invariant I4). Must be 0.',
)
const audited = gauge('headrace_audited_events', 'Raw offsets that the running audit has compared.')
const auditedAt = gauge(
  'headrace_audit_timestamp_seconds',
  'When the running audit last looked at everything that was new, whichever process did.',
)
const passEndedAt = gauge(
  'headrace_audit_pass_timestamp_seconds',
  'When everything had last been looked at again, in the raw partition that waits longest for it; 0 = never.',
)

export type WatchLimits = { newOffsetsMax: number; againOffsetsMax: number; passEveryS: number }

/** What to look at, and why. */
type Piece = { range: OffsetRange; kind: 'new' | 'gap' | 'pass' }

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
      passEveryS: PASS_EVERY_S,
      ...limits,
    }
  }

  /** Audits what is new and a piece of what is old; gives the number of offsets that do not add up. */
  async check(): Promise<number> {
    const { sql } = this.deps
    const watched = await readWatched(sql, this.limits.passEveryS)
    const pieces: Piece[] = [
      ...(await readGaps(sql)).map((range) => ({ range, kind: 'gap' as const })),
      ...watched.map((lane) => ({ range: newOf(lane, this.limits.newOffsetsMax), kind: 'new' as const })),
      ...passPieces(watched, this.limits.againOffsetsMax),
    ]
    const { partitions } = await audit(this.deps, { ranges: pieces.map(({ range }) => range) })
    for (const [i, one] of partitions.entries()) {
      const { kind, range } = pieces[i]!
      this.tell(one)
      await noteCompared(sql, one, {
        audited: kind === 'new',
        passTo: kind === 'pass' && isCompared(one) ? range.to : undefined,
      })
    }
    return await showAudit(this.deps)
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

function newOf({ logId, partition, auditedThrough }: Watched, offsetsMax: number): OffsetRange {
  return { logId, partition, from: auditedThrough, to: auditedThrough + offsetsMax }
}

/** The next pieces of the passes that are due, those that wait longest first. */
function passPieces(watched: readonly Watched[], offsetsMax: number): Piece[] {
  const pieces: Piece[] = []
  let left = offsetsMax
  for (const { logId, partition, auditedThrough, passNext, passDue } of watched) {
    if (!passDue || left <= 0) continue
    const to = Math.min(auditedThrough, passNext + left)
    left -= to - passNext
    pieces.push({ range: { logId, partition, from: passNext, to }, kind: 'pass' })
  }
  return pieces
}

/** Whether both tables were compared and every finding is known. */
function isCompared({ outcomesCompared, cut }: PartitionAudit): boolean {
  return outcomesCompared && !cut
}
