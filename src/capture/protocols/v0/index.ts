/**
 * The v0 protocol (capture spec §2 to §5): one handler behind all its paths. What comes in: a body in any of its
 * shapes; what goes out: raw records. Valid events are stored though others of the request are not, and the answer
 * names those by index; it is an error only when nothing can be stored. The answer is sent after the log's ack.
 */
import type { LogRecord } from '../../../log/index.ts'
import { counter } from '../../../observe/index.ts'
import { type EventCandidate, tokenOf } from '../../candidate.ts'
import { type DecodeLimits, decodeBody, readBody } from '../../decode.ts'
import {
  type Answer,
  captureError,
  errorAnswer,
  type Rejection,
  type RejectReason,
  rejectedMembers,
} from '../../errors.ts'
import { REQUEST_ID_UNITS_MAX, USER_AGENT_UNITS_MAX } from '../../limits.ts'
import { type RawWriter, rawRecord } from '../../produce.ts'
import type { CaptureRequest, Route, Routes } from '../../request.ts'
import {
  checkToken,
  isRejection,
  type RequestFacts,
  readSentAt,
  sdkOfUserAgent,
  validateEvent,
} from '../../validate.ts'
import { type ScannedBody, scanBody } from './scan-body.ts'

const V0_PATHS = ['/batch', '/e', '/i/v0/e', '/capture'] as const

export type V0Options = {
  writer: RawWriter
  partitions: number
  limits: DecodeLimits & { batchEventsMax: number; eventBytesMax: number }
  clockTrustMs: number
}

const acceptedTotal = counter('headrace_capture_events_accepted_total', 'Events stored in the log.', ['lane'])
const rejectedTotal = counter('headrace_capture_events_rejected_total', 'Events refused singly.', ['reason'])
const bytesTotal = counter('headrace_capture_body_bytes_total', 'Bytes of bodies.', ['kind'])

const OK: Answer = { status: 200, body: '{"status":"Ok"}' }
const NO_CONTENT: Answer = { status: 204, body: '' }

/** All paths of v0. */
export function v0Routes(options: V0Options): Routes {
  const route: Route = { methods: ['POST'], answer: (request) => answerV0(request, options) }
  return new Map(V0_PATHS.map((path) => [path, route]))
}

async function answerV0(incoming: CaptureRequest, options: V0Options): Promise<Answer> {
  const { request, query, share } = incoming
  const wire = await readBody(request, options.limits, share)
  const body = await decodeBody(wire, options.limits, share)
  bytesTotal.inc({ kind: 'wire' }, wire.length)
  bytesTotal.inc({ kind: 'decoded' }, body.length)

  const scanned = scanBody(body, options.limits.batchEventsMax)
  if (scanned.events.length === 0) {
    throw captureError('HR_CAPTURE_NO_EVENTS', 'the request holds no event: its list is empty')
  }
  const facts = factsOf(incoming, scanned, options)
  const records: LogRecord[] = []
  const rejected: Rejection[] = []
  for (const [index, candidate] of scanned.events.entries()) {
    const judged = validateEvent(body, candidate, index, facts)
    if (isRejection(judged)) {
      rejected.push(judged)
    } else {
      const value = body.subarray(candidate.start, candidate.end)
      records.push(rawRecord(judged, value, scanned.historical, options.partitions))
    }
  }
  countRejected(rejected)
  if (records.length === 0) return nothingStored(rejected)

  await options.writer.write(records)
  acceptedTotal.inc({ lane: scanned.historical ? 'historical' : 'main' }, records.length)
  if (query.get('beacon') === '1') return NO_CONTENT
  if (rejected.length === 0) return OK
  return { status: 200, body: JSON.stringify({ status: 'Ok', ...rejectedMembers(rejected) }) }
}

function countRejected(rejected: readonly Rejection[]): void {
  if (rejected.length === 0) return
  const counts = new Map<RejectReason, number>()
  for (const { reason } of rejected) counts.set(reason, (counts.get(reason) ?? 0) + 1)
  for (const [reason, count] of counts) rejectedTotal.inc({ reason }, count)
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

function factsOf(incoming: CaptureRequest, scanned: ScannedBody, options: V0Options): RequestFacts {
  const { request, query, ip, nowMs } = incoming
  const userAgent = (request.headers.get('user-agent') ?? '').slice(0, USER_AGENT_UNITS_MAX)
  const requestId = request.headers.get('x-request-id')?.slice(0, REQUEST_ID_UNITS_MAX)
  return {
    token: requestToken(scanned),
    nowMs,
    sentAtMs: readSentAt(scanned.sentAt, query.get('sent_at') ?? query.get('_')),
    ip,
    userAgent,
    userAgentSdk: sdkOfUserAgent(userAgent),
    requestId: requestId || Bun.randomUUIDv7(),
    clockTrustMs: options.clockTrustMs,
    eventBytesMax: options.limits.eventBytesMax,
  }
}

/** The token of a whole request: that of the batch, else the one that its events agree on. */
function requestToken({ token, events }: ScannedBody): string {
  if (token !== undefined && token !== null) {
    if (typeof token === 'string') return checkToken(token)
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
  return checkToken(agreed)
}

function tokenOfEvent(candidate: EventCandidate): string | undefined {
  return candidate.isObject ? tokenOf(candidate) : undefined
}
