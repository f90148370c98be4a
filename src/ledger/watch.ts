/**
 * The audit that never stops: looks again and again at what was loaded since, and tells the sum as a metric. What
 * does not add up is looked at again each time, since it may have been mended. After a start it begins at the first
 * offset and comes to the newest in steps, so that its memory does not grow with the age of the deployment; behind the first offset
 * that does not add up it sees one step, until that is mended.
 */
import { gauge, type Logger } from '../observe/index.ts'
import { type AuditDeps, audit } from './audit.ts'

/** Receipts per raw partition and step; about 10 MB each. */
const RECEIPTS_MAX = 20_000

const unaccounted = gauge(
  'headrace_unaccounted_events',
  'Raw offsets below the load progress that do not add up (invariant I4). Must be 0.',
)
const audited = gauge('headrace_audited_events', 'Raw offsets that the running audit found exact.')

/** A running audit of one process. `check` is meant to be called every minute or so, one call at a time. */
export class UnaccountedWatch {
  /** Per `logId/partition`: everything below was exact. */
  private readonly exactBelow = new Map<string, number>()

  constructor(
    private readonly deps: AuditDeps,
    private readonly logger: Logger,
    /** At least 2: where a receipt ends, the next one says. */
    private readonly receiptsMax = RECEIPTS_MAX,
  ) {}

  /** Audits what is new; sets the metrics and gives the number of offsets that do not add up. */
  async check(): Promise<number> {
    const report = await audit(this.deps, { since: this.exactBelow, receiptsMax: this.receiptsMax })
    let exact = 0
    for (const { logId, partition, outcomesThrough, findings } of report.partitions) {
      const key = `${logId}/${partition}`
      if (findings.length === 0) this.exactBelow.set(key, outcomesThrough)
      exact += this.exactBelow.get(key) ?? 0
    }
    unaccounted.set(report.unaccounted)
    audited.set(exact)
    if (!report.exact) {
      const first = report.partitions.flatMap(({ topic, partition, findings }) =>
        findings.slice(0, 3).map((finding) => ({ topic, partition, ...finding })),
      )
      this.logger.error(
        { unaccounted: report.unaccounted, first, docs: 'docs/runbooks/ledger.md#unaccounted' },
        `${report.unaccounted} events do not add up; \`headrace audit\` lists them`,
      )
    }
    return report.unaccounted
  }
}
