import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { ParsedEvent } from '../draft.ts'
import { cookieless, HOUR_MS, identify, MINUTE_MS, NOON, visitOf } from './cookieless.fixture.ts'
import { withIds } from './rewrite.ts'
import { deviceIdOf, distinctIdOf } from './visitor.ts'
import { findIds, NO_STATES, type VisitorState, type VisitorStates, visitorKey } from './visitors.ts'

const at = (minutes: number) => ({ timestampMs: NOON + minutes * MINUTE_MS })
const anonymous = (minutes = 0) => cookieless({}, at(minutes))
const named = (distinctId: string, minutes = 0) => cookieless({}, { distinctId, ...at(minutes) })
const says = (distinctId: string, minutes = 0) => identify(distinctId, {}, at(minutes))

const { visitor } = visitOf(anonymous())
/** The distinct id of person n. */
const id = (n: number) => distinctIdOf(visitor.hash(n))

/** In batches of `size`, the state carried over as Postgres does. */
function run(events: ParsedEvent[], size = events.length) {
  let states: VisitorStates = NO_STATES
  const stored: ParsedEvent[] = []
  for (let from = 0; from < events.length; from += size) {
    const batch = events.slice(from, from + size)
    const { ids, writes } = findIds(
      batch.map((event) => visitOf(event)),
      states,
    )
    batch.forEach((event, i) => {
      stored.push(withIds(event, ids[i]!))
    })
    const next = new Map<string, VisitorState>(states)
    for (const write of writes)
      next.set(visitorKey(write.visitor), { ...write.state, version: (write.state.version ?? 0) + 1 })
    states = next
  }
  return { stored, states }
}
const sessions = (events: ParsedEvent[]) => run(events).stored.map(({ properties }) => properties.$session_id)

describe('which person of the visitor', () => {
  test('anonymous, $identify, identified, anonymous again: the last one is another person', () => {
    const { stored } = run([
      anonymous(),
      says('alice', 1),
      named('alice', 2),
      anonymous(3),
      says('bob', 4),
      anonymous(5),
    ])
    expect(stored.map(({ header }) => header.distinctId)).toEqual([
      id(0),
      'alice',
      'alice',
      id(1),
      'bob',
      id(2),
    ])
    expect(stored.map(({ properties }) => properties.$anon_distinct_id)).toEqual([
      undefined,
      id(0),
      undefined,
      undefined,
      id(1),
      undefined,
    ])
  })

  test('every event has the device id of the visitor, and no $distinct_id', () => {
    for (const { properties } of run([cookieless({ $distinct_id: 'x' }), says('alice'), named('alice')])
      .stored) {
      expect(properties.$device_id).toBe(deviceIdOf(visitor.baseHash))
      expect(properties).not.toHaveProperty('$distinct_id')
    }
  })

  test('$identify that names the placeholder identifies nobody', () => {
    const { stored } = run([identify('$posthog_cookieless'), anonymous()])
    expect(stored.map(({ header }) => header.distinctId)).toEqual([id(0), id(0)])
    expect(stored[0]!.properties.$anon_distinct_id).toBe(id(0))
  })

  test('two $identify with one uuid are two, because the same one never comes twice here', () => {
    const uuid = '00000000-0000-4000-8000-0000000000aa'
    const { stored } = run([identify('alice', {}, { uuid }), identify('bob', {}, { uuid }), anonymous()])
    expect(stored[2]!.header.distinctId).toBe(id(2))
  })
})

describe('sessions', () => {
  test.each([
    ['30 minutes later it is the same', [0, 30], [0, 0]],
    ['a moment more and it is another', [0, 30 + 1 / MINUTE_MS], [0, 1]],
    ['each event prolongs it', [0, 20, 40, 60], [0, 0, 0, 0]],
    // Upstream would take the late event's time for the last activity, and end the session at 29 minutes.
    ['an event that comes late prolongs nothing and shortens nothing', [0, 20, 5, 45], [0, 0, 0, 0]],
    ['an event from before the session belongs to it', [60, 0, 61], [0, 0, 0]],
  ])('%s', (_rule, minutes, expected) => {
    const ids = sessions(minutes.map((minute) => anonymous(minute)))
    const order = [...new Set(ids)]
    expect(ids.map((one) => order.indexOf(one))).toEqual(expected)
  })

  test('a session is a UUIDv7 of its first event', () => {
    const [first] = sessions([anonymous(7)])
    expect(first).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(Number.parseInt(String(first).replaceAll('-', '').slice(0, 12), 16)).toBe(NOON + 7 * MINUTE_MS)
  })

  test('it goes on over $identify; whoever comes next has another', () => {
    const [a, b, c, d] = sessions([anonymous(), says('alice', 1), named('alice', 2), anonymous(3)])
    expect([b, c]).toEqual([a, a])
    expect(d).not.toBe(a)
  })

  test('somebody identified elsewhere has a session of their own', () => {
    const [a, b, c] = sessions([named('alice'), anonymous(1), named('alice', 2)])
    expect(c).toBe(a)
    expect(b).not.toBe(a)
  })
})

test('however the events are cut into batches, the ids and the state are the same', () => {
  const kinds = fc.record({
    kind: fc.constantFrom('anonymous', 'identify', 'identified'),
    minutes: fc.integer({ min: 0, max: 600 }),
    ip: fc.constantFrom('1.1.1.1', '2.2.2.2'),
  })
  const toEvent = ({ kind, minutes, ip }: { kind: string; minutes: number; ip: string }) => {
    const header = { ip, timestampMs: NOON + minutes * MINUTE_MS - 10 * HOUR_MS }
    if (kind === 'identify') return identify('alice', {}, header)
    return cookieless({}, kind === 'identified' ? { ...header, distinctId: 'alice' } : header)
  }
  fc.assert(
    fc.property(
      fc.array(kinds, { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 1, max: 7 }),
      (rows, size) => {
        const events = rows.map(toEvent)
        const whole = run(events)
        const cut = run(events, size)
        expect(cut.stored).toEqual(whole.stored)
        const bare = (states: VisitorStates) =>
          [...states].map(([key, state]) => [key, { ...state, version: 0 }])
        expect(bare(cut.states)).toEqual(bare(whole.states))
        for (const [, state] of cut.states) {
          const activity = Math.max(state.session?.activeMs ?? 0, state.sessionBefore?.activeMs ?? 0)
          expect(activity).toBeGreaterThan(0)
        }
      },
    ),
  )
})

test('an event that changes nothing writes nothing, and nothing given is changed', () => {
  const { states } = run([anonymous(10)])
  const frozen = structuredClone([...states.values()])
  expect(findIds([visitOf(anonymous(5))], states).writes).toEqual([])
  expect(findIds([visitOf(anonymous(11))], states).writes).toHaveLength(1)
  expect([...states.values()].map((state) => state.identifies)).toEqual(
    frozen.map((state) => state.identifies),
  )
  expect([...states.values()].map((state) => state.session)).toEqual(frozen.map((state) => state.session))
})
