/** What a protocol hands to the intake: the events of one request, judged. */
import type { Bytes, RawHeader } from '../event/index.ts'
import type { Note, Rejection } from './errors.ts'
import { REQUEST_ID_UNITS_MAX, USER_AGENT_UNITS_MAX } from './limits.ts'
import type { CaptureRequest, Trail } from './request.ts'

/** Who sent a request, for reports and for support. */
export type Sender = {
  path: string
  ip: string
  userAgent: string
  requestId: string
  nowMs: number
}

/** As far as the headers that any client or proxy may send tell; a request without an id gets one. */
export function senderOf({ request, path, ip, nowMs }: CaptureRequest): Sender {
  const { headers } = request
  const requestId = headers.get('x-request-id')?.slice(0, REQUEST_ID_UNITS_MAX)
  return { path, ip, userAgent: userAgentOf(headers), requestId: requestId || Bun.randomUUIDv7(), nowMs }
}

/** Cut to what a header of a record may hold; empty when there is none. */
export function userAgentOf(headers: Headers): string {
  return (headers.get('user-agent') ?? '').slice(0, USER_AGENT_UNITS_MAX)
}

/** The events of one request, all of one project. `headers`, `values` and `indexes` belong together by position. */
export type Submission = {
  sender: Sender
  headers: RawHeader[]
  /** What the log keeps of each. */
  values: Bytes[]
  /** Their places in the request. */
  indexes: number[]
  rejected: Rejection[]
  /** Events among `headers` that are not quite as they were sent. */
  notes: Note[]
  /** True when the request asks for the lane of imports. */
  historical: boolean
  /** That of the request. */
  trail: Trail
}
