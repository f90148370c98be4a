/**
 * The secrets of the days. Each open day has one salt of 16 random bytes, in Postgres, the same for all processes:
 * whoever needs it first puts it there, whoever comes second takes what is there. A closed day has none, here or there
 * (purge.ts), and never gets another. Cost: a look into a map; at the first need of a day two or three round trips.
 */
import { randomBytes } from 'node:crypto'
import { guardState, type Sql } from '../../catalog/index.ts'
import { isOpenDay, openDays } from './calendar-day.ts'

const SALT_BYTES = 16

/** By day, `YYYY-MM-DD`. A day without a salt can take no events. */
export type DaySalts = ReadonlyMap<string, Uint8Array>

export class Salts {
  readonly #sql: Sql
  /** Undefined for a day whose salt was deleted: another process' clock is ahead. */
  readonly #known = new Map<string, Uint8Array | undefined>()
  #loading: Promise<void> | undefined

  constructor(sql: Sql) {
    this.#sql = sql
  }

  /** Those of all days that are open at `nowMs`. Throws retriable state errors when Postgres is away. */
  async open(nowMs: number): Promise<DaySalts> {
    this.forgetClosed(nowMs)
    const days = openDays(nowMs)
    for (;;) {
      const missing = days.filter((day) => !this.#known.has(day))
      if (missing.length === 0) break
      // Another partition may be at it; it may be at other days, too.
      this.#loading ??= this.#load(missing).finally(() => {
        this.#loading = undefined
      })
      await this.#loading
    }
    const salts = new Map<string, Uint8Array>()
    for (const day of days) {
      const salt = this.#known.get(day)
      if (salt) salts.set(day, salt)
    }
    return salts
  }

  /** Lets go of closed days; a batch at hand keeps what it was given until it ends. */
  forgetClosed(nowMs: number): void {
    for (const day of this.#known.keys()) if (!isOpenDay(day, nowMs)) this.#known.delete(day)
  }

  async #load(days: readonly string[]): Promise<void> {
    const found = await readSalts(this.#sql, days)
    const missing = days.filter((day) => !found.has(day))
    const salts = missing.length === 0 ? found : await this.#agree(days, missing)
    for (const day of days) this.#known.set(day, salts.get(day))
  }

  /** The insert settles it, and a statement of its own, which sees what others inserted meanwhile, says how. */
  async #agree(
    days: readonly string[],
    missing: readonly string[],
  ): Promise<Map<string, Uint8Array | undefined>> {
    const offered = missing.map((day) => ({ day, salt: randomBytes(SALT_BYTES).toString('hex') }))
    await guardState(
      'offering a salt',
      () => this.#sql`
        INSERT INTO cookieless_salt (day, salt)
        SELECT r.day, decode(r.salt, 'hex')
        FROM jsonb_to_recordset(${JSON.stringify(offered)}::text::jsonb) AS r(day date, salt text) ORDER BY r.day
        ON CONFLICT DO NOTHING`,
    )
    return readSalts(this.#sql, days)
  }
}

async function readSalts(sql: Sql, days: readonly string[]): Promise<Map<string, Uint8Array | undefined>> {
  const rows = await guardState(
    'reading salts',
    () => sql<{ day: string; salt: Uint8Array | null }[]>`
      SELECT day::text, salt FROM cookieless_salt WHERE day = ANY (${`{${days.join()}}`}::text::date[])`,
  )
  return new Map(rows.map(({ day, salt }) => [day, salt ?? undefined]))
}
