/**
 * What a transformation makes of one event, and what a policy makes of that. In: an event as ingest has parsed it. Out:
 * a closed union. Pure: nobody changes an event that was given, what differs is another object.
 */
import type { JsonObject } from '../event/index.ts'

/** What user code and built-ins see of an event. */
export type TransformEvent = {
  readonly uuid: string
  readonly event: string
  readonly distinctId: string
  /** Epoch ms: what `Date.now()` says in the sandbox. */
  readonly timestampMs: number
  readonly properties: JsonObject
}

export type FailureKind =
  /** It ran longer than one event may. */
  | 'timeout'
  /** It wanted more memory than the sandbox has. */
  | 'memory'
  /** It threw. */
  | 'exception'
  /** What it returned is too large, or cannot be written as JSON. */
  | 'output'
  /** What it returned is no event. */
  | 'shape'
  /** A built-in refuses it for what it says: a contract is broken, a type cannot be had. */
  | 'refused'

export type TransformFailure = {
  readonly kind: FailureKind
  /** One line, at most 500 characters. */
  readonly message: string
  /** Line of the user's TypeScript, when it is known. */
  readonly line: number | undefined
}

export type TransformOutcome =
  /** The first event keeps the uuid of what came in; the others are numbered by `sub` downstream. */
  | {
      readonly kind: 'kept'
      readonly events: readonly TransformEvent[]
      /** Of one event of which only properties changed: which, where that is known. */
      readonly changed?: readonly string[]
    }
  | { readonly kind: 'dropped' }
  | { readonly kind: 'failed'; readonly failure: TransformFailure }
  /** It was not run: no policy of its step says what becomes of it. */
  | { readonly kind: 'suspended'; readonly failure: TransformFailure }

/** What a built-in throws that refuses an event for what it says. */
export class Refusal extends Error {}

/** What becomes of an event whose transformation failed. */
export type FailurePolicy =
  /** It goes on as it was before this step. */
  | 'pass'
  | 'drop'
  /** It is kept aside, with its failure, and can be sent again. */
  | 'quarantine'

export type StepDecision =
  /** `failure` is there when the event goes on in spite of it. */
  | {
      readonly kind: 'continue'
      readonly events: readonly TransformEvent[]
      readonly changed?: readonly string[] | undefined
      readonly failure: TransformFailure | undefined
    }
  | { readonly kind: 'drop'; readonly failure: TransformFailure | undefined }
  | { readonly kind: 'quarantine'; readonly failure: TransformFailure }

/** A step is applied whole or not at all: what goes on after a failure is `event`, the very one that came in. */
export function applyPolicy(
  event: TransformEvent,
  outcome: TransformOutcome,
  policy: FailurePolicy,
): StepDecision {
  switch (outcome.kind) {
    case 'kept':
      return { kind: 'continue', events: outcome.events, changed: outcome.changed, failure: undefined }
    case 'dropped':
      return { kind: 'drop', failure: undefined }
    case 'suspended':
      return { kind: 'quarantine', failure: outcome.failure }
    case 'failed':
      switch (policy) {
        case 'pass':
          return { kind: 'continue', events: [event], failure: outcome.failure }
        case 'drop':
          return { kind: 'drop', failure: outcome.failure }
        case 'quarantine':
          return { kind: 'quarantine', failure: outcome.failure }
      }
  }
}
