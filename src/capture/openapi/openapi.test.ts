/**
 * The document of capture against its code: it is valid OpenAPI, every route and every error is in it, and what a
 * running capture answers to each operation's own example is what the document says.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { Validator } from '@seriousme/openapi-schema-validator'
import Ajv from 'ajv/dist/2020.js'
import { startTestCapture, type TestCapture } from '../../../test/support/capture.ts'
import { readSettings } from '../../catalog/index.ts'
import { CAPTURE_ERRORS, REJECT_REASONS } from '../errors.ts'
import { dynamicRoute } from '../routes.ts'
import { captureOpenapi, type Operation } from './index.ts'
import type { Response as Answer, Parameter } from './schema.ts'

setDefaultTimeout(60_000)

const document = captureOpenapi(readSettings({}, {}), '0.0.0-test')
const ajv = new Ajv({ strict: false, allErrors: true })
ajv.addFormat('uuid', true)
ajv.addFormat('date-time', true)
ajv.addSchema(document, 'capture')

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
)
const find = (method: string, path: string) =>
  operations.find((one) => one.method === method && one.path === path)!

let capture: TestCapture
beforeAll(async () => {
  capture = await startTestCapture({ captureBodyBytesMax: 20_000, captureEventBytesMax: 5_000 })
})
afterAll(async () => {
  expect(capture.fatal).toEqual([])
  await capture.stop()
})

/** What the document says of a status, its references followed. */
function documented(operation: Operation, status: number): { at: string; answer: Answer } | undefined {
  const said = operation.responses[status]
  if (said === undefined) return undefined
  if (!('$ref' in said)) {
    const { path, method } = operations.find((one) => one.operation === operation)!
    return { at: `/paths/${escaped(path)}/${method.toLowerCase()}/responses/${status}`, answer: said }
  }
  const name = said.$ref.slice('#/components/responses/'.length)
  return { at: `/components/responses/${name}`, answer: document.components.responses![name] as Answer }
}

const escaped = (part: string) => part.replaceAll('~', '~0').replaceAll('/', '~1')

/** Holds an answer of the running capture against the document. */
async function expectAsDocumented(response: Response, operation: Operation): Promise<void> {
  const said = documented(operation, response.status)
  const body = await response.text()
  expect({ status: response.status, documented: said !== undefined, body }).toMatchObject({
    documented: true,
  })
  const { at, answer } = said!
  for (const name of Object.keys(answer.headers ?? {})) {
    // These come only with the reason for them.
    if (response.status === 200 && (name === 'Retry-After' || name === 'PostHog-Request-Id')) continue
    expect({ header: name, value: response.headers.get(name) }).not.toMatchObject({ value: null })
  }
  if (answer.content === undefined) {
    expect(body).toBe('')
    return
  }
  const type = response.headers.get('content-type')!.split(';')[0]!
  expect(Object.keys(answer.content)).toContain(type)
  const value = type === 'application/json' ? JSON.parse(body) : body
  const validate = ajv.compile({ $ref: `capture#${at}/content/${escaped(type)}/schema` })
  expect({ valid: validate(value), errors: validate.errors ?? [], body }).toMatchObject({
    valid: true,
    errors: [],
  })
}

/** The request of an operation with the examples of its parameters, and `body` under `type`. */
function send(
  { path, method, operation }: (typeof operations)[number],
  type?: string,
  body?: unknown,
  more: { headers?: Record<string, string>; query?: string } = {},
): Promise<Response> {
  const headers: Record<string, string> = { origin: 'https://shop.example' }
  const query = new URLSearchParams(more.query)
  let filled = path
  for (const { name, in: place, example } of operation.parameters ?? ([] as Parameter[])) {
    if (example === undefined) continue
    if (place === 'path') filled = filled.replace(`{${name}}`, String(example))
    if (place === 'header') headers[name] = String(example)
    if (place === 'query') query.set(name, String(example))
  }
  const security = operation.security?.[0] ?? {}
  if ('token' in security) headers.authorization = 'Bearer phc_example'
  if ('writeKey' in security) headers.authorization = `Basic ${btoa('phc_example:')}`
  if (type !== undefined) headers['content-type'] = type
  return fetch(`${capture.url}${filled}?${query}`, {
    method,
    headers: { ...headers, ...more.headers },
    ...(body === undefined ? {} : { body: encoded(type!, body) }),
  })
}

