import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { getDomain } from 'tldts'
import type { RawHeader } from '../../event/index.ts'
import type { ParsedEvent } from '../draft.ts'
import type { JsonObject } from '../json.ts'
import {
  cookieless,
  factsAt,
  HOUR_MS,
  identify,
  judged,
  MINUTE_MS,
  NOON,
  projectIn,
  STATEFUL,
  STATELESS,
  visitOf,
} from './cookieless.fixture.ts'
import { judge } from './judge.ts'
import { withIds } from './rewrite.ts'
import { COOKIELESS_DISTINCT_ID } from './visitor.ts'

const DISABLED = projectIn('off')
const MIDNIGHT = Date.UTC(2026, 2, 10)

describe('what is dropped, and why', () => {
  test.each([
    [
      'globally disabled',
      cookieless(),
      STATEFUL,
      { enabled: false },
      'cookieless_globally_disabled',
      undefined,
    ],
    [
      '$create_alias',
      cookieless({}, { event: '$create_alias' }),
      STATEFUL,
      {},
      'cookieless_unsupported_event',
      undefined,
    ],
    [
      '$merge_dangerously',
      cookieless({}, { event: '$merge_dangerously' }),
      STATELESS,
      {},
      'cookieless_unsupported_event',
      undefined,
    ],
    [
      '$identify without state',
      identify('alice'),
      STATELESS,
      {},
      'cookieless_stateless_no_identify',
      undefined,
    ],
    ['the project takes none', cookieless(), DISABLED, {}, 'cookieless_project_disabled', undefined],
    [
      'no user agent',
      cookieless({ $raw_user_agent: undefined }),
      STATEFUL,
      {},
      'cookieless_missing_ua',
      { type: 'cookieless_missing_user_agent', missingProperty: '$raw_user_agent' },
    ],
    [
      'no address',
      cookieless({}, { ip: '' }),
      STATEFUL,
      {},
      'cookieless_missing_ip',
      { type: 'cookieless_missing_ip', missingProperty: '$ip' },
    ],
    [
      'an address that is taken back',
      cookieless({ $ip: null }),
      STATEFUL,
      {},
      'cookieless_missing_ip',
      { type: 'cookieless_missing_ip', missingProperty: '$ip' },
    ],
    [
      'no host',
      cookieless({ $host: '' }),
      STATEFUL,
      {},
      'cookieless_missing_host',
      { type: 'cookieless_missing_host', missingProperty: '$host' },
    ],
    // Upstream fails on these, and with them all cookieless events of the batch.
    [
      'a host that is no text',
      cookieless({ $host: 7 }),
      STATEFUL,
      {},
      'cookieless_missing_host',
      { type: 'cookieless_missing_host', missingProperty: '$host' },
    ],
    [
      'a day that is closed',
      cookieless({}, { timestampMs: MIDNIGHT }),
      STATELESS,
      { nowMs: MIDNIGHT + 86 * HOUR_MS },
      'cookieless_timestamp_out_of_range',
      { type: 'cookieless_timestamp_out_of_range' },
    ],
    [
      'a day that has begun nowhere',
      cookieless({}, { timestampMs: MIDNIGHT }),
      STATEFUL,
      { nowMs: MIDNIGHT - 12 * HOUR_MS - 1 },
      'cookieless_timestamp_out_of_range',
      { type: 'cookieless_timestamp_out_of_range' },
    ],
    [
      'a time that could not be read',
      cookieless({}, { timestampMs: 0 }),
      STATEFUL,
      {},
      'cookieless_timestamp_out_of_range',
      { type: 'cookieless_timestamp_out_of_range' },
    ],
    [
      'a salt that another process deleted',
      cookieless(),
      STATEFUL,
      { salts: new Map() },
      'cookieless_timestamp_out_of_range',
      { type: 'cookieless_timestamp_out_of_range' },
    ],
  ] as const)('%s', (_rule, event, project, facts, reason, warning) => {
    const nowMs = (facts as { nowMs?: number }).nowMs ?? NOON
    const outcome = judge({ ...event, project }, { ...factsAt(nowMs), ...facts })
    const { uuid, event: name, distinctId } = event.header
    const { type, ...more } = { ...warning } as { type?: string }
    expect(outcome).toEqual({
      kind: 'drop',
      reason,
      ...(warning && {
        warnings: [{ type, details: { eventUuid: uuid, event: name, distinctId, ...more } }],
      }),
    } as never)
    expect(JSON.stringify(outcome)).not.toContain('1.2.3.4')
  })

  test.each([
    ['the first moment of a day', MIDNIGHT - 12 * HOUR_MS],
    ['the last moment of a day', MIDNIGHT + 86 * HOUR_MS - 1],
  ])('%s is taken', (_rule, nowMs) => {
    expect(judge(cookieless({}, { timestampMs: MIDNIGHT }), factsAt(nowMs)).kind).toBe('pass')
  })

  test.each([
    ['without the flag', cookieless({ $cookieless_mode: undefined }, { cookieless: false })],
    ['with the flag set to false', cookieless({ $cookieless_mode: false }, { cookieless: false })],
  ])('an event %s passes as it is, whatever else holds', (_rule, event) => {
    const disabled = { ...event, project: DISABLED }
    expect(judge(disabled, { ...factsAt(NOON), enabled: false })).toEqual({
      kind: 'pass',
      value: { event: disabled },
    })
  })

  test('the flag counts in the header and in the properties', () => {
    const ofDisabled = (event: ParsedEvent) => judge({ ...event, project: DISABLED }, factsAt(NOON)).kind
    expect(ofDisabled(cookieless({ $cookieless_mode: undefined }))).toBe('drop')
    expect(ofDisabled(cookieless({}, { cookieless: false }))).toBe('drop')
  })
})

