/**
 * Drafts beside what holds. In: events as transformations were given them, and what they came to. Out: in how many the
 * draft differs, in what, with samples, to Postgres every few seconds. What must hold: nothing that a draft does or fails
 * to do reaches an event; it is looked at when there is time, a few events of a batch, and one that is slow is ended.
 */
import {
  addToShadow,
  runningShadows,
  SHADOW_SAMPLES_MAX,
  type Shadow,
  type ShadowCounts,
  type Sql,
} from '../catalog/index.ts'
import type { Logger } from '../observe/index.ts'
import { pause } from '../platform/index.ts'
import {
  Allowance,
  type ChainOutcome,
  differences,
  type HostHelpers,
  type OpenSet,
  openSet,
  parseSet,
  runChain,
  type TransformEvent,
} from '../transform/index.ts'

export type Seen = { readonly given: TransformEvent; readonly outcome: ChainOutcome }

/** Of one batch and project. */
const EVENTS_MAX = 100
/** As many at once, between which others have their turn. */
const EVENTS_AT_ONCE = 5
/** A draft that was cut so often is ended: each cut holds the process for some 50 ms. */
const CUTS_MAX = 3
/** Values in a sample, by their lines. */
const LINES_MAX = 20
const OUTPUT_CHARS_MAX = 8 * 2 ** 20

export class Shadows {
  readonly #deps: { sql: Sql; geoip: HostHelpers['geoip']; logger: Logger }
  #running = new Map<number, Running>()

  constructor(deps: { sql: Sql; geoip: HostHelpers['geoip']; logger: Logger }) {
    this.#deps = deps
  }

  has(teamId: number): boolean {
    return this.#running.has(teamId)
  }

  get isEmpty(): boolean {
    return this.#running.size === 0
  }

  /** Brings what was seen to Postgres, and asks it for other drafts. Throws what that throws. */
  async refresh(): Promise<void> {
    for (const shadow of this.#running.values()) await shadow.report(this.#deps.sql)
    const wanted = await runningShadows(this.#deps.sql)
    const next = new Map<number, Running>()
    for (const shadow of wanted) {
      const known = this.#running.get(shadow.teamId)
      next.set(shadow.teamId, known?.shadow.run === shadow.run ? known : await this.#open(shadow))
    }
    const before = this.#running
    this.#running = next
    for (const [teamId, shadow] of before) if (next.get(teamId) !== shadow) shadow.close()
  }

  async #open(shadow: Shadow): Promise<Running> {
    try {
      const set = await openSet(parseSet(shadow.definition), { key: shadow.key, geoip: this.#deps.geoip })
      return new Running(shadow, set, '')
    } catch (error) {
      return new Running(shadow, undefined, `it cannot be opened: ${(error as Error).message}`)
    }
  }

  /** Does not wait. */
  observe(teamId: number, seen: readonly Seen[]): void {
    const shadow = this.#running.get(teamId)
    if (!shadow) return
    void shadow.observe(seen).catch((error) => {
      shadow.trouble ||= (error as Error).message
      this.#deps.logger.warn({ teamId }, `a draft of transformations is ended: ${(error as Error).message}`)
    })
  }

  /** Brings along what was seen, if Postgres is there. */
  async close(): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ busy }) => busy))
    for (const shadow of this.#running.values()) {
      await shadow.report(this.#deps.sql).catch(() => {})
      shadow.close()
    }
    this.#running.clear()
  }
}

function nothing(): ShadowCounts {
  return { counts: {}, fields: {}, samples: [] }
}

class Running {
  readonly shadow: Shadow
  readonly #set: OpenSet | undefined
  trouble: string
  /** Undefined while nothing is looked at. */
  busy: Promise<void> | undefined
  #seen = nothing()
  #cuts = 0
  #toldTrouble = false
  #closed = false
  /** A draft that is slow without being cut is ended by it, too. */
  readonly #limits = { allowance: new Allowance(), outputCharsMax: OUTPUT_CHARS_MAX }

  constructor(shadow: Shadow, set: OpenSet | undefined, trouble: string) {
    this.shadow = shadow
    this.#set = set
    this.trouble = trouble
  }

  observe(seen: readonly Seen[]): Promise<void> {
    // One batch at a time; what comes meanwhile is not looked at.
    if (this.busy || this.trouble !== '' || this.#closed) return Promise.resolve()
    this.busy = this.#look(this.#set!, seen).finally(() => {
      this.busy = undefined
      if (this.#closed) this.#set?.close()
    })
    return this.busy
  }

  async #look({ steps }: OpenSet, seen: readonly Seen[]): Promise<void> {
    const every = Math.max(1, Math.floor(seen.length / EVENTS_MAX))
    const looked = seen.filter((_, i) => i % every === 0)
    for (let at = 0; at < looked.length && this.trouble === '' && !this.#closed; at += EVENTS_AT_ONCE) {
      const some = looked.slice(at, at + EVENTS_AT_ONCE)
      const outcomes = await runChain(
        steps,
        some.map(({ given }) => given),
        { limits: this.#limits },
      )
      some.forEach((one, i) => {
        this.#compare(one, outcomes[i]!)
      })
      await pause(0)
    }
  }

  #compare({ given, outcome }: Seen, draft: ChainOutcome): void {
    if (isCut(draft) && ++this.#cuts >= CUTS_MAX)
      this.trouble = 'it ran too long, or wanted too much memory, too often'
    const lines = differencesOf(outcome, draft)
    const kind = outcome.kind === draft.kind ? '' : `${outcome.kind} → ${draft.kind}`
    const became = kind !== '' ? kind : lines.length > 0 ? 'differs' : 'same'
    const { counts, fields, samples } = this.#seen
    counts[became] = (counts[became] ?? 0) + 1
    if (became === 'same') return
    for (const line of lines) {
      const name = line.slice(0, line.indexOf(': '))
      fields[name] = (fields[name] ?? 0) + 1
    }
    if (samples.length >= SHADOW_SAMPLES_MAX) return
    const failure = draft.kind === 'quarantined' ? [`${draft.step}: ${draft.failure.message}`] : []
    const { uuid, event } = given
    samples.push({ uuid, event, became, differences: [...failure, ...lines.slice(0, LINES_MAX)] })
  }

  async report(sql: Sql): Promise<void> {
    const seen = this.#seen
    if (Object.keys(seen.counts).length === 0 && (this.trouble === '' || this.#toldTrouble)) return
    this.#seen = nothing()
    this.#toldTrouble = this.trouble !== ''
    await addToShadow(sql, this.shadow, seen, this.trouble)
  }

  close(): void {
    this.#closed = true
    if (!this.busy) this.#set?.close()
  }
}

function isCut(outcome: ChainOutcome): boolean {
  const failures = outcome.kind === 'quarantined' ? [outcome] : outcome.failures
  return failures.some(({ failure }) => failure.kind === 'timeout' || failure.kind === 'memory')
}

function differencesOf(live: ChainOutcome, draft: ChainOutcome): string[] {
  if (live.kind !== 'kept' || draft.kind !== 'kept') return []
  if (live.events.length !== draft.events.length)
    return [`events: ${live.events.length} → ${draft.events.length}`]
  return live.events.flatMap(({ event }, i) => differences(event, draft.events[i]!.event))
}
