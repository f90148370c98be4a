/**
 * The closed lists of what can become of an event. Every name here has a counter label, a docs line (the text
 * below generates it) and a test.
 */
export const DROP_REASONS = {
  unknown_token: 'No project has this token.',
  illegal_distinct_id: 'The event has no usable distinct_id.',
  identify_without_person_processing:
    'An $identify, $create_alias or $merge_dangerously that says $process_person_profile: false could only be half applied.',
  capture_report:
    'Not an event: a report of capture about events that it refused or changed, which became an ingestion warning.',
  client_warning: 'Not an event: a warning of the SDK itself, which became an ingestion warning.',
  event_too_old: "The event was older when it was captured than its project's dropEventsOlderThanSeconds.",
  cookieless_globally_disabled: 'A cookieless event, and this deployment takes none.',
  cookieless_project_disabled: 'A cookieless event of a project that takes none.',
  cookieless_unsupported_event: 'A cookieless $create_alias or $merge_dangerously: there is no id to join.',
  cookieless_stateless_no_identify: 'A cookieless $identify in a project whose cookieless mode is stateless.',
  cookieless_missing_ua: 'A cookieless event without $raw_user_agent, of which its id would be made.',
  cookieless_missing_ip: 'A cookieless event without an address, of which its id would be made.',
  cookieless_missing_host: 'A cookieless event without $host, of which its id would be made.',
  cookieless_timestamp_out_of_range:
    'A cookieless event of a day that is over for more than three days, or has not begun anywhere.',
  dropped_by_transformation:
    'A transformation of the project dropped it, or failed and says that it is to be dropped.',
} as const
export type DropReason = keyof typeof DROP_REASONS

export const DEAD_LETTER_REASONS = {
  unreadable_record: 'The raw record or its header cannot be read.',
  unreadable_event: 'The event is not a JSON object of the known shape.',
  event_too_large: 'The enriched row is larger than a record may be.',
  refused_by_state: 'Postgres refused this event for good, alone in its batch.',
  refused_by_warehouse: 'ClickHouse refused this row for good, alone in its insert.',
  restricted: 'A restriction of the project sends events like this one to the dead letters.',
  transformation_failed:
    'A transformation of the project failed on it, and says that it is to be kept aside; `detail` says which and why.',
} as const
export type DeadLetterReason = keyof typeof DEAD_LETTER_REASONS

export const WARNING_TYPES = {
  cannot_merge_already_identified: 'Both persons are identified: only $merge_dangerously may join them.',
  cannot_merge_with_illegal_distinct_id: 'One of the two ids is a placeholder such as "null" or "anonymous".',
  cannot_attach_to_identified:
    'An id without a person is not attached to a person that is already identified.',
  invalid_process_person_profile: '$process_person_profile is neither true nor false; taken as true.',
  invalid_event_when_process_person_profile_is_false:
    'An identify-family event with person processing off was dropped.',
  invalid_group_set: '$group_set is not an object; the group was not changed.',
  group_key_too_long: 'A group key is longer than 400 characters; the group was left out.',
  too_many_group_types: 'The project has five group types already; the sixth was left out.',
  person_properties_too_large:
    'The person would be over 640 KiB of properties; new ones were left out in the order of their names.',
  group_properties_too_large:
    'The group would be over 256 KiB of properties; new ones were left out in the order of their names.',
  uuid_reused: 'The uuid was used before for another event name or distinct_id; both events are kept.',
  events_rejected: 'Capture refused events and stored their neighbours; `reason` says why, `count` how many.',
  events_changed: 'Capture stored events not quite as they were sent; `reason` says what was changed.',
  requests_refused: 'Capture refused whole requests; `reason` is the error code, `count` the requests.',
  client_ingestion_warning:
    'The SDK itself warns, for instance that it dropped events over its own rate limit.',
  skipping_event_invalid_distinct_id: 'An event without a distinct_id was dropped.',
  event_dropped_too_old: 'An event was dropped because it was older than the project wants.',
  invalid_anon_distinct_id:
    '$anon_distinct_id of an $identify is no text; the event is stored and joins nobody.',
  invalid_alias: '`alias` is no text; the event is stored and joins nobody.',
  invalid_person_properties: '$set, $set_once or $unset has a wrong type; it was left out.',
  invalid_groups: '$groups, or the type or key of a group, has a wrong type; the group was left out.',
  invalid_elements: '$elements or $elements_chain has a wrong type; it stays a property like any other.',
  cookieless_missing_user_agent: 'A cookieless event without $raw_user_agent was dropped.',
  cookieless_missing_ip: 'A cookieless event without an address was dropped.',
  cookieless_missing_host: 'A cookieless event without $host was dropped.',
  cookieless_timestamp_out_of_range:
    'A cookieless event was dropped because the secret of its day is deleted, or its day has not begun.',
} as const
export type WarningType = keyof typeof WARNING_TYPES

