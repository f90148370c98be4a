/** What a route gets to know about a request, and what the routes of a protocol look like to the server. */

import type { Answer } from './errors.ts'
import type { InFlightShare } from './limits.ts'

export type CaptureRequest = {
  request: Request
  /** Without the query and without a slash at the end. */
  path: string
  query: URLSearchParams
  /** Address of the peer; empty when the connection is gone already. */
  ip: string
  /** When it came, epoch ms. */
  nowMs: number
  share: InFlightShare
}

export type Route = {
  methods: readonly string[]
  /** Refuses by throwing an error with a status. */
  answer(request: CaptureRequest): Promise<Answer> | Answer
}

/** Routes by path, without a slash at the end. */
export type Routes = ReadonlyMap<string, Route>
