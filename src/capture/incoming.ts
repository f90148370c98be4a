/**
 * One request as the routes see it, and where its address ends and its query begins. Nothing is computed that nobody
 * asks for, except the client's address: a connection that has ended has none any more.
 */
import type { BodyReader, Connection } from './body.ts'
import type { InFlightShare } from './limits.ts'
import { type CaptureRequest, Trail } from './request.ts'

const SLASH = 47
/** Shared by all requests without a query, which are nearly all: nobody changes it. */
const NO_QUERY = new URLSearchParams()

export class Incoming implements CaptureRequest, Connection {
  /** True when the answer is the last on its connection. */
  closes = false
  readonly trail = new Trail()
  private parsedQuery: URLSearchParams | undefined

  constructor(
    readonly request: Request,
    private readonly url: string,
    readonly path: string,
    readonly ip: string,
    readonly nowMs: number,
    readonly share: InFlightShare,
    private readonly bodies: BodyReader,
  ) {}

  get query(): URLSearchParams {
    this.parsedQuery ??= queryOf(this.url)
    return this.parsedQuery
  }

  body(): Promise<Buffer> {
    return this.bodies.read(this.request, this.share, this)
  }
}

/**
 * The path without a slash at the end; `URL` would cost ten times as much. A request whose Host is missing or no host
 * has a path alone for its url, that of CONNECT has none.
 */
export function pathOf(url: string): string {
  const from = url.charCodeAt(0) === SLASH ? 0 : url.indexOf('/', url.indexOf('://') + 3)
  if (from < 0) return ''
  const queryAt = url.indexOf('?', from)
  const end = queryAt < 0 ? url.length : queryAt
  return url.slice(from, end - 1 > from && url.charCodeAt(end - 1) === SLASH ? end - 1 : end)
}

function queryOf(url: string): URLSearchParams {
  const at = url.indexOf('?')
  return at < 0 ? NO_QUERY : new URLSearchParams(url.slice(at + 1))
}
