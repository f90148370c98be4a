/**
 * Events per project and calendar month (UTC), of all capture processes and over restarts. Each process counts in
 * memory, adds its difference to Postgres every 2 s and reads the sum back. So what one process knows of the others is
 * at most two steps old (4 s), and a crash loses at most one step of its own; while Postgres is away it goes on with
 * what it knew, and adds the difference when Postgres is back. A step whose answer was lost is sent again as it was, under
 * the same number, and is added once.
 *
 * Costs per request: a look at a map. Per step: two queries, whatever the number of projects.
 */
import { randomUUID } from 'node:crypto'
import { counter } from '../observe/index.ts'
import { guardState, type Sql } from './postgres.ts'
import { CANARY_TEAM_ID } from './projects.ts'

const STEP_MS = 2_000
/** Beyond this, meters that nobody counts on go, the oldest first. */
const METERS_MAX = 20_000
const WRITERS_KEPT = '1 day'

const failures = counter(
  'headrace_usage_step_failures_total',
  'Failed attempts to add what projects used to Postgres; it is kept and added later.',
)

/** One project in one month. */
export class Meter {
  /** By all processes, as last read; undefined before the first answer. */
  total: number | undefined = undefined
  /** Not in any step yet. */
  stored = 0
  refused = 0
  /** In the step under way. */
  sentStored = 0
  sentRefused = 0
  /** Being stored now: counts as used until it is known what became of it. */
  private held = 0

  constructor(
    readonly teamId: number,
    readonly month: number,
  ) {}

  /** Events of the month so far, those that are being stored included. */
  get used(): number {
    return (this.total ?? 0) + this.sentStored + this.stored + this.held
  }

  hold(events: number): void {
    this.held += events
  }

  /** Of what was held, `stored` are durable. */
  settle(held: number, stored: number, refused: number): void {
    this.held -= held
    this.stored += stored
    this.refused += refused
  }

  get changed(): boolean {
    return this.stored > 0 || this.refused > 0
  }

  get idle(): boolean {
    return !this.changed && this.held === 0 && this.sentStored === 0 && this.sentRefused === 0
  }
}

export class ProjectUsage {
  readonly #sql: Sql
  readonly #writer = randomUUID()
  /** By month and team; insertion order is age. */
  readonly #meters = new Map<number, Meter>()
  readonly #timer: ReturnType<typeof setInterval>
  #sequence = 0
  /** What the step under way adds; the same when it is tried again. */
  #sending: Meter[] = []
  /** Meters whose sum nobody has read yet. */
  #unread: Meter[] = []
  #running: Promise<void> | undefined
  #month = { number: 0, fromMs: 0, toMs: 0 }

  constructor(sql: Sql, stepMs = STEP_MS) {
    this.#sql = sql
    this.#timer = setInterval(() => this.#tick(), stepMs)
    this.#timer.unref()
  }

  /** The meter of the project in the month of `nowMs`; at its first use the sum is asked for at once. */
  meter(teamId: number, nowMs: number): Meter {
    const month = this.#monthOf(nowMs)
    const key = month * 2 ** 31 + teamId
    let meter = this.#meters.get(key)
    if (!meter) {
      meter = new Meter(teamId, month)
      this.#meters.set(key, meter)
      if (this.#unread.push(meter) === 1 && !this.#running) setTimeout(() => this.#tick(), 0).unref()
    }
    return meter
  }

  /** Adds and reads once; also done in the background. One at a time. Throws HR_STATE_UNAVAILABLE. */
  step(): Promise<void> {
    this.#running ??= this.#step().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** Adds what is left, if Postgres takes it. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#running?.catch(() => {})
    try {
      // A step that failed before goes first, as it was; the next one takes what was counted since.
      await this.step()
      await this.step()
    } catch {
      failures.inc()
    }
  }

  #tick(): void {
    this.step().catch(() => failures.inc())
  }

