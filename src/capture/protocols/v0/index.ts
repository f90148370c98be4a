/**
 * The v0 protocol (capture spec §2 to §5): one handler behind all its paths. What comes in: a body in any of its
 * shapes; what goes out: raw records. Valid events are stored though others of the request are not, and the answer
 * names those by index; it is an error only when nothing can be stored. The answer is sent after the log's ack.
 */
import { type EventCandidate, tokenOf } from '../../candidate.ts'
import { type DecodeLimits, readPayload } from '../../decode/index.ts'
import { type Answer, captureError, errorAnswer, type Rejection, rejectedMembers } from '../../errors.ts'
import type { Intake, Submission } from '../../intake.ts'
import { REQUEST_ID_UNITS_MAX, USER_AGENT_UNITS_MAX } from '../../limits.ts'
import type { CaptureRequest, Route, Routes } from '../../request.ts'
import { isRejection, type RequestFacts, readSentAt, sdkOfUserAgent, validateEvent } from '../../validate.ts'
import { type ScannedBody, scanBody } from './scan-body.ts'

const V0_PATHS = ['/batch', '/e', '/i/v0/e', '/capture'] as const

export type V0Options = {
  intake: Intake
  limits: DecodeLimits & {
    batchEventsMax: number
    batchValuesMax: number
    eventBytesMax: number
    eventDepthMax: number
    eventKeysMax: number
  }
  clockTrustMs: number
}

const OK: Answer = { status: 200, body: '{"status":"Ok"}' }
const NO_CONTENT: Answer = { status: 204, body: '' }
const QUOTA_LIMITED = ['events']

/** All paths of v0. */
export function v0Routes(options: V0Options): Routes {
  const route: Route = { methods: ['POST'], answer: (request) => answerV0(request, options) }
  return new Map(V0_PATHS.map((path) => [path, route]))
}

async function answerV0(incoming: CaptureRequest, options: V0Options): Promise<Answer> {
  const { query, share, trail } = incoming
  const body = await readPayload(incoming, options.limits)
  const scanned = scanBody(body, options.limits.batchEventsMax, options.limits.batchValuesMax)
  trail.candidates = scanned.events
  if (scanned.events.length === 0) {
    throw captureError('HR_CAPTURE_NO_EVENTS', 'the request holds no event: its list is empty')
  }
  const pending = options.intake.admit(requestToken(scanned), trail)
  const admission = pending instanceof Promise ? await pending : pending
  const submission = judge(body, scanned, factsOf(incoming, admission.token, scanned, options), incoming)
  const { stored, rejected, refusedByPolicy, quotaLimited } = await options.intake.store(
    admission,
    submission,
    share,
  )

  if (stored === 0 && refusedByPolicy === 0 && rejected.length > 0) return nothingStored(rejected)
  if (query.get('beacon') === '1') return NO_CONTENT
  if (rejected.length === 0) return OK
  const limited = quotaLimited ? { quota_limited: QUOTA_LIMITED } : {}
  return { status: 200, body: JSON.stringify({ status: 'Ok', ...limited, ...rejectedMembers(rejected) }) }
}

/** Validates each event of the body. */
function judge(
  body: Buffer,
  scanned: ScannedBody,
  facts: RequestFacts,
  { path, trail }: CaptureRequest,
): Submission {
  const { ip, userAgent, requestId, nowMs } = facts
  const submission: Submission = {
    sender: { path, ip, userAgent, requestId, nowMs },
    headers: [],
    values: [],
    indexes: [],
    rejected: [],
    notes: [],
    historical: scanned.historical,
    trail,
  }
  const { events } = scanned
  for (let index = 0; index < events.length; index++) {
    const candidate = events[index]!
    const judged = validateEvent(body, candidate, index, facts)
    if (isRejection(judged)) {
      submission.rejected.push(judged)
    } else {
      submission.headers.push(judged)
      submission.values.push(body.subarray(candidate.start, candidate.end))
      submission.indexes.push(index)
    }
  }
  return submission
}

function nothingStored(rejected: Rejection[]): Answer {
  const { index, field, message } = rejected[0]!
  const where = field === '' ? `event ${index}` : `event ${index}, field ${field}`
  const tail = rejected.length > 1 ? `; nor could the other ${rejected.length - 1} be stored` : ''
  const code = rejected.every(({ reason }) => reason === 'event_too_large')
    ? 'HR_CAPTURE_EVENT_TOO_LARGE'
    : 'HR_CAPTURE_NOTHING_STORED'
  return errorAnswer(captureError(code, `${where}: ${message}${tail}`), rejected)
}

function factsOf(
  incoming: CaptureRequest,
  token: string,
  scanned: ScannedBody,
  options: V0Options,
): RequestFacts {
  const { request, query, ip, nowMs } = incoming
  const userAgent = (request.headers.get('user-agent') ?? '').slice(0, USER_AGENT_UNITS_MAX)
  const requestId = request.headers.get('x-request-id')?.slice(0, REQUEST_ID_UNITS_MAX)
  return {
    token,
    nowMs,
    sentAtMs: readSentAt(scanned.sentAt, query.get('sent_at') ?? query.get('_')),
    ip,
    userAgent,
    userAgentSdk: sdkOfUserAgent(userAgent),
    requestId: requestId || Bun.randomUUIDv7(),
    clockTrustMs: options.clockTrustMs,
    eventBytesMax: options.limits.eventBytesMax,
    eventDepthMax: options.limits.eventDepthMax,
    eventKeysMax: options.limits.eventKeysMax,
  }
}

/** The token of a whole request, as sent: that of the batch, else the one that its events agree on. */
function requestToken({ token, events }: ScannedBody): string {
  if (token !== undefined && token !== null) {
    if (typeof token === 'string') return token
    throw captureError(
      'HR_CAPTURE_INVALID_TOKEN',
      'the project token (`api_key`) of the batch is not a string',
    )
  }
  let agreed: string | undefined
  for (const [index, candidate] of events.entries()) {
    const own = tokenOfEvent(candidate)
    if (own === undefined || own === agreed) continue
    if (agreed !== undefined) {
      throw captureError(
        'HR_CAPTURE_TOKENS_DIFFER',
        `event ${index} names another project token than the events before it; one request is for one project`,
      )
    }
    agreed = own
  }
  if (agreed === undefined) {
    throw captureError(
      'HR_CAPTURE_NO_TOKEN',
      'the request names no project token: put it in `api_key` of the batch or of the event',
    )
  }
  return agreed
}

function tokenOfEvent(candidate: EventCandidate): string | undefined {
  return candidate.isObject ? tokenOf(candidate) : undefined
}
