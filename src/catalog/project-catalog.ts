/**
 * Tokens to projects, for hot paths: a batch of tokens costs a look at a map, and one query when some are new.
 *
 * Known tokens are read again every 5 s in the background; when Postgres is away they go on as they were. A token
 * that nobody knows is remembered as such for 5 s, so that a flood of wrong tokens costs one query per token and
 * period. So a change is seen everywhere within 5 s plus one query. Both memories are bounded; the token that was
 * asked for the longest time ago goes first.
 */
import { counter } from '../observe/index.ts'
import { guardState, type Sql } from './postgres.ts'
import { isToken, type Project, toProject } from './projects.ts'

const REFRESH_MS = 5_000
const UNKNOWN_MS = 5_000
const KNOWN_TOKENS_MAX = 10_000
const UNKNOWN_TOKENS_MAX = 10_000

const refreshFailures = counter(
  'headrace_catalog_refresh_failures_total',
  'Failed attempts to read the projects again; known tokens go on as they were.',
)

export type ProjectCatalogOptions = {
  refreshMs?: number
  unknownMs?: number
  knownMax?: number
  unknownMax?: number
  /** ms, monotonic. */
  now?: () => number
}

export class ProjectCatalog {
  readonly #sql: Sql
  readonly #unknownMs: number
  readonly #knownMax: number
  readonly #unknownMax: number
  readonly #now: () => number
  /** Insertion order is order of use. */
  readonly #known = new Map<string, Project>()
  /** Token → when it may be asked for again. */
  readonly #unknown = new Map<string, number>()
  readonly #timer: ReturnType<typeof setInterval>
  #refreshing: Promise<void> | undefined

  constructor(sql: Sql, options: ProjectCatalogOptions = {}) {
    this.#sql = sql
    this.#unknownMs = options.unknownMs ?? UNKNOWN_MS
    this.#knownMax = options.knownMax ?? KNOWN_TOKENS_MAX
    this.#unknownMax = options.unknownMax ?? UNKNOWN_TOKENS_MAX
    this.#now = options.now ?? (() => performance.now())
    this.#timer = setInterval(() => {
      this.refresh().catch(() => refreshFailures.inc())
    }, options.refreshMs ?? REFRESH_MS)
    this.#timer.unref()
  }

  /** From memory: the project; null when it was found unknown a moment ago; undefined when `lookup` must be asked. */
  known(token: string): Project | null | undefined {
    return this.#known.get(token) ?? (this.#isUnknown(token) ? null : undefined)
  }

  /**
   * The project of each token, undefined where there is none. Throws HR_STATE_UNAVAILABLE when a token is neither
   * known nor known to be unknown and Postgres cannot be asked.
   */
  async lookup(tokens: Set<string>): Promise<Map<string, Project | undefined>> {
    const found = new Map<string, Project | undefined>()
    const missing: string[] = []
    for (const token of tokens) {
      const project = this.#known.get(token)
      if (project) {
        this.#known.delete(token)
        this.#known.set(token, project)
        found.set(token, project)
      } else if (this.#isUnknown(token)) found.set(token, undefined)
      else missing.push(token)
    }
    if (missing.length > 0) {
      const projects = await this.#read(missing)
      for (const token of missing) {
        const project = projects.get(token)
        found.set(token, project)
        if (project) remember(this.#known, token, project, this.#knownMax)
        else remember(this.#unknown, token, this.#now() + this.#unknownMs, this.#unknownMax)
      }
    }
    return found
  }

  /** Reads all known tokens again; also done in the background. One at a time. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  /** Stops the background work; the connection pool stays the caller's. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#refreshing?.catch(() => {})
  }

  async #refresh(): Promise<void> {
    if (this.#known.size === 0) return
    const tokens = [...this.#known.keys()]
    const projects = await this.#read(tokens)
    for (const token of tokens) {
      if (!this.#known.has(token)) continue
      const project = projects.get(token)
      // Setting a key that is there keeps its place in the order of use.
      if (project) this.#known.set(token, project)
      else this.#known.delete(token)
    }
  }

  #isUnknown(token: string): boolean {
    if (!isToken(token)) return true
    const until = this.#unknown.get(token)
    if (until === undefined) return false
    if (this.#now() < until) return true
    this.#unknown.delete(token)
    return false
  }

  async #read(tokens: string[]): Promise<Map<string, Project>> {
    const rows = await guardState(
      'looking up projects',
      () => this.#sql<Parameters<typeof toProject>[0][]>`
        SELECT team_id, name, token, settings FROM project WHERE token IN (SELECT jsonb_array_elements_text(${JSON.stringify(tokens)}::text::jsonb))`,
    )
    return new Map(rows.map((row) => [row.token, toProject(row)]))
  }
}

function remember<V>(memory: Map<string, V>, token: string, value: V, max: number): void {
  memory.delete(token)
  memory.set(token, value)
  if (memory.size > max) memory.delete(memory.keys().next().value!)
}
