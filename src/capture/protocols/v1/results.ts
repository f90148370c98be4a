/**
 * The answer of v1: one result per event, in the order of the request, under the uuid as the client wrote it, because
 * that is how SDKs look it up (capture spec §6.4). An event that is not in there counts as delivered with them; so what
 * has no uuid of its own, or shares it with another event, is also told by index, in `rejected`.
 */
import { type Answer, type Rejection, type RejectReason, rejectedMembers } from '../../errors.ts'

/** What became of an event that is not simply stored. */
export type EventResult =
  /** Stored without a person: not to be sent again. */
  | { result: 'warning'; details: 'person_processing_disabled' }
  /** Not stored, and never will be. */
  | { result: 'drop'; details: string }
  /** Not stored, by no fault of the event: to be sent again. */
  | { result: 'retry'; details: 'not_persisted' }

export const PERSONLESS: EventResult = { result: 'warning', details: 'person_processing_disabled' }
export const NOT_PERSISTED: EventResult = { result: 'retry', details: 'not_persisted' }

/** `details` of a drop, where v1 has a word of its own for a reason; else it is the reason. */
export const DETAILS: { readonly [reason in RejectReason]?: string } = {
  missing_event: 'missing_event_name',
  distinct_id_too_long: 'distinct_id_too_large',
  invalid_uuid: 'invalid_event_uuid',
  duplicate_uuid: 'duplicate_event_uuid',
  invalid_timestamp: 'invalid_event_timestamp',
  invalid_properties: 'malformed_event_properties',
  invalid_set: 'malformed_event_properties',
  invalid_cookieless_mode: 'invalid_options',
  event_too_large: 'event_too_big',
  restricted: 'event_restriction_drop',
  quota_exceeded: 'billing_limit_exceeded',
  performance_event: 'dropped_performance_event',
}

export function dropFor(reason: RejectReason): EventResult {
  return { result: 'drop', details: DETAILS[reason] ?? reason }
}

/** Seconds until events that were not persisted should come again. */
const RETRY_AFTER_S = '1'

/**
 * `keys[i]` is the uuid of event i as the client wrote it, undefined when nobody knows one; `results` holds those that are
 * not simply stored, by index.
 */
export function resultsAnswer(
  keys: readonly (string | undefined)[],
  results: ReadonlyMap<number, EventResult>,
  rejected: readonly Rejection[],
  quotaLimited: boolean,
): Answer {
  let text = ''
  let retries = false
  for (const [key, index] of standing(keys, results)) {
    const other = results.get(index)
    if (other?.result === 'retry') retries = true
    text += `${text === '' ? '' : ','}${JSON.stringify(key)}:${other === undefined ? '{"result":"ok"}' : JSON.stringify(other)}`
  }
  const refused = JSON.stringify(rejectedMembers(rejected, quotaLimited)).slice(1, -1)
  const tail = refused === '' ? '' : `,${refused}`
  const answer: Answer = { status: 200, body: `{"results":{${text}}${tail}}` }
  if (retries) answer.headers = { 'retry-after': RETRY_AFTER_S }
  return answer
}

/** The event whose result stands under each key: the first, unless that was dropped and a later one was not. */
function standing(
  keys: readonly (string | undefined)[],
  results: ReadonlyMap<number, EventResult>,
): Map<string, number> {
  const byKey = new Map<string, number>()
  for (let index = 0; index < keys.length; index++) {
    const key = keys[index]
    if (key === undefined) continue
    const first = byKey.get(key)
    if (first === undefined || (isDrop(results.get(first)) && !isDrop(results.get(index)))) {
      byKey.set(key, index)
    }
  }
  return byKey
}

function isDrop(result: EventResult | undefined): boolean {
  return result?.result === 'drop'
}
