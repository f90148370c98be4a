/** What a protocol hands to the intake: the events of one request, judged. */
import type { Bytes, RawHeader } from '../event/index.ts'
import type { Note, Rejection } from './errors.ts'
import type { Trail } from './request.ts'

/** Who sent a request, for reports and for support. */
export type Sender = {
  path: string
  ip: string
  userAgent: string
  requestId: string
  nowMs: number
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
