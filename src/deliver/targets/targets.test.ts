/** What each kind sends for an event, and what its options may be; a server on loopback answers. */
import { afterAll, describe, expect, test } from 'bun:test'
import { plainEventRow } from '../../../test/support/event-row.ts'
import { EVENTS, type EventRow, NIL_UUID } from '../../event/index.ts'
import { EventView } from '../event-view.ts'
import { AddressRules } from '../http/address.ts'
import { HttpClient } from '../http/client.ts'
import { newSigningSecret } from '../http/sign.ts'
import { TARGET_KINDS, targetKind } from './index.ts'
import type { TargetContext } from './target.ts'

type Got = { method: string; path: string; search: string; headers: Headers; text: string }
let got: Got[] = []
let answer: (request: Got) => Response = () => new Response('{}')
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  async fetch(request) {
    const { pathname: path, search } = new URL(request.url)
    const one = { method: request.method, path, search, headers: request.headers, text: await request.text() }
    got.push(one)
    return answer(one)
  },
})
afterAll(() => server.stop(true))
const URL_HERE = `http://127.0.0.1:${server.port}`

const TIME_MS = Date.UTC(2026, 10, 23, 12)
const context: TargetContext = {
  http: new HttpClient({ rules: AddressRules.read('127.0.0.1') }),
  destinationId: '01890000-0000-7000-8000-00000000000d',
  teamId: 1,
  timeoutMs: 2_000,
  clock: () => TIME_MS,
}

function delivery(n: number, row: Partial<EventRow> = {}) {
  const made = plainEventRow({
    uuid: `01890000-0000-7000-8000-00000000000${n}`,
    event: 'order paid',
    distinct_id: 'ada',
    timestamp: TIME_MS,
    created_at: TIME_MS,
    properties: '{"amount":12,"$current_url":"https://shop.test/a?b"}',
    person_properties: '{"email":"ada@shop.test"}',
    ...row,
  })
  const source = { logId: NIL_UUID, partition: 0, offset: n, sub: 0 }
  return {
    id: `0000000${n}-0000-5000-8000-000000000000`,
    view: new EventView(EVENTS.encode(made), source, 1),
  }
}

async function send(kind: string, options: Record<string, unknown>, deliveries = [delivery(1)]) {
  got = []
  const target = targetKind(kind).open(options, context)
  const verdicts = await target.send(deliveries, new AbortController().signal)
  return { verdicts, got: got[0]!, body: parse(got[0]?.text ?? '') }
}

