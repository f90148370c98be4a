/**
 * Several transformations in one order. In: a batch and its steps. Out: for each event what became of it, which step
 * decided that, and which steps changed what. What must hold: each step is applied whole or not at all; an event that
 * is quarantined takes with it all that was made of it, so that it comes back as one. User code sees a batch once: one
 * crossing per step, not one per event and step. Cost without steps: nothing, since the caller has nothing to call;
 * of a built-in that changes nothing 0.1 µs per event.
 */
import { childUuid, HeadraceError, isSameJson } from '../event/index.ts'
import { type PlainChange, readPlain } from './crossing.ts'
import type { LightChain } from './light-chain.ts'
import {
  applyPolicy,
  type FailurePolicy,
  Refusal,
  type TransformEvent,
  type TransformFailure,
  type TransformOutcome,
} from './outcome.ts'
import { type BatchLimits, EVENTS_MAX, type LogLine, OutputTooLarge, type SandboxResult } from './sandbox.ts'

/** What user code and built-ins return: one, several or none; the very same event when they change nothing. */
export type BuiltIn = (event: TransformEvent) => TransformEvent | readonly TransformEvent[] | null | undefined

export type RunUserCode = (
  events: readonly TransformEvent[],
  limits?: BatchLimits,
) => Promise<Omit<SandboxResult, 'rebuilds'>>

export type ChainStep = {
  /** Name and version: what is told of a step names both. */
  readonly name: string
  readonly policy: FailurePolicy
} & (
  | { readonly apply: BuiltIn }
  /** User code. One outcome for each event, in order. Rejects when the world is at fault. */
  | {
      readonly run: RunUserCode
      /** Of the first of several such steps in a row: what does most of their work in one call. */
      readonly light?: LightChain
    }
)

/** A failure that the event went on in spite of, or that dropped a part of it. */
export type StepFailure = { readonly step: string; readonly failure: TransformFailure }

/** What a step changed: names of properties, and `(event)` and `(distinct_id)`. */
export type Change = { readonly step: string; readonly keys: readonly string[] }

export type KeptEvent = { readonly event: TransformEvent; readonly changes: readonly Change[] }

export type ChainOutcome =
  /** The first event has the uuid of what came in, each other one the UUIDv5 of that and its number. */
  | {
      readonly kind: 'kept'
      readonly events: readonly KeptEvent[]
      readonly failures: readonly StepFailure[]
    }
  | { readonly kind: 'dropped'; readonly step: string; readonly failures: readonly StepFailure[] }
  | { readonly kind: 'quarantined'; readonly step: string; readonly failure: TransformFailure }

type Kept = Extract<ChainOutcome, { kind: 'kept' }>

const NONE: readonly never[] = []
/** Names of properties that are told of one step. */
const KEYS_TOLD_MAX = 50

/**
 * Rejects with what a step rejects with, and with OutputTooLarge: then nothing of the batch may be used. `onLog` is told
 * what user code logs. `limits` are those of live traffic: what was decided before is not kept from running by them.
 */
export async function runChain(
  steps: readonly ChainStep[],
  events: readonly TransformEvent[],
  { onLog, limits }: { onLog?: (step: string, line: LogLine) => void; limits?: BatchLimits | undefined } = {},
): Promise<ChainOutcome[]> {
  const states: ChainOutcome[] = events.map((event) => ({
    kind: 'kept',
    events: [{ event, changes: NONE }],
    failures: NONE,
  }))
  // The step from which on an event is worked on, where several were done in one call.
  let from: number[] | undefined
  for (const [at, step] of steps.entries()) {
    if ('apply' in step) {
      applyBuiltIn(step, step.apply, states, events)
      continue
    }
    // What is logged is told by the step's own sandbox.
    if (step.light && !onLog) from = await runLight(step.light, steps, at, states, events, limits)
    await runUserCode(
      step,
      step.run,
      states,
      events,
      onLog,
      limits,
      (i) => from === undefined || from[i]! <= at,
    )
  }
  return states
}

/** Does what is light of the steps from `first` on. Says for each event which step comes next. */
async function runLight(
  light: LightChain,
  steps: readonly ChainStep[],
  first: number,
  states: ChainOutcome[],
  events: readonly TransformEvent[],
  limits: BatchLimits | undefined,
): Promise<number[]> {
  const places: number[] = []
  const given: TransformEvent[] = []
  states.forEach((state, i) => {
    if (state.kind !== 'kept' || state.events.length > 1) return
    places.push(i)
    given.push(state.events[0]!.event)
  })
  const next = states.map(() => first)
  let chars = 0
  const answered = await light.run(given)
  for (let k = 0; k < places.length; k++) {
    const i = places[k]!
    const replies = answered[k]
    if (!replies) continue
    next[i] = first + replies.length
    for (const [j, reply] of replies.entries()) {
      if (reply === 'S') continue
      chars += reply.length
      const state = states[i] as Kept
      const outcome: TransformOutcome =
        reply === 'D' ? { kind: 'dropped' } : keptPlain(readPlain(state.events[0]!.event, reply))
      states[i] = afterStep(state, steps[first + j]!, [outcome], events[i]!.uuid)
    }
    if (limits && chars > limits.outputCharsMax && events.length > 1)
      throw new OutputTooLarge(`${events.length} events became over ${limits.outputCharsMax} characters`)
  }
  return next
}

