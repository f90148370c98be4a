/** What is wrong with single events of v1: each is told by its uuid and its index, and costs no other. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestCapture, type TestCapture } from '../../../../test/support/capture.ts'
import type { RejectReason } from '../../errors.ts'
import { envelope, event, NOW, send, uuid } from './v1.fixture.ts'

setDefaultTimeout(60_000)

let capture: TestCapture
beforeAll(async () => {
  capture = await startTestCapture({}, { clock: () => NOW })
})
afterAll(() => capture.stop())

const OK = { result: 'ok' } as const
const drop = (details: string) => ({ result: 'drop', details }) as const

describe('an event that is refused costs no other', () => {
  const long = 'x'.repeat(201)
  const rows: [string, unknown, RejectReason, string, string][] = [
    ['no object', 7, 'not_an_object', '', 'not_an_object'],
    ['no name', event(1, { event: undefined }), 'missing_event', 'event', 'missing_event_name'],
    ['an empty name', event(1, { event: '' }), 'missing_event', 'event', 'missing_event_name'],
    ['a name of a number', event(1, { event: 7 }), 'invalid_event', 'event', 'invalid_event'],
    [
      'a name of 201 characters',
      event(1, { event: long }),
      'event_name_too_long',
      'event',
      'event_name_too_long',
    ],
    [
      '$performance_event',
      event(1, { event: '$performance_event' }),
      'performance_event',
      'event',
      'dropped_performance_event',
    ],
    [
      'no distinct_id',
      event(1, { distinct_id: undefined }),
      'missing_distinct_id',
      'distinct_id',
      'missing_distinct_id',
    ],
    [
      'a distinct_id of null',
      event(1, { distinct_id: null }),
      'missing_distinct_id',
      'distinct_id',
      'missing_distinct_id',
    ],
    [
      'a blank distinct_id',
      event(1, { distinct_id: ' ' }),
      'missing_distinct_id',
      'distinct_id',
      'missing_distinct_id',
    ],
    [
      'a distinct_id of a number',
      event(1, { distinct_id: 7 }),
      'invalid_distinct_id',
      'distinct_id',
      'invalid_distinct_id',
    ],
    [
      'a distinct_id of 201 characters',
      event(1, { distinct_id: long }),
      'distinct_id_too_long',
      'distinct_id',
      'distinct_id_too_large',
    ],
    [
      'the cookieless placeholder alone',
      event(1, { distinct_id: '$posthog_cookieless' }),
      'cookieless_mode_required',
      'distinct_id',
      'cookieless_mode_required',
    ],
    [
      'no timestamp',
      event(1, { timestamp: undefined }),
      'invalid_timestamp',
      'timestamp',
      'invalid_event_timestamp',
    ],
    [
      'a timestamp of a number',
      event(1, { timestamp: NOW }),
      'invalid_timestamp',
      'timestamp',
      'invalid_event_timestamp',
    ],
    [
      'a timestamp of no time',
      event(1, { timestamp: 'soon' }),
      'invalid_timestamp',
      'timestamp',
      'invalid_event_timestamp',
    ],
    [
      'a session_id of a number',
      event(1, { session_id: 7 }),
      'invalid_session',
      'session_id',
      'invalid_session',
    ],
    ['a window_id of a list', event(1, { window_id: [] }), 'invalid_session', 'window_id', 'invalid_session'],
    ['options of a list', event(1, { options: [] }), 'invalid_options', 'options', 'invalid_options'],
    [
      'an option of a word that is none',
      event(1, { options: { cookieless_mode: 'maybe' } }),
      'invalid_options',
      'options.cookieless_mode',
      'invalid_options',
    ],
    [
      'an option of an object',
      event(1, { options: { disable_skew_correction: {} } }),
      'invalid_options',
      'options.disable_skew_correction',
      'invalid_options',
    ],
    [
      'another of a list',
      event(1, { options: { process_person_profile: [] } }),
      'invalid_options',
      'options.process_person_profile',
      'invalid_options',
    ],
    [
      'a product tour of a number',
      event(1, { options: { product_tour_id: 7 } }),
      'invalid_options',
      'options.product_tour_id',
      'invalid_options',
    ],
    [
      'properties of a list',
      event(1, { properties: [] }),
      'invalid_properties',
      'properties',
      'malformed_event_properties',
    ],
    [
      'properties of null',
      event(1, { properties: null }),
      'invalid_properties',
      'properties',
      'malformed_event_properties',
    ],
    ['$set of a number', event(1, { $set: 7 }), 'invalid_set', '$set', 'malformed_event_properties'],
    [
      'a cookieless property that is no boolean',
      event(1, { properties: { $cookieless_mode: 'x' } }),
      'invalid_cookieless_mode',
      'properties.$cookieless_mode',
      'invalid_options',
    ],
    ['a uuid that is none', event(1, { uuid: 'u-1' }), 'invalid_uuid', 'uuid', 'invalid_event_uuid'],
    ['a uuid of a number', event(1, { uuid: 1.5 }), 'invalid_uuid', 'uuid', 'invalid_event_uuid'],
  ]
  test.each(rows)('%s', async (_, bad, reason, field, details) => {
    const { response, answer, stored } = await send(capture, envelope([event(8), bad, event(9)]))
    expect(response.status).toBe(200)
    expect(stored.map(({ header }) => header.uuid).sort()).toEqual([uuid(8), uuid(9)])
    const key = (bad as { uuid?: unknown }).uuid
    const entries: [string, unknown][] = Object.entries(answer.results)
    expect(entries).toEqual([
      [uuid(8), OK],
      ...(key === undefined ? [] : [[String(key), drop(details)] as [string, unknown]]),
      [uuid(9), OK],
    ])
    expect(answer.rejected).toMatchObject([{ index: 1, reason, field }])
    expect(answer.rejected![0]!.message).not.toBe('')
    expect(response.headers.get('retry-after')).toBeNull()
  })

  test('too large, also by what its options add; and at the limit it is taken', async () => {
    const small = await startTestCapture({ captureEventBytesMax: 1_024 }, { clock: () => NOW })
    const added = ',"$lib":"posthog-node","$lib_version":"5.70.0"'.length
    const sized = (n: number, bytes: number) => {
      const padding = bytes - JSON.stringify(event(n, { properties: { p: '' } })).length
      return event(n, { properties: { p: 'x'.repeat(padding) } })
    }
    const batch = [sized(1, 1_024 - added), sized(2, 1_025 - added), sized(3, 1_025)]
    const { answer, stored } = await send(small, envelope(batch))
    await small.stop()
    expect(answer.results).toEqual({
      [uuid(1)]: OK,
      [uuid(2)]: drop('event_too_big'),
      [uuid(3)]: drop('event_too_big'),
    })
    expect(stored.map(({ value }) => value.length)).toEqual([1_024])
  })

  test('too deep, and with too many keys', async () => {
    const small = await startTestCapture({ captureEventDepthMax: 8, captureEventKeysMax: 100 })
    const deep = event(1, { properties: { a: { b: { c: { d: { e: { f: { g: {} } } } } } } } })
    const wide = event(2, { properties: Object.fromEntries(Array.from({ length: 96 }, (_, i) => [i, i])) })
    const { answer } = await send(small, envelope([deep, wide, event(3)]))
    await small.stop()
    expect(answer.results).toEqual({
      [uuid(1)]: drop('event_too_deep'),
      [uuid(2)]: drop('too_many_keys'),
      [uuid(3)]: OK,
    })
  })

  test('when all are refused it is 200 as well, and nothing is stored', async () => {
    const { response, answer, stored } = await send(capture, envelope([event(1, { event: '' })]))
    expect([response.status, stored.length]).toEqual([200, 0])
    expect(answer.results).toEqual({ [uuid(1)]: drop('missing_event_name') })
  })

  test('at the limit of 200 characters name and id are taken', async () => {
    const { answer } = await send(
      capture,
      envelope([event(1, { event: '😀'.repeat(200), distinct_id: 'é'.repeat(200) })]),
    )
    expect(answer.results).toEqual({ [uuid(1)]: OK })
  })
})

describe('uuids', () => {
  const spellings: [string, string][] = [
    ['in capitals', uuid(0xabc).toUpperCase()],
    ['without hyphens', uuid(0xabc).replaceAll('-', '')],
    ['as a URN', `urn:uuid:${uuid(0xabc)}`],
    ['with white space', ` ${uuid(0xabc)}\n`],
  ]
  test.each(spellings)('%s: the result goes by the spelling of the client', async (_, spelling) => {
    const { answer, stored } = await send(capture, envelope([event(1, { uuid: spelling })]))
    expect(Object.entries(answer.results)).toEqual([[spelling, OK]])
    expect(stored.map(({ header }) => header.uuid)).toEqual([uuid(0xabc)])
  })

  test.each([
    ['missing', undefined],
    ['null', null],
    ['empty', ''],
    ['blank', ' '],
  ])('%s: one is minted, the same for the same bytes', async (_, sent) => {
    const body = envelope([event(1, { uuid: sent })])
    const first = await send(capture, body)
    const [minted] = Object.keys(first.answer.results)
    expect(first.answer.results).toEqual({ [minted!]: OK })
    expect(first.stored.map(({ header }) => header.uuid)).toEqual([minted!])
    expect((await send(capture, body)).answer).toEqual(first.answer)
  })

  test('a refused event that has none is told by its index', async () => {
    const { answer } = await send(capture, envelope([event(1, { uuid: null, event: '' }), event(2)]))
    expect(answer.results).toEqual({ [uuid(2)]: OK })
    expect(answer.rejected).toMatchObject([{ index: 0, reason: 'missing_event' }])
  })

  test('repeated: the first is kept, its result stands, and the second is told by its index', async () => {
    const { answer, stored } = await send(
      capture,
      envelope([event(1), event(2), event(1, { event: 'other' })]),
    )
    expect(Object.entries(answer.results)).toEqual([
      [uuid(1), OK],
      [uuid(2), OK],
    ])
    expect(answer.rejected).toMatchObject([
      { index: 2, uuid: uuid(1), field: 'uuid', reason: 'duplicate_uuid' },
    ])
    expect(stored.filter(({ header }) => header.uuid === uuid(1)).map(({ header }) => header.event)).toEqual([
      'e',
    ])
  })

  test('repeated in another spelling: both results are told', async () => {
    const other = uuid(0xabc).toUpperCase()
    const { answer } = await send(capture, envelope([event(0xabc), event(1, { uuid: other })]))
    expect(Object.entries(answer.results)).toEqual([
      [uuid(0xabc), OK],
      [other, drop('duplicate_event_uuid')],
    ])
  })

  test('repeated after one that is refused: the one that is stored stands', async () => {
    const { answer, stored } = await send(capture, envelope([event(1, { event: '' }), event(2), event(1)]))
    expect(Object.entries(answer.results)).toEqual([
      [uuid(1), OK],
      [uuid(2), OK],
    ])
    expect(answer.rejected).toMatchObject([{ index: 0, reason: 'missing_event' }])
    expect(stored.length).toBe(2)
  })

  test('none has repeated it: events that are alike and have none are each stored, under a uuid of their own', async () => {
    const alike = event(1, { uuid: undefined })
    const { answer, stored } = await send(capture, envelope([alike, alike]))
    expect(answer.rejected).toBeUndefined()
    expect(Object.entries(answer.results)).toEqual(stored.map(({ header }) => [header.uuid, OK]))
    expect(new Set(stored.map(({ header }) => header.uuid)).size).toBe(2)
  })

  test('a hostile one is a key like any other', async () => {
    for (const name of ['__proto__', 'constructor', '7', '"\\\u0000\n', 'x'.repeat(10_000)]) {
      const { answer } = await send(capture, envelope([event(1, { uuid: name }), event(2)]))
      expect(Object.getOwnPropertyDescriptor(answer.results, name)?.value).toEqual(drop('invalid_event_uuid'))
    }
  })
})
