/**
 * Everything that capture can refuse: whole requests (an error with a status) and single events (a reason in the
 * answer's `rejected` list). Both lists are closed and make the reference pages.
 */
import { errorTable, HeadraceError } from '../event/index.ts'
import { counter } from '../observe/index.ts'

export const CAPTURE_ERRORS = {
  HR_CAPTURE_NO_BODY: { class: 'rejected', status: 400, meaning: 'The request has no body.' },
  HR_CAPTURE_BODY_CUT: {
    class: 'rejected',
    status: 400,
    meaning: 'The connection ended before the whole body had come.',
  },
  HR_CAPTURE_WRONG_GZIP: {
    class: 'rejected',
    status: 400,
    meaning: 'The body begins like gzip and cannot be decompressed: it is damaged or cut.',
  },
  HR_CAPTURE_WRONG_FORM: {
    class: 'rejected',
    status: 400,
    meaning: 'The form has no `data` field that can be read.',
  },
  HR_CAPTURE_NOT_JSON: {
    class: 'rejected',
    status: 400,
    meaning: 'The body is not JSON in UTF-8; the sentence names the byte.',
  },
  HR_CAPTURE_WRONG_SHAPE: {
    class: 'rejected',
    status: 400,
    meaning:
      'The body is JSON, and neither an event, an array of events nor an object with a `batch` of them.',
  },
  HR_CAPTURE_MISSING_HEADERS: {
    class: 'rejected',
    status: 400,
    meaning: 'Headers that v1 asks for are missing; the sentence names all of them.',
  },
  HR_CAPTURE_INVALID_HEADER: {
    class: 'rejected',
    status: 400,
    meaning: 'Headers of v1 have values that cannot be read; the sentence names all of them.',
  },
  HR_CAPTURE_WRONG_CONTENT_TYPE: {
    class: 'rejected',
    status: 415,
    meaning: 'v1 takes `application/json` only.',
  },
  HR_CAPTURE_WRONG_CREATED_AT: {
    class: 'rejected',
    status: 400,
    meaning: '`created_at` of a batch of v1 is not a time as in RFC 3339.',
  },
  HR_CAPTURE_NO_EVENTS: { class: 'rejected', status: 400, meaning: 'The batch is empty.' },
  HR_CAPTURE_NOTHING_STORED: {
    class: 'rejected',
    status: 400,
    meaning: 'Every event of the request is invalid; `rejected` says why, by index and field.',
  },
  HR_CAPTURE_NO_TOKEN: {
    class: 'rejected',
    status: 401,
    meaning: 'Neither the request nor its events name a project token (`api_key`).',
  },
  HR_CAPTURE_INVALID_TOKEN: {
    class: 'rejected',
    status: 401,
    meaning: 'The project token cannot be one: empty, too long, not ASCII, or a secret key.',
  },
  HR_CAPTURE_TOKENS_DIFFER: {
    class: 'rejected',
    status: 401,
    meaning: 'The events of one request name different project tokens.',
  },
  HR_CAPTURE_UNKNOWN_TOKEN: {
    class: 'rejected',
    status: 401,
    meaning: 'No project has this token. A project that was made a moment ago is known within seconds.',
  },
  HR_CAPTURE_NOT_FOUND: { class: 'rejected', status: 404, meaning: 'Nothing is served under this path.' },
  HR_CAPTURE_WRONG_METHOD: {
    class: 'rejected',
    status: 405,
    meaning: 'The path is known; it takes another method, named in `Allow`.',
  },
  HR_CAPTURE_BODY_TIMEOUT: {
    class: 'retriable',
    // Not 408: posthog-js gives up on every 4xx, and with it what a phone sends over a slow line.
    status: 503,
    meaning:
      'The body did not come within `HEADRACE_CAPTURE_BODY_MS`, or came too slowly: less than 16 KiB in `HEADRACE_CAPTURE_BODY_STALL_MS`. In v1 the status is 408, after which its SDKs send again.',
  },
  HR_CAPTURE_BODY_TOO_LARGE: {
    class: 'rejected',
    status: 413,
    meaning: 'The body is larger than `HEADRACE_CAPTURE_BODY_BYTES_MAX`.',
  },
  HR_CAPTURE_INFLATED_TOO_LARGE: {
    class: 'rejected',
    status: 413,
    meaning: 'The decompressed body is larger than `HEADRACE_CAPTURE_INFLATED_BYTES_MAX`.',
  },
  HR_CAPTURE_TOO_MANY_EVENTS: {
    class: 'rejected',
    status: 413,
    meaning: 'The request holds more events than `HEADRACE_CAPTURE_BATCH_EVENTS_MAX`.',
  },
  HR_CAPTURE_TOO_MANY_VALUES: {
    class: 'rejected',
    status: 413,
    meaning: 'The request holds more JSON values than `HEADRACE_CAPTURE_BATCH_VALUES_MAX`.',
  },
  HR_CAPTURE_EVENT_TOO_LARGE: {
    class: 'rejected',
    status: 413,
    meaning: 'Every event of the request is larger than `HEADRACE_CAPTURE_EVENT_BYTES_MAX`.',
  },
  HR_CAPTURE_WRONG_COMPRESSION: {
    class: 'rejected',
    status: 400,
    meaning: 'The body cannot be decompressed as what it begins like or is said to be: deflate, br or zstd.',
  },
  HR_CAPTURE_UNSUPPORTED_ENCODING: {
    class: 'rejected',
    status: 415,
    meaning: 'The `Content-Encoding` is none of gzip, deflate, br, zstd.',
  },
  HR_CAPTURE_RATIO_TOO_HIGH: {
    class: 'rejected',
    status: 413,
    meaning:
      'The body decompresses to over 1 MiB and to more than `HEADRACE_CAPTURE_RATIO_MAX` times what came on the wire.',
  },
  HR_CAPTURE_ADDRESS: {
    class: 'fatal',
    meaning:
      'Capture cannot serve on `HEADRACE_CAPTURE_ADDRESS`: another process does, or it is not of this machine.',
  },
  HR_CAPTURE_INTERNAL: {
    class: 'fatal',
    status: 500,
    meaning: 'A defect of ours; it is in the log of capture with its cause.',
  },
  HR_CAPTURE_STOPPING: {
    class: 'retriable',
    status: 503,
    meaning: 'This capture stops and does not wait longer for the body; the next one takes it.',
  },
  HR_CAPTURE_BUSY: {
    class: 'retriable',
    status: 503,
    meaning: 'As many bytes are being stored as `HEADRACE_CAPTURE_IN_FLIGHT_BYTES_MAX` allows.',
  },
  HR_CAPTURE_LOG_UNAVAILABLE: {
    class: 'retriable',
    status: 503,
    meaning:
      'The log did not take the events in time. Some of them may be stored: send them again with their uuids.',
  },
  HR_CAPTURE_DISK_FULL: {
    class: 'retriable',
    status: 503,
    meaning: 'The disk of the log is full; events are taken again when there is space.',
  },
  HR_CAPTURE_SPOOL_FULL: {
    class: 'retriable',
    status: 503,
    meaning:
      'Kafka is out of reach and the spool has reached `HEADRACE_SPOOL_BYTES_MAX`, or its disk is full; events are taken again when there is space.',
  },
  HR_CAPTURE_SPOOL_UNAVAILABLE: {
    class: 'retriable',
    status: 503,
    meaning:
      'Neither Kafka nor the spool took the events in time. Some of them may be stored: send them again with their uuids.',
  },
  HR_CAPTURE_SPOOL_SETTING: {
    class: 'fatal',
    meaning:
      'The spool cannot be used as it is set: its folder cannot be written, or Kafka has more than half of the answer time.',
  },
} as const

