/**
 * The HTTP door: finds the route, lets it answer, and puts CORS headers on whatever comes of it. It decides nothing
 * about events.
 *
 * ```
 * serving ── stop() ──▶ draining ── all answered, or the time is over ──▶ closed
 * ```
 * While draining no new connections are taken, each answer closes its connection, and bodies that have not come when
 * half of the time is over are answered with 503.
 * Cost beside the route and Bun's own 15 µs: about 10 µs per request, half of it the address and the headers.
 */
import type { Server } from 'bun'
import type { HeadraceError } from '../event/index.ts'
import { answerHealth, gauge, type Health, type Logger } from '../observe/index.ts'
import { failpoint } from '../platform/index.ts'
import { type BodyLimits, BodyReader } from './body.ts'
import { ClientIps } from './client-ip.ts'
import { corsHeaders, preflightHeaders, typeHeaders, UsualAnswers } from './cors.ts'
import { type Answer, asCaptureError, captureError, errorAnswer, errorDocs } from './errors.ts'
import { Incoming, pathOf } from './incoming.ts'
import type { InFlightBudget } from './limits.ts'
import { Listener } from './listener.ts'
import type { CaptureRequest, Route, Routes } from './request.ts'
import { Traffic } from './traffic.ts'

export type ServerOptions = {
  hostname: string
  port: number
  routes: Routes
  /** Routes whose path holds a variable part. */
  dynamicRoute(path: string): Route | undefined
  health: Health
  budget: InFlightBudget
  bodies: BodyLimits
  /** Seconds that a connection is kept between two requests. */
  idleSeconds: number
  connectionsMax: number
  /** As in HEADRACE_TRUSTED_PROXIES. */
  trustedProxies: string
  clock: () => number
  logger: Logger
  /** Hears of every request that is answered with a thrown error, or of which events are refused. */
  refused(request: CaptureRequest, status: number, error: HeadraceError | undefined): void
}

const requestsGauge = gauge('headrace_capture_in_flight_requests', 'Requests that are not answered yet.')

const JSON_TYPE = 'application/json'
const DRAIN_POLL_MS = 5
const HEALTH_PATHS: ReadonlySet<string> = new Set(['/_readiness', '/_liveness', '/metrics'])
const NO_HEADERS = new Headers()

export class CaptureServer {
  private readonly listener: Listener
  private readonly bodies: BodyReader
  private readonly clientIps: ClientIps
  private readonly usual = new UsualAnswers()
  private readonly traffic = new Traffic()
  private inFlight = 0
  private draining = false

  constructor(private readonly options: ServerOptions) {
    this.clientIps = new ClientIps(options.trustedProxies)
    this.bodies = new BodyReader(options.bodies)
    this.listener = new Listener({
      hostname: options.hostname,
      port: options.port,
      idleSeconds: options.idleSeconds,
      connectionsMax: options.connectionsMax,
      logger: options.logger,
      fetch: (request, server) => this.fetch(request, server),
      // Only what is wrong in this file comes here: routes answer for themselves.
      error: (error) => this.respond(NO_HEADERS, this.internalError(error), true),
    })
  }

  /** Where it serves, without a slash at the end. */
  get url(): string {
    return this.listener.url
  }

  /**
   * Takes no new connections, waits at most `drainMs` until what is in flight is answered, then closes all. Resolves
   * with the number of requests that were not answered.
   */
  async stop(drainMs: number): Promise<number> {
    this.draining = true
    this.listener.stop()
    const from = performance.now()
    let waiting = true
    while (this.inFlight + this.listener.pendingRequests > 0 && performance.now() < from + drainMs) {
      if (waiting && performance.now() > from + drainMs / 2) {
        waiting = false
        this.bodies.giveUpAll(
          captureError(
            'HR_CAPTURE_STOPPING',
            'this capture stops and waits no longer for the body; send it again',
          ),
        )
      }
      await Bun.sleep(DRAIN_POLL_MS)
    }
    const left = this.inFlight
    this.bodies.close()
    await this.listener.closeAll()
    return left
  }

  private fetch(request: Request, server: Server<undefined>): Response | Promise<Response> {
    const { url, method } = request
    const path = pathOf(url)
    const known = this.options.routes.get(path)
    if (known === undefined && HEALTH_PATHS.has(path)) return this.answerHealth(path)
    const route = known ?? this.options.dynamicRoute(path)
    if (method === 'OPTIONS') {
      this.traffic.count('preflight', 200)
      return this.respondPreflight(request.headers, route)
    }
    const peer = server.requestIP(request)?.address ?? ''
    const incoming = new Incoming(
      request,
      url,
      path,
      this.clientIps.of(peer, request.headers),
      this.options.clock(),
      this.options.budget.open(),
      this.bodies,
    )
    return this.serve(incoming, method, route, known ? path : (route?.label ?? 'other'))
  }

