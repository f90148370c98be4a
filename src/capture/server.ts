/**
 * The HTTP door: finds the route, lets it answer, and puts CORS headers on whatever comes of it. It decides nothing
 * about events. States: serving → stopping (not ready, requests in flight are finished, new ones on open connections
 * still served) → closed.
 */
import type { Server } from 'bun'
import type { HeadraceError } from '../event/index.ts'
import { answerHealth, counter, gauge, type Health, type Logger } from '../observe/index.ts'
import { corsHeaders, preflightHeaders } from './cors.ts'
import { type Answer, asCaptureError, captureError, errorAnswer, errorDocs } from './errors.ts'
import { IDLE_TIMEOUT_S, type InFlightBudget } from './limits.ts'
import { type CaptureRequest, type Route, type Routes, Trail } from './request.ts'

export type ServerOptions = {
  hostname: string
  port: number
  routes: Routes
  /** Routes whose path holds a variable part. */
  dynamicRoute(path: string): Route | undefined
  health: Health
  budget: InFlightBudget
  clock: () => number
  logger: Logger
  /** Hears of every request that is answered with a thrown error, or of which events are refused. Never throws. */
  refused(request: CaptureRequest, status: number, error: HeadraceError | undefined): void
  /** How long `stop` waits for requests in flight. */
  drainMs: number
}

const requestsTotal = counter('headrace_capture_requests_total', 'Requests answered.', ['path', 'status'])
const requestsGauge = gauge('headrace_capture_in_flight_requests', 'Requests that are not answered yet.')

const JSON_TYPE = 'application/json'
/** Far above any body limit: limits are ours, so that their answers are ours. */
const BUN_BODY_BYTES_MAX = Number.MAX_SAFE_INTEGER
const DRAIN_POLL_MS = 5
const HEALTH_PATHS: ReadonlySet<string> = new Set(['/_readiness', '/_liveness', '/metrics'])

export class CaptureServer {
  private readonly server: Server<undefined>
  private inFlight = 0

  constructor(private readonly options: ServerOptions) {
    this.server = Bun.serve({
      hostname: options.hostname,
      port: options.port,
      idleTimeout: IDLE_TIMEOUT_S,
      maxRequestBodySize: BUN_BODY_BYTES_MAX,
      fetch: (request, server) => this.fetch(request, server),
      // Only what is wrong in this file comes here: routes answer for themselves.
      error: (error) => respond(NO_HEADERS, this.internalError(error)),
    })
  }

  /** Where it serves, without a slash at the end. */
  get url(): string {
    return this.server.url.origin
  }

  /** Takes no new connections, waits until what is in flight is answered, then closes all. */
  async stop(): Promise<void> {
    // Bun's promise waits for idle kept-alive connections too, so it is not waited for.
    void this.server.stop()
    const until = performance.now() + this.options.drainMs
    while (this.server.pendingRequests > 0 && performance.now() < until) await Bun.sleep(DRAIN_POLL_MS)
    await this.server.stop(true)
  }

  private async fetch(request: Request, server: Server<undefined>): Promise<Response> {
    const { path, query } = splitUrl(request.url)
    if (HEALTH_PATHS.has(path)) {
      this.options.budget.publish()
      requestsGauge.set(this.inFlight)
      return (await answerHealth(path, this.options.health)) ?? new Response(null, { status: 404 })
    }
    if (request.method === 'OPTIONS') {
      requestsTotal.inc({ path: 'preflight', status: 200 })
      return new Response(null, { status: 200, headers: preflightHeaders(request.headers) })
    }
    this.inFlight++
    const known = this.options.routes.get(path)
    const route = known ?? this.options.dynamicRoute(path)
    const answer = await this.answer(request, server, path, query, route)
    this.inFlight--
    requestsTotal.inc({ path: known ? path : (route?.label ?? 'other'), status: answer.status })
    return respond(request.headers, answer)
  }

  private internalError(error: unknown): Answer {
    const docs = errorDocs('HR_CAPTURE_INTERNAL')
    this.options.logger.error({ err: error, docs }, 'a request failed by a fault of ours')
    return errorAnswer(asCaptureError(error))
  }

  /** Never throws: whatever goes wrong becomes an answer. */
  private async answer(
    request: Request,
    server: Server<undefined>,
    path: string,
    query: string,
    route: Route | undefined,
  ): Promise<Answer> {
    const share = this.options.budget.open()
    const incoming: CaptureRequest = {
      request,
      path,
      query: new URLSearchParams(query),
      ip: peerAddress(server, request),
      nowMs: this.options.clock(),
      share,
      trail: new Trail(),
    }
    try {
      if (!route) {
        throw captureError(
          'HR_CAPTURE_NOT_FOUND',
          `nothing is served under ${JSON.stringify(path.slice(0, 200))}`,
        )
      }
      if (!route.methods.includes(request.method)) return wrongMethod(request.method, path, route)
      const answer = await route.answer(incoming)
      if (incoming.trail.rejected.length > 0) this.options.refused(incoming, answer.status, undefined)
      return answer
    } catch (error) {
      const known = asCaptureError(error)
      const answer = known.class === 'fatal' ? this.internalError(error) : errorAnswer(known)
      this.options.refused(incoming, answer.status, known)
      return answer
    } finally {
      share.close()
    }
  }
}

const NO_HEADERS = new Headers()

function wrongMethod(method: string, path: string, route: Route): Answer {
  const allow = [...route.methods, 'OPTIONS'].join(', ')
  const error = captureError('HR_CAPTURE_WRONG_METHOD', `${path} takes ${allow}, not ${method}`)
  return { ...errorAnswer(error), headers: { allow } }
}

function respond(requestHeaders: Headers, answer: Answer): Response {
  const headers = { ...corsHeaders(requestHeaders), ...answer.headers }
  if (answer.status === 204 || answer.status === 304) {
    return new Response(null, { status: answer.status, headers })
  }
  const contentType = answer.contentType ?? JSON_TYPE
  return new Response(answer.body, {
    status: answer.status,
    headers: { ...headers, 'content-type': contentType, 'x-content-type-options': 'nosniff' },
  })
}

/** Path without a slash at the end, and the query; `URL` would cost ten times as much. */
function splitUrl(url: string): { path: string; query: string } {
  const pathAt = url.indexOf('/', url.indexOf('//') + 2)
  const queryAt = url.indexOf('?', pathAt)
  const end = queryAt < 0 ? url.length : queryAt
  const pathEnd = end - 1 > pathAt && url.charCodeAt(end - 1) === 47 ? end - 1 : end
  return { path: url.slice(pathAt, pathEnd), query: queryAt < 0 ? '' : url.slice(queryAt + 1) }
}

const MAPPED_IPV4 = '::ffff:'

function peerAddress(server: Server<undefined>, request: Request): string {
  const address = server.requestIP(request)?.address ?? ''
  return address.startsWith(MAPPED_IPV4) ? address.slice(MAPPED_IPV4.length) : address
}