  async #step(): Promise<void> {
    this.#begin()
    const read = new Set([...this.#unread, ...this.#sending])
    if (read.size === 0) return
    if (this.#sending.length > 0) await this.#add()
    const sums = await this.#sums(read)
    // Only now: until the sum that holds them is there, they count by what was sent.
    for (const meter of read) meter.total = sums.get(`${meter.month}:${meter.teamId}`) ?? 0
    for (const meter of this.#sending) {
      meter.sentStored = 0
      meter.sentRefused = 0
    }
    this.#sending = []
    this.#unread = this.#unread.filter((meter) => !read.has(meter))
    this.#forget()
  }

  /** Takes what was counted into a step, unless one is still on its way. */
  #begin(): void {
    if (this.#sending.length > 0) return
    for (const meter of this.#meters.values()) {
      if (!meter.changed) continue
      meter.sentStored = meter.stored
      meter.sentRefused = meter.refused
      meter.stored = 0
      meter.refused = 0
      this.#sending.push(meter)
    }
    if (this.#sending.length > 0) this.#sequence++
  }

  async #add(): Promise<void> {
    const rows = this.#sending.map((meter) => ({
      t: meter.teamId,
      m: firstDay(meter.month),
      s: meter.sentStored,
      r: meter.sentRefused,
    }))
    // Sorted, so that two processes do not lock the same rows in a circle.
    rows.sort((a, b) => a.t - b.t || a.m.localeCompare(b.m))
    await guardState(
      'adding usage',
      () => this.#sql`
        WITH forgotten AS (
          DELETE FROM usage_writer WHERE heard_at < now() - ${WRITERS_KEPT}::text::interval AND id <> ${this.#writer}
        ), this_step AS (
          INSERT INTO usage_writer AS w (id, sequence) VALUES (${this.#writer}, ${this.#sequence})
          ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, heard_at = now()
          WHERE w.sequence < excluded.sequence
          RETURNING 1
        )
        INSERT INTO project_usage AS u (team_id, month, stored, refused)
        SELECT x.t, x.m, x.s, x.r
        FROM jsonb_to_recordset(${JSON.stringify(rows)}::text::jsonb) AS x(t integer, m date, s bigint, r bigint)
        WHERE EXISTS (SELECT FROM this_step)
        ON CONFLICT (team_id, month) DO UPDATE
        SET stored = u.stored + excluded.stored, refused = u.refused + excluded.refused`,
    )
  }

  async #sums(meters: ReadonlySet<Meter>): Promise<Map<string, number>> {
    const keys = [...meters].map(({ teamId, month }) => ({ t: teamId, m: firstDay(month), n: month }))
    const rows = await guardState(
      'reading usage',
      () => this.#sql<{ t: number; n: number; stored: number }[]>`
        SELECT x.t, x.n, u.stored
        FROM jsonb_to_recordset(${JSON.stringify(keys)}::text::jsonb) AS x(t integer, m date, n integer)
        JOIN project_usage u ON u.team_id = x.t AND u.month = x.m`,
    )
    return new Map(rows.map(({ t, n, stored }) => [`${n}:${t}`, stored]))
  }

  #forget(): void {
    for (const [key, meter] of this.#meters) {
      const past = meter.month < this.#month.number
      if (!past && this.#meters.size <= METERS_MAX) break
      if (meter.idle) this.#meters.delete(key)
    }
  }

  #monthOf(nowMs: number): number {
    if (nowMs < this.#month.fromMs || nowMs >= this.#month.toMs) {
      const date = new Date(nowMs)
      const number = date.getUTCFullYear() * 12 + date.getUTCMonth()
      this.#month = { number, fromMs: monthStart(number), toMs: monthStart(number + 1) }
    }
    return this.#month.number
  }
}

/** What each project used, newest month first. */
export type UsageRow = { teamId: number; name: string; month: string; stored: number; refused: number }

export async function listUsage(sql: Sql): Promise<UsageRow[]> {
  const rows = await guardState(
    'listing usage',
    () => sql<{ team_id: number; name: string; month: string; stored: number; refused: number }[]>`
      SELECT p.team_id, p.name, to_char(u.month, 'YYYY-MM') AS month, u.stored, u.refused
      FROM project_usage u JOIN project p USING (team_id)
      WHERE team_id <> ${CANARY_TEAM_ID} ORDER BY u.month DESC, p.team_id`,
  )
  return rows.map(({ team_id, ...row }) => ({ teamId: team_id, ...row }))
}

function monthStart(number: number): number {
  return Date.UTC(Math.floor(number / 12), number % 12)
}

function firstDay(number: number): string {
  return new Date(monthStart(number)).toISOString().slice(0, 10)
}
