/**
 * What capture answers, as schemas and responses: made from the closed lists of errors and reasons, one response per
 * status that an error can have.
 */
import { CAPTURE_ERRORS, REJECT_REASONS } from '../errors.ts'
import { errorTag, v1Status } from '../protocols/v1/refusal.ts'
import { dropFor } from '../protocols/v1/results.ts'
import { list, object, type Response, ref, type Schema, text } from './schema.ts'

type ErrorCode = keyof typeof CAPTURE_ERRORS
type ErrorEntry = { class: string; status?: number; meaning: string }

/** Only v1 looks at the headers and the envelope so closely. */
const V1_ONLY: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'HR_CAPTURE_MISSING_HEADERS',
  'HR_CAPTURE_INVALID_HEADER',
  'HR_CAPTURE_WRONG_CONTENT_TYPE',
  'HR_CAPTURE_UNSUPPORTED_ENCODING',
  'HR_CAPTURE_WRONG_CREATED_AT',
])
/** Statuses that come with the time to wait. */
const RETRIED: ReadonlySet<number> = new Set([503])
const V1_RETRIED: ReadonlySet<number> = new Set([408, 500, 503])

/** Codes of errors that a request can be refused with, by status as `statusOf` a protocol. */
function codesByStatus(
  statusOf: (code: string, status: number) => number = (_, status) => status,
): Map<number, ErrorCode[]> {
  const codes = new Map<number, ErrorCode[]>()
  for (const [code, { status }] of Object.entries(CAPTURE_ERRORS) as [ErrorCode, ErrorEntry][]) {
    if (status === undefined) continue
    const answered = statusOf(code, status)
    codes.set(answered, [...(codes.get(answered) ?? []), code])
  }
  return new Map([...codes].sort(([a], [b]) => a - b))
}

const CORS = {
  'Access-Control-Allow-Origin': { $ref: '#/components/headers/AllowOrigin' },
  'Access-Control-Expose-Headers': { $ref: '#/components/headers/ExposeHeaders' },
}

export function answer(description: string, schema: Schema, contentType = 'application/json'): Response {
  return { description, headers: { ...CORS }, content: { [contentType]: { schema } } }
}

export const EMPTY = (description: string): Response => ({ description, headers: { ...CORS } })

function refusals(
  codes: ErrorCode[],
  status: number,
  schema: Schema,
  retried: ReadonlySet<number>,
): Response {
  const lines = codes.map((code) => `- \`${code}\`: ${CAPTURE_ERRORS[code].meaning}`)
  const response = answer(lines.join('\n'), schema)
  if (retried.has(status)) response.headers!['Retry-After'] = { $ref: '#/components/headers/RetryAfter' }
  if (status === 405)
    response.headers!.Allow = { description: 'What the path takes.', schema: { type: 'string' } }
  return response
}

/** The responses of v0, Segment and the quiet paths by status, named `Refused<status>`. */
function ourRefusals(): Record<string, Response> {
  const responses: Record<string, Response> = {}
  for (const [status, codes] of codesByStatus()) {
    const own = codes.filter((code) => !V1_ONLY.has(code))
    if (own.length === 0) continue
    const schema = { allOf: [ref('Error'), object({ code: { enum: own } })] }
    responses[`Refused${status}`] = refusals(own, status, schema, RETRIED)
  }
  return responses
}

/** The responses of v1, named `V1Refused<status>`. */
function v1Refusals(): Record<string, Response> {
  const responses: Record<string, Response> = {}
  for (const [status, codes] of codesByStatus(v1Status)) {
    if (status === 404) continue
    const tags = [...new Set(codes.map((code) => errorTag(code, status)))]
    const schema = { allOf: [ref('V1Error'), object({ error: { enum: tags } })] }
    const response = refusals(codes, status, schema, V1_RETRIED)
    response.headers!['PostHog-Request-Id'] = { $ref: '#/components/headers/RequestId' }
    responses[`V1Refused${status}`] = response
  }
  return responses
}

export const RESPONSES: Record<string, Response> = {
  Preflight: EMPTY('Any origin, any header, for two hours.'),
  ...ourRefusals(),
  ...v1Refusals(),
}

