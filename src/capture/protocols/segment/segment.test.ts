/** The paths of Segment on a real capture: keys, encodings, shapes, times, hostile bodies and their answers. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test'
import { gzipSync } from 'node:zlib'
import { startTestCapture, type TestCapture } from '../../../../test/support/capture.ts'
import { messageUuid } from '../../../event/index.ts'
import type { Note } from '../../errors.ts'
import { judgeMessage, sharedMembers } from './judge-message.ts'
import { CALL_TYPES } from './mapping-tables.ts'
import { scanSingle } from './scan-messages.ts'

const NOW_MS = Date.UTC(2026, 10, 23, 12)
const LIMITS = { captureEventBytesMax: 100_000 }
let capture: TestCapture

beforeAll(async () => {
  capture = await startTestCapture(LIMITS, { clock: () => NOW_MS })
})
afterAll(() => capture.stop())
afterEach(async () => {
  const response = await capture.post('/v1/t', { writeKey: 't', event: 'still here', userId: 'u' })
  expect(await response.text()).toBe('{"success":true}')
  expect(capture.fatal).toEqual([])
})

function basic(key: string): Record<string, string> {
  return { authorization: `Basic ${btoa(`${key}:`)}` }
}

async function storedAs(userId: string) {
  const events = await capture.stored()
  return events.filter(({ header }) => header.distinctId === userId)
}

describe('paths', () => {
  const members: Record<string, object> = {
    track: { event: 'e' },
    identify: { traits: {} },
    page: {},
    screen: {},
    group: { groupId: 'g' },
    alias: { previousId: 'p' },
  }
  const paths = CALL_TYPES.flatMap((type) => [
    [`/v1/${type}`, type],
    [`/v1/${type[0]}/`, type],
  ])
  test.each(paths)('%s takes a %s', async (path, type) => {
    const userId = `path ${path}`
    const response = await capture.post(path!, { userId, ...members[type!] }, basic('t'))
    expect([response.status, await response.text()]).toEqual([200, '{"success":true}'])
    expect((await storedAs(userId)).length).toBe(1)
  })

  test.each([
    ['/v1/batch', 'raw_events'],
    ['/v1/b', 'raw_events'],
    ['/v1/import', 'raw_events_historical'],
  ])('%s takes a batch, into %s', async (path, topic) => {
    const userId = `path ${path}`
    const batch = [{ type: 'track', event: 'e', userId }]
    expect((await capture.post(path, { batch }, basic('t'))).status).toBe(200)
    expect(await storedAs(userId)).toMatchObject([{ topic }])
  })

  test.each(['/v1/track', '/v1/t', '/v1/batch'])('%s tells other methods what it takes', async (path) => {
    const response = await fetch(capture.url + path)
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST, OPTIONS'])
  })

  test('a page of another origin may send with Basic auth', async () => {
    const response = await fetch(`${capture.url}/v1/t`, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://shop.example',
        'access-control-request-headers': 'authorization,x-retry-count',
      },
    })
    expect(response.headers.get('access-control-allow-headers')).toBe('authorization,x-retry-count')
  })
})

describe('write key', () => {
  const one = (writeKey?: unknown) => ({ writeKey, event: 'e', userId: 'u' })
  const many = (root: unknown, ...keys: unknown[]) => ({
    writeKey: root,
    batch: keys.map((writeKey) => ({ type: 'track', event: 'e', userId: 'u', writeKey })),
  })
  const ROWS: [
    name: string,
    path: string,
    body: object,
    headers: Record<string, string>,
    status: number,
    code?: string,
  ][] = [
    ['of Basic auth', '/v1/t', one(), basic('t'), 200],
    ['of Basic auth with spaces around it', '/v1/t', one(), basic(' t\n'), 200],
    ['of Basic auth without a colon', '/v1/t', one(), { authorization: `basic ${btoa('t')}` }, 200],
    ['of the body', '/v1/t', one('t'), {}, 200],
    ['of the body beside another scheme', '/v1/t', one('t'), { authorization: 'Bearer x' }, 200],
    ['of the body beside an empty user', '/v1/t', one('t'), { authorization: `Basic ${btoa(':x')}` }, 200],
    ['of both', '/v1/t', one('t'), basic('t'), 200],
    ['of the batch', '/v1/b', many('t', undefined), {}, 200],
    ['of the messages', '/v1/b', many(undefined, 't', undefined, 't'), {}, 200],
    ['of the request, whatever the messages say', '/v1/b', many('t', 'other'), basic('t'), 200],
    ['two that differ', '/v1/t', one('t'), basic('other'), 401, 'HR_CAPTURE_TOKENS_DIFFER'],
    ['messages that differ', '/v1/b', many(undefined, 't', 'other'), {}, 401, 'HR_CAPTURE_TOKENS_DIFFER'],
    ['none', '/v1/t', one(), {}, 401, 'HR_CAPTURE_NO_TOKEN'],
    ['none in a batch', '/v1/b', many(undefined, undefined), {}, 401, 'HR_CAPTURE_NO_TOKEN'],
    ['an empty one', '/v1/t', one(''), {}, 401, 'HR_CAPTURE_NO_TOKEN'],
    ['a number', '/v1/t', one(1), {}, 401, 'HR_CAPTURE_INVALID_TOKEN'],
    [
      'Basic auth that is no base64',
      '/v1/t',
      one(),
      { authorization: 'Basic \u00a7' },
      401,
      'HR_CAPTURE_NO_TOKEN',
    ],
    ['a personal key', '/v1/t', one('phx_secret'), {}, 401, 'HR_CAPTURE_INVALID_TOKEN'],
  ]
  test.each(ROWS)('%s', async (...[, path, body, headers, status, code]) => {
    const response = await capture.post(path, body, headers)
    const answer = (await response.json()) as { success?: boolean; code?: string }
    expect([response.status, answer.code]).toEqual([status, code])
    expect(answer.success).toBe(status === 200 ? true : undefined)
  })
})

describe('what is stored', () => {
  test('the event in the shape of v0, whatever the content type and encoding', async () => {
    const message = {
      event: 'e',
      userId: 'shape',
      messageId: 'm',
      properties: { a: 1 },
      timestamp: '2026-11-23T11:00:00Z',
    }
    const text = JSON.stringify({ ...message, writeKey: 't' })
    const forms: [string | Uint8Array, string][] = [
      [text, 'text/plain'],
      [text, 'application/x-www-form-urlencoded'],
      [`\ufeff${text}`, 'application/json'],
      [gzipSync(text), 'application/json'],
    ]
    for (const [body, type] of forms) {
      expect((await capture.post('/v1/track', body, { 'content-type': type })).status).toBe(200)
    }
    const events = await storedAs('shape')
    expect(events.length).toBe(forms.length)
    const uuid = messageUuid('t', 'm')
    for (const { header, value } of events) {
      expect(header).toMatchObject({ uuid, event: 'e', token: 't', timestampMs: NOW_MS - 3_600_000 })
      expect(JSON.parse(value)).toEqual({
        uuid,
        event: 'e',
        distinct_id: 'shape',
        timestamp: '2026-11-23T11:00:00Z',
        properties: { a: 1, $message_id: 'm' },
      })
    }
  })

  test('the same messageId is the same event by any path and at any time, another project has another', async () => {
    const message = { type: 'track', event: 'e', userId: 'again', messageId: 'm1' }
    await capture.post('/v1/t', { ...message, writeKey: 't', sentAt: new Date(NOW_MS) })
    await capture.post('/v1/b', { batch: [{ ...message, _metadata: { retryCount: 1 } }], writeKey: 't' })
    await capture.post('/v1/t', { ...message, writeKey: 'other' })
    const events = await storedAs('again')
    const ofProject = events.filter(({ header }) => header.token === 't')
    expect(new Set(ofProject.map(({ header }) => header.uuid))).toEqual(new Set([messageUuid('t', 'm1')]))
    expect(new Set(ofProject.map(({ value }) => value)).size).toBe(1)
    expect(events.find(({ header }) => header.token === 'other')!.header.uuid).toBe(
      messageUuid('other', 'm1'),
    )
  })

  test('without a messageId a message is known again by its content, if it has a time', async () => {
    const message = { event: 'e', userId: 'no id', timestamp: '2026-11-23T11:00:00Z', writeKey: 't' }
    for (const sentAt of [NOW_MS, NOW_MS + 1000]) {
      await capture.post('/v1/t', { ...message, sentAt: new Date(sentAt) })
    }
    await capture.post('/v1/t', { ...message, timestamp: undefined })
    await capture.post('/v1/t', { ...message, timestamp: undefined })
    const uuids = (await storedAs('no id')).map(({ header }) => header.uuid)
    expect([uuids.length, new Set(uuids).size]).toEqual([4, 3])
  })

  test('ids are kept as they are written', async () => {
    const text = (userId: string) => `{"type":"track","event":"written","userId":${userId}}`
    const ids = ['12345678901234567890', '12345678901234567891', '1.0', 'true', '{"a": 1}', '"a\\u0000b"']
    await capture.post('/v1/b', `{"writeKey":"t","batch":[${ids.map(text).join(',')}]}`)
    const stored = (await capture.stored()).filter(({ header }) => header.event === 'written')
    expect(new Set(stored.map(({ header }) => header.distinctId))).toEqual(
      new Set(['12345678901234567890', '12345678901234567891', '1.0', 'true', '{"a":1}', 'a\ufffdb']),
    )
    const inValues = stored.map(({ value }) => JSON.parse(value).distinct_id)
    expect(new Set(inValues)).toEqual(
      new Set(['12345678901234567890', '12345678901234567891', '1.0', 'true', '{"a":1}', 'a\0b']),
    )
  })

  test('a long id is kept whole in the event, and the owner of the project is told that it was cut', () => {
    const long = 'x'.repeat(201)
    const body = Buffer.from(JSON.stringify({ event: 'e', userId: long }))
    const notes: Note[] = []
    const facts = {
      token: 't',
      nowMs: NOW_MS,
      sentAtMs: undefined,
      ip: '',
      userAgent: '',
      userAgentSdk: '',
      requestId: '',
      clockTrustMs: 30_000,
      eventBytesMax: 10_000,
      eventDepthMax: 128,
      eventKeysMax: 100,
    }
    const { messages } = scanSingle(body, 1000)
    const shared = sharedMembers(body, scanSingle(body, 1000), 10_000, 128)
    const judged = judgeMessage(body, messages[0]!, 3, 'track', shared, facts, notes)
    if ('reason' in judged) throw new Error(judged.reason)
    expect(judged.header.distinctId.length).toBe(200)
    expect(JSON.parse(judged.value.toString()).distinct_id).toBe(long)
    expect(notes).toMatchObject([{ index: 3, reason: 'distinct_id_cut' }])
  })

  test('context and integrations of a batch are those of each message, whose own members win', async () => {
    await capture.post('/v1/b', {
      writeKey: 't',
      context: { app: { name: 'A' }, ip: '192.0.2.1', groupId: 'g' },
      integrations: { All: false },
      batch: [
        { type: 'track', event: 'e', userId: 'shared', messageId: '1' },
        {
          type: 'track',
          event: 'e',
          userId: 'shared',
          messageId: '2',
          context: { ip: '192.0.2.2', groupId: 'h' },
        },
      ],
    })
    const byId = new Map(
      (await storedAs('shared')).map(({ value }) => {
        const { properties } = JSON.parse(value)
        return [properties.$message_id, properties]
      }),
    )
    const common = { $app_name: 'A', $segment: { integrations: { All: false } } }
    expect(byId.get('1')).toEqual({ $message_id: '1', $ip: '192.0.2.1', $groups: { group: 'g' }, ...common })
    expect(byId.get('2')).toEqual({ $message_id: '2', $ip: '192.0.2.2', $groups: { group: 'h' }, ...common })
  })
})

describe('time', () => {
  const at = (ms: number) => new Date(NOW_MS + ms).toISOString()
  const HOUR_MS = 3_600_000
  const ROWS: [name: string, message: object, batch: object, atMs: number, rule: string][] = [
    ['of the message', { timestamp: at(-5000) }, {}, -5000, 'client'],
    ['of RudderStack', { originalTimestamp: at(-5000) }, {}, -5000, 'client'],
    ['as a number', { timestamp: NOW_MS - 5000 }, {}, -5000, 'client'],
    ['none', {}, {}, 0, 'now'],
    ['a clock within 30 s is believed', { timestamp: at(-5000), sentAt: at(-30_000) }, {}, -5000, 'client'],
    [
      'a clock beyond is corrected',
      { timestamp: at(-HOUR_MS), sentAt: at(-HOUR_MS) },
      {},
      0,
      'skewCorrected',
    ],
    [
      'the batch says when it was sent',
      { timestamp: at(-5000), sentAt: at(-HOUR_MS) },
      { sentAt: at(0) },
      -5000,
      'client',
    ],
    ['a clock of the batch', { timestamp: at(HOUR_MS) }, { sentAt: at(HOUR_MS) }, 0, 'skewCorrected'],
    [
      'corrected before it came here',
      { timestamp: at(-HOUR_MS), originalTimestamp: at(0), sentAt: at(HOUR_MS) },
      {},
      -HOUR_MS,
      'client',
    ],
  ]
  test.each(ROWS)('%s', async (name, message, batch, atMs, timeRule) => {
    const userId = `time ${name}`
    await capture.post('/v1/batch', {
      writeKey: 't',
      ...batch,
      batch: [{ type: 'track', event: 'e', userId, ...message }],
    })
    expect((await storedAs(userId))[0]!.header).toMatchObject({ timestampMs: NOW_MS + atMs, timeRule })
  })
})

/** A batch whose messages are given as JSON text. */
function batch(...messages: string[]): string {
  return `{"writeKey":"t","batch":[${messages.join(',')}]}`
}

