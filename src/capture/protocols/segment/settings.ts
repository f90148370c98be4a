/**
 * What Segment's browser SDK asks for besides storing events: the settings of its source, from the address that it was
 * given as CDN, and a place for its own metrics. The settings name this host, so that `cdnURL` is all a page needs.
 */
import type { Answer } from '../../errors.ts'
import type { CaptureRequest, Route, Routes } from '../../request.ts'

const SETTINGS_PATH = /^\/v1\/projects\/([A-Za-z0-9_-]{1,64})\/settings$/
/** A host as browsers write it, with or without a port. */
const HOST = /^[A-Za-z0-9._-]{1,253}(:\d{1,5})?$|^\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?$/

/** `/v1/m` takes the SDK's counters of itself, which nobody here asked for; their body is not read. */
export const QUIET_SEGMENT_ROUTES: Routes = new Map<string, Route>([
  ['/v1/m', { methods: ['POST'], answer: () => ({ status: 200, body: '{"success":true}' }) }],
])

/** The route of a source's settings, whose path holds the write key; undefined for other paths. */
export function segmentSettingsRoute(path: string): Route | undefined {
  const writeKey = SETTINGS_PATH.exec(path)?.[1]
  if (writeKey === undefined) return undefined
  return {
    methods: ['GET'],
    label: '/v1/projects/settings',
    answer: (request) => answerSettings(writeKey, request),
  }
}

/**
 * One destination, ourselves; no plan, no plugins, no metrics: the SDK fetches nothing more. The answer names the host
 * that this one client asked for, so no cache between us may keep it.
 */
function answerSettings(writeKey: string, { request }: CaptureRequest): Answer {
  const { headers } = request
  const host = headers.get('host') ?? ''
  const segment = {
    apiKey: writeKey,
    ...(HOST.test(host) ? { apiHost: `${host}/v1`, protocol: schemeOf(headers) } : {}),
    addBundledMetadata: false,
  }
  const settings = { integrations: { 'Segment.io': segment }, metrics: { sampleRate: 0 } }
  return { status: 200, body: JSON.stringify(settings), headers: { 'cache-control': 'private, max-age=60' } }
}

/** A secure page may not send to `http`; whoever ends TLS before us says so, or the page's origin does. */
function schemeOf(headers: Headers): 'http' | 'https' {
  const forwarded = headers.get('x-forwarded-proto')
  if (forwarded !== null) return forwarded.split(',')[0]!.trim().toLowerCase() === 'https' ? 'https' : 'http'
  return headers.get('origin')?.startsWith('https://') ? 'https' : 'http'
}
