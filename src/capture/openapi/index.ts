/**
 * The OpenAPI document of capture. What comes in: the settings, for the limits; what goes out: every path and method of
 * the routes' own table, with what it takes and every status that it can answer. Made by `npm run reference`; a test
 * asks a running capture for each operation with its example and holds the answer against its schema.
 *
 * Must hold: a route that nothing is said about here is an error, not a gap.
 */
import type { Settings } from '../../catalog/index.ts'
import type { Intake } from '../intake.ts'
import { CALL_TYPES } from '../protocols/segment/mapping-tables.ts'
import type { Route } from '../request.ts'
import { dynamicRoute, type Protocol, routesByProtocol } from '../routes.ts'
import { ANSWER_SCHEMAS, answer, EMPTY, HEADERS, RESPONSES, refusalsOf } from './answers.ts'
import { DYNAMIC_PATHS, HEALTH_PATHS, QUIET_PATHS, type QuietPath, SEGMENT_METRICS } from './quiet-paths.ts'
import {
  requestSchemas,
  segmentBody,
  V0_PARAMETERS,
  V0_QUERY,
  V1_PARAMETERS,
  v0Body,
  v1Body,
} from './requests.ts'
import { type Document, type Operation, ref } from './schema.ts'

export type { Document, Operation } from './schema.ts'

const TAGS: Record<Protocol | 'health', string> = {
  v0: 'Events of most PostHog SDKs. Valid events are stored though others of the request are not.',
  v1: 'Events of PostHog SDKs in capture mode v1: a result for each event.',
  segment: 'Messages of the SDKs of Segment and RudderStack.',
  quiet: 'What SDKs ask for besides: always "nothing here", so that they run without an error.',
  health: 'For load balancers and monitoring.',
}

/** Statuses that only routes outside of the protocols' own answer with. */
const NOT_OF_EVENTS = [404]

/** The routes are listed and never asked, so there is nothing behind them. */
const NO_INTAKE = undefined as unknown as Intake

export function captureOpenapi(settings: Settings, version: string): Document {
  const document: Document = {
    openapi: '3.1.0',
    info: {
      title: 'Headrace capture',
      version,
      summary: 'Takes events from SDKs. An answer of success means that the events are durable.',
      description:
        'Every path is served with and without a slash at its end. Every answer has CORS headers, whatever its status. No answer takes longer than 8 seconds.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: 'http://127.0.0.1:8010', description: '`HEADRACE_CAPTURE_ADDRESS`' }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths: {},
    components: {
      schemas: { ...requestSchemas(settings), ...ANSWER_SCHEMAS },
      responses: RESPONSES,
      headers: HEADERS,
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'The project token.' },
        writeKey: {
          type: 'http',
          scheme: 'basic',
          description: 'The project token as the user, no password.',
        },
      },
    },
  }
  const add = (
    path: string,
    methods: readonly string[],
    operation: (method: string) => Omit<Operation, 'operationId'>,
  ) => {
    const operations: Record<string, Operation> = {}
    for (const method of methods)
      operations[method.toLowerCase()] = { operationId: idOf(method, path), ...operation(method) }
    document.paths[path] = operations
  }

  for (const [protocol, routes] of Object.entries(routesByProtocol(routeOptions(settings)))) {
    for (const [path, { methods }] of routes) {
      add(path, [...methods, 'OPTIONS'], (method) =>
        method === 'OPTIONS'
          ? preflight(protocol)
          : operationOf(protocol as Protocol, path, method, settings),
      )
    }
  }
  for (const [path, described] of Object.entries(DYNAMIC_PATHS)) {
    add(path, [...methodsOf(path, described), 'OPTIONS'], (method) =>
      method === 'OPTIONS'
        ? {
            ...preflight(described.tag),
            ...(described.parameters ? { parameters: described.parameters } : {}),
          }
        : quiet(described.tag, described),
    )
  }
  for (const [path, described] of Object.entries(HEALTH_PATHS))
    add(path, ['GET'], () => quiet('health', described))
  return document
}

