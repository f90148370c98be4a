import { describe, expect, test } from 'bun:test'
import { plainHeader } from '../../test/support/raw-header.ts'
import type { IngestionOptions } from '../catalog/index.ts'
import { encodeRawHeader, type RawHeader } from '../event/index.ts'
import type { StoredRecord } from '../log/index.ts'
import {
  type Decision,
  finishBatch,
  type Judge,
  judgeBatch,
  openBatch,
  outcomeCode,
  type Slot,
} from './batch.ts'
import { factsAt } from './cookieless/cookieless.fixture.ts'
import { judge as judgeCookieless } from './cookieless/index.ts'
import type { JsonObject } from './identity/types.ts'
import { withDefaults } from './project-options.ts'
import { identityRequest } from './steps/identity-request.ts'

const LOG = '11111111-1111-4111-8111-111111111111'
const HEADER: RawHeader = plainHeader({
  token: 'token',
  distinctId: 'd',
  event: 'e',
  uuid: '018f4b2e-0000-7000-8000-000000000001',
  timestampMs: 1_700_000_000_000,
  nowMs: 1_700_000_000_500,
  ip: '10.0.0.1',
  sdk: 'web/1',
})
const everyoneIsFirst: Judge = (requests) =>
  requests.map(() => ({ kind: 'first', holder: undefined, uuidReused: false }))

function record(value: unknown, header: Partial<RawHeader> = {}, offset = 0): StoredRecord {
  const bytes = typeof value === 'string' ? value : JSON.stringify(value)
  return {
    offset,
    appendedMs: 1_700_000_000_600,
    header: encodeRawHeader({ ...HEADER, ...header }),
    value: Buffer.from(bytes),
  }
}

function prepare(
  records: StoredRecord[],
  judge = everyoneIsFirst,
  forced = new Map<number, Decision>(),
  options: IngestionOptions = {},
): Slot[] {
  const { slots } = openBatch(records)
  const { waiting } = judgeBatch(
    slots,
    { logId: LOG },
    new Map([['token', { teamId: 7, options: withDefaults(options) }]]),
    judge,
    (event) => judgeCookieless(event, factsAt(HEADER.nowMs)),
  )
  finishBatch(slots, waiting, forced)
  return slots
}

function prepareOne(value: unknown, header: Partial<RawHeader> = {}, options: IngestionOptions = {}): Slot {
  return prepare([record(value, header)], everyoneIsFirst, new Map(), options)[0]!
}

describe('where an event ends that is not stored', () => {
  test.each([
    [
      'a header of another version',
      { ...record({}), header: Uint8Array.of(200) },
      'deadLetter',
      'unreadable_record',
    ],
    ['a value that is not JSON', record('{"event":'), 'deadLetter', 'unreadable_event'],
    ['a value that is not an object', record('[1]'), 'deadLetter', 'unreadable_event'],
    ['properties that are no object', record({ properties: 'x' }), 'deadLetter', 'unreadable_event'],
    [
      'a restricted event whose bytes are fine',
      record({}, { disposition: 'deadLetter' }),
      'deadLetter',
      'restricted',
    ],
    ['a report', record({ type: 'events_changed' }, { disposition: 'report' }), 'drop', 'capture_report'],
    ['a report that is none', record('null', { disposition: 'report' }), 'deadLetter', 'unreadable_event'],
    ['a warning of an SDK', record({}, { event: '$$client_ingestion_warning' }), 'drop', 'client_warning'],
    ['a token of no project', record({}, { token: 'nobody' }), 'drop', 'unknown_token'],
    [
      'an identify without person processing',
      record({ properties: { $anon_distinct_id: 'a' } }, { event: '$identify', personProcessing: 'off' }),
      'drop',
      'identify_without_person_processing',
    ],
  ] as const)('%s', (_, raw, kind, reason) => {
    const [slot] = prepare([raw])
    expect(slot!.decision).toMatchObject({ kind, reason })
    expect(slot!.draft).toBeUndefined()
    expect(outcomeCode(slot!)).toBeGreaterThan(0)
  })

  test('a duplicate, with the place of the first copy; its neighbours go on', () => {
    const judge: Judge = (requests) =>
      requests.map((request) =>
        request.offset === 1
          ? { kind: 'duplicate', holder: { logId: LOG, offset: 0 }, uuidReused: false }
          : { kind: 'first', holder: undefined, uuidReused: false },
      )
    const slots = prepare([record({}, {}, 0), record({}, {}, 1), record({}, {}, 2)], judge)
    expect(slots.map((slot) => slot.decision?.kind)).toEqual([undefined, 'duplicate', undefined])
  })

  test('what was decided elsewhere stands', () => {
    const refused: Decision = {
      kind: 'deadLetter',
      reason: 'refused_by_state',
      detail: 'x',
      step: 'identity',
    }
    expect(prepare([record({})], everyoneIsFirst, new Map([[0, refused]]))[0]!.decision).toEqual(refused)
  })

  test('forced person processing off drops no identify', () => {
    const slot = prepareOne(
      { properties: { $anon_distinct_id: 'a' } },
      { event: '$identify', personProcessing: 'forcedOff' },
    )
    expect(slot.decision).toBeUndefined()
    expect(identityRequest(slot.draft!).event.merge).toBeUndefined()
  })
})

