/**
 * The headers of a v1 request (capture spec §6.1): who sends, how often it tried, and by which clock. What comes in:
 * headers; what goes out: what they say, or one error that names all that are missing, else all that cannot be read.
 */
import { canonicalUuid, parseTimestamp } from '../../../event/index.ts'
import { captureError } from '../../errors.ts'
import { SDK_UNITS_MAX } from '../../limits.ts'
import { userAgentOf } from '../../submission.ts'

export type V1Headers = {
  /** As sent, without the scheme. */
  token: string
  userAgent: string
  sdkName: string
  sdkVersion: string
  /** As sent, which is a UUID. */
  requestId: string
  /** The client's clock when it sent, epoch ms. */
  sentAtMs: number
}

export const REQUEST_ID_HEADER = 'posthog-request-id'

const REQUIRED = [
  ['authorization', 'Authorization'],
  ['content-type', 'Content-Type'],
  ['user-agent', 'User-Agent'],
  ['posthog-sdk-info', 'PostHog-Sdk-Info'],
  ['posthog-attempt', 'PostHog-Attempt'],
  [REQUEST_ID_HEADER, 'PostHog-Request-Id'],
  ['posthog-request-timestamp', 'PostHog-Request-Timestamp'],
] as const

const BEARER = /^bearer(?:\s+(.*))?$/i
const JSON_TYPE = /^application\/json\s*(?:;|$)/i
const SDK_INFO = /^([^/\s][^/]*)\/(\S.*)$/
const ATTEMPT = /^[1-9]\d{0,8}$/

/**
 * Throws HR_CAPTURE_MISSING_HEADERS, HR_CAPTURE_WRONG_CONTENT_TYPE, HR_CAPTURE_INVALID_HEADER, and
 * HR_CAPTURE_INVALID_TOKEN when the scheme is not Bearer.
 */
export function readHeaders(headers: Headers): V1Headers {
  const missing = REQUIRED.filter(([name]) => !headers.get(name)?.trim())
  if (missing.length > 0) {
    const names = missing.map(([, name]) => name).join(', ')
    throw captureError('HR_CAPTURE_MISSING_HEADERS', `v1 asks for headers that are missing: ${names}`)
  }
  const value = (name: (typeof REQUIRED)[number][0]): string => headers.get(name)!.trim()
  const contentType = value('content-type')
  if (!JSON_TYPE.test(contentType)) {
    const shown = JSON.stringify(contentType.slice(0, 100))
    throw captureError(
      'HR_CAPTURE_WRONG_CONTENT_TYPE',
      `the Content-Type ${shown} is not application/json, which is all that v1 takes`,
    )
  }
  const sdk = SDK_INFO.exec(value('posthog-sdk-info'))
  const requestId = value(REQUEST_ID_HEADER)
  const sentAtMs = parseTimestamp(value('posthog-request-timestamp'))
  const wrong: string[] = []
  if (sdk === null) wrong.push('PostHog-Sdk-Info is not `name/version`')
  if (!ATTEMPT.test(value('posthog-attempt'))) wrong.push('PostHog-Attempt is not a whole number from 1 on')
  if (canonicalUuid(requestId) === undefined) wrong.push('PostHog-Request-Id is not a UUID')
  if (sentAtMs === undefined) wrong.push('PostHog-Request-Timestamp is not a time as in RFC 3339')
  if (sdk === null || sentAtMs === undefined || wrong.length > 0) {
    throw captureError('HR_CAPTURE_INVALID_HEADER', wrong.join('; '))
  }
  const bearer = BEARER.exec(value('authorization'))
  if (bearer === null) {
    throw captureError(
      'HR_CAPTURE_INVALID_TOKEN',
      'the project token must come as `Authorization: Bearer <token>`; the scheme is another one',
    )
  }
  return {
    token: bearer[1] ?? '',
    userAgent: userAgentOf(headers),
    sdkName: sdk[1]!.trim().slice(0, SDK_UNITS_MAX),
    sdkVersion: sdk[2]!.slice(0, SDK_UNITS_MAX),
    requestId,
    sentAtMs,
  }
}