function parse(text: string) {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** Kind, options, path, and what its body holds. */
const SENT: [string, Record<string, unknown>, string, unknown][] = [
  [
    'slack',
    { url: `${URL_HERE}/s`, text: '{event}: {properties.amount} €' },
    '/s',
    { text: 'order paid: 12 €' },
  ],
  [
    'discord',
    { url: `${URL_HERE}/d` },
    '/d',
    { content: 'order paid by ada', allowed_mentions: { parse: [] } },
  ],
  [
    'segment',
    { url: `${URL_HERE}/v1/batch`, write_key: 'k' },
    '/v1/batch',
    {
      batch: [
        {
          type: 'track',
          event: 'order paid',
          userId: 'ada',
          messageId: '00000001-0000-5000-8000-000000000000',
        },
      ],
    },
  ],
  [
    'posthog',
    { url: `${URL_HERE}/batch/`, api_key: 'phc_x' },
    '/batch/',
    { api_key: 'phc_x', batch: [{ uuid: '01890000-0000-7000-8000-000000000001', event: 'order paid' }] },
  ],
  [
    'amplitude',
    { url: `${URL_HERE}/a`, api_key: 'k' },
    '/a',
    {
      api_key: 'k',
      events: [
        { user_id: 'ada__', event_type: 'order paid', time: TIME_MS, event_properties: { amount: 12 } },
      ],
    },
  ],
  [
    'mixpanel',
    { url: `${URL_HERE}/import`, token: 't' },
    '/import',
    [
      {
        event: 'order paid',
        properties: { distinct_id: 'ada', amount: 12, $insert_id: '00000001-0000-5000-8000-000000000000' },
      },
    ],
  ],
  [
    'ga4',
    { url: `${URL_HERE}/mp`, measurement_id: 'G-1', api_secret: 's' },
    '/mp',
    {
      client_id: 'ada',
      timestamp_micros: TIME_MS * 1_000,
      events: [{ name: 'order_paid', params: { amount: 12 } }],
    },
  ],
  [
    'hubspot',
    { url: `${URL_HERE}/h`, access_token: 't', properties: { paid: '{properties.amount}' } },
    '/h',
    {
      inputs: [
        { idProperty: 'email', id: 'ada@shop.test', properties: { email: 'ada@shop.test', paid: 12 } },
      ],
    },
  ],
  [
    'customerio',
    { url: URL_HERE, site_id: 's', api_key: 'k', user: '{person.properties.email}' },
    '/customers/ada%40shop.test/events',
    { name: 'order paid', timestamp: TIME_MS / 1_000, data: { amount: 12 } },
  ],
  [
    'braze',
    { url: `${URL_HERE}/users/track`, api_key: 'k' },
    '/users/track',
    { events: [{ external_id: 'ada', name: 'order paid', properties: { amount: 12 } }] },
  ],
  [
    'rest',
    {
      url: `${URL_HERE}/people/{distinct_id}/{properties.$current_url}`,
      method: 'PUT',
      body: { sum: '{properties.amount}' },
    },
    '/people/ada/https%3A%2F%2Fshop.test%2Fa%3Fb',
    { sum: 12 },
  ],
  [
    'clickhouse',
    { url: `${URL_HERE}/`, table: 'shop.events', columns: { id: '{id}', n: '{properties.amount}' } },
    '/',
    { id: '00000001-0000-5000-8000-000000000000', n: 12 },
  ],
]

describe('what is sent', () => {
  test.each(SENT)('%s', async (kind, options, path, body) => {
    answer = () => new Response('{}')
    const sent = await send(kind, options)
    expect(sent.verdicts).toEqual([{ kind: 'delivered', status: 200, response: '{}' }])
    expect(sent.got.path).toBe(path)
    expect(sent.body).toMatchObject(body as object)
  })

  test('every kind has been tried', () => {
    const tried = new Set([...SENT.map(([kind]) => kind), 'webhook', 's3', 'postgres', 'kafka'])
    expect(TARGET_KINDS.map(({ kind }) => kind).filter((kind) => !tried.has(kind))).toEqual([])
  })

  test('segment: page views, identifications and groups are calls of their own; without a person it is anonymous', async () => {
    const { body } = await send('segment', { url: URL_HERE, write_key: 'k' }, [
      delivery(1, { event: '$pageview', person_mode: 'propertyless' }),
      delivery(2, { event: '$identify', properties: '{"$set":{"a":1},"$set_once":{"b":2}}' }),
      delivery(3, { event: '$groupidentify', properties: '{"$group_key":"acme","$group_set":{"c":3}}' }),
    ])
    expect(body.batch).toMatchObject([
      { type: 'page', anonymousId: 'ada', properties: { url: 'https://shop.test/a?b' } },
      { type: 'identify', userId: 'ada', traits: { a: 1, b: 2 } },
      { type: 'group', groupId: 'acme', traits: { c: 3 } },
    ])
  })

  test('clickhouse: a batch that is sent again carries the same token', async () => {
    const options = { url: `${URL_HERE}/`, table: 't' }
    const tokens = []
    for (const deliveries of [[delivery(1), delivery(2)], [delivery(1), delivery(2)], [delivery(2)]])
      tokens.push(
        new URLSearchParams((await send('clickhouse', options, deliveries)).got.search).get(
          'insert_deduplication_token',
        ),
      )
    expect(tokens[0]).toBe(tokens[1]!)
    expect(tokens[2]).not.toBe(tokens[0]!)
  })

  test('s3: lines in an object, under a name that is the same at every attempt, with a signature', async () => {
    const options = {
      endpoint: URL_HERE,
      bucket: 'events',
      access_key_id: 'a',
      secret_access_key: 's',
      prefix: 'raw/',
    }
    const first = await send('s3', options, [delivery(1), delivery(2)])
    const again = await send('s3', options, [delivery(1), delivery(2)])
    expect(first.got.method).toBe('PUT')
    expect(first.got.path).toMatch(/^\/events\/raw\/2026-11-23\/[0-9a-f-]{36}\.jsonl$/)
    expect(again.got.path).toBe(first.got.path)
    expect(first.got.search).toContain('X-Amz-Signature=')
    expect(
      first.got.text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).id),
    ).toEqual([delivery(1).id, delivery(2).id])
  })
})