function applyBuiltIn(
  step: ChainStep,
  apply: BuiltIn,
  states: ChainOutcome[],
  events: readonly TransformEvent[],
): void {
  for (let i = 0; i < states.length; i++) {
    const state = states[i]!
    if (state.kind !== 'kept') continue
    // Nearly every event is one, and stays as it is at most steps.
    const [only] = state.events
    if (state.events.length === 1) {
      const outcome = outcomeOf(apply, only!.event)
      if (outcome !== undefined) states[i] = afterStep(state, step, [outcome], events[i]!.uuid)
      continue
    }
    const outcomes = state.events.map(({ event }) => outcomeOf(apply, event) ?? unchanged(event))
    states[i] = afterStep(state, step, outcomes, events[i]!.uuid)
  }
}

/** Undefined when it stays as it is. */
function outcomeOf(apply: BuiltIn, event: TransformEvent): TransformOutcome | undefined {
  try {
    const result = apply(event)
    if (result === event) return undefined
    if (result === null || result === undefined) return { kind: 'dropped' }
    return { kind: 'kept', events: Array.isArray(result) ? result : [result as TransformEvent] }
  } catch (error) {
    // The world is at fault: no event pays for that.
    if (error instanceof HeadraceError) throw error
    const kind = error instanceof Refusal ? 'refused' : 'exception'
    const message = (error instanceof Refusal ? error.message : String(error)).slice(0, 500)
    return { kind: 'failed', failure: { kind, message, line: undefined } }
  }
}

function unchanged(event: TransformEvent): TransformOutcome {
  return { kind: 'kept', events: [event] }
}

async function runUserCode(
  step: ChainStep,
  run: RunUserCode,
  states: ChainOutcome[],
  events: readonly TransformEvent[],
  onLog: ((step: string, line: LogLine) => void) | undefined,
  limits: BatchLimits | undefined,
  isDue: (place: number) => boolean,
): Promise<void> {
  const given: TransformEvent[] = []
  states.forEach((state, i) => {
    if (state.kind === 'kept' && isDue(i)) for (const { event } of state.events) given.push(event)
  })
  if (given.length === 0) return
  const { outcomes, logs } = await run(given, limits)
  if (outcomes.length !== given.length)
    throw new Error(`step ${step.name} answered ${outcomes.length} outcomes for ${given.length} events`)
  if (onLog) for (const line of logs) onLog(step.name, line)
  let at = 0
  for (let i = 0; i < states.length; i++) {
    const state = states[i]!
    if (state.kind !== 'kept' || !isDue(i)) continue
    const end = at + state.events.length
    states[i] = afterStep(state, step, outcomes.slice(at, end), events[i]!.uuid)
    at = end
  }
}

function afterStep(
  state: Kept,
  step: ChainStep,
  outcomes: readonly TransformOutcome[],
  uuid: string,
): ChainOutcome {
  const events: KeptEvent[] = []
  let { failures } = state
  for (const [i, outcome] of outcomes.entries()) {
    const before = state.events[i]!
    const decision = applyPolicy(before.event, outcome, step.policy)
    if (decision.kind === 'quarantine')
      return { kind: 'quarantined', step: step.name, failure: decision.failure }
    if (decision.failure) failures = [...failures, { step: step.name, failure: decision.failure }]
    if (decision.kind === 'continue')
      for (const event of decision.events) events.push(withChange(before, event, step.name, decision.changed))
  }
  if (events.length === 0) return { kind: 'dropped', step: step.name, failures }
  if (events.length > EVENTS_MAX)
    return afterStep(
      state,
      step,
      outcomes.map(() => tooMany(events.length)),
      uuid,
    )
  return {
    kind: 'kept',
    events:
      events.length === 1
        ? [numbered(events[0]!, uuid, 0)]
        : events.map((event, sub) => numbered(event, uuid, sub)),
    failures,
  }
}

function tooMany(count: number): TransformOutcome {
  const message = `one event became ${count}; ${EVENTS_MAX} are allowed`
  return { kind: 'failed', failure: { kind: 'output', message, line: undefined } }
}

function keptPlain({ event, changed }: PlainChange): TransformOutcome {
  return { kind: 'kept', events: [event], changed }
}

function withChange(
  before: KeptEvent,
  event: TransformEvent,
  step: string,
  changed: readonly string[] | undefined,
): KeptEvent {
  if (event === before.event) return before
  const keys = changed ? told([], [...changed]) : changedKeys(before.event, event)
  return { event, changes: keys.length === 0 ? before.changes : [...before.changes, { step, keys }] }
}

function changedKeys(one: TransformEvent, other: TransformEvent): string[] {
  const fields: string[] = []
  if (one.event !== other.event) fields.push('(event)')
  if (one.distinctId !== other.distinctId) fields.push('(distinct_id)')
  const { properties: before } = one
  const { properties: after } = other
  if (before === after) return fields
  const keys: string[] = []
  for (const key in after) {
    const was = Object.hasOwn(before, key) ? before[key] : undefined
    if (was !== after[key] && (was === undefined || !isSameJson(was, after[key]!))) keys.push(key)
  }
  for (const key in before) if (!Object.hasOwn(after, key)) keys.push(key)
  return told(fields, keys)
}

/** In an order that does not depend on how the event crossed: a replay says the same. */
function told(fields: readonly string[], keys: string[]): string[] {
  const all = [...fields, ...keys.sort()]
  return all.length <= KEYS_TOLD_MAX ? all : [...all.slice(0, KEYS_TOLD_MAX), '…']
}

function numbered(kept: KeptEvent, uuid: string, sub: number): KeptEvent {
  const own = sub === 0 ? uuid : childUuid(uuid, sub)
  const { event, changes } = kept
  return event.uuid === own ? kept : { event: { ...event, uuid: own }, changes }
}
