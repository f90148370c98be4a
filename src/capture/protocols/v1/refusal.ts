/**
 * A refused request as SDKs of v1 read it (capture spec §6.4): `error` is a tag that decides what they do next,
 * `error_description` the sentence that people see, `error_uri` where it is explained.
 */
import type { HeadraceError } from '../../../event/index.ts'
import { type Answer, countRefusal, errorDocs } from '../../errors.ts'
import type { CaptureRequest } from '../../request.ts'
import { REQUEST_ID_HEADER } from './request-headers.ts'

const TAGS: Readonly<Record<string, string>> = {
  HR_CAPTURE_MISSING_HEADERS: 'missing_required_headers',
  HR_CAPTURE_INVALID_HEADER: 'invalid_header_value',
  HR_CAPTURE_BODY_CUT: 'request_decoding_error',
  HR_CAPTURE_WRONG_GZIP: 'request_decoding_error',
  HR_CAPTURE_WRONG_COMPRESSION: 'request_decoding_error',
  HR_CAPTURE_NO_BODY: 'empty_body',
  HR_CAPTURE_NO_EVENTS: 'empty_batch',
  HR_CAPTURE_WRONG_CREATED_AT: 'invalid_batch',
  HR_CAPTURE_WRONG_CONTENT_TYPE: 'unsupported_content_type',
  HR_CAPTURE_UNSUPPORTED_ENCODING: 'unsupported_encoding',
}
/** Of all other errors. */
const TAGS_BY_STATUS: Readonly<Record<number, string>> = {
  400: 'request_parsing_error',
  401: 'invalid_api_token',
  405: 'method_not_allowed',
  408: 'body_read_timeout',
  413: 'payload_too_large',
  503: 'service_unavailable',
}
const INTERNAL = 'internal_error'
/** Where v1 has a status of its own for an error: its SDKs send again after 408, which others take as final. */
const OWN_STATUS: Readonly<Record<string, number>> = { HR_CAPTURE_BODY_TIMEOUT: 408 }
/** Statuses after which SDKs send the same request again. */
const RETRIED: ReadonlySet<number> = new Set([408, 500, 503])
const RETRY_AFTER_S = '5'
/** A request id is a UUID; what is longer, or not plain text, is not repeated. */
const ECHOED = /^[\x21-\x7e]{1,64}$/
const TAKEN = { accept: 'application/json', 'accept-encoding': 'gzip, deflate, br, zstd' }

export function v1Refusal(error: HeadraceError, { request }: CaptureRequest): Answer {
  const status = v1Status(error.code, countRefusal(error))
  const body = {
    error: errorTag(error.code, status),
    error_description: error.message,
    error_uri: errorDocs(error.code),
  }
  const headers: Record<string, string> = { ...TAKEN, ...requestIdEcho(request.headers) }
  if (RETRIED.has(status)) headers['retry-after'] = RETRY_AFTER_S
  return { status, body: JSON.stringify(body), headers }
}

/** The status that v1 answers an error with; `status` is that of the other protocols. */
export function v1Status(code: string, status: number): number {
  return OWN_STATUS[code] ?? status
}

/** The tag of an error that v1 answers with `status`, by which SDKs decide what to do. */
export function errorTag(code: string, status: number): string {
  return TAGS[code] ?? TAGS_BY_STATUS[status] ?? INTERNAL
}

/** The header that gives the request's id back. */
export function requestIdEcho(headers: Headers): Record<string, string> {
  const sent = headers.get(REQUEST_ID_HEADER)?.trim()
  return sent !== undefined && ECHOED.test(sent) ? { [REQUEST_ID_HEADER]: sent } : {}
}
