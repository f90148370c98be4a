/**
 * The transformations of a batch: which sets hold, and what they make of its events. In: events that are known to be
 * somebody's, before anything is derived of them. Out: for each what goes on instead, or why it does not. What must
 * hold: a batch is decided under one generation of sets, which its receipt and rows name, so that a replay and a repair
 * run the same ones; a set that cannot be opened keeps its project's events aside instead of storing what it should have
 * hidden. Cost: nothing for a project without a set but a look at a map; sandboxes are opened when a batch wants them.
 */
import {
  FIRST_GENERATION,
  newestGeneration,
  type Sql,
  type TransformationState,
  transformationsAt,
} from '../catalog/index.ts'
import {
  boundDistinctId,
  isObject,
  isRejected,
  isRetriable,
  type Json,
  type JsonObject,
  own,
} from '../event/index.ts'
import type { Logger } from '../observe/index.ts'
import {
  Allowance,
  type ChainOutcome,
  type Change,
  type HostHelpers,
  type OpenSet,
  OutputTooLarge,
  openGeoip,
  openSet,
  parseSet,
  runChain,
  type TransformEvent,
} from '../transform/index.ts'
import type { Waiting } from './batch.ts'
import type { ParsedEvent } from './draft.ts'
import { BatchTooLarge } from './identity/errors.ts'
import { ingestMetrics } from './metrics.ts'
import { type Seen, Shadows } from './shadows.ts'

/** The sets of one generation. */
export type Sets = {
  readonly generation: number
  /** Fills in what becomes of those events whose projects have a set. */
  apply(waiting: readonly Waiting[]): Promise<void>
}

export const NO_SETS: Sets = { generation: FIRST_GENERATION, apply: () => Promise.resolve() }

const REFRESH_MS = 2_000
/** What could not be opened is tried again after this long: there may have been no memory for it. */
const REOPEN_MS = 30_000
/** Of one batch: what its events become is held until Postgres and the log have it. */
const OUTPUT_CHARS_MAX = 64 * 2 ** 20
const ROWS_MAX = 20_000
/** Each with its sandboxes, of some MB in use and 32 at most. */
const OPEN_SETS_MAX = 64

export type TransformationsDeps = {
  sql: Sql
  geoip: HostHelpers['geoip']
  logger: Logger
  refreshMs?: number
}

type Published = TransformationState['sets'] extends ReadonlyMap<number, infer One> ? One : never

type OpenedSet = {
  readonly version: number
  /** Undefined: it could not be opened, and `trouble` says why. */
  readonly set: OpenSet | undefined
  readonly trouble: string
}

/** A set of one version; its sandboxes take one batch at a time. */
type Holder = {
  opened: Promise<OpenedSet>
  openedMs: number
  busy: Promise<unknown>
  users: number
  /** Of live traffic. */
  readonly allowance: Allowance
}

export class Transformations {
  readonly #deps: TransformationsDeps
  /** By the generation with which they were published: that names a set for ever. Least lately used first. */
  readonly #open = new Map<number, Holder>()
  #current: Promise<Sets> | undefined
  #generation = 0
  #timer: ReturnType<typeof setInterval>
  #refreshing: Promise<void> | undefined
  readonly #shadows: Shadows

  constructor(deps: TransformationsDeps) {
    this.#deps = deps
    this.#shadows = new Shadows(deps)
    this.#timer = setInterval(() => void this.#refresh(), deps.refreshMs ?? REFRESH_MS)
    this.#timer.unref()
  }