function routeOptions(settings: Settings) {
  return {
    intake: NO_INTAKE,
    clockTrustMs: settings.captureClockTrustMs,
    limits: {
      inflatedBytesMax: settings.captureInflatedBytesMax,
      ratioMax: settings.captureRatioMax,
      lz64BytesMax: settings.captureLz64BytesMax,
      batchEventsMax: settings.captureBatchEventsMax,
      batchValuesMax: settings.captureBatchValuesMax,
      eventBytesMax: settings.captureEventBytesMax,
      eventDepthMax: settings.captureEventDepthMax,
      eventKeysMax: settings.captureEventKeysMax,
    },
  }
}

function operationOf(
  protocol: Protocol,
  path: string,
  method: string,
  settings: Settings,
): Omit<Operation, 'operationId'> {
  switch (protocol) {
    case 'v0':
      return v0(path, method, settings)
    case 'v1':
      return v1(settings)
    case 'segment':
      return path === '/v1/m' ? quiet('segment', SEGMENT_METRICS) : segment(path)
    case 'quiet': {
      const described = QUIET_PATHS[path]
      if (described === undefined) throw new Error(`nothing is said about ${path} in the document of capture`)
      return quiet('quiet', described)
    }
  }
}

function v0(path: string, method: string, settings: Settings): Omit<Operation, 'operationId'> {
  const isGet = method === 'GET'
  return {
    summary: path === '/batch' ? 'Stores a batch of events.' : 'Stores events.',
    tags: ['v0'],
    parameters: isGet ? [...V0_PARAMETERS, V0_QUERY] : V0_PARAMETERS,
    ...(isGet ? {} : { requestBody: v0Body(settings) }),
    responses: {
      '200': answer('Durable, all but those in `rejected`.', ref('Stored')),
      '204': EMPTY('The same, for `beacon=1`.'),
      ...refusalsOf('Refused', NOT_OF_EVENTS),
    },
  }
}

function v1(settings: Settings): Omit<Operation, 'operationId'> {
  const results = answer('What became of each event.', ref('V1Results'))
  results.headers!['PostHog-Request-Id'] = { $ref: '#/components/headers/RequestId' }
  results.headers!['Retry-After'] = { $ref: '#/components/headers/RetryAfter' }
  return {
    summary: 'Stores a batch of events and tells what became of each.',
    tags: ['v1'],
    security: [{ token: [] }],
    parameters: V1_PARAMETERS,
    requestBody: v1Body(settings),
    responses: { '200': results, ...refusalsOf('V1Refused') },
  }
}

/** `/v1/track` or its short form `/v1/t`, and so on; what is no call is a batch. */
function segment(path: string): Omit<Operation, 'operationId'> {
  const name = path.slice('/v1/'.length)
  const call = CALL_TYPES.find((one) => one === name || one[0] === name)
  return {
    summary: call ? `Stores the message of ${call}.` : 'Stores a batch of messages.',
    ...(name === 'import' ? { description: 'They go to the lane of imports.' } : {}),
    tags: ['segment'],
    security: [{ writeKey: [] }, {}],
    requestBody: segmentBody(call),
    responses: {
      '200': answer('Durable, all but those in `rejected`.', ref('SegmentStored')),
      ...refusalsOf('Refused', NOT_OF_EVENTS),
    },
  }
}

function quiet(tag: string, { summary, parameters, responses }: QuietPath): Omit<Operation, 'operationId'> {
  return { summary, tags: [tag], ...(parameters ? { parameters } : {}), responses }
}

function preflight(tag: string): Omit<Operation, 'operationId'> {
  return {
    summary: 'Tells a browser that it may send.',
    tags: [tag],
    responses: { '200': { $ref: '#/components/responses/Preflight' } },
  }
}

/** The path with the examples of its parameters, and what the server takes there. */
function methodsOf(path: string, { parameters = [] }: QuietPath): readonly string[] {
  const filled = parameters.reduce(
    (sum, { name, example }) => sum.replace(`{${name}}`, String(example)),
    path,
  )
  const route: Route | undefined = dynamicRoute(filled)
  if (route === undefined)
    throw new Error(`the document of capture names ${path}, and nothing is served there`)
  return route.methods
}

/** `postIV0E` of POST and `/i/v0/e`. */
function idOf(method: string, path: string): string {
  const words = path.split(/[^A-Za-z0-9]+/).filter((word) => word !== '')
  return (
    method.toLowerCase() +
    (words.length === 0 ? 'Root' : words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join(''))
  )
}