export const captureError = errorTable(CAPTURE_ERRORS)

/** Why a single event is not stored while its neighbours are. */
export const REJECT_REASONS = {
  not_an_object: 'An event is a JSON object.',
  missing_event: '`event`, the name, is missing or empty.',
  invalid_event: '`event` is not a string.',
  missing_distinct_id:
    'Neither `distinct_id` nor `properties.distinct_id` says who did it, or it is an empty string.',
  invalid_distinct_id: '`distinct_id` is not a string, which v1 asks for.',
  distinct_id_too_long: '`distinct_id` is longer than 200 characters, which v1 does not take.',
  event_name_too_long: '`event`, the name, is longer than 200 characters, which v1 does not take.',
  cookieless_mode_required:
    'The `distinct_id` is the placeholder of cookieless events, and `options.cookieless_mode` is not true.',
  invalid_uuid: '`uuid` is not a UUID.',
  duplicate_uuid: 'An event before it in the same request has its `uuid`, and is stored; in v1 only.',
  invalid_timestamp:
    '`timestamp` is not a string; in v1 also one that is missing or cannot be read as a time.',
  invalid_offset: '`offset` is not a whole number of milliseconds.',
  invalid_properties: '`properties` is not an object.',
  invalid_set: '`$set` or `$set_once` is not an object.',
  invalid_cookieless_mode: '`properties.$cookieless_mode` is neither true nor false.',
  invalid_options: '`options` is not an object, or one of those that v1 knows cannot be read.',
  invalid_session: '`session_id` or `window_id` is not a string.',
  other_token:
    'The event names another project token than the first event that names one, and the request as a whole names none: it belongs into a request of its own.',
  performance_event:
    'Events named `$performance_event` are not kept; only old versions of posthog-js send them.',
  event_too_large: 'The event is larger than `HEADRACE_CAPTURE_EVENT_BYTES_MAX`.',
  event_too_deep: 'The event nests deeper than `HEADRACE_CAPTURE_EVENT_DEPTH_MAX`.',
  too_many_keys: 'The event and all objects in it have more keys than `HEADRACE_CAPTURE_EVENT_KEYS_MAX`.',
  unknown_type: '`type` of a Segment message is none of track, identify, page, screen, group and alias.',
  missing_group_id: 'A group message has no `groupId`.',
  missing_previous_id: 'An alias message has no `previousId`.',
  invalid_traits: '`traits` is not an object.',
  restricted: 'A restriction of the project drops events like this one.',
  quota_exceeded: 'The project has used up its events of this month.',
  rate_limited: 'The project sent more events per second than its policy allows.',
} as const
export type RejectReason = keyof typeof REJECT_REASONS