describe('stateless', () => {
  const ids = (event = cookieless(), project = STATELESS) => judged(event, project).ids!
  const stored = (event = cookieless()) => withIds(judged(event, STATELESS).event, ids(event))

  test('the ids are those that upstream makes of the same salt and the same event', () => {
    // Salt 16 × 10; computed with the hash function that upstream uses.
    const { header, properties } = stored()
    expect(header.distinctId).toBe('cookieless_pVH26p26SbJKCRQGBk1Hlg')
    expect(properties).toMatchObject({
      $distinct_id: 'cookieless_pVH26p26SbJKCRQGBk1Hlg',
      $device_id: 'cookielessd_pVH26p26SbJKCRQGBk1Hlg',
      $session_id: '019cd50b-1800-7551-b6ea-9dba49b24a09',
    })
  })

  test('an id of its own is replaced as well', () => {
    expect(stored(cookieless({}, { distinctId: 'alice' })).header.distinctId).toBe(ids().distinctId)
  })

  test('one session for the whole day of the zone', () => {
    const vienna = (timestampMs: number) => ids(cookieless({ $timezone: 'Europe/Vienna' }, { timestampMs }))
    const [first, last] = [vienna(MIDNIGHT - HOUR_MS), vienna(MIDNIGHT + 23 * HOUR_MS - 1)]
    expect(first).toEqual(last)
    expect(Number.parseInt(first.sessionId.replaceAll('-', '').slice(0, 12), 16)).toBe(MIDNIGHT - HOUR_MS)
    expect(vienna(MIDNIGHT + 23 * HOUR_MS).sessionId).not.toBe(first.sessionId)
  })

  test("without a zone of the event the project's counts", () => {
    const late = cookieless({}, { timestampMs: MIDNIGHT + 23 * HOUR_MS + 30 * MINUTE_MS })
    expect(ids(late, projectIn('stateless', 1, 'Europe/Vienna'))).not.toEqual(ids(late))
    expect(ids(late)).toEqual(ids())
  })
})

describe('what remains of the event', () => {
  const secrets = { $ip: '1.2.3.4', $raw_user_agent: 'Secret/1.0', $cookieless_extra: 'extra-secret' }
  const person = () => ({
    $set: { $raw_user_agent: 'Secret/1.0', $browser: 'Chrome' },
    $set_once: { $initial_raw_user_agent: 'Secret/1.0', $initial_browser: 'Chrome' },
  })

  test.each([['stateful', STATEFUL] as const, ['stateless', STATELESS] as const])(
    '%s: nothing that the ids were made of, everything else',
    (_mode, project) => {
      const kept = { $host: 'www.example.com', plan: 'pro', nested: { $ip: 'mine', list: [1, null] } }
      const before = cookieless(
        { ...kept, ...secrets, ...person() },
        { userAgent: 'Secret/1.0' },
        { ...person(), event: 'x' },
      )
      const copy = structuredClone(before)
      const { event } = judged(before, project)
      expect(before).toEqual(copy)
      expect(JSON.stringify(event)).not.toMatch(/Secret|extra-secret|1\.2\.3\.4/)
      const cut = { $set: { $browser: 'Chrome' }, $set_once: { $initial_browser: 'Chrome' } }
      expect(event.properties).toEqual({
        ...kept,
        ...cut,
        $cookieless_mode: true,
        $current_url: 'https://www.example.com/a',
      } as JsonObject)
      expect(event.body).toEqual({ ...cut, event: 'x' } as JsonObject)
      const { ip, userAgent, distinctId, ...header } = before.header
      expect(event.header).toMatchObject({ ...header, ip: '', userAgent: '' })
    },
  )

  test.each([
    ['$set is no object', { $set: 'x', $set_once: [1] }],
    ['there is none', {}],
  ])('%s', (_rule, properties: JsonObject) => {
    expect(judged(cookieless(properties)).event.properties).toMatchObject(properties)
  })
})

