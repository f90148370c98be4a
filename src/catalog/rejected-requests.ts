/**
 * The last 100 requests of each project that were refused, or of which events were refused. A sample for support, not
 * an account: written in the background every 2 s, at most 10 of a project and 200 in all each time, so that a flood of
 * refusals costs Postgres a bounded number of rows; the rest is counted only. Requests of no project share one heading.
 */
import { counter } from '../observe/index.ts'
import { guardState, type Sql } from './postgres.ts'

export const REJECTED_REQUESTS_KEPT = 100
/** Stands for "no project that exists". */
export const NO_PROJECT = 0
const STEP_MS = 2_000
const PER_PROJECT_MAX = 10
const PER_STEP_MAX = 200

export type RejectedRequest = {
  teamId: number
  /** Epoch ms. */
  atMs: number
  path: string
  status: number
  /** Empty when events were refused singly. */
  code: string
  message: string
  /** Refused events by reason. */
  reasons: Record<string, number>
  ip: string
  userAgent: string
  sdk: string
  requestId: string
  token: string
  /** Undefined when the body was not read. */
  bodyBytes: number | undefined
  sample: string
}

const skipped = counter(
  'headrace_rejected_requests_skipped_total',
  'Refused requests that are not among the samples, because there were too many at a time or Postgres was away.',
)

export class RejectedRequests {
  readonly #sql: Sql
  readonly #timer: ReturnType<typeof setInterval>
  #waiting: RejectedRequest[] = []
  /** Of each project, how many wait. */
  #counts = new Map<number, number>()
  #running: Promise<void> | undefined

  constructor(sql: Sql, stepMs = STEP_MS) {
    this.#sql = sql
    this.#timer = setInterval(() => {
      this.step().catch(() => {})
    }, stepMs)
    this.#timer.unref()
  }

  /** True when there is room for one more of this project; asked first, so that a flood does not pay for samples. */
  wants(teamId: number): boolean {
    const room = this.#waiting.length < PER_STEP_MAX && (this.#counts.get(teamId) ?? 0) < PER_PROJECT_MAX
    if (!room) skipped.inc()
    return room
  }

  keep(request: RejectedRequest): void {
    this.#waiting.push(request)
    this.#counts.set(request.teamId, (this.#counts.get(request.teamId) ?? 0) + 1)
  }

  /** Writes what waits; also done in the background. One at a time. What Postgres does not take is lost, and counted. */
  step(): Promise<void> {
    this.#running ??= this.#step().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#running?.catch(() => {})
    await this.step().catch(() => {})
  }

  async #step(): Promise<void> {
    const requests = this.#waiting
    if (requests.length === 0) return
    this.#waiting = []
    this.#counts = new Map()
    try {
      await guardState('keeping refused requests', () => this.#write(requests))
    } catch (error) {
      skipped.inc(requests.length)
      throw error
    }
  }

  async #write(requests: RejectedRequest[]): Promise<void> {
    const teams = [...new Set(requests.map(({ teamId }) => teamId))]
    await this.#sql`
      INSERT INTO rejected_request (team_id, at, path, status, code, message, reasons, ip, user_agent, sdk, request_id,
        token, body_bytes, sample)
      SELECT x."teamId", to_timestamp(x."atMs" / 1000.0), x.path, x.status, x.code, x.message, x.reasons, x.ip,
        x."userAgent", x.sdk, x."requestId", x.token, x."bodyBytes", x.sample
      FROM jsonb_to_recordset(${JSON.stringify(requests)}::text::jsonb) AS x("teamId" integer, "atMs" float8, path text,
        status integer, code text, message text, reasons jsonb, ip text, "userAgent" text, sdk text, "requestId" text,
        token text, "bodyBytes" bigint, sample text)`
    await this.#sql`
      DELETE FROM rejected_request r
      USING (
        SELECT t.team_id, (
          SELECT k.id FROM rejected_request k WHERE k.team_id = t.team_id
          ORDER BY k.id DESC OFFSET ${REJECTED_REQUESTS_KEPT - 1} LIMIT 1) AS oldest
        FROM (SELECT value::integer AS team_id FROM jsonb_array_elements_text(${JSON.stringify(teams)}::text::jsonb)) t
      ) kept
      WHERE r.team_id = kept.team_id AND r.id < kept.oldest`
  }
}

type RejectedRequestRow = {
  team_id: number
  at: Date
  path: string
  status: number
  code: string
  message: string
  reasons: Record<string, number>
  ip: string
  user_agent: string
  sdk: string
  request_id: string
  token: string
  body_bytes: number | null
  sample: string
}

/** Newest first; of one project (NO_PROJECT for those of none), or of all. */
export async function listRejectedRequests(sql: Sql, teamId?: number): Promise<RejectedRequest[]> {
  const rows = await guardState(
    'listing refused requests',
    () => sql<RejectedRequestRow[]>`
      SELECT team_id, at, path, status, code, message, reasons, ip, user_agent, sdk, request_id, token, body_bytes, sample
      FROM rejected_request WHERE ${teamId ?? null}::integer IS NULL OR team_id = ${teamId ?? null}::integer
      ORDER BY id DESC`,
  )
  return rows.map((row) => ({
    teamId: row.team_id,
    atMs: row.at.getTime(),
    path: row.path,
    status: row.status,
    code: row.code,
    message: row.message,
    reasons: row.reasons,
    ip: row.ip,
    userAgent: row.user_agent,
    sdk: row.sdk,
    requestId: row.request_id,
    token: row.token,
    bodyBytes: row.body_bytes ?? undefined,
    sample: row.sample,
  }))
}