describe('rest with a token', () => {
  test('it is asked for once, and again when it is refused', async () => {
    let tokens = 0
    answer = ({ path, headers }) => {
      if (path === '/token') return Response.json({ access_token: `t${++tokens}`, expires_in: 3_600 })
      return new Response('', {
        status: headers.get('authorization') === 'Bearer t1' && tokens === 1 && got.length > 3 ? 401 : 200,
      })
    }
    const oauth = { token_url: `${URL_HERE}/token`, client_id: 'me', client_secret: 'mine', scope: 'write' }
    const target = targetKind('rest').open({ url: `${URL_HERE}/x`, oauth }, context)
    got = []
    const { signal } = new AbortController()
    const kinds: string[] = []
    for (let i = 0; i < 4; i++) kinds.push((await target.send([delivery(1)], signal))[0]!.kind)
    expect(kinds).toEqual(['delivered', 'delivered', 'failed', 'delivered'])
    expect(tokens).toBe(2)
    expect(got[0]!.text).toBe('grant_type=client_credentials&scope=write')
    answer = () => new Response('{}')
  })

  test('without a token nothing is sent', async () => {
    answer = ({ path }) => new Response('no', { status: path === '/token' ? 400 : 200 })
    const oauth = { token_url: `${URL_HERE}/token`, client_id: 'me', client_secret: 'mine' }
    const { verdicts } = await send('rest', { url: `${URL_HERE}/x`, oauth })
    expect(verdicts[0]).toMatchObject({ kind: 'failed', status: 0, response: 'no token: 400 no' })
    expect(got).toHaveLength(1)
    answer = () => new Response('{}')
  })
})

describe('answers', () => {
  test.each([
    [new Response('', { status: 204 }), { kind: 'delivered', status: 204 }],
    [
      new Response('', { status: 301, headers: { location: 'http://x/' } }),
      { kind: 'failed', response: 'redirect to http://x/, not followed' },
    ],
    [new Response('', { status: 404 }), { kind: 'failed', status: 404 }],
    [new Response('', { status: 410 }), { kind: 'gone' }],
    [new Response('', { status: 429, headers: { 'retry-after': '7' } }), { kind: 'busy', waitMs: 7_000 }],
    [
      new Response('', { status: 503, headers: { 'retry-after': new Date(TIME_MS + 60_000).toUTCString() } }),
      { kind: 'busy', waitMs: 60_000 },
    ],
    [new Response('', { status: 503 }), { kind: 'failed', status: 503 }],
    [new Response('', { status: 500, headers: { 'retry-after': '7' } }), { kind: 'failed', status: 500 }],
  ])('%#', async (response, verdict) => {
    answer = () => response
    const { verdicts } = await send('webhook', { url: URL_HERE })
    expect(verdicts[0]).toMatchObject(verdict)
    answer = () => new Response('{}')
  })
})

describe('options are refused', () => {
  const signing = newSigningSecret()
  test.each([
    ['webhook', {}, 'options.url of a webhook must be'],
    ['webhook', { url: 'ftp://x/' }, 'options.url of a webhook must be an http or https URL'],
    ['webhook', { url: 'http://user:pw@x/' }, 'without a user name'],
    ['webhook', { url: URL_HERE, bach: 1 }, 'options.bach is not known to a webhook'],
    [
      'webhook',
      { url: URL_HERE, batch: 0 },
      'options.batch of a webhook must be a whole number from 1 to 1000',
    ],
    ['webhook', { url: URL_HERE, headers: { 'Webhook-Id': 'x' } }, 'without Webhook-Id'],
    ['webhook', { url: URL_HERE, signing: 'whsec_c2hvcnQ=' }, 'a signing secret is whsec_'],
    ['webhook', { url: URL_HERE, signing: Array(5).fill(signing).join(' ') }, 'at most 4 signing secrets'],
    ['webhook', { url: URL_HERE, batch: 2, body: {} }, 'left out when events are sent in batches'],
    ['clickhouse', { url: URL_HERE, table: 'a; DROP TABLE b' }, 'options.table of a clickhouse must be'],
    ['rest', { url: 'http://{properties.host}/' }, 'whose host is no template'],
    [
      's3',
      { bucket: 'b/../c', access_key_id: 'a', secret_access_key: 's' },
      'options.bucket of a s3 must be',
    ],
    ['fax', {}, '"fax" is not a kind of destination'],
  ])('%s %j', (kind, options, sentence) => {
    expect(() => targetKind(kind).open(options, context)).toThrow(sentence)
  })
})
