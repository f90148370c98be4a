/**
 * What SDKs ask for besides storing events, answered so that they are content and send gzip: remote config, flags,
 * surveys and the like, all of them "nothing here" (capture spec §9.5). Nothing is stored or looked up.
 *
 * What a client sends here that is not an event (recordings, logs, metrics, traces) is not kept, and the answer says so
 * in the way that its SDK understands: `quota_limited` makes posthog-js stop for a minute instead of trying again, and
 * OpenTelemetry exporters show `partialSuccess.errorMessage`.
 */
import { captureError } from '../../errors.ts'
import type { Route, Routes } from '../../request.ts'
import { fixed, GET, GET_OR_POST, POST } from './answers.ts'
import { CONFIG_ROUTES, configRoute } from './config.ts'
import { staticRoute } from './scripts.ts'

/** What load balancers and people find at the root. */
const ROOT: Route = {
  methods: GET,
  answer: () => ({ status: 200, body: 'capture', contentType: 'text/plain; charset=utf-8' }),
}

function notKept(batchKey: string, signal: string): Route {
  return fixed(POST, {
    quota_limited: [batchKey],
    partialSuccess: { errorMessage: `Headrace stores events; ${signal} are not kept` },
  })
}

export const QUIET_ROUTES: Routes = new Map<string, Route>([
  ['/', ROOT],
  ...CONFIG_ROUTES,
  ['/api/surveys', fixed(GET, { surveys: [] })],
  ['/api/product_tours', fixed(GET, { product_tours: [] })],
  ['/api/web_experiments', fixed(GET, { experiments: [] })],
  ['/api/early_access_features', fixed(GET, { earlyAccessFeatures: [] })],
  [
    '/s',
    fixed(GET_OR_POST, {
      status: 'Ok',
      quota_limited: ['recordings'],
      detail: 'Headrace stores events; session recordings are not kept',
    }),
  ],
  ['/i/v1/logs', notKept('logs', 'logs')],
  ['/i/v1/metrics', notKept('metrics', 'metrics')],
  ['/i/v1/traces', notKept('traces', 'traces')],
])

const REMOTE_CONFIG_PATH = /^\/api\/projects\/[^/]{1,64}\/feature_flags\/[^/]{1,400}\/remote_config$/

/** The payload of a flag that only a person could have made: there is none, which is an error to ask for. */
const REMOTE_CONFIG: Route = {
  methods: GET,
  label: '/api/projects',
  answer: () => {
    throw captureError('HR_CAPTURE_NOT_FOUND', 'Headrace has no feature flags, so none with a remote config')
  },
}

/** Quiet routes whose path holds a variable part; undefined for other paths. */
export function quietRoute(path: string): Route | undefined {
  return configRoute(path) ?? staticRoute(path) ?? (REMOTE_CONFIG_PATH.test(path) ? REMOTE_CONFIG : undefined)
}
