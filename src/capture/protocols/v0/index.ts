/**
 * The v0 protocol (capture spec §2 to §5): one handler behind all its paths. What comes in: a body in any of its
 * shapes; what goes out: raw records. Valid events are stored though others of the request are not, and the answer
 * names those by index; it is an error only when nothing can be stored. The answer is sent after the log's ack.
 */
import { ByteRange, type RawHeader } from '../../../event/index.ts'
import { type EventCandidate, PERFORMANCE_EVENT, tokenOf } from '../../candidate.ts'
import { readPayload } from '../../decode/index.ts'
import { type Answer, captureError, type Rejection, rejectedMembers } from '../../errors.ts'
import type { InFlightShare } from '../../limits.ts'
import { nothingStored } from '../../nothing-stored.ts'
import type { CaptureRequest, Route, Routes } from '../../request.ts'
import { type Sender, type Submission, senderOf } from '../../submission.ts'
import {
  isRejection,
  noteChanges,
  type RequestFacts,
  readSentAt,
  rejection,
  sdkOfUserAgent,
  validateEvent,
} from '../../validate.ts'
import type { ProtocolOptions } from '../options.ts'
import { type ScannedBody, scanBody } from './scan-body.ts'

const V0_PATHS = ['/batch', '/e', '/i/v0/e', '/capture', '/track', '/i/v0/ai/batch'] as const
/** Where an event without a name is what it says of a person. */
const ENGAGE_PATH = '/engage'
const ENGAGE_EVENT = '$identify'
const ENGAGE_MEMBER = Buffer.from(`,"event":"${ENGAGE_EVENT}"}`)

const OK: Answer = { status: 200, body: '{"status":"Ok"}' }
const NO_CONTENT: Answer = { status: 204, body: '' }

/** All paths of v0. */
export function v0Routes(options: ProtocolOptions): Routes {
  const route: Route = { methods: ['GET', 'POST'], answer: (request) => answerV0(request, options) }
  return new Map([...V0_PATHS, ENGAGE_PATH].map((path) => [path, route]))
}

async function answerV0(incoming: CaptureRequest, options: ProtocolOptions): Promise<Answer> {
  const { query, trail } = incoming
  const body = await readPayload(incoming, options.limits)
  const { batchEventsMax, batchValuesMax } = options.limits
  const scanned = scanBody(body, batchEventsMax, batchValuesMax, incoming.path === ENGAGE_PATH)
  trail.candidates = scanned.events
  if (scanned.events.length === 0) {
    throw captureError('HR_CAPTURE_NO_EVENTS', 'the request holds no event: its list is empty')
  }
  const token = requestToken(scanned)
  const pending = options.intake.admit(token, trail)
  const admission = pending instanceof Promise ? await pending : pending
  const sender = senderOf(incoming)
  const facts = factsOf(incoming, sender, admission.token, scanned, options)
  const submission = judge(body, scanned, facts, sender, incoming)
  const { stored, rejected, refusedByPolicy, quotaLimited } = await options.intake.store(
    admission,
    submission,
  )

  if (stored === 0 && refusedByPolicy === 0 && rejected.some(isFault)) return nothingStored(rejected, 'event')
  if (query.get('beacon') === '1') return NO_CONTENT
  if (rejected.length === 0) return OK
  return { status: 200, body: JSON.stringify({ status: 'Ok', ...rejectedMembers(rejected, quotaLimited) }) }
}

