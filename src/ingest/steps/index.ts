/**
 * The way of a raw record through ingest, in order. Per record, but where it says `batch`: then all records of a batch
 * are decided together. What a step decides is an `Outcome`: a value that goes on, a drop or a dead letter with its
 * reason; `batch.ts` runs them and `partition-worker.ts` does what is done by the batch.
 *
 * A step is a pure function: it does not change what it is given, asks no clock (the time of an event is in its header,
 * by capture) and remembers nothing, so the same records and state give the same bytes. Only `cookieless` is given the
 * time with the secrets of the days: what a closed day held is gone.
 */
import type { Outcome } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import { flagPerson } from './person-flag.ts'
import { restrict } from './restrict.ts'
import { takeClientWarning } from './take-client-warning.ts'
import { validate } from './validate.ts'

export const STEPS = {
  header: { by: 'record', does: 'unpacks what capture found out' },
  project: { by: 'batch', does: 'finds the project of the token, and its options' },
  report: { by: 'record', does: 'makes a report of capture a warning to the owner; no event' },
  parse: { by: 'record', does: "reads the client's JSON; NUL and half characters become U+FFFD" },
  dedup: { by: 'batch', does: 'knows a copy of an event, before anything could change it' },
  restrict: { by: 'record', does: 'sends to the dead letters what a restriction marked at the door' },
  'client-warning': { by: 'record', does: 'makes a warning of an SDK a warning to the owner; no event' },
  validate: { by: 'record', does: 'drops what is too old or nobody’s, tells of values of a wrong type' },
  'person-flag': { by: 'record', does: 'says whether the event may touch its person' },
  cookieless: {
    by: 'record',
    does: 'takes from an event without a cookie what tells who sent it, or drops it',
  },
  // After it is known whose event it is, before anything is derived of it.
  transform: {
    by: 'batch',
    does: 'changes, drops or multiplies it as the project wants, in the order of its set',
  },
  normalise: {
    by: 'record',
    does: 'brings it into the shape that is stored, lifts properties of its person',
  },
  request: { by: 'record', does: 'says what it asks of ids and groups' },
  visitors: {
    by: 'batch',
    does: 'finds the ids of cookieless events by what their visitors did before; in one transaction with:',
  },
  identity: { by: 'batch', does: 'creates, joins and changes persons; in one transaction' },
  groups: { by: 'batch', does: 'changes groups and numbers their types; in the same transaction' },
  stamp: { by: 'record', does: 'makes the row: the event with its person and groups' },
} as const satisfies Record<string, { by: 'record' | 'batch'; does: string }>

export type StepName = keyof typeof STEPS

/** Those between dedup and `cookieless`: each hands the event on to the next, or ends it. */
export const EVENT_STEPS: readonly (readonly [
  name: StepName,
  run: (event: ParsedEvent) => Outcome<ParsedEvent>,
])[] = [
  ['restrict', restrict],
  ['client-warning', takeClientWarning],
  ['validate', validate],
  ['person-flag', flagPerson],
]
