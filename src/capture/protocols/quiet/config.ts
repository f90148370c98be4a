/**
 * Remote config, flags and decide: what SDKs ask at their start. All of it says "nothing here", in the shape of each
 * version, so that clients go on to send events, compressed, and do not ask for more.
 */
import type { Answer } from '../../errors.ts'
import type { CaptureRequest, Route } from '../../request.ts'
import { answerKept, GET, GET_OR_POST, JAVASCRIPT, json, kept } from './answers.ts'

/**
 * `gzip-js` in the list keeps browsers compressing; `hasFeatureFlags: false` spares the flags request;
 * `autocapture_opt_out` must be a boolean, else autocapture stays off. `surveys` is left out: posthog-js 1.449 loads
 * the surveys script for `false`, and only a missing one keeps it from asking.
 */
export const CONFIG = {
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

const CONFIG_CACHE = 'public, max-age=60'
const CONFIG_JSON = kept(JSON.stringify(CONFIG), CONFIG_CACHE)
const CONFIG_PATH = /^\/array\/([A-Za-z0-9_-]{1,64})\/config(\.js)?$/

/** The route of `/array/<token>/config` and `config.js`, whose paths hold the token; undefined for other paths. */
export function configRoute(path: string): Route | undefined {
  const match = CONFIG_PATH.exec(path)
  if (!match) return undefined
  const [, token, script] = match
  const whole = script === undefined ? CONFIG_JSON : configScript(token!)
  return { methods: GET, label: '/array', answer: (incoming) => answerKept(incoming, whole) }
}

/** The pattern of the path leaves no character in the token that could end the string. */
function configScript(token: string) {
  const script = `(function(){window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};window._POSTHOG_REMOTE_CONFIG["${token}"]={config:${CONFIG_JSON.body},siteApps:[]}})();`
  return kept(script, CONFIG_CACHE, JAVASCRIPT)
}

const NO_FLAGS = { featureFlags: {}, featureFlagPayloads: {}, errorsWhileComputingFlags: false }

/** `/flags/`: records of flags since version 2, before that values; with `config=true` the config too. */
function answerFlags({ query }: CaptureRequest): Answer {
  const version = Number(query.get('v') ?? 1)
  const answer =
    version < 2 ? NO_FLAGS : { flags: {}, errorsWhileComputingFlags: false, requestId: Bun.randomUUIDv7() }
  return json(query.get('config') === 'true' ? { ...CONFIG, ...answer } : answer)
}

/** `/decide/`: config and flags in one; version 1 lists names, 2 and 3 map them to values, 4 to records. */
function answerDecide({ query }: CaptureRequest): Answer {
  const version = Number(query.get('v') ?? 1)
  if (version >= 4) return json({ ...CONFIG, flags: {}, errorsWhileComputingFlags: false })
  return json({ ...CONFIG, ...NO_FLAGS, ...(version < 2 ? { featureFlags: [] } : {}) })
}

/** What pollers with a personal key fetch, to decide flags by themselves. */
const DEFINITIONS = kept(
  JSON.stringify({ flags: [], group_type_mapping: {}, cohorts: {} }),
  'private, no-cache',
)
const DEFINITIONS_ROUTE: Route = { methods: GET, answer: (incoming) => answerKept(incoming, DEFINITIONS) }

export const CONFIG_ROUTES: [string, Route][] = [
  ['/flags', { methods: GET_OR_POST, answer: answerFlags }],
  ['/decide', { methods: GET_OR_POST, answer: answerDecide }],
  ['/flags/definitions', DEFINITIONS_ROUTE],
  ['/api/feature_flag/local_evaluation', DEFINITIONS_ROUTE],
]
