/**
 * Cross-origin headers, on every answer whatever its status: a 503 that a browser may not read looks like a broken
 * network to an SDK. Any origin is mirrored, because public websites are what sends events. Health and metrics have
 * none: no page is to read them.
 */

/** Seconds that a browser may keep the answer to a preflight; Chromium keeps it for at most two hours. */
const PREFLIGHT_MAX_AGE_S = '7200'
const EXPOSED = 'Retry-After, PostHog-Request-Id'
/** Of paths that nobody serves: a preflight is answered all the same, and the request then says 404. */
const METHODS = ['GET', 'POST'] as const
const ANY_ORIGIN: Readonly<Record<string, string>> = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': EXPOSED,
  vary: 'Origin',
}

/** Headers that let the page which sent `headers` read the answer. */
export function corsHeaders(headers: Headers): Readonly<Record<string, string>> {
  const origin = headers.get('origin')
  return origin === null ? ANY_ORIGIN : originHeaders(origin)
}

function originHeaders(origin: string): Record<string, string> {
  return {
    'access-control-allow-origin': origin,
    'access-control-allow-credentials': 'true',
    'access-control-expose-headers': EXPOSED,
    vary: 'Origin',
  }
}

/** The answer to OPTIONS on a path that takes `methods`: whatever headers the page asked for are allowed. */
export function preflightHeaders(
  headers: Headers,
  methods: readonly string[] = METHODS,
): Record<string, string> {
  const requested = headers.get('access-control-request-headers')
  const answer: Record<string, string> = {
    ...corsHeaders(headers),
    'access-control-allow-methods': [...methods, 'OPTIONS'].join(', '),
    'access-control-max-age': PREFLIGHT_MAX_AGE_S,
  }
  if (requested !== null) answer['access-control-allow-headers'] = requested
  // A page on the public web that talks to a capture on a private network, as in development.
  if (headers.get('access-control-request-private-network') === 'true') {
    answer['access-control-allow-private-network'] = 'true'
  }
  return answer
}

const ORIGINS_REMEMBERED_MAX = 1_000
const ORIGIN_UNITS_REMEMBERED_MAX = 256

/** The usual answer, 200 with JSON, as `Response` takes it: made once for each origin. */
export class UsualAnswers {
  private readonly any = usual(ANY_ORIGIN)
  private readonly byOrigin = new Map<string, ResponseInit>()

  of(headers: Headers): ResponseInit {
    const origin = headers.get('origin')
    if (origin === null) return this.any
    return this.byOrigin.get(origin) ?? this.remember(origin)
  }

  private remember(origin: string): ResponseInit {
    const init = usual(originHeaders(origin))
    if (origin.length > ORIGIN_UNITS_REMEMBERED_MAX) return init
    if (this.byOrigin.size >= ORIGINS_REMEMBERED_MAX) this.byOrigin.clear()
    this.byOrigin.set(origin, init)
    return init
  }
}

/** `Headers` and not a record: a response takes them in a third of the time. */
function usual(cors: Readonly<Record<string, string>>): ResponseInit {
  return { status: 200, headers: new Headers({ ...cors, ...typeHeaders('application/json') }) }
}

/** What the body is, for a browser that might guess otherwise. */
export function typeHeaders(contentType: string): Record<string, string> {
  return { 'content-type': contentType, 'x-content-type-options': 'nosniff' }
}