/** One entry of the answer's `rejected` list. */
export type Rejection = {
  /** Place in the request's list of events, from 0. */
  index: number
  /** As sent, when it was a string. */
  uuid?: string
  field: string
  reason: RejectReason
  message: string
}

/** Why an event is stored in another shape than it was sent in. */
export const NOTE_REASONS = {
  distinct_id_cut:
    '`distinct_id` is longer than 200 characters: it was cut, with a hash of the whole at its end, so that two people stay two.',
  event_name_cut: '`event`, the name, is longer than 200 characters: it was cut.',
  timestamp_unreadable: '`timestamp` cannot be read as a time: the event got the time of its arrival.',
  timestamp_in_future:
    'The time of the event is more than 23 hours after its arrival: it got the time of its arrival.',
  timestamp_out_of_range: 'The time of the event is before 1900: it got 1970-01-01.',
  illegal_distinct_id:
    '`distinct_id` is a word that many clients send by mistake, such as `null` or `undefined`: v1 stores the event without a person.',
} as const
export type NoteReason = keyof typeof NOTE_REASONS

/** An event that is stored, and not quite as it was sent; the owner of the project is told. */
export type Note = {
  /** Place in the request's list of events, from 0. */
  index: number
  field: string
  reason: NoteReason
  message: string
}

/** What a route answers: plain data, made into a Response with CORS headers by the server. */
export type Answer = {
  status: number
  body: string | Uint8Array<ArrayBuffer>
  contentType?: string
  headers?: Record<string, string>
}

/** Entries of `rejected` that an answer holds at most; `rejected_count` is always whole. */
const REJECTIONS_SHOWN_MAX = 1000
/** When a refused client should come back. */
const RETRY_AFTER_S = '5'
const DOCS_PAGE = 'docs/reference/errors.md'

/** What a quota or a rate keeps out, in the word by which SDKs stop sending it. */
const QUOTA_LIMITED = ['events']

/** The members about refused events that an answer carries, if there are any. */
export function rejectedMembers(
  rejected: readonly Rejection[],
  quotaLimited = false,
): Record<string, unknown> {
  if (rejected.length === 0) return {}
  return {
    ...(quotaLimited ? { quota_limited: QUOTA_LIMITED } : {}),
    rejected: rejected.slice(0, REJECTIONS_SHOWN_MAX),
    rejected_count: rejected.length,
  }
}

const refusedTotal = counter('headrace_capture_refused_total', 'Requests refused, by error code.', ['code'])

/** Counts a refusal; its status. */
export function countRefusal(error: HeadraceError): number {
  refusedTotal.inc({ code: error.code })
  return error.status ?? 500
}

/** Counts a refusal and puts it as SDKs understand it: `detail` is what posthog-python shows. */
export function errorAnswer(error: HeadraceError, rejected: readonly Rejection[] = []): Answer {
  const status = countRefusal(error)
  const body = {
    type: errorType(status),
    code: error.code,
    detail: error.message,
    docs: errorDocs(error.code),
    ...rejectedMembers(rejected),
  }
  const answer: Answer = { status, body: JSON.stringify(body) }
  if (status === 503) answer.headers = { 'retry-after': RETRY_AFTER_S }
  return answer
}

/** Where the reference explains an error. */
export function errorDocs(code: string): string {
  return `${DOCS_PAGE}#${code.toLowerCase()}`
}

function errorType(status: number): string {
  if (status === 401) return 'authentication_error'
  if (status === 404 || status === 405) return 'invalid_request'
  return status < 500 ? 'validation_error' : 'server_error'
}

/** Any thrown thing as an error with a status; what is not ours is HR_CAPTURE_INTERNAL, its text stays inside. */
export function asCaptureError(error: unknown): HeadraceError {
  if (error instanceof HeadraceError && error.status !== undefined) return error
  return captureError('HR_CAPTURE_INTERNAL', 'capture failed on this request; its log says how', error)
}
