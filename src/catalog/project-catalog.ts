/**
 * Tokens to projects, for hot paths: a batch of tokens costs a look at a map, and one query when some are new.
 *
 * Known tokens are read again every 2 s in the background; when Postgres is away they go on as they were, at the door
 * (`known`, `find`): a `lookup`, behind which is ingest, answers with nothing that was read more than 3 s before. A token
 * that nobody knows is remembered as such for 5 s at most. So a change is seen everywhere within 5 s. A project that
 * has not changed stays the same object, so that what is made of its settings can be kept with it. Both memories are
 * bounded; the token that `lookup` met the longest time ago goes first. `known` and `find` do not renew its place: a
 * token that goes though it is in use costs one more query.
 *
 * Requests ask by `find`: while one query is on its way, the tokens of all further questions wait for the next one, so a
 * flood of wrong tokens is one query at a time, of at most 1,000 tokens, and no request waits for longer than 500 ms.
 */
import { isRetriable } from '../event/index.ts'
import { counter } from '../observe/index.ts'
import { guardState, type Sql } from './postgres.ts'
import { isToken, type Project, toProject } from './projects.ts'

const REFRESH_MS = 2_000
const UNKNOWN_MS = 5_000
/** No answer of `lookup` is older. */
export const PROJECTS_STALE_MS = 3_000
/** How long `find` waits for Postgres, and how many tokens may wait. */
const FIND_MS = 500
const FIND_TOKENS_MAX = 1_000
const KNOWN_TOKENS_MAX = 10_000
const UNKNOWN_TOKENS_MAX = 10_000

const refreshFailures = counter(
  'headrace_catalog_refresh_failures_total',
  'Failed attempts to read the projects again; known tokens go on as they were.',
)

const findsRefused = counter(
  'headrace_catalog_finds_given_up_total',
  'Unknown tokens that Postgres could not be asked about in time; their events are taken, and ingest decides.',
)

export type ProjectCatalogOptions = {
  refreshMs?: number
  unknownMs?: number
  knownMax?: number
  unknownMax?: number
  findMs?: number
  findTokensMax?: number
  /** ms, monotonic. */
  now?: () => number
}

export class ProjectCatalog {
  readonly #sql: Sql
  readonly #unknownMs: number
  readonly #knownMax: number
  readonly #unknownMax: number
  readonly #findMs: number
  readonly #findTokensMax: number
  readonly #now: () => number
  /** Insertion order is the order in which `lookup` met them. */
  readonly #known = new Map<string, Known>()
  /** Token → when it may be asked for again. */
  readonly #unknown = new Map<string, number>()
  readonly #timer: ReturnType<typeof setInterval>
  #refreshing: Promise<void> | undefined
  /** Questions of `find` that are in no query yet, and those in the one that is on its way. */
  #waiting = new Map<string, Question>()
  #asked = new Map<string, Question>()

