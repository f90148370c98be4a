/** The quiet answers, for the document: one row per path of protocols/quiet and its neighbours. */
import { answer, EMPTY } from './answers.ts'
import { list, object, type Parameter, type Response, type Schema, text } from './schema.ts'

export type QuietPath = {
  summary: string
  parameters?: Parameter[]
  responses: Record<string, Response>
}

const NO_LIST = list({}, 'Always empty.', { maxItems: 0 })
const NO_MAP = { type: 'object', description: 'Always empty.', maxProperties: 0 }
const NO_ERRORS = { errorsWhileComputingFlags: { const: false } }
const VERSION: Parameter = {
  name: 'v',
  in: 'query',
  description: 'Of the form of the answer.',
  schema: { type: 'string' },
  example: '2',
}

const path = (name: string, description: string, example: string): Parameter => ({
  name,
  in: 'path',
  required: true,
  description,
  schema: { type: 'string' },
  example,
})

const ok = (schema: Schema, contentType?: string) => ({ '200': answer('Nothing here.', schema, contentType) })

/** An answer that a client may keep, and ask again whether it still holds. */
function kept(schema: Schema, contentType?: string): Record<string, Response> {
  const whole = answer('The whole.', schema, contentType)
  const ETag = { $ref: '#/components/headers/ETag' }
  whole.headers!.ETag = ETag
  const same = EMPTY('It is still as the client has it.')
  same.headers!.ETag = ETag
  return { '200': whole, '304': same }
}

const NOT_KEPT = (signal: string): QuietPath => ({
  summary: `Says that ${signal} are not kept.`,
  responses: ok(
    object(
      {
        quota_limited: list(text(signal)),
        partialSuccess: object({ errorMessage: text('Why.') }, ['errorMessage']),
      },
      ['quota_limited', 'partialSuccess'],
    ),
  ),
})
const EMPTY_LIST = (summary: string, member: string): QuietPath => ({
  summary,
  responses: ok(object({ [member]: NO_LIST }, [member])),
})
const DEFINITIONS: QuietPath = {
  summary: 'Definitions of feature flags, for SDKs that decide by themselves: none.',
  responses: kept(object({ flags: NO_LIST, group_type_mapping: NO_MAP, cohorts: NO_MAP }, ['flags'])),
}
const CONFIG = object(
  {
    supportedCompression: list(text('A name.')),
    hasFeatureFlags: { const: false },
    autocapture_opt_out: { const: false },
    analytics: object({ endpoint: text('Where events go.') }, ['endpoint']),
  },
  ['supportedCompression', 'hasFeatureFlags', 'autocapture_opt_out', 'analytics'],
)
const JAVASCRIPT = 'application/javascript'
const SCRIPT = path('name', 'A file of the package posthog-js.', 'array.js')
const MISSING = { '404': { $ref: '#/components/responses/Refused404' } as unknown as Response }

export const QUIET_PATHS: Record<string, QuietPath> = {
  '/': { summary: 'What this is.', responses: ok({ const: 'capture' }, 'text/plain') },
  '/flags': {
    summary: 'Feature flags of a person: none.',
    parameters: [VERSION],
    responses: ok(object({ flags: NO_MAP, ...NO_ERRORS }, ['errorsWhileComputingFlags'])),
  },
  '/decide': {
    summary: 'Remote config and feature flags, for SDKs of before 2025.',
    parameters: [VERSION],
    responses: ok({ allOf: [CONFIG, object(NO_ERRORS, ['errorsWhileComputingFlags'])] }),
  },
  '/flags/definitions': DEFINITIONS,
  '/api/feature_flag/local_evaluation': DEFINITIONS,
  '/api/surveys': EMPTY_LIST('Surveys: none.', 'surveys'),
  '/api/product_tours': EMPTY_LIST('Product tours: none.', 'product_tours'),
  '/api/web_experiments': EMPTY_LIST('Web experiments: none.', 'experiments'),
  '/api/early_access_features': EMPTY_LIST('Early access features: none.', 'earlyAccessFeatures'),
  '/s': {
    summary: 'Says that session recordings are not kept.',
    responses: ok(
      object(
        { status: { const: 'Ok' }, quota_limited: list({ const: 'recordings' }), detail: text('Why.') },
        ['quota_limited', 'detail'],
      ),
    ),
  },
  '/i/v1/logs': NOT_KEPT('logs'),
  '/i/v1/metrics': NOT_KEPT('metrics'),
  '/i/v1/traces': NOT_KEPT('traces'),
}

/** Paths with a variable part. */
export const DYNAMIC_PATHS: Record<string, QuietPath & { tag: 'quiet' | 'segment' }> = {
  '/array/{token}/config': {
    tag: 'quiet',
    summary: 'Remote config of posthog-js and its relatives.',
    parameters: [path('token', 'The project token.', 'phc_example')],
    responses: kept(CONFIG),
  },
  '/array/{token}/config.js': {
    tag: 'quiet',
    summary: 'The same as a script, which posthog-js asks for first.',
    parameters: [path('token', 'The project token.', 'phc_example')],
    responses: kept({ type: 'string' }, JAVASCRIPT),
  },
  '/static/{name}': {
    tag: 'quiet',
    summary: 'The browser SDK, for pages that load it by the HTML snippet.',
    parameters: [SCRIPT],
    responses: { ...kept({ type: 'string' }, JAVASCRIPT), ...MISSING },
  },
  '/static/{version}/{name}': {
    tag: 'quiet',
    summary: 'The same in one version; 404 unless it is the one that is here.',
    parameters: [path('version', 'Whole, or its first numbers.', '1'), SCRIPT],
    responses: { ...kept({ type: 'string' }, JAVASCRIPT), ...MISSING },
  },
  '/api/projects/{project}/feature_flags/{key}/remote_config': {
    tag: 'quiet',
    summary: 'Remote config of one flag: there is none.',
    parameters: [path('project', 'Any.', '@current'), path('key', 'Any.', 'some-flag')],
    responses: MISSING,
  },
  '/v1/projects/{writeKey}/settings': {
    tag: 'segment',
    summary: "What Segment's browser SDK asks for first: one destination, which is here.",
    parameters: [path('writeKey', 'The project token.', 'phc_example')],
    responses: ok(object({ integrations: { type: 'object' } }, ['integrations'])),
  },
}

export const SEGMENT_METRICS: QuietPath = {
  summary: "Takes the counters that Segment's browser SDK keeps of itself, and forgets them.",
  responses: ok(object({ success: { const: true } }, ['success'])),
}

const PLAIN_OK = { description: 'Yes.', content: { 'text/plain': { schema: { type: 'string' } } } }
const PLAIN_NO = { description: 'Why not.', content: { 'text/plain': { schema: { type: 'string' } } } }

/** Every role answers these; they are no part of any protocol and have no CORS headers. */
export const HEALTH_PATHS: Record<string, QuietPath> = {
  '/_readiness': { summary: 'Can it store events now?', responses: { '200': PLAIN_OK, '503': PLAIN_NO } },
  '/_liveness': { summary: 'Does its loop turn?', responses: { '200': PLAIN_OK } },
  '/metrics': { summary: 'Metrics in the format of Prometheus.', responses: { '200': PLAIN_OK } },
}