test('what was stored stays stored, though its ids can be found no more; it speaks of no person', () => {
  const properties = { $cookieless_mode: true, $host: 'a.example', $raw_user_agent: 'Secret' }
  const raw = record({ properties, $set: { a: 1 } }, { cookieless: true, timestampMs: 0 })
  expect(prepare([raw], everyoneIsFirst, new Map(), { cookieless: 'stateful' })[0]!.decision).toMatchObject({
    reason: 'cookieless_timestamp_out_of_range',
  })
  const { slots } = openBatch([raw])
  const { waiting } = judgeBatch(
    slots,
    { logId: LOG },
    new Map([['token', { teamId: 7, options: withDefaults({ cookieless: 'stateful' }) }]]),
    everyoneIsFirst,
    (event) => judgeCookieless(event, factsAt(HEADER.nowMs)),
    () => true,
  )
  finishBatch(slots, waiting, new Map())
  const [slot] = slots as [Slot]
  expect([slot.decision, slot.warnings, slot.visit]).toEqual([undefined, [], undefined])
  expect(slot.draft!.personProcessing).toBe('forcedOff')
  expect(JSON.stringify(slot.draft!.properties)).not.toMatch(/Secret|10\.0\.0\.1|\$set/)
})

describe('normalise', () => {
  const properties = (slot: Slot): JsonObject => slot.draft!.properties

  test('$set stands in two places: the outer one wins', () => {
    const slot = prepareOne({ $set: { a: 1 }, properties: { $set: { a: 2, b: 3 }, $set_once: { c: 4 } } })
    expect(slot.draft!.set).toEqual({ a: 1, b: 3 })
    expect(properties(slot).$set).toEqual({ a: 1, b: 3 })
    expect(slot.draft!.setOnce).toEqual({ c: 4 })
  })

  test.each([
    [
      ['k', 5, 'm'],
      ['k', 'm'],
    ],
    [{ k: true, m: 1 }, ['k', 'm']],
    ['k', undefined],
  ])('$unset %j', ($unset, expected) => {
    expect(prepareOne({ properties: { $unset } }).draft!.unset).toEqual(expected as string[])
  })

  test('without person processing nothing is set, and the flag is on the event', () => {
    const slot = prepareOne(
      { $set: { a: 1 }, properties: { $unset: ['b'], $set_once: { c: 1 } } },
      { personProcessing: 'off' },
    )
    expect([slot.draft!.set, slot.draft!.setOnce, slot.draft!.unset]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
    expect(properties(slot)).toEqual({ $process_person_profile: false, $ip: '10.0.0.1' })
  })

  test('a flag that is no boolean is taken as true and warned about', () => {
    const slot = prepareOne({ properties: { $process_person_profile: 'false' } })
    expect(properties(slot)).not.toHaveProperty('$process_person_profile')
    expect(slot.warnings.map((warning) => warning.type)).toEqual(['invalid_process_person_profile'])
  })

  test('$ip is filled in, never replaced', () => {
    expect(properties(prepareOne({})).$ip).toBe('10.0.0.1')
    expect(properties(prepareOne({ properties: { $ip: '1.1.1.1' } })).$ip).toBe('1.1.1.1')
    expect(properties(prepareOne({ properties: { $ip: null } })).$ip).toBeNull()
  })

  test('a name is cut to 200 units, the clicked elements are a column', () => {
    expect(prepareOne({}, { event: 'x'.repeat(300) }).draft!.name).toHaveLength(200)
    const slot = prepareOne({ properties: { $elements_chain: 'a:href="x"', $elements: [] } })
    expect(slot.draft!.elementsChain).toBe('a:href="x"')
    expect(properties(slot)).not.toHaveProperty('$elements_chain')
  })

  test('the input is not changed, and hostile keys are keys', () => {
    const value = '{"properties":{"__proto__":{"x":1},"toString":null,"$set":{"__proto__":1}}}'
    const slot = prepareOne(value)
    expect(JSON.stringify(properties(slot))).toContain('"__proto__":{"x":1}')
    expect(({} as { x?: number }).x).toBeUndefined()
  })
})

describe('what an event asks of persons and groups', () => {
  const ask = (value: unknown, header: Partial<RawHeader> = {}) =>
    identityRequest(prepareOne(value, header).draft!)

  test.each([
    ['$identify', { $anon_distinct_id: 'a' }, { kind: 'identify', otherId: 'a' }],
    ['$identify', { $anon_distinct_id: null }, { kind: 'identify', otherId: null }],
    ['$identify', {}, undefined],
    ['$create_alias', { alias: 'a' }, { kind: 'alias', otherId: 'a' }],
    ['$create_alias', { alias: '' }, undefined],
    ['$merge_dangerously', { alias: 'a' }, { kind: 'dangerous', otherId: 'a' }],
    ['other', { alias: 'a', $anon_distinct_id: 'b' }, undefined],
  ] as const)('%s %j', (event, properties, merge) => {
    expect(ask({ properties }, { event }).event.merge).toEqual(merge as never)
  })

  test('group keys are strings; null, empty and too long ones are left out', () => {
    const { event, warnings } = ask({
      properties: { $groups: { a: 'x', b: 5, c: null, d: '', e: 'y'.repeat(401), __proto__: 1 } },
    })
    expect({ ...event.groups }).toEqual({ a: 'x', b: '5' })
    expect(warnings.map((warning) => warning.type)).toEqual(['group_key_too_long'])
  })

  test('$groupidentify needs a type, a key and an object', () => {
    const identify = (properties: object) => ask({ properties }, { event: '$groupidentify' })
    expect(identify({ $group_type: 't', $group_key: 'k', $group_set: { a: 1 } }).event.groupIdentify).toEqual(
      { type: 't', key: 'k', set: { a: 1 } },
    )
    expect(identify({ $group_type: 't', $group_key: 'k' }).event.groupIdentify).toEqual({
      type: 't',
      key: 'k',
      set: {},
    })
    expect(identify({ $group_type: 't', $group_key: 'k', $group_set: 'x' }).warnings[0]!.type).toBe(
      'invalid_group_set',
    )
    expect(identify({ $group_key: 'k' }).event.groupIdentify).toBeUndefined()
  })
})
