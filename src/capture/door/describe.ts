/**
 * Requests and events in words, for reports and for the samples of refused requests. Pure. Only called for what is
 * refused and not left out by a rate limit, so it may cost some microseconds; everything it gives is short, and holds
 * no secret key.
 */
import type { RejectedRequest } from '../../catalog/index.ts'
import type { HeadraceError, ReportSample } from '../../event/index.ts'
import type { EventCandidate } from '../candidate.ts'
import type { Note, Rejection } from '../errors.ts'
import { REQUEST_ID_UNITS_MAX, TOKEN_BYTES_MAX, USER_AGENT_UNITS_MAX } from '../limits.ts'
import type { CaptureRequest } from '../request.ts'
import type { Submission } from '../submission.ts'

const SAMPLE_BYTES_MAX = 2_048
const MESSAGE_UNITS_MAX = 500
const NAME_UNITS_MAX = 200
const PATH_UNITS_MAX = 200

/** The sample of a report about an event of `submission`. */
export function eventSample(submission: Submission, about: Rejection | Note): ReportSample {
  const { sender, trail } = submission
  const { index, field, message } = about
  const sample: ReportSample = {
    message: short(message, MESSAGE_UNITS_MAX),
    path: short(sender.path, PATH_UNITS_MAX),
    requestId: sender.requestId,
    sdk: trail.sdk ?? '',
    index,
    field,
  }
  const at = submission.indexes.indexOf(index)
  const header = at < 0 ? undefined : submission.headers[at]
  const candidate = trail.candidates?.[index]
  const uuid = header?.uuid ?? ('uuid' in about ? about.uuid : undefined)
  const distinctId = header?.distinctId ?? textOf(candidate?.distinctId ?? candidate?.ownDistinctId)
  const event = header?.event ?? textOf(candidate?.event)
  if (uuid !== undefined) sample.uuid = short(uuid, NAME_UNITS_MAX)
  if (distinctId !== undefined) sample.distinctId = short(distinctId, NAME_UNITS_MAX)
  if (event !== undefined) sample.event = short(event, NAME_UNITS_MAX)
  return sample
}

/** The sample of a report about a whole request. */
export function requestSample(request: CaptureRequest, error: HeadraceError): ReportSample {
  return {
    message: short(error.message, MESSAGE_UNITS_MAX),
    path: short(request.path, PATH_UNITS_MAX),
    requestId: requestIdOf(request),
    sdk: request.trail.sdk ?? '',
  }
}

/** A refused request, or one of which events were refused, as it is kept for support. */
export function describeRequest(
  request: CaptureRequest,
  status: number,
  error: HeadraceError | undefined,
  teamId: number,
  token: string,
): RejectedRequest {
  const { trail } = request
  const reasons: Record<string, number> = {}
  for (const { reason } of trail.rejected) reasons[reason] = (reasons[reason] ?? 0) + 1
  return {
    teamId,
    atMs: request.nowMs,
    path: short(request.path, PATH_UNITS_MAX),
    status,
    code: error?.code ?? '',
    message: short(error?.message ?? trail.rejected[0]?.message ?? '', MESSAGE_UNITS_MAX),
    reasons,
    ip: request.ip,
    userAgent: short(request.request.headers.get('user-agent') ?? '', USER_AGENT_UNITS_MAX),
    sdk: short(trail.sdk ?? '', NAME_UNITS_MAX),
    requestId: requestIdOf(request),
    token: short(token, TOKEN_BYTES_MAX),
    bodyBytes: trail.body === undefined ? undefined : trail.bodyBytes,
    sample: bodySample(request),
  }
}

/** The first refused event, when it is known where it is, else the beginning of the body. */
function bodySample({ trail }: CaptureRequest): string {
  const { body } = trail
  if (body === undefined) return ''
  const first = trail.rejected[0]
  const candidate: EventCandidate | undefined = first && trail.candidates?.[first.index]
  const start = candidate?.start ?? 0
  const end = Math.min(candidate?.end ?? body.length, start + SAMPLE_BYTES_MAX)
  return short(
    Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8', start, end),
    SAMPLE_BYTES_MAX,
  )
}

const TOKEN_MEMBER = /"(?:api_key|token|\$token|writeKey)"\s*:\s*"([^"\\]{1,64})"/

/** The token that a request names which was refused before anyone read it: from the query, or a look at the beginning of the body. */
export function guessToken({ trail, query }: CaptureRequest): string | undefined {
  if (trail.token !== undefined) return trail.token
  const asked = query.get('api_key') ?? query.get('token')
  if (asked !== null) return asked
  const { body } = trail
  if (body === undefined) return undefined
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  return TOKEN_MEMBER.exec(text.toString('latin1', 0, SAMPLE_BYTES_MAX))?.[1]
}

function requestIdOf({ trail, request }: CaptureRequest): string {
  return trail.requestId ?? short(request.headers.get('x-request-id') ?? '', REQUEST_ID_UNITS_MAX)
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

const SECRET_KEY = /\b(ph[xsar]|sk|rk)_[A-Za-z0-9_-]+/g

/** Cut, without secret keys, and such that Postgres takes it. */
function short(text: string, unitsMax: number): string {
  return text.replace(SECRET_KEY, '$1_…').slice(0, unitsMax).replaceAll('\0', '\ufffd').toWellFormed()
}