  constructor(sql: Sql, options: ProjectCatalogOptions = {}) {
    this.#sql = sql
    this.#unknownMs = options.unknownMs ?? UNKNOWN_MS
    this.#knownMax = options.knownMax ?? KNOWN_TOKENS_MAX
    this.#unknownMax = options.unknownMax ?? UNKNOWN_TOKENS_MAX
    this.#findMs = options.findMs ?? FIND_MS
    this.#findTokensMax = options.findTokensMax ?? FIND_TOKENS_MAX
    this.#now = options.now ?? (() => performance.now())
    this.#timer = setInterval(() => {
      this.refresh().catch(() => refreshFailures.inc())
    }, options.refreshMs ?? REFRESH_MS)
    this.#timer.unref()
  }

  /** From memory: the project; null when it was found unknown a moment ago; undefined when `lookup` must be asked. */
  known(token: string): Project | null | undefined {
    const known = this.#known.get(token)
    if (known) return openOrNull(known.project)
    return this.#isUnknown(token) ? null : undefined
  }

  /**
   * The project of one token; null when there is none, undefined when Postgres cannot say so in time. Asks together with
   * whoever else asks now. Throws only what is our own fault.
   */
  find(token: string): Promise<Project | null | undefined> {
    const known = this.known(token)
    if (known !== undefined) return Promise.resolve(known)
    const before = this.#asked.get(token) ?? this.#waiting.get(token)
    if (before) return before.answer
    if (this.#waiting.size >= this.#findTokensMax) {
      findsRefused.inc()
      return Promise.resolve(undefined)
    }
    const question = new Question(this.#findMs)
    this.#waiting.set(token, question)
    if (this.#asked.size === 0) void this.#ask()
    return question.answer
  }

  /** Takes what waits into a query, until nothing does. */
  async #ask(): Promise<void> {
    while (this.#waiting.size > 0) {
      const asked = this.#waiting
      this.#asked = asked
      this.#waiting = new Map()
      try {
        const found = await this.lookup(new Set(asked.keys()))
        for (const [token, question] of asked) question.resolve(openOrNull(found.get(token)))
      } catch (error) {
        for (const question of asked.values()) {
          if (isRetriable(error)) question.resolve(undefined)
          else question.reject(error)
        }
      }
      this.#asked = new Map()
    }
  }

  /**
   * The project of each token, open or not, undefined where there is none. Throws HR_STATE_UNAVAILABLE when a token is
   * neither known nor known to be unknown, or was read too long ago, and Postgres cannot be asked.
   */
  async lookup(tokens: Set<string>): Promise<Map<string, Project | undefined>> {
    const found = new Map<string, Project | undefined>()
    const missing: string[] = []
    for (const token of tokens) {
      const known = this.#known.get(token)
      if (known && this.#now() - known.readAtMs <= PROJECTS_STALE_MS) {
        this.#known.delete(token)
        this.#known.set(token, known)
        found.set(token, known.project)
      } else if (this.#isUnknown(token)) found.set(token, undefined)
      else missing.push(token)
    }
    if (missing.length > 0) {
      const read = await this.#read(missing)
      for (const token of missing) {
        const known = read.get(token)
        found.set(token, known?.project)
        this.#known.delete(token)
        if (known) remember(this.#known, token, known, this.#knownMax)
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
    const read = await this.#read(tokens)
    for (const token of tokens) {
      if (!this.#known.has(token)) continue
      const known = read.get(token)
      // Setting a key that is there keeps its place in the order.
      if (known) this.#known.set(token, known)
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

  /** Settings come only of rows that are another version than the one at hand. */
  async #read(tokens: string[]): Promise<Map<string, Known>> {
    // What is known now, and not when the answer comes: the answer leaves out the settings of exactly these.
    const before = new Map(tokens.map((token) => [token, this.#known.get(token)]))
    const asked = tokens.map((token) => ({ token, version: before.get(token)?.version ?? '' }))
    const readAtMs = this.#now()
    const rows = await guardState(
      'looking up projects',
      () => this.#sql<VersionedRow[]>`
        SELECT p.team_id, p.name, p.token, p.state, p.xmin::text AS version,
          CASE WHEN p.xmin::text <> k.version THEN p.settings END AS settings
        FROM jsonb_to_recordset(${JSON.stringify(asked)}::text::jsonb) AS k(token text, version text)
        JOIN project p ON p.token = k.token`,
    )
    return new Map(
      rows.map(({ version, settings, ...row }) => [
        row.token,
        settings === null
          ? { ...before.get(row.token)!, readAtMs }
          : { version, project: toProject({ ...row, settings }), readAtMs },
      ]),
    )
  }
}

/** `version` is Postgres' own of the row: another one after every change. `readAtMs`: no later than it was read. */
type Known = { version: string; project: Project; readAtMs: number }
type VersionedRow = Omit<Parameters<typeof toProject>[0], 'settings'> & {
  version: string
  settings: Record<string, unknown> | null
}

/** What `find` was asked; answered undefined when nobody did in time. */
class Question {
  readonly answer: Promise<Project | null | undefined>
  resolve!: (project: Project | null | undefined) => void
  reject!: (error: unknown) => void

  constructor(waitMs: number) {
    this.answer = new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        findsRefused.inc()
        resolve(undefined)
      }, waitMs)
      this.resolve = (project) => {
        clearTimeout(late)
        resolve(project)
      }
      this.reject = (error) => {
        clearTimeout(late)
        reject(error)
      }
    })
  }
}

/** Of one on its way out nothing is taken any more. */
function openOrNull(project: Project | undefined): Project | null {
  return project?.state === 'open' ? project : null
}

function remember<V>(memory: Map<string, V>, token: string, value: V, max: number): void {
  memory.delete(token)
  memory.set(token, value)
  if (memory.size > max) memory.delete(memory.keys().next().value!)
}