/** References to every refusal of a protocol, by status. */
export function refusalsOf(
  prefix: 'Refused' | 'V1Refused',
  but: number[] = [],
): Record<string, { $ref: string }> {
  const names = Object.keys(RESPONSES).filter((name) => new RegExp(`^${prefix}\\d+$`).test(name))
  const statuses = names
    .map((name) => name.slice(prefix.length))
    .filter((status) => !but.includes(Number(status)))
  return Object.fromEntries(
    statuses.map((status) => [status, { $ref: `#/components/responses/${prefix}${status}` }]),
  )
}

const reasons = Object.keys(REJECT_REASONS) as (keyof typeof REJECT_REASONS)[]
const REASON_LINES = Object.entries(REJECT_REASONS).map(([reason, meaning]) => `- \`${reason}\`: ${meaning}`)
const REJECTED = {
  rejected: list(ref('Rejection'), 'Events that are not stored; the others are. The first 1,000 of them.'),
  rejected_count: { type: 'integer', minimum: 1, description: 'How many events are not stored.' },
}
const QUOTA_LIMITED = list(
  text('A kind of data.'),
  'What a quota or a rate kept out: do not send it again now.',
)
const DETAILS = [...new Set(reasons.map((reason) => dropFor(reason).details))]

export const ANSWER_SCHEMAS: Record<string, Schema> = {
  Rejection: object(
    {
      index: { type: 'integer', minimum: 0, description: "The event's place in the request." },
      uuid: text('As sent, when it was a string.'),
      field: text('The member that is wrong; empty when it is the event as a whole.'),
      reason: { enum: reasons, description: REASON_LINES.join('\n') },
      message: text('One sentence for people.'),
    },
    ['index', 'field', 'reason', 'message'],
    'Why one event is not stored.',
  ),
  Stored: object(
    { status: { const: 'Ok' }, quota_limited: QUOTA_LIMITED, ...REJECTED },
    ['status'],
    'All events but those in `rejected` are durable.',
  ),
  SegmentStored: object(
    { success: { const: true }, quota_limited: QUOTA_LIMITED, ...REJECTED },
    ['success'],
    'All messages but those in `rejected` are durable.',
  ),
  V1Results: object(
    {
      results: {
        type: 'object',
        description: 'What became of each event, under its uuid as it was sent.',
        additionalProperties: ref('V1Result'),
      },
      quota_limited: QUOTA_LIMITED,
      ...REJECTED,
    },
    ['results'],
  ),
  V1Result: {
    description:
      '`ok`: durable. `warning`: durable, without a person. `drop`: not stored, never will be. `retry`: not stored, send it again.',
    oneOf: [
      object({ result: { const: 'ok' } }, ['result']),
      object({ result: { const: 'warning' }, details: { const: 'person_processing_disabled' } }, [
        'result',
        'details',
      ]),
      object({ result: { const: 'drop' }, details: { enum: DETAILS } }, ['result', 'details']),
      object({ result: { const: 'retry' }, details: { const: 'not_persisted' } }, ['result', 'details']),
    ],
  },
  Error: object(
    {
      type: { enum: ['authentication_error', 'invalid_request', 'validation_error', 'server_error'] },
      code: text('From a closed list, which does not change with our words.'),
      detail: text('One sentence for people.'),
      docs: text('Where the error is explained.'),
      ...REJECTED,
    },
    ['type', 'code', 'detail', 'docs'],
    'Nothing of the request is stored.',
  ),
  V1Error: object(
    {
      error: text('A tag, by which SDKs decide what to do.'),
      error_description: text('One sentence for people.'),
      error_uri: text('Where the error is explained.'),
    },
    ['error', 'error_description', 'error_uri'],
    'Nothing of the request is stored.',
  ),
}

export const HEADERS = {
  AllowOrigin: {
    description: 'The origin of the page, or `*`: every answer may be read, whatever its status.',
    schema: { type: 'string' },
  },
  ExposeHeaders: { description: 'What pages may read.', schema: { type: 'string' } },
  RetryAfter: {
    description: 'Seconds after which to send the same again.',
    schema: { type: 'string', pattern: '^\\d+$' },
  },
  RequestId: { description: 'As sent.', schema: { type: 'string' } },
  ETag: { description: 'To be shown in `If-None-Match`.', schema: { type: 'string' } },
}
