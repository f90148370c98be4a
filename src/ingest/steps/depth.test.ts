/** Ingest reads all that capture lets in at its largest setting: nothing that was taken is a dead letter for its depth. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestCapture, type TestCapture } from '../../../test/support/capture.ts'
import { envelope, event, HEADERS, PATH } from '../../capture/protocols/v1/v1.fixture.ts'
import { SETTINGS } from '../../catalog/index.ts'
import { isDeeperThan } from '../json.ts'
import { EVENT_LEVELS_MAX } from './parse.ts'

setDefaultTimeout(60_000)
const allowedMax = Number(SETTINGS.captureEventDepthMax.allowed.match(/\d+/g)!.at(-1))

let capture: TestCapture
beforeAll(async () => {
  capture = await startTestCapture({ captureEventDepthMax: allowedMax })
})
afterAll(() => capture.stop())

/** Lists in each other. */
function nested(levels: number): unknown {
  let value: unknown = 1
  for (let i = 0; i < levels; i++) value = [value]
  return value
}

const LEVELS = Array.from({ length: 12 }, (_, i) => allowedMax - 8 + i)

/** Where something deep may stand; a message of Segment becomes an event of another shape. */
const FORMS: [form: string, path: string, body: (levels: number) => object][] = [
  [
    'v0, a property',
    '/e/',
    (n) => ({ token: 't', event: 'e', distinct_id: 'd', properties: { a: nested(n) } }),
  ],
  ['v0, $set', '/e/', (n) => ({ token: 't', event: '$set', distinct_id: 'd', $set: { a: nested(n) } })],
  ['v0, beside properties', '/e/', (n) => ({ token: 't', event: 'e', distinct_id: 'd', a: nested(n) })],
  [
    'v1, a property',
    PATH,
    (n) => envelope([event(n, { properties: { a: nested(n) }, options: { cookieless_mode: true } })]),
  ],
  [
    'Segment, a member that nobody knows',
    '/v1/track',
    (n) => ({ writeKey: 't', event: 'e', userId: 'u', a: nested(n) }),
  ],
  [
    'Segment, a property',
    '/v1/track',
    (n) => ({ writeKey: 't', event: 'e', userId: 'u', properties: { a: nested(n) } }),
  ],
  ['Segment, a trait', '/v1/identify', (n) => ({ writeKey: 't', userId: 'u', traits: { a: nested(n) } })],
  [
    'Segment, a trait of a group',
    '/v1/group',
    (n) => ({ writeKey: 't', userId: 'u', groupId: 'g', traits: { a: nested(n) } }),
  ],
  [
    'Segment, its context',
    '/v1/track',
    (n) => ({ writeKey: 't', event: 'e', userId: 'u', context: { a: nested(n) } }),
  ],
  [
    'Segment, traits of its context',
    '/v1/track',
    (n) => ({ writeKey: 't', event: 'e', userId: 'u', context: { traits: { a: nested(n) } } }),
  ],
  [
    'Segment, its integrations',
    '/v1/track',
    (n) => ({ writeKey: 't', event: 'e', userId: 'u', integrations: { a: nested(n) } }),
  ],
  [
    'Segment, the context of the batch',
    '/v1/batch',
    (n) => ({
      writeKey: 't',
      context: { a: nested(n) },
      batch: [{ type: 'track', event: 'e', userId: 'u' }],
    }),
  ],
]

describe(`at most ${allowedMax} levels at the door, ${EVENT_LEVELS_MAX} behind it`, () => {
  test.each(FORMS)('%s', async (_, path, body) => {
    const before = (await capture.stored()).length
    for (const levels of LEVELS) await capture.post(path, body(levels), path === PATH ? HEADERS : {})
    const stored = await capture.stored()
    expect(stored.length).toBeGreaterThan(before)
    expect(stored.length).toBeLessThan(before + LEVELS.length)
    for (const { value } of stored) expect(isDeeperThan(EVENT_LEVELS_MAX, JSON.parse(value))).toBe(false)
  })
})