  private async serve(
    incoming: Incoming,
    method: string,
    route: Route | undefined,
    label: string,
  ): Promise<Response> {
    const from = performance.now()
    this.inFlight++
    let answer: Answer
    try {
      answer = await this.route(incoming, method, route).answer(incoming)
      if (incoming.trail.rejected.length > 0) this.report(incoming, answer.status, undefined)
    } catch (error) {
      answer = this.refuse(incoming, route, error)
    } finally {
      incoming.share.close()
      this.inFlight--
    }
    failpoint('before_answer')
    this.traffic.count(label, answer.status)
    this.traffic.took(performance.now() - from)
    return this.respond(incoming.request.headers, answer, incoming.closes)
  }

  /** The route, when it takes the method; else one that says what is wrong. */
  private route(incoming: Incoming, method: string, route: Route | undefined): Route {
    if (route === undefined) {
      // A tunnel that is refused is no connection for requests any more.
      if (method === 'CONNECT') incoming.closes = true
      const shown = JSON.stringify(incoming.path.slice(0, 200))
      throw captureError('HR_CAPTURE_NOT_FOUND', `nothing is served under ${shown}`)
    }
    if (!route.methods.includes(method)) {
      if (method === 'CONNECT') incoming.closes = true
      return { methods: [], answer: () => wrongMethod(method, incoming, route) }
    }
    return route
  }

  private refuse(incoming: Incoming, route: Route | undefined, error: unknown): Answer {
    const known = asCaptureError(error)
    if (known.class === 'fatal') this.logDefect(error)
    const answer = put(known, incoming, route)
    this.report(incoming, answer.status, known)
    return answer
  }

  /** What is decided is answered, whatever becomes of the report. */
  private report(incoming: Incoming, status: number, error: HeadraceError | undefined): void {
    try {
      this.options.refused(incoming, status, error)
    } catch (fault) {
      this.logDefect(fault)
    }
  }

  private internalError(error: unknown): Answer {
    this.logDefect(error)
    return errorAnswer(asCaptureError(error))
  }

  private logDefect(error: unknown): void {
    const docs = errorDocs('HR_CAPTURE_INTERNAL')
    this.options.logger.error({ err: error, docs }, 'a request failed by a fault of ours')
  }

  private respond(requestHeaders: Headers, answer: Answer, closes: boolean): Response {
    const { status, body, contentType, headers } = answer
    const last = closes || this.draining || this.listener.refusing
    if (status === 200 && contentType === undefined && headers === undefined && !last) {
      return new Response(body, this.usual.of(requestHeaders))
    }
    const isEmpty = status === 204 || status === 304
    return new Response(isEmpty ? null : body, {
      status,
      headers: {
        ...corsHeaders(requestHeaders),
        ...headers,
        ...(isEmpty ? undefined : typeHeaders(contentType ?? JSON_TYPE)),
        ...(last ? CLOSE : undefined),
      },
    })
  }

  private respondPreflight(headers: Headers, route: Route | undefined): Response {
    const answer = preflightHeaders(headers, route?.methods)
    return new Response(null, { status: 200, headers: this.draining ? { ...answer, ...CLOSE } : answer })
  }

  private async answerHealth(path: string): Promise<Response> {
    this.options.budget.publish()
    this.listener.publish()
    this.traffic.publish()
    requestsGauge.set(this.inFlight)
    const response = await answerHealth(path, this.options.health)
    if (!response) throw new Error(`${path} is no path of health`)
    if (this.draining) response.headers.set('connection', 'close')
    return response
  }
}

const CLOSE = { connection: 'close' }

/** A refusal in the form of its route. */
function put(error: HeadraceError, incoming: Incoming, route: Route | undefined): Answer {
  return route?.refusal ? route.refusal(error, incoming) : errorAnswer(error)
}

function wrongMethod(method: string, incoming: Incoming, route: Route): Answer {
  const allow = [...route.methods, 'OPTIONS'].join(', ')
  const error = captureError('HR_CAPTURE_WRONG_METHOD', `${incoming.path} takes ${allow}, not ${method}`)
  const answer = put(error, incoming, route)
  return { ...answer, headers: { ...answer.headers, allow } }
}