function encoded(type: string, body: unknown): string {
  if (typeof body === 'string') return body
  if (type === 'application/x-www-form-urlencoded') {
    return new URLSearchParams(body as Record<string, string>).toString()
  }
  return JSON.stringify(body)
}

test('is valid OpenAPI 3.1', async () => {
  const result = await new Validator().validate(structuredClone(document))
  expect(result).toEqual({ valid: true })
})

describe('every operation answers its own example as it says', () => {
  test.each(operations.map((one) => [`${one.method} ${one.path}`, one] as const))(
    '%s',
    async (_name, one) => {
      const { operation, method } = one
      const success = Object.keys(operation.responses)[0]
      const bodies = Object.entries(operation.requestBody?.content ?? {}).flatMap(
        ([type, { examples = {} }]) => Object.values(examples).map(({ value }) => [type, value] as const),
      )
      if (operation.requestBody) expect(bodies.length).toBeGreaterThan(0)
      const requests =
        bodies.length > 0
          ? bodies
          : method === 'POST'
            ? [['application/json', {}] as const]
            : [[undefined, undefined] as const]
      for (const [type, body] of requests) {
        const response = await send(one, type, body)
        expect({ type, status: String(response.status) }).toEqual({ type, status: success! })
        await expectAsDocumented(response, operation)
      }
    },
  )

  test.each(
    operations.flatMap((one) => ('304' in one.operation.responses ? [[one.path, one] as const] : [])),
  )('304 of %s', async (_name, one) => {
    const etag = (await send(one)).headers.get('etag')!
    const again = await send(one, undefined, undefined, { headers: { 'if-none-match': etag } })
    expect(again.status).toBe(304)
    await expectAsDocumented(again, one.operation)
  })

  test('204 of a beacon', async () => {
    const one = find('POST', '/e')
    const [type, { examples }] = Object.entries(one.operation.requestBody!.content)[0]!
    const response = await send(one, type, Object.values(examples!)[0]!.value, { query: 'beacon=1' })
    expect(response.status).toBe(204)
    await expectAsDocumented(response, one.operation)
  })

  test('the examples of bodies are what their schemas say', () => {
    for (const { path, method, operation } of operations) {
      for (const [type, { examples = {} }] of Object.entries(operation.requestBody?.content ?? {})) {
        const at = `/paths/${escaped(path)}/${method.toLowerCase()}/requestBody/content/${escaped(type)}/schema`
        const validate = ajv.compile({ $ref: `capture#${at}` })
        for (const { value } of Object.values(examples)) {
          expect({ path, type, valid: validate(value), errors: validate.errors }).toMatchObject({
            valid: true,
          })
        }
      }
    }
  })
})

describe('refusals are as they say', () => {
  const event = { event: 'e', distinct_id: 'd' }
  const time = '2026-01-31T12:00:00Z'
  const big = { ...event, properties: { p: 'x'.repeat(6_000) } }
  const rows: [
    name: string,
    path: string,
    status: number,
    body: unknown,
    headers?: Record<string, string>,
  ][] = [
    ['no body', '/batch', 400, ''],
    ['not JSON', '/e', 400, 'hello'],
    ['nothing can be stored', '/batch', 400, { api_key: 't', batch: [{ event: 7 }] }],
    ['no token', '/batch', 401, { batch: [event] }],
    ['a body that is too large', '/capture', 413, 'x'.repeat(20_001)],
    ['an event that is too large', '/batch', 413, { api_key: 't', batch: [big] }],
    ['some are stored', '/batch', 200, { api_key: 't', batch: [event, { event: 7 }, big] }],
    ['a message that is none', '/v1/track', 400, { userId: 'u' }],
    ['no write key', '/v1/track', 401, { userId: 'u', event: 'e' }, { authorization: '' }],
    ['v1: no header', '/i/v1/analytics/events', 400, { batch: [] }, { 'posthog-attempt': '' }],
    ['v1: not a bearer', '/i/v1/analytics/events', 401, { batch: [] }, { authorization: 'Basic x' }],
    ['v1: another type', '/i/v1/analytics/events', 415, '<a/>', { 'content-type': 'text/xml' }],
    ['v1: too large', '/i/v1/analytics/events', 413, 'x'.repeat(20_001)],
    ['v1: an empty batch', '/i/v1/analytics/events', 400, { created_at: time, batch: [] }],
    [
      'v1: some are stored',
      '/i/v1/analytics/events',
      200,
      { created_at: time, batch: [{ ...event, timestamp: time }, { uuid: 'no' }, { uuid: 'x', event: 7 }] },
    ],
  ]
  test.each(rows)('%s', async (_name, path, status, body, headers = {}) => {
    const one = find('POST', path)
    const response = await send(one, 'application/json', body, { headers })
    expect(response.status).toBe(status)
    await expectAsDocumented(response, one.operation)
  })

  test.each(['/batch', '/v1/track', '/i/v1/analytics/events'])('another method on %s', async (path) => {
    const one = find('POST', path)
    const response = await send({ ...one, method: 'DELETE' })
    expect(response.status).toBe(405)
    await expectAsDocumented(response, one.operation)
  })
})

