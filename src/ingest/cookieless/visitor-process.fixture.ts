/**
 * An ingest process as far as cookieless events go: salts, rules, visitors, and a commit that is tried again on a
 * conflict. Imported by tests, and run by them as a program of its own, so that two real processes meet in Postgres:
 *
 *   bun visitor-process.fixture.ts <socket folder> <JSON of VisitorRun>
 */
import { randomUUID } from 'node:crypto'
import { openPostgres, type Sql } from '../../catalog/index.ts'
import type { RawHeader } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import { ApplyConflict, applyBatch } from '../identity/apply.ts'
import { plainReceipt } from '../identity/identity.fixture.ts'
import { cookieless, identify } from './cookieless.fixture.ts'
import { judge } from './judge.ts'
import type { CookielessIds } from './rewrite.ts'
import { Salts } from './salts.ts'
import { readVisitors, visitorWritesJson, wantedVisitors } from './state.ts'
import { findIds } from './visitors.ts'

export type Seen = { ip: string; timestampMs: number; says?: string; distinctId?: string; zone?: string }
/** Batches, each at its time. */
export type VisitorRun = { batches: { nowMs: number; seen: Seen[] }[] }

export function eventOf({ ip, timestampMs, says, distinctId, zone }: Seen): ParsedEvent {
  const header: Partial<RawHeader> = { ip, timestampMs, ...(distinctId !== undefined && { distinctId }) }
  const properties = zone === undefined ? {} : { $timezone: zone }
  return says === undefined ? cookieless(properties, header) : identify(says, properties, header)
}

const ATTEMPTS_MAX = 50

/** One partition of one process. */
export class VisitorProcess {
  readonly salts: Salts
  #next = 0
  readonly #logId = randomUUID()

  constructor(readonly sql: Sql) {
    this.salts = new Salts(sql)
  }

  /** Judges, reads, finds and writes, with fence and receipt, in one transaction; the ids of the events that were not dropped. */
  async process(seen: readonly Seen[], nowMs: number): Promise<CookielessIds[]> {
    const facts = { enabled: true, nowMs, salts: await this.salts.open(nowMs) }
    const visits = seen.flatMap((one) => {
      const outcome = judge(eventOf(one), facts)
      return outcome.kind === 'pass' ? [outcome.value.visit!] : []
    })
    await this.sql`
      INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through)
      VALUES (${this.#logId}, 0, 'raw_events', 0, 0) ON CONFLICT DO NOTHING`
    for (let attempt = 1; ; attempt++) {
      const { ids, writes } = findIds(visits, await readVisitors(this.sql, wantedVisitors(visits)))
      const json = visitorWritesJson(writes)
      try {
        await this.sql.begin(async (tx) => {
          const position = {
            logId: this.#logId,
            partition: 0,
            topic: 'raw_events',
            fromOffset: this.#next,
            toOffset: this.#next + 1,
            producedThrough: this.#next,
          }
          const nothing = { checks: [], persons: [], merges: [], mappings: [], groupTypes: [], groups: [] }
          await applyBatch(tx, position, plainReceipt(1), nothing)
          if (json !== null) await tx`SELECT apply_visitors(${json}::text::jsonb)`
        })
        this.#next++
        return ids
      } catch (error) {
        const moved = error instanceof ApplyConflict || (error as { code?: string }).code === 'HR002'
        if (!moved || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }
}

/** What the program prints. */
export type VisitorReport = { salts: Record<string, string>; ids: CookielessIds[][] }

async function main(): Promise<void> {
  const [socketDir, run] = process.argv.slice(2)
  const sql = openPostgres({ url: { socketDir: socketDir! }, name: 'visitors', connectionsMax: 3 })
  const one = new VisitorProcess(sql)
  const report: VisitorReport = { salts: {}, ids: [] }
  for (const { nowMs, seen } of (JSON.parse(run!) as VisitorRun).batches) {
    report.ids.push(await one.process(seen, nowMs))
    for (const [day, salt] of await one.salts.open(nowMs))
      report.salts[day] = Buffer.from(salt).toString('hex')
  }
  await sql.end()
  console.log(JSON.stringify(report))
}

if (import.meta.main) await main()