describe('who is one visitor', () => {
  type Seen = { ip: string; userAgent: string; host: string; extra: string; teamId: number; day: number }
  const seen: fc.Arbitrary<Seen> = fc.record({
    ip: fc.ipV4(),
    userAgent: fc.string({ minLength: 1, maxLength: 80 }),
    // A public suffix (`a.pg`: every name right below pg is one) has no registrable domain, so `www.` makes another site.
    host: fc.domain().filter((host) => getDomain(host) !== null),
    extra: fc.string({ maxLength: 100 }),
    teamId: fc.integer({ min: 1, max: 1_000 }),
    day: fc.integer({ min: -2, max: 0 }),
  })
  const hashOf = ({ ip, userAgent, host, extra, teamId, day }: Seen, header: Partial<RawHeader> = {}) => {
    const timestampMs = NOON + day * 24 * HOUR_MS
    const properties = { $raw_user_agent: userAgent, $host: host, $cookieless_extra: extra }
    const event = cookieless(properties, { ip, timestampMs, ...header })
    return judged(event, projectIn('stateful', teamId)).visit!.visitor.baseHash.toString('hex')
  }

  test('the same person on the same day has the same id, whatever the event', () => {
    fc.assert(
      fc.property(
        seen,
        fc.integer({ min: -12 * HOUR_MS, max: 12 * HOUR_MS - 1 }),
        fc.string(),
        (one, ms, name) => {
          const timestampMs = NOON + one.day * 24 * HOUR_MS + ms
          expect(hashOf(one, { timestampMs, event: name })).toBe(hashOf(one))
          expect(hashOf({ ...one, host: `www.${one.host}` })).toBe(hashOf(one))
        },
      ),
    )
  })

  test.each(['ip', 'userAgent', 'host', 'extra', 'teamId', 'day'] as const)(
    'another %s, another id',
    (part) => {
      fc.assert(
        fc.property(seen, seen, (one, other) => {
          fc.pre(one[part] !== other[part])
          if (part === 'host') fc.pre(getDomain(one.host) !== getDomain(other.host))
          expect(hashOf({ ...one, [part]: other[part] })).not.toBe(hashOf(one))
        }),
      )
    },
  )

  test.each([
    [
      "the client's own address before that of the request",
      { $ip: '9.9.9.9' },
      { ip: '1.2.3.4' },
      { $ip: '9.9.9.9' },
      { ip: '5.6.7.8' },
      true,
    ],
    [
      'the extra counts to its 100th character',
      { $cookieless_extra: `${'x'.repeat(100)}a` },
      {},
      { $cookieless_extra: `${'x'.repeat(100)}b` },
      {},
      true,
    ],
    ['a number as extra is its digits', { $cookieless_extra: 5 }, {}, { $cookieless_extra: '5' }, {}, true],
    [
      'two texts that upstream takes for one',
      { $cookieless_extra: 'A' },
      {},
      { $cookieless_extra: '\u0141' },
      {},
      false,
    ],
    [
      'the user agent of the property, not that of the request',
      {},
      { userAgent: 'a' },
      {},
      { userAgent: 'b' },
      true,
    ],
  ])('%s', (_rule, properties, header, otherProperties, otherHeader, same) => {
    const hash = visitOf(cookieless(properties, header)).visitor.baseHash
    expect(hash.equals(visitOf(cookieless(otherProperties, otherHeader)).visitor.baseHash)).toBe(same)
  })
})

test.each([
  ['an anonymous event', cookieless(), 'anonymous'],
  ['$identify', identify('alice'), 'identify'],
  ['an event of somebody identified', cookieless({}, { distinctId: 'alice' }), 'identified'],
  // Upstream leaves the placeholder there, and so makes one person of all who send it.
  ['$identify that names the placeholder', identify(COOKIELESS_DISTINCT_ID), 'anonymous'],
] as const)('the role of %s', (_rule, event, role) => {
  expect(visitOf(event).role).toBe(role)
})