  /** Those that hold now, as of some seconds ago. Throws what reading them throws, while none were ever read. */
  current(): Promise<Sets> {
    this.#current ??= this.#newest().catch((error) => {
      this.#current = undefined
      throw error
    })
    return this.#current
  }

  /** Those of a generation, for what was decided under it. */
  async at(generation?: number): Promise<Sets> {
    const state = await transformationsAt(this.#deps.sql, generation)
    if (state.sets.size === 0) return { ...NO_SETS, generation: state.generation }
    return { generation: state.generation, apply: (waiting) => this.#apply(state, waiting) }
  }

  /** The newest ones, with drafts beside them. */
  async #newest(): Promise<Sets> {
    const state = await transformationsAt(this.#deps.sql)
    await this.#shadows.refresh()
    this.#generation = state.generation
    return {
      generation: state.generation,
      apply: async (waiting) => {
        if (state.sets.size > 0) await this.#apply(state, waiting, true)
        if (!this.#shadows.isEmpty) this.#showUnchanged(state, waiting)
      },
    }
  }

  /** To drafts of projects that have nothing published. */
  #showUnchanged(state: TransformationState, waiting: readonly Waiting[]): void {
    const seen = new Map<number, Seen[]>()
    for (const { slot, judged } of waiting) {
      if (state.sets.has(slot.teamId) || !this.#shadows.has(slot.teamId)) continue
      const given = asGiven(judged.event)
      const outcome: ChainOutcome = { kind: 'kept', events: [{ event: given, changes: [] }], failures: [] }
      const others = seen.get(slot.teamId)
      if (others) others.push({ given, outcome })
      else seen.set(slot.teamId, [{ given, outcome }])
    }
    for (const [teamId, some] of seen) this.#shadows.observe(teamId, some)
  }

  /** While Postgres is away the sets stay as they were. */
  #refresh(): Promise<void> {
    this.#refreshing ??= this.#look().finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  async #look(): Promise<void> {
    if (!this.#current) return
    try {
      if ((await newestGeneration(this.#deps.sql)) !== this.#generation)
        this.#current = Promise.resolve(await this.#newest())
      else await this.#shadows.refresh()
    } catch (error) {
      if (!isRetriable(error)) throw error
      ingestMetrics.transformationsUnread.inc()
    }
  }

  async #apply(state: TransformationState, waiting: readonly Waiting[], isLive = false): Promise<void> {
    const byTeam = new Map<number, Waiting[]>()
    for (const one of waiting) {
      const { teamId } = one.slot
      if (!state.sets.has(teamId)) continue
      const others = byTeam.get(teamId)
      if (others) others.push(one)
      else byTeam.set(teamId, [one])
    }
    for (const [teamId, own] of byTeam) await this.#applySet(state, teamId, own, isLive)
    if (!isLive || waiting.length === 1) return
    let rows = 0
    for (const { became } of waiting) rows += Array.isArray(became) ? became.length : 1
    if (rows > Math.max(ROWS_MAX, waiting.length))
      throw new BatchTooLarge(`${waiting.length} events became ${rows} rows`)
  }

  async #applySet(
    state: TransformationState,
    teamId: number,
    waiting: readonly Waiting[],
    isLive: boolean,
  ): Promise<void> {
    const published = state.sets.get(teamId)!
    const holder = this.#hold(published.generation, () => this.#openSet(published))
    holder.users++
    try {
      const { set, version, trouble } = await this.#opened(holder, published)
      const given = waiting.map(({ judged }) => asGiven(judged.event))
      let outcomes: ChainOutcome[]
      if (set) {
        // What was decided before is decided alike, however long it takes and however large it is.
        const limits = isLive ? { allowance: holder.allowance, outputCharsMax: OUTPUT_CHARS_MAX } : undefined
        const turn = holder.busy.then(() => runChain(set.steps, given, { limits }))
        holder.busy = turn.catch(() => {})
        outcomes = await turn.catch((error) => {
          throw error instanceof OutputTooLarge ? new BatchTooLarge(error.message) : error
        })
      } else {
        const failure = { kind: 'exception', message: trouble, line: undefined } as const
        outcomes = given.map(() => ({ kind: 'quarantined', step: '(set)', failure }))
      }
      for (let i = 0; i < waiting.length; i++)
        waiting[i]!.became = becameOf(waiting[i]!, given[i]!, outcomes[i]!, version)
      count(teamId, outcomes)
      if (isLive && this.#shadows.has(teamId))
        this.#shadows.observe(
          teamId,
          given.map((event, i) => ({ given: event, outcome: outcomes[i]! })),
        )
    } finally {
      holder.users--
    }
  }

  #hold(generation: number, open: () => Promise<OpenedSet>): Holder {
    let holder = this.#open.get(generation)
    if (holder) this.#open.delete(generation)
    else
      holder = {
        opened: open(),
        openedMs: performance.now(),
        busy: Promise.resolve(),
        users: 0,
        allowance: new Allowance(),
      }
    this.#open.set(generation, holder)
    if (this.#open.size > OPEN_SETS_MAX) this.#closeOne()
    return holder
  }

  /** Rejects with what is not the set's own fault; then the next batch opens it anew. */
  #opened(holder: Holder, published: Published): Promise<OpenedSet> {
    return holder.opened.then(
      (opened) => {
        if (opened.set || performance.now() < holder.openedMs + REOPEN_MS) return opened
        holder.openedMs = performance.now()
        holder.opened = this.#openSet(published)
        return holder.opened
      },
      (error) => {
        if (this.#open.get(published.generation) === holder) this.#open.delete(published.generation)
        throw error
      },
    )
  }

  #closeOne(): void {
    for (const [generation, holder] of this.#open) {
      if (holder.users > 0) continue
      this.#open.delete(generation)
      void holder.opened.then(({ set }) => set?.close()).catch(() => {})
      return
    }
  }

  async #openSet(published: Published): Promise<OpenedSet> {
    const { teamId, version, definition, key } = published
    try {
      const set = await openSet(parseSet(definition), { key, geoip: this.#deps.geoip })
      return { version, set, trouble: '' }
    } catch (error) {
      if (!isRejected(error)) throw error
      const trouble = `version ${version} of the transformations cannot be opened: ${(error as Error).message}`
      this.#deps.logger.error({ teamId, docs: 'docs/guides/transformations.md' }, trouble)
      return { version, set: undefined, trouble }
    }
  }

  /** No batch may be running. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#refreshing
    await this.#shadows.close()
    for (const holder of this.#open.values())
      await holder.opened.then(({ set }) => set?.close()).catch(() => {})
    this.#open.clear()
  }
}

/** HR_TRANSFORM_GEOIP when a file is named that cannot be read. */
export function openGeoipOf(file: string): HostHelpers['geoip'] {
  return file === '' ? () => null : openGeoip(file)
}

const ABOUT_PERSON = ['$set', '$set_once'] as const

/**
 * The event as transformations see it: with its address, and with what it says of its person in the one place where
 * `normalise` would bring it together, so that a step that hides something hides it everywhere.
 */
export function asGiven({ header, project, body, properties }: ParsedEvent): TransformEvent {
  let all = properties
  for (const key of ABOUT_PERSON) {
    const atTop = own(body, key)
    if (!isObject(atTop)) continue
    const inside = own(properties, key)
    all = { ...all, [key]: isObject(inside) ? { ...inside, ...atTop } : atTop }
  }
  if (own(body, '$unset') !== undefined)
    all = {
      ...all,
      $unset: [...new Set([...keysOf(own(properties, '$unset')), ...keysOf(own(body, '$unset'))])],
    }
  if (!project.options.anonymizeIps && header.ip !== '' && all.$ip === undefined)
    all = { ...all, $ip: header.ip }
  const { uuid, event, distinctId, timestampMs } = header
  return { uuid, event, distinctId, timestampMs, properties: all }
}

function keysOf(value: Json | undefined): string[] {
  if (Array.isArray(value)) return value.filter((key) => typeof key === 'string')
  return isObject(value) ? Object.keys(value) : []
}

function becameOf(
  { judged }: Waiting,
  given: TransformEvent,
  outcome: ChainOutcome,
  version: number,
): Waiting['became'] {
  switch (outcome.kind) {
    case 'kept':
      return outcome.events.map(({ event, changes }) =>
        event === given ? judged.event : changed(judged.event, event, changes, version),
      )
    case 'dropped':
      return { kind: 'drop', reason: 'dropped_by_transformation' }
    case 'quarantined': {
      const { kind, message, line } = outcome.failure
      const where = line === undefined ? '' : `, line ${line}`
      const detail = `${outcome.step}@${version} (${kind}${where}): ${message}`
      return { kind: 'deadLetter', reason: 'transformation_failed', detail }
    }
  }
}

/** Nothing that a step took away may come back from the header or from the event's own level. */
function changed(
  event: ParsedEvent,
  { uuid, event: name, distinctId, properties }: TransformEvent,
  changes: readonly Change[],
  version: number,
): ParsedEvent {
  const body = { ...event.body }
  for (const key of [...ABOUT_PERSON, '$unset']) delete body[key]
  return {
    ...event,
    header: { ...event.header, uuid, event: name, distinctId: boundDistinctId(distinctId), ip: '' },
    body,
    properties: changes.length === 0 ? properties : { ...properties, $transformed: told(changes, version) },
  }
}

/** On the stored event: the version of the set, and by step what it changed. */
function told(changes: readonly Change[], version: number): JsonObject {
  return { version, steps: Object.fromEntries(changes.map(({ step, keys }) => [step, [...keys]])) }
}

function count(teamId: number, outcomes: readonly ChainOutcome[]): void {
  const totals = new Map<string, number>()
  const add = (step: string, outcome: string) => {
    const key = `${step}\u0000${outcome}`
    totals.set(key, (totals.get(key) ?? 0) + 1)
  }
  for (const outcome of outcomes) {
    if (outcome.kind === 'kept') {
      for (const { changes } of outcome.events) for (const { step } of changes) add(step, 'changed')
    } else add(outcome.step, outcome.kind)
    if (outcome.kind !== 'quarantined') for (const { step } of outcome.failures) add(step, 'failed')
  }
  for (const [key, total] of totals) {
    const [step, outcome] = key.split('\u0000') as [string, string]
    ingestMetrics.transformed.inc({ team: String(teamId), step, outcome }, total)
  }
}
