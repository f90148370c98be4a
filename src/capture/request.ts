/** What a route gets to know about a request, and what the routes of a protocol look like to the server. */

import type { HeadraceError } from '../event/index.ts'
import type { EventCandidate } from './candidate.ts'
import type { KnownProject } from './door/projects.ts'
import type { Answer, Rejection } from './errors.ts'
import type { InFlightShare } from './limits.ts'

export type CaptureRequest = {
  request: Request
  /** Without the query and without a slash at the end. */
  path: string
  /** Parsed when it is first asked for. */
  readonly query: URLSearchParams
  /** Address of the client; of the peer, unless that is a trusted proxy. Empty when the connection is gone already. */
  ip: string
  /** When it came, epoch ms. */
  nowMs: number
  share: InFlightShare
  trail: Trail
  /**
   * The whole body; to be called once. Throws HR_CAPTURE_BODY_TOO_LARGE, HR_CAPTURE_BUSY, HR_CAPTURE_BODY_TIMEOUT,
   * HR_CAPTURE_STOPPING, HR_CAPTURE_BODY_CUT or, when it is empty, HR_CAPTURE_NO_BODY.
   */
  body(): Promise<Buffer>
}

/**
 * What is learned about a request on its way, so that one that is refused, or of which events are refused, can be
 * shown to the project's owner. A protocol notes the body; the intake notes the rest.
 */
export class Trail {
  /** Bytes on the wire. */
  bodyBytes = 0
  /** The body as JSON once it is decoded, before that as it came. */
  body: Uint8Array | undefined = undefined
  /** As sent. */
  token: string | undefined = undefined
  project: KnownProject | undefined = undefined
  requestId: string | undefined = undefined
  /** Name and version, as far as an event said it. */
  sdk: string | undefined = undefined
  /** The events by their places in the request, whose `start … end` are in `body`; for a sample of a refused one. */
  candidates: readonly EventCandidate[] | undefined = undefined
  /** The events that were refused, in order of index; the others of the request are stored. */
  rejected: readonly Rejection[] = NO_REJECTIONS
}

const NO_REJECTIONS: readonly Rejection[] = []

export type Route = {
  methods: readonly string[]
  /** What the path is called in metrics, when it holds a variable part. */
  label?: string
  /** Refuses by throwing an error with a status. */
  answer(request: CaptureRequest): Promise<Answer> | Answer
  /** How a refusal is put, where the SDKs of the route expect another form than that of `errorAnswer`. */
  refusal?(error: HeadraceError, request: CaptureRequest): Answer
}

/** Routes by path, without a slash at the end. */
export type Routes = ReadonlyMap<string, Route>
