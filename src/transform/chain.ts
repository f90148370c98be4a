/**
 * Several transformations in one order. In: a batch and its steps. Out: for each event what became of it, and which
 * step decided that. What must hold: each step is applied whole or not at all; an event that is quarantined takes with
 * it all that was made of it, so that it comes back as one. Each step sees a batch once: one crossing per step, not
 * one per event and step. Cost without steps: nothing, since the caller has nothing to call.
 */
import { childUuid } from '../event/index.ts'
import { applyPolicy, type FailurePolicy, type TransformEvent, type TransformFailure } from './outcome.ts'
import type { SandboxResult } from './sandbox.ts'

export type ChainStep = {
  /** Id and version: what is told of a step names both. */
  readonly name: string
  readonly policy: FailurePolicy
  /** A sandbox, or a built-in. One outcome for each event, in order. Rejects when the world is at fault. */
  readonly run: (events: readonly TransformEvent[]) => Promise<Pick<SandboxResult, 'outcomes'>>
}

/** A failure that the event went on in spite of, or that dropped a part of it. */
export type StepFailure = { readonly step: string; readonly failure: TransformFailure }

export type ChainOutcome =
  /** The first event has the uuid of what came in, each other one the UUIDv5 of that and its number. */
  | {
      readonly kind: 'kept'
      readonly events: readonly TransformEvent[]
      readonly failures: readonly StepFailure[]
    }
  | { readonly kind: 'dropped'; readonly step: string; readonly failures: readonly StepFailure[] }
  | { readonly kind: 'quarantined'; readonly step: string; readonly failure: TransformFailure }

const NO_FAILURES: readonly StepFailure[] = []

/** Rejects with what a step rejects with: then nothing of the batch may be used. */
export async function runChain(
  steps: readonly ChainStep[],
  events: readonly TransformEvent[],
): Promise<ChainOutcome[]> {
  const states: ChainOutcome[] = events.map((event) => ({
    kind: 'kept',
    events: [event],
    failures: NO_FAILURES,
  }))
  for (const step of steps) {
    const given = states.flatMap((state) => (state.kind === 'kept' ? state.events : []))
    if (given.length === 0) break
    const { outcomes } = await step.run(given)
    if (outcomes.length !== given.length)
      throw new Error(`step ${step.name} answered ${outcomes.length} outcomes for ${given.length} events`)
    let at = 0
    for (const [i, state] of states.entries()) {
      if (state.kind !== 'kept') continue
      const next = afterStep(state, step, outcomes.slice(at, at + state.events.length), events[i]!.uuid)
      at += state.events.length
      states[i] = next
    }
  }
  return states
}

function afterStep(
  state: Extract<ChainOutcome, { kind: 'kept' }>,
  step: ChainStep,
  outcomes: SandboxResult['outcomes'],
  uuid: string,
): ChainOutcome {
  const events: TransformEvent[] = []
  let { failures } = state
  for (const [i, outcome] of outcomes.entries()) {
    const decision = applyPolicy(state.events[i]!, outcome, step.policy)
    if (decision.kind === 'quarantine')
      return { kind: 'quarantined', step: step.name, failure: decision.failure }
    if (decision.failure) failures = [...failures, { step: step.name, failure: decision.failure }]
    if (decision.kind === 'continue') events.push(...decision.events)
  }
  if (events.length === 0) return { kind: 'dropped', step: step.name, failures }
  return { kind: 'kept', events: events.map((event, sub) => numbered(event, uuid, sub)), failures }
}

function numbered(event: TransformEvent, uuid: string, sub: number): TransformEvent {
  const own = sub === 0 ? uuid : childUuid(uuid, sub)
  return event.uuid === own ? event : { ...event, uuid: own }
}