/** Something that the project's owner should know about an event that goes on. */
export type Warning = { type: WarningType; details: Record<string, unknown> }

/** What a step decided about one event. */
export type Outcome<T> =
  | { kind: 'pass'; value: T; warnings?: Warning[] }
  | { kind: 'drop'; reason: DropReason; warnings?: Warning[] }
  | { kind: 'deadLetter'; reason: DeadLetterReason; detail: string }

export function pass<T>(value: T, warnings?: Warning[]): Outcome<T> {
  return warnings && warnings.length > 0 ? { kind: 'pass', value, warnings } : { kind: 'pass', value }
}

export function drop(reason: DropReason, warnings?: Warning[]): Outcome<never> {
  return warnings && warnings.length > 0 ? { kind: 'drop', reason, warnings } : { kind: 'drop', reason }
}

export function deadLetter(reason: DeadLetterReason, detail: string): Outcome<never> {
  return { kind: 'deadLetter', reason, detail }
}

/** The end states of invariant I4, in the order of their codes in receipts and in ClickHouse. */
export const END_STATES = [
  'stored',
  'duplicate',
  'dropped',
  'dead_lettered',
  'erased',
  'expired',
  'lost',
] as const
export type EndState = (typeof END_STATES)[number]

/**
 * One byte per raw offset in a receipt: what became of it. 0 stored, 1 duplicate, 2 … 99 the drop reasons,
 * 100 … 199 the dead-letter reasons, in the order of the lists above, 200 lost. Lists only grow at their end.
 */
export type OutcomeCode = number

export const STORED: OutcomeCode = 0
export const DUPLICATE: OutcomeCode = 1
/** The raw record was gone before ingest read it, and an operator accepted that: there is no row of it anywhere. */
export const LOST: OutcomeCode = 200
const DROP_BASE = 2
const DEAD_LETTER_BASE = 100
const dropReasons = Object.keys(DROP_REASONS) as DropReason[]
const deadLetterReasons = Object.keys(DEAD_LETTER_REASONS) as DeadLetterReason[]

export function dropCode(reason: DropReason): OutcomeCode {
  return DROP_BASE + dropReasons.indexOf(reason)
}

export function deadLetterCode(reason: DeadLetterReason): OutcomeCode {
  return DEAD_LETTER_BASE + deadLetterReasons.indexOf(reason)
}

/** The end state and reason of a code. Throws on a code that no version of ours wrote. */
export function describeOutcome(code: OutcomeCode): { state: EndState; reason: string } {
  if (code === STORED) return { state: 'stored', reason: '' }
  if (code === DUPLICATE) return { state: 'duplicate', reason: '' }
  if (code === LOST) return { state: 'lost', reason: '' }
  const dropped = dropReasons[code - DROP_BASE]
  if (code < DEAD_LETTER_BASE && dropped) return { state: 'dropped', reason: dropped }
  const dead = deadLetterReasons[code - DEAD_LETTER_BASE]
  if (dead) return { state: 'dead_lettered', reason: dead }
  throw new Error(`outcome code ${code} is not known`)
}
