/** Properties by event time: the order of arrival must not matter, nor how many persons the events were spread over. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { parseTimes, REMOVED_KEYS_MAX, timesJson } from './event-time.ts'
import { fold } from './fold.ts'
import { event, identify, T0 } from './identity.fixture.ts'
import { DEFAULT_OPTIONS } from './options.ts'
import { emptySnapshot } from './snapshot.ts'
import type { IdentityEvent, JsonObject } from './types.ts'

const byTime = () => ({ ...DEFAULT_OPTIONS, propertyOrder: 'eventTime' as const })

function propertiesAfter(events: IdentityEvent[]): JsonObject {
  const { writeSet } = fold(events, emptySnapshot(), byTime)
  const gone = new Set(writeSet.merges.map((merge) => merge.loserUuid))
  const living = writeSet.persons.filter((person) => !gone.has(person.uuid))
  expect(living).toHaveLength(1)
  const { $creator_event_uuid: _, ...properties } = JSON.parse(living[0]!.shownPropertiesJson) as JsonObject
  return properties
}

const value = fc.constantFrom(1, 2, 'x', [1], { o: 1 })
const orNull = fc.option(value)
// `u` and `v` are set and removed, `p` and `q` set and set once: see the module comment for why not all three.
const step = fc.record({
  set: fc
    .tuple(
      fc.dictionary(fc.constantFrom('u', 'v'), orNull, { maxKeys: 2 }),
      fc.dictionary(fc.constantFrom('p', 'q'), value, { maxKeys: 2 }),
    )
    .map(([removable, lasting]) => ({ ...removable, ...lasting })),
  setOnce: fc.dictionary(fc.constantFrom('p', 'q'), value, { maxKeys: 2 }),
  unset: fc.subarray(['u', 'v']),
  id: fc.constantFrom('a', 'b'),
})
const story = fc.array(step, { minLength: 1, maxLength: 9 }).chain((steps) =>
  fc.record({
    events: fc.constant(
      steps.map(({ id, ...rest }, i) => event(id, { name: '$set', timestampMs: T0 + i, ...rest })),
    ),
    order: fc.shuffledSubarray(
      steps.map((_, i) => i),
      { minLength: steps.length },
    ),
    mergedAfter: fc.nat(steps.length),
  }),
)

test('in any order of arrival, over one person or two that merge, the result is that of the order of time', () => {
  fc.assert(
    fc.property(story, ({ events, order, mergedAfter }) => {
      const ofOne = propertiesAfter(events.map((e) => ({ ...e, distinctId: 'a' })))
      const arriving = order.map((i) => events[i]!)
      arriving.splice(mergedAfter, 0, identify('a', 'b'))
      expect(propertiesAfter(arriving)).toEqual(ofOne)
    }),
    { numRuns: 3_000 },
  )
})

test.each([
  ['a set', [{ set: { k: 1 } }, { set: { k: 2 } }], { k: 2 }],
  ['a set before a set_once', [{ set: { k: 1 } }, { setOnce: { k: 2 } }], { k: 1 }],
  ['a set after a set_once', [{ setOnce: { k: 1 } }, { set: { k: 2 } }], { k: 2 }],
  ['a set_once after a removal', [{ set: { k: 1 } }, { unset: ['k'] }, { setOnce: { k: 2 } }], { k: 2 }],
  ['a removal after a set_once', [{ setOnce: { k: 1 } }, { unset: ['k'] }], {}],
] as [string, Partial<IdentityEvent>[], JsonObject][])('%s, backwards too', (_, steps, expected) => {
  const events = steps.map((more, i) => event('a', { name: '$set', timestampMs: T0 + i, ...more }))
  expect(propertiesAfter(events)).toEqual(expected)
  expect(propertiesAfter([...events].reverse())).toEqual(expected)
})

test('removed keys are remembered up to a limit, the newest', () => {
  const times = parseTimes(undefined)
  for (let i = 0; i < REMOVED_KEYS_MAX + 50; i++) times.set(`gone-${i}`, i + 1)
  times.set('kept', 1)
  const kept = parseTimes(timesJson(times, { kept: 1 }))
  expect(kept.size).toBe(REMOVED_KEYS_MAX + 1)
  expect(kept.has('gone-49')).toBe(false)
  expect(kept.has('gone-50')).toBe(true)
  expect(kept.get('kept')).toBe(1)
})

test('suppressed keys alone are shown when they are newer, and not stored', () => {
  const { stamps, writeSet } = fold(
    [
      event('a', { set: { $os: 'x' }, timestampMs: T0 + 5 }),
      event('a', { set: { $os: 'y' }, timestampMs: T0 + 9 }),
      event('a', { set: { $os: 'z' }, timestampMs: T0 + 1 }),
    ],
    emptySnapshot(),
    byTime,
  )
  expect(stamps.map((stamp) => JSON.parse(stamp.personPropertiesJson).$os)).toEqual(['x', 'y', 'x'])
  expect(JSON.parse(writeSet.persons[0]!.shownPropertiesJson).$os).toBe('x')
  expect(JSON.parse(writeSet.persons[0]!.timesJson!)).toEqual({ $os: T0 + 5 })
})