describe('nothing is left out', () => {
  test('every path takes the methods that it is said to take, and OPTIONS', async () => {
    for (const [path, methods] of Object.entries(document.paths)) {
      if (document.paths[path]!.get?.tags.includes('health')) continue
      const one = operations.find((other) => other.path === path)!
      const refused = await send({ ...one, method: 'DELETE' })
      const allowed = refused.headers.get('allow')!.split(', ').sort()
      expect({ path, allowed }).toEqual({
        path,
        allowed: Object.keys(methods)
          .map((name) => name.toUpperCase())
          .sort(),
      })
    }
  })

  test('every kind of path with a variable part', () => {
    const sources = [...new Bun.Glob('../protocols/**/*.ts').scanSync({ cwd: import.meta.dirname })]
    expect(sources.length).toBeGreaterThan(10)
    const root = import.meta.dirname
    return Promise.all(sources.map((file) => Bun.file(`${root}/${file}`).text())).then((texts) => {
      const labels = new Set(
        texts.flatMap((text) => [...text.matchAll(/label: '([^']+)'/g)].map(([, label]) => label!)),
      )
      const said = Object.entries(document.paths).flatMap(([path, methods]) => {
        const parameters = Object.values(methods)[0]!.parameters ?? []
        const filled = parameters.reduce(
          (sum, { name, example }) => sum.replace(`{${name}}`, String(example)),
          path,
        )
        return dynamicRoute(filled)?.label ?? []
      })
      expect([...new Set(said)].sort()).toEqual([...labels].sort())
    })
  })

  test('every error that a request can be refused with, under its status', () => {
    const responses = document.components.responses as Record<string, Answer>
    const used = new Set(
      operations.flatMap(({ operation }) =>
        Object.values(operation.responses).flatMap((said) => ('$ref' in said ? [said.$ref] : [])),
      ),
    )
    for (const [code, { status }] of Object.entries(CAPTURE_ERRORS) as [string, { status?: number }][]) {
      if (status === undefined) continue
      const names = [`Refused${status}`, `V1Refused${status}`].filter(
        (name) =>
          responses[name]?.description.includes(`\`${code}\``) && used.has(`#/components/responses/${name}`),
      )
      expect({ code, documented: names.length > 0 }).toEqual({ code, documented: true })
    }
  })

  test('a body that came too slowly: to be sent again, by the status that its SDKs send again after', () => {
    const responses = document.components.responses as Record<string, Answer>
    const named = Object.entries(responses).filter(([, one]) =>
      one.description.includes('`HR_CAPTURE_BODY_TIMEOUT`'),
    )
    expect(named.map(([name, { headers }]) => [name, headers!['Retry-After'] !== undefined])).toEqual([
      ['Refused503', true],
      ['V1Refused408', true],
    ])
  })

  test('every reason', () => {
    const { reason } = (
      document.components.schemas!.Rejection as { properties: { reason: { enum: string[] } } }
    ).properties
    expect(reason.enum).toEqual(Object.keys(REJECT_REASONS))
  })
})