function track(members: string): string {
  return `{"type":"track","event":"e","userId":"u"${members === '' ? '' : `,${members}`}}`
}

function nested(levels: number): string {
  return '['.repeat(levels) + ']'.repeat(levels)
}

function members(count: number): string {
  return Array.from({ length: count }, (_, i) => `"${i}":0`).join(',')
}

/** A message of exactly `bytes` bytes. */
function trackOf(bytes: number): string {
  return track(`"x":"${'x'.repeat(bytes - track('"x":""').length)}"`)
}

const GOOD = track('')

type Row = [name: string, body: string | Uint8Array, status: number, codes: string[]]

const BOTH: Row[] = [
  ['levels beyond the values', nested(101_000), 413, ['HR_CAPTURE_TOO_MANY_VALUES']],
  ['too many values', `{"x":[${'0,'.repeat(100_000)}0]}`, 413, ['HR_CAPTURE_TOO_MANY_VALUES']],
  ['nothing', '', 400, ['HR_CAPTURE_NO_BODY']],
  ['words', 'hello', 400, ['HR_CAPTURE_NOT_JSON']],
  ['NaN', '{"event":NaN}', 400, ['HR_CAPTURE_NOT_JSON']],
  ['half an object', '{"writeKey":"t","batch":[', 400, ['HR_CAPTURE_NOT_JSON']],
  ['an object and more', '{"batch":[],"x":1}}', 400, ['HR_CAPTURE_NOT_JSON']],
  ['invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), 400, ['HR_CAPTURE_NOT_JSON']],
  ['UTF-16', Buffer.from('\ufeff{"batch":[]}', 'utf16le'), 400, ['HR_CAPTURE_NOT_JSON']],
  ['null', 'null', 400, ['HR_CAPTURE_WRONG_SHAPE']],
  ['a list', `[${GOOD}]`, 400, ['HR_CAPTURE_WRONG_SHAPE']],
  ['90,000 levels without end', '['.repeat(90_000), 400, ['HR_CAPTURE_NOT_JSON']],
  ['90,000 levels', nested(90_000), 400, ['HR_CAPTURE_WRONG_SHAPE']],
  ['a body over the limit', `{"writeKey":"t"${' '.repeat(1_024_000)}}`, 413, ['HR_CAPTURE_BODY_TOO_LARGE']],
  [
    'a body of the limit',
    '{"writeKey":"t","batch":1'.padEnd(1_023_999).concat('x'),
    400,
    ['HR_CAPTURE_NOT_JSON'],
  ],
  ['a bomb', gzipSync(Buffer.alloc(100_000_000, 0x20)), 413, ['HR_CAPTURE_INFLATED_TOO_LARGE']],
]

const ALONE: Row[] = [
  [
    '49,000 levels',
    `{"writeKey":"t","userId":"u","event":"e","x":${nested(49_000)}}`,
    400,
    ['HR_CAPTURE_NOTHING_STORED', 'event_too_deep'],
  ],
  [
    'too large',
    `{"writeKey":"t",${trackOf(100_001).slice(1)}`,
    413,
    ['HR_CAPTURE_EVENT_TOO_LARGE', 'event_too_large'],
  ],
  ['no name', '{"writeKey":"t","userId":"u"}', 400, ['HR_CAPTURE_NOTHING_STORED', 'missing_event']],
  ['nobody', '{"writeKey":"t","event":"e"}', 400, ['HR_CAPTURE_NOTHING_STORED', 'missing_distinct_id']],
  ['the path says the call', '{"writeKey":"t","type":"nope","event":"e","userId":"u"}', 200, []],
]

const IN_BATCH: Row[] = [
  ['no batch', '{"writeKey":"t"}', 400, ['HR_CAPTURE_WRONG_SHAPE']],
  ['an empty batch', batch(), 400, ['HR_CAPTURE_NO_EVENTS']],
  ['batch is an object', '{"writeKey":"t","batch":{}}', 400, ['HR_CAPTURE_WRONG_SHAPE']],
  [
    'batch twice, the last is none',
    `{"writeKey":"t","batch":[${GOOD}],"batch":1}`,
    400,
    ['HR_CAPTURE_WRONG_SHAPE'],
  ],
  ['batch twice, the last counts', `{"writeKey":"t","batch":[1],"batch":[${GOOD}]}`, 200, []],
  ['the most messages', batch(...Array<string>(2500).fill(GOOD)), 200, []],
  ['one message more', batch(...Array<string>(2501).fill(GOOD)), 413, ['HR_CAPTURE_TOO_MANY_EVENTS']],
  ['not an object', batch(GOOD, '[]'), 200, ['not_an_object']],
  ['no type', batch(GOOD, '{"event":"e","userId":"u"}'), 200, ['unknown_type']],
  [
    'a type that is a name of Object',
    batch(GOOD, '{"type":"constructor","userId":"u"}'),
    200,
    ['unknown_type'],
  ],
  ['no name', batch(GOOD, '{"type":"track","userId":"u"}'), 200, ['missing_event']],
  ['a name that is a number', batch(GOOD, '{"type":"track","event":1,"userId":"u"}'), 200, ['invalid_event']],
  ['nobody', batch(GOOD, '{"type":"track","event":"e"}'), 200, ['missing_distinct_id']],
  ['an empty userId', batch(GOOD, '{"type":"track","event":"e","userId":""}'), 200, ['missing_distinct_id']],
  ['properties are a list', batch(GOOD, track('"properties":[]')), 200, ['invalid_properties']],
  ['properties are null', batch(GOOD, track('"properties":null')), 200, []],
  ['traits are text', batch(GOOD, '{"type":"identify","userId":"u","traits":"x"}'), 200, ['invalid_traits']],
  ['a group without an id', batch(GOOD, '{"type":"group","userId":"u"}'), 200, ['missing_group_id']],
  ['an alias of nobody', batch(GOOD, '{"type":"alias","userId":"u"}'), 200, ['missing_previous_id']],
  ['a time that is an object', batch(GOOD, track('"timestamp":{}')), 200, ['invalid_timestamp']],
  [
    'cookieless mode is text',
    batch(GOOD, track('"properties":{"$cookieless_mode":"x"}')),
    200,
    ['invalid_cookieless_mode'],
  ],
  ['a message of the limit', batch(GOOD, trackOf(99_900)), 200, []],
  ['a message over the limit', batch(GOOD, trackOf(100_001)), 200, ['event_too_large']],
  // 1e20 is written with 21 digits by JSON.stringify.
  [
    'an event that is larger than its message',
    batch(GOOD, track(`"x":[${'1e20,'.repeat(15_000)}1]`)),
    200,
    ['event_too_large'],
  ],
  ['128 levels', batch(GOOD, track(`"properties":{"x":${nested(126)}}`)), 200, []],
  ['129 levels', batch(GOOD, track(`"properties":{"x":${nested(127)}}`)), 200, ['event_too_deep']],
  [
    '129 levels in the context',
    batch(GOOD, track(`"context":{"x":${nested(127)}}`)),
    200,
    ['event_too_deep'],
  ],
  ['129 levels in an id', batch(GOOD, track(`"userId":${nested(128)}`)), 200, ['event_too_deep']],
  [
    '129 levels in the id of a group',
    batch(GOOD, track(`"context":{"groupId":${nested(127)}}`)),
    200,
    ['event_too_deep'],
  ],
  ['10,000 keys', batch(GOOD, track(`"properties":{${members(9_996)}}`)), 200, []],
  ['10,001 keys', batch(GOOD, track(`"properties":{${members(9_997)}}`)), 200, ['too_many_keys']],
  ['49,000 levels', batch(GOOD, track(`"x":${nested(49_000)}`)), 200, ['event_too_deep']],
  ['90,000 levels beside the batch', `{"x":${nested(90_000)},${batch(GOOD).slice(1)}`, 200, []],
  [
    '90,000 levels around the batch',
    `{"context":{"x":${nested(90_000)}},${batch(GOOD).slice(1)}`,
    400,
    ['HR_CAPTURE_NOTHING_STORED', 'event_too_deep'],
  ],
  [
    'a context that would make the batch large',
    `{"context":{"x":"${'x'.repeat(50_000)}"},${batch(...Array<string>(100).fill(GOOD)).slice(1)}`,
    413,
    ['HR_CAPTURE_BODY_TOO_LARGE'],
  ],
  [
    'strange and taken',
    batch(track('"properties":{"a":1e999,"b":"\\ud800","\\u0000":0,"__proto__":{"x":1}}')),
    200,
    [],
  ],
  [
    'all of them bad',
    batch('1', '{"type":"track"}'),
    400,
    ['HR_CAPTURE_NOTHING_STORED', 'not_an_object', 'missing_distinct_id'],
  ],
]

describe.each([
  ['one message: any body', '/v1/track', BOTH],
  ['one message by the short path: any body', '/v1/p', BOTH],
  ['a batch: any body', '/v1/batch', BOTH],
  ['an import: any body', '/v1/import', BOTH],
  ['one message', '/v1/track', ALONE],
  ['a batch', '/v1/batch', IN_BATCH],
  ['an import', '/v1/import', IN_BATCH],
] as [string, string, Row[]][])('hostile: %s', (_, path, rows) => {
  test.each(rows)('%s', async (_name, body, status, codes) => {
    const response = await capture.post(path, body, {
      'content-type': 'text/plain',
      origin: 'https://shop.example',
    })
    const answer = (await response.json()) as { code?: string; rejected?: { reason: string }[] }
    const found = [
      ...(answer.code ? [answer.code] : []),
      ...(answer.rejected ?? []).map(({ reason }) => reason),
    ]
    expect([response.status, ...found]).toEqual([status, ...codes])
    expect(response.headers.get('access-control-allow-origin')).toBe('https://shop.example')
  })
})

test('a refused message is named as its sender knows it', async () => {
  const response = await capture.post('/v1/b', {
    writeKey: 't',
    batch: [
      { type: 'track', event: 'e', userId: 'u' },
      { type: 'track', userId: 'u', messageId: 'mine' },
    ],
  })
  const answer = (await response.json()) as object
  expect(answer).toMatchObject({
    success: true,
    rejected: [{ index: 1, uuid: 'mine', field: 'event', reason: 'missing_event' }],
    rejected_count: 1,
  })
})

test('what a rate or a restriction of the project keeps out is told with 200, so that no SDK gives up', async () => {
  const policy = {
    events_per_second: 1,
    burst: 2,
    restrictions: [{ action: 'drop', events: ['unwanted'] }],
  }
  const project = { teamId: 1, settings: { policy } }
  const limited = await startTestCapture(
    {},
    { clock: () => NOW_MS, projects: { known: () => project, find: async () => project } },
  )
  const send = async (...names: string[]) => {
    const batch = names.map((event) => ({ type: 'track', event, userId: 'u' }))
    const response = await limited.post('/v1/b', { writeKey: 't', batch })
    const answer = (await response.json()) as { rejected?: { reason: string }[] }
    return { status: response.status, ...answer, rejected: answer.rejected?.map(({ reason }) => reason) }
  }
  try {
    expect(await send('unwanted')).toMatchObject({ status: 200, success: true, rejected: ['restricted'] })
    expect(await send('a', 'b', 'c')).toMatchObject({
      status: 200,
      success: true,
      quota_limited: ['events'],
      rejected: ['rate_limited'],
    })
    expect(await send('d')).toMatchObject({ status: 200, success: true, quota_limited: ['events'] })
    expect((await limited.stored()).filter(({ header }) => header.event.length === 1).length).toBe(2)
  } finally {
    await limited.stop()
  }
})

describe('quiet', () => {
  const settings = async (headers: Record<string, string> = {}) => {
    const response = await fetch(`${capture.url}/v1/projects/phc_a/settings`, { headers })
    expect([response.status, response.headers.get('cache-control')]).toEqual([200, 'private, max-age=60'])
    return (await response.json()) as { integrations: Record<string, object>; metrics: object }
  }
  test('settings name this host and nothing else to load', async () => {
    const { host } = new URL(capture.url)
    expect(await settings()).toEqual({
      integrations: {
        'Segment.io': { apiKey: 'phc_a', apiHost: `${host}/v1`, protocol: 'http', addBundledMetadata: false },
      },
      metrics: { sampleRate: 0 },
    })
  })
  test.each<[Record<string, string>, string]>([
    [{ 'x-forwarded-proto': 'https' }, 'https'],
    [{ 'x-forwarded-proto': 'http, https', origin: 'https://a.example' }, 'http'],
    [{ origin: 'https://a.example' }, 'https'],
    [{ origin: 'http://a.example' }, 'http'],
  ])('%j is sent to by %s', async (headers, protocol) => {
    expect((await settings(headers)).integrations['Segment.io']).toMatchObject({ protocol })
  })
  test('a host that cannot be one is not repeated', async () => {
    expect((await settings({ host: 'x"/><script>' })).integrations['Segment.io']).not.toHaveProperty(
      'apiHost',
    )
  })
  test('counters of the SDK are taken and thrown away', async () => {
    const response = await capture.post('/v1/m', { series: [] })
    expect([response.status, await response.text()]).toEqual([200, '{"success":true}'])
  })
})
