/**
 * What SDKs ask for besides storing events, answered so that they are content and send gzip: remote config, flags,
 * surveys and the like, all of them "nothing here" (capture spec §9.5). Nothing is stored or looked up.
 */
import type { Answer } from '../../errors.ts'
import type { CaptureRequest, Route, Routes } from '../../request.ts'

/**
 * `gzip-js` in the list keeps browsers compressing; `hasFeatureFlags: false` spares the flags request;
 * `autocapture_opt_out` must be a boolean, else autocapture stays off. `surveys` is left out: posthog-js 1.449 loads
 * the surveys script for `false`, and only a missing one keeps it from asking.
 */
const CONFIG = {
  supportedCompression: ['gzip', 'gzip-js'],
  hasFeatureFlags: false,
  autocapture_opt_out: false,
  analytics: { endpoint: '/e/' },
  elementsChainAsString: true,
  sessionRecording: false,
  heatmaps: false,
  capturePerformance: false,
  captureDeadClicks: false,
  autocaptureExceptions: false,
  errorTracking: { autocaptureExceptions: false, suppressionRules: [] },
  logs: { captureConsoleLogs: false },
  productTours: false,
  conversations: false,
  siteApps: [],
  toolbarParams: {},
  isAuthenticated: false,
  defaultIdentifiedOnly: true,
}
const CONFIG_TEXT = JSON.stringify(CONFIG)
const CONFIG_CACHE = { 'cache-control': 'public, max-age=60' }
const CONFIG_PATH = /^\/array\/([A-Za-z0-9_-]{1,64})\/config(\.js)?$/

const GET = ['GET'] as const
const GET_OR_POST = ['GET', 'POST'] as const

function json(value: unknown): Answer {
  return { status: 200, body: JSON.stringify(value) }
}

const NO_FLAGS = { featureFlags: {}, featureFlagPayloads: {}, errorsWhileComputingFlags: false }

/** `/flags/?v=2`; with `config=true` the config too, as older clients start. */
function answerFlags({ query }: CaptureRequest): Answer {
  const flags =
    query.get('v') === '1'
      ? NO_FLAGS
      : { flags: {}, errorsWhileComputingFlags: false, requestId: Bun.randomUUIDv7() }
  return json(query.get('config') === 'true' ? { ...CONFIG, ...flags } : flags)
}

/** `/decide/`: config and flags in one; version 1 lists flags in an array. */
function answerDecide({ query }: CaptureRequest): Answer {
  const flags = query.get('v') === '1' ? { ...NO_FLAGS, featureFlags: [] } : NO_FLAGS
  return json({ ...CONFIG, ...flags })
}

function fixed(value: unknown): Route {
  const answer = json(value)
  return { methods: GET, answer: () => answer }
}

const DEFINITIONS = fixed({ flags: [], group_type_mapping: {}, cohorts: {} })

export const QUIET_ROUTES: Routes = new Map<string, Route>([
  ['/flags', { methods: GET_OR_POST, answer: answerFlags }],
  ['/decide', { methods: GET_OR_POST, answer: answerDecide }],
  ['/api/surveys', fixed({ surveys: [] })],
  ['/api/product_tours', fixed({ product_tours: [] })],
  ['/api/web_experiments', fixed({ experiments: [] })],
  ['/api/early_access_features', fixed({ earlyAccessFeatures: [] })],
  ['/flags/definitions', DEFINITIONS],
  ['/api/feature_flag/local_evaluation', DEFINITIONS],
])

/** The route of `/array/<token>/config` and `config.js`, whose paths hold the token; undefined for other paths. */
export function configRoute(path: string): Route | undefined {
  const match = CONFIG_PATH.exec(path)
  if (!match) return undefined
  const [, token, script] = match
  if (script === undefined) {
    return { methods: GET, answer: () => ({ status: 200, body: CONFIG_TEXT, headers: CONFIG_CACHE }) }
  }
  // The pattern of the path leaves no character in the token that could end the string.
  const body = `(function(){window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};window._POSTHOG_REMOTE_CONFIG["${token}"]={config:${CONFIG_TEXT},siteApps:[]}})();`
  return {
    methods: GET,
    answer: () => ({
      status: 200,
      body,
      contentType: 'application/javascript; charset=utf-8',
      headers: CONFIG_CACHE,
    }),
  }
}
