/**
 * How fresh ClickHouse is, as a customer feels it: an event of our own goes through capture like any other, and the time
 * from capture's answer to the row that a query finds is measured. Its project is hidden and no customer's. What does not
 * come within a minute counts as a minute, and is said. Cost: one event, and ten look-ups of one row a second until it
 * is there.
 */
import { CANARY_TEAM_ID, ensureCanaryProject, type Project, type Sql } from '../catalog/index.ts'
import { isRetriable } from '../event/index.ts'
import { counter, gauge, type Logger } from '../observe/index.ts'
import type { Warehouse } from '../warehouse/index.ts'

export const CANARY_EVENT = '$headrace_canary'
const ANSWER_MS_MAX = 10_000
const QUERYABLE_MS_MAX = 60_000
const LOOK_AGAIN_MS = 100
/** Measurements that the quantiles are of: an hour of them. */
const KEPT = 60

const freshness = gauge(
  'headrace_freshness_seconds',
  "From capture's answer to the row in ClickHouse, of the last hour's canaries; one that does not come counts as 60 s.",
  ['quantile'],
)
const canaries = counter(
  'headrace_canaries_total',
  'Canaries by what became of them: queryable, refused by capture or without an answer, or not queryable within 60 s.',
  ['result'],
)

type Flight = 'queryable' | 'refused' | 'late'

export type CanaryOptions = {
  sql: Sql
  warehouse: Warehouse
  /** Of capture, without a path. */
  captureUrl: string
  logger: Logger
  queryableMsMax?: number
}

export class Canary {
  private project: Project | undefined
  private readonly seconds: number[] = []

  constructor(private readonly options: CanaryOptions) {}

  /** Sends one and waits for it. Resolves with what became of it; throws only when Postgres is away. */
  async fly(): Promise<Flight> {
    this.project ??= await ensureCanaryProject(this.options.sql)
    const uuid = Bun.randomUUIDv7()
    const refusal = await this.send(this.project.token, uuid)
    if (refusal !== undefined)
      return this.land('refused', undefined, `capture did not take the canary: ${refusal}`)
    const answered = performance.now()
    const deadline = answered + (this.options.queryableMsMax ?? QUERYABLE_MS_MAX)
    while (!(await this.isQueryable(uuid))) {
      if (performance.now() > deadline) {
        const seconds = (performance.now() - answered) / 1000
        return this.land(
          'late',
          seconds,
          `the canary ${uuid} is not in ClickHouse after ${seconds.toFixed(0)} s`,
        )
      }
      await Bun.sleep(LOOK_AGAIN_MS)
    }
    return this.land('queryable', (performance.now() - answered) / 1000)
  }

  private land(result: Flight, seconds: number | undefined, says?: string): Flight {
    canaries.inc({ result })
    if (says) this.options.logger.warn({ docs: 'docs/runbooks/ledger.md#freshness' }, says)
    if (seconds === undefined) return result
    this.seconds.push(seconds)
    if (this.seconds.length > KEPT) this.seconds.shift()
    const sorted = [...this.seconds].sort((a, b) => a - b)
    for (const quantile of [0.5, 0.99])
      freshness.set({ quantile: String(quantile) }, sorted[Math.ceil(quantile * sorted.length) - 1]!)
    return result
  }

  /** Undefined when capture has taken it. */
  private async send(token: string, uuid: string): Promise<string | undefined> {
    const properties = { $process_person_profile: false }
    try {
      const response = await fetch(`${this.options.captureUrl}/i/v0/e/`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          api_key: token,
          event: CANARY_EVENT,
          distinct_id: 'canary',
          uuid,
          properties,
        }),
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      })
      const text = await response.text()
      return response.ok ? undefined : `${response.status} ${text.slice(0, 200)}`
    } catch (error) {
      return (error as Error).message
    }
  }

  private async isQueryable(uuid: string): Promise<boolean> {
    try {
      const rows = await this.options.warehouse.query(
        'SELECT 1 AS one FROM events WHERE team_id = {team:Int64} AND event = {event:String} AND uuid = {uuid:UUID} LIMIT 1',
        { team: CANARY_TEAM_ID, event: CANARY_EVENT, uuid },
      )
      return rows.length > 0
    } catch (error) {
      // Nobody can query a ClickHouse that does not answer.
      if (isRetriable(error)) return false
      throw error
    }
  }
}