/** Validates each event of the body. */
function judge(
  body: Buffer,
  scanned: ScannedBody,
  facts: RequestFacts,
  sender: Sender,
  { path, share, trail }: CaptureRequest,
): Submission {
  const submission: Submission = {
    sender,
    headers: [],
    values: [],
    indexes: [],
    rejected: [],
    notes: [],
    historical: scanned.historical,
    trail,
  }
  const { events } = scanned
  const engages = path === ENGAGE_PATH
  const ownTokens = hasOwnTokens(scanned)
  for (let index = 0; index < events.length; index++) {
    const candidate = events[index]!
    const named = engages && nameEngage(candidate)
    const judged = ownTokens ? judgeToken(candidate, index, facts.token) : undefined
    const header = judged ?? judgeEvent(body, candidate, index, facts)
    if (isRejection(header)) {
      submission.rejected.push(header)
      continue
    }
    const { start, end } = candidate
    submission.headers.push(header)
    submission.values.push(
      named ? namedEngage(body.subarray(start, end), share) : new ByteRange(body, start, end),
    )
    submission.indexes.push(index)
    noteChanges(body, candidate, header, index, submission.notes)
  }
  return submission
}

function judgeEvent(
  body: Buffer,
  candidate: EventCandidate,
  index: number,
  facts: RequestFacts,
): RawHeader | Rejection {
  if (candidate.event === PERFORMANCE_EVENT) return rejection(index, candidate, 'event', 'performance_event')
  return validateEvent(body, candidate, index, facts)
}

/** Says what the event is when it has no name; true when it had none. */
function nameEngage(candidate: EventCandidate): boolean {
  if (!candidate.isObject || (candidate.event !== undefined && candidate.event !== null)) return false
  candidate.event = ENGAGE_EVENT
  return true
}

/** The event with its name, as its last member, which is the one that counts. */
function namedEngage(event: Buffer, share: InFlightShare): Buffer {
  share.take(event.length + ENGAGE_MEMBER.length - 1)
  return Buffer.concat([event.subarray(0, -1), ENGAGE_MEMBER])
}

/** Old versions of posthog-js send events that nobody keeps, which is no fault of theirs. */
function isFault({ reason }: Rejection): boolean {
  return reason !== 'performance_event'
}

function factsOf(
  { query }: CaptureRequest,
  { ip, userAgent, requestId, nowMs }: Sender,
  token: string,
  scanned: ScannedBody,
  options: ProtocolOptions,
): RequestFacts {
  return {
    token,
    nowMs,
    sentAtMs: readSentAt(scanned.sentAt, query.get('sent_at') ?? query.get('_')),
    ip,
    userAgent,
    userAgentSdk: sdkOfUserAgent(userAgent),
    requestId,
    clockTrustMs: options.clockTrustMs,
    eventBytesMax: options.limits.eventBytesMax,
    eventDepthMax: options.limits.eventDepthMax,
    eventKeysMax: options.limits.eventKeysMax,
  }
}

/** The token of a whole request, as sent: that of the batch, else the first that an event names. */
function requestToken({ token, events }: ScannedBody): string {
  if (token !== undefined && token !== null) {
    if (typeof token === 'string') return token
    throw captureError(
      'HR_CAPTURE_INVALID_TOKEN',
      'the project token (`api_key`) of the batch is not a string',
    )
  }
  for (let index = 0; index < events.length; index++) {
    const own = tokenOf(events[index]!)
    if (own !== undefined) return own
  }
  throw captureError(
    'HR_CAPTURE_NO_TOKEN',
    'the request names no project token: put it in `api_key` of the batch or of the event',
  )
}

/** Whether the events speak for themselves: what a batch names counts for all of it, whatever they were sent with once. */
function hasOwnTokens({ token, events }: ScannedBody): boolean {
  return (token === undefined || token === null) && events.length > 1
}

/** An event without a token belongs to the others; one of another project must not be stored among theirs. */
function judgeToken(candidate: EventCandidate, index: number, token: string): Rejection | undefined {
  const own = tokenOf(candidate)
  if (own === undefined || own.trim() === token) return undefined
  const field =
    typeof candidate.apiKey === 'string'
      ? 'api_key'
      : typeof candidate.token === 'string'
        ? 'token'
        : typeof candidate.dollarToken === 'string'
          ? '$token'
          : 'properties.token'
  return rejection(index, candidate, field, 'other_token')
}
