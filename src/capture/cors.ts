/**
 * Cross-origin headers, on every answer whatever its status: a 503 that a browser may not read looks like a broken
 * network to an SDK. Any origin is mirrored, because public websites are what sends events.
 */

/** Seconds that a browser may keep the answer to a preflight; Chromium keeps it for at most two hours. */
const PREFLIGHT_MAX_AGE_S = '7200'
const EXPOSED = 'Retry-After, PostHog-Request-Id'
const METHODS = 'GET, POST, OPTIONS'
const ANY_ORIGIN = { 'access-control-allow-origin': '*', 'access-control-expose-headers': EXPOSED }

/** Headers that let the page which sent `headers` read the answer. */
export function corsHeaders(headers: Headers): Record<string, string> {
  const origin = headers.get('origin')
  if (origin === null) return ANY_ORIGIN
  return {
    'access-control-allow-origin': origin,
    'access-control-allow-credentials': 'true',
    'access-control-expose-headers': EXPOSED,
    vary: 'origin',
  }
}

/** The answer to OPTIONS: whatever headers the page asked for are allowed. */
export function preflightHeaders(headers: Headers): Record<string, string> {
  const requested = headers.get('access-control-request-headers')
  const answer: Record<string, string> = {
    ...corsHeaders(headers),
    'access-control-allow-methods': METHODS,
    'access-control-max-age': PREFLIGHT_MAX_AGE_S,
  }
  if (requested !== null) answer['access-control-allow-headers'] = requested
  // A page on the public web that talks to a capture on a private network, as in development.
  if (headers.get('access-control-request-private-network') === 'true') {
    answer['access-control-allow-private-network'] = 'true'
  }
  return answer
}
