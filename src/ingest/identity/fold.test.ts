/** Creation and updates by table: numbers are those of the ingestion spec §24. */
import { describe, expect, test } from 'bun:test'
import { personUuid } from '../../event/index.ts'
import { creator, foldOver, snapshotOf } from './fold.fixture.ts'
import { fold } from './fold.ts'
import { event, identify, MINUTE_MS, T0 } from './identity.fixture.ts'
import { emptySnapshot, idKey } from './snapshot.ts'
import type { IdentityEvent, JsonObject } from './types.ts'

describe('creation and personless (§24.1)', () => {
  test('1: the same id in two teams is two persons', () => {
    const { writeSet } = fold([event('A'), event('A', { teamId: 2 })], emptySnapshot())
    expect(writeSet.persons.map((p) => p.uuid)).toEqual([personUuid(1, 'A'), personUuid(2, 'A')])
  })

  test('2: a personless event of nobody has a made-up person and leaves no row', () => {
    const { stamps, writeSet } = fold(
      [event('A', { personProcessing: 'off', set: { x: 100 } })],
      emptySnapshot(),
    )
    expect(stamps[0]).toEqual({
      personUuid: personUuid(1, 'A'),
      personCreatedAtMs: 5_000,
      personPropertiesJson: '{}',
      mode: 'propertyless',
      groups: [],
      warnings: [],
    })
    expect(writeSet).toEqual({
      checks: [],
      persons: [],
      merges: [],
      mappings: [],
      groupTypes: [],
      groups: [],
    })
  })

  test('4: a personless event more than a minute after the birth of its person is counted to it', () => {
    const given = [{ ids: ['old', 'new'], props: { a: 1 } }]
    const late = event('new', { personProcessing: 'off', timestampMs: T0 + 5 * MINUTE_MS, set: { x: 1 } })
    const { stamps, writeSet } = foldOver(given, [late])
    expect(stamps[0]).toMatchObject({
      personUuid: personUuid(1, 'old'),
      personCreatedAtMs: T0,
      personPropertiesJson: '{}',
      mode: 'force_upgrade',
    })
    expect(writeSet.persons).toEqual([])
    expect(writeSet.checks).toEqual([])
  })

  test('6: up to that minute it is propertyless under the real person', () => {
    const { stamps } = foldOver(
      [{ ids: ['A'] }],
      [event('A', { personProcessing: 'off', timestampMs: T0 + MINUTE_MS })],
    )
    expect(stamps[0]).toMatchObject({
      personUuid: personUuid(1, 'A'),
      personCreatedAtMs: T0,
      mode: 'propertyless',
    })
  })

  test('7: NUL becomes U+FFFD; a new person has its creator, its birth and no override', () => {
    const e = event('A', { set: { null_byte: '\0' }, timestampMs: T0 - 9 })
    const { writeSet } = foldOver([], [e])
    expect(writeSet.persons).toHaveLength(1)
    expect(writeSet.persons[0]).toMatchObject({
      id: undefined,
      shownPropertiesJson: JSON.stringify({ null_byte: '\ufffd', ...creator(e) }),
      isIdentified: false,
      createdAtMs: T0 - 9,
      version: T0,
    })
    expect(writeSet.mappings).toEqual([
      { teamId: 1, distinctId: 'A', personUuid: personUuid(1, 'A'), version: 0, expectedVersion: undefined },
    ])
  })

  test('8: the next personful event sees the properties, a personless one does not', () => {
    const { stamps } = foldOver(
      [],
      [event('A', { set: { c: 420 } }), event('A'), event('A', { personProcessing: 'off' })],
    )
    expect(JSON.parse(stamps[1]!.personPropertiesJson)).toMatchObject({ c: 420 })
    expect(stamps[2]!.personPropertiesJson).toBe('{}')
  })

  test('11: `$set` wins over `$set_once` at birth, in one row', () => {
    const e = event('A', { setOnce: { a: 1, b: 2 }, set: { b: 3, c: 4 } })
    const { writeSet, of } = foldOver([], [e])
    expect(of('A')?.props).toEqual({ a: 1, b: 3, c: 4, ...creator(e) })
    expect(writeSet.persons).toHaveLength(1)
  })

  test('12: forced off: an identify does nothing and looks nobody up', () => {
    const given = [{ ids: ['A'], props: { a: 1 } }]
    const { stamps, writeSet } = foldOver(given, [identify('A', 'B', { personProcessing: 'forcedOff' })])
    expect(stamps[0]).toMatchObject({
      mode: 'propertyless',
      personCreatedAtMs: 5_000,
      personPropertiesJson: '{}',
    })
    expect(writeSet.persons).toEqual([])
  })
})

type UpdateCase = {
  rule: string
  has: JsonObject
  event: Partial<IdentityEvent>
  /** Undefined: nothing is written. */
  stored: JsonObject | undefined
  /** When the event shows something else than what is stored. */
  shown?: JsonObject
}

const UPDATES: UpdateCase[] = [
  {
    rule: '15: set, set_once, odd keys and NUL',
    has: { b: 3, c: 4, toString: {} },
    event: { setOnce: { c: 3, e: 4 }, set: { b: 4, toString: 1, null_byte: '\0' } },
    stored: { b: 4, c: 4, e: 4, toString: 1, null_byte: '\ufffd' },
  },
  {
    rule: '16: $exception never updates',
    has: { a: 1 },
    event: { name: '$exception', set: { a: 2 }, setOnce: { b: 1 }, unset: ['a'] },
    stored: undefined,
    shown: { a: 2 },
  },
  {
    rule: '16: $$heatmap never updates',
    has: { a: 1 },
    event: { name: '$$heatmap', setOnce: { b: 1 } },
    stored: undefined,
  },
  {
    rule: '17: a suppressed key is shown, not stored',
    has: { $current_url: 123 },
    event: { set: { $current_url: 4 } },
    stored: undefined,
    shown: { $current_url: 4 },
  },
  {
    rule: '18: the event $set stores it',
    has: { $current_url: 123 },
    event: { name: '$set', set: { $current_url: 4 } },
    stored: { $current_url: 4 },
  },
  {
    rule: '19: a new key is stored',
    has: {},
    event: { set: { $current_url: 4 } },
    stored: { $current_url: 4 },
  },
  {
    rule: '20: $initial_ keys are not suppressed',
    has: { $initial_current_url: 123 },
    event: { set: { $initial_current_url: 4 } },
    stored: { $initial_current_url: 4 },
  },
  {
    rule: '21: nothing new, nothing written',
    has: { b: 3, c: 4 },
    event: { setOnce: { c: 3 }, set: { b: 3 } },
    stored: undefined,
  },
  {
    rule: '22: one key worth writing releases all',
    has: { $browser: 'x' },
    event: { set: { $browser: 'y', plan: 'pro' } },
    stored: { $browser: 'y', plan: 'pro' },
  },
  {
    rule: '23: $unset removes what is there',
    has: { k: 1, l: 2 },
    event: { unset: ['k', 'missing'] },
    stored: { l: 2 },
  },
  {
    rule: '24: $unset wins over $set of the same event',
    has: { k: 1 },
    event: { set: { k: 2 }, unset: ['k'] },
    stored: {},
  },
  {
    rule: '25: $set_once fills a null',
    has: { utm_source: null },
    event: { setOnce: { utm_source: 'g' } },
    stored: { utm_source: 'g' },
  },
  { rule: '25: but not with a null', has: { a: null }, event: { setOnce: { a: null } }, stored: undefined },
  {
    rule: 'W-26: equal objects and lists are no change, whatever the order of their keys',
    has: { o: { a: 1, b: [1, { c: 2 }] } },
    event: { set: { o: { b: [1, { c: 2 }], a: 1 } } },
    stored: undefined,
  },
  {
    rule: 'W-26: a list in another order is a change',
    has: { o: [1, 2] },
    event: { set: { o: [2, 1] } },
    stored: { o: [2, 1] },
  },
  {
    rule: '$unset beside suppressed keys releases them',
    has: { $os: 'a', k: 1 },
    event: { set: { $os: 'b' }, unset: ['k'] },
    stored: { $os: 'b' },
  },
]

describe('updates (§24.2)', () => {
  test.each(UPDATES.map((row) => [row.rule, row] as const))('%s', (_, row) => {
    const { stamps, writeSet } = foldOver([{ ids: ['A'], props: row.has }], [event('A', row.event)])
    expect(writeSet.persons.map((p) => JSON.parse(p.shownPropertiesJson))).toEqual(
      row.stored ? [row.stored] : [],
    )
    expect(JSON.parse(stamps[0]!.personPropertiesJson)).toEqual(row.shown ?? row.stored ?? row.has)
  })

  test('W-27: a suppressed value does not leak to the next event', () => {
    const { stamps, writeSet } = foldOver(
      [{ ids: ['A'], props: { $os: 'a' } }],
      [event('A', { set: { $os: 'b' } }), event('A', { set: { k: 1 } })],
    )
    expect(JSON.parse(stamps[1]!.personPropertiesJson)).toEqual({ $os: 'a', k: 1 })
    expect(JSON.parse(writeSet.persons[0]!.propertiesJson!)).toEqual({ $os: 'a', k: 1 })
  })

  test('26: 500 events of one person are one row, and each shows its own value', () => {
    const events = Array.from({ length: 500 }, (_, n) => event('A', { set: { n }, nowMs: T0 + n }))
    const { stamps, writeSet } = foldOver([{ ids: ['A'], version: 7 }], events)
    expect(writeSet.persons).toHaveLength(1)
    expect(writeSet.persons[0]).toMatchObject({ propertiesJson: '{"n":499}', version: T0 + 499 })
    expect(stamps.map((stamp) => JSON.parse(stamp.personPropertiesJson).n)).toEqual(events.map((_, n) => n))
  })

  test('the version rises also when the clock does not', () => {
    const ahead = T0 + 1_000_000
    const { writeSet } = foldOver([{ ids: ['A'], version: ahead }], [event('A', { set: { a: 1 } })])
    expect(writeSet.persons[0]!.version).toBe(ahead + 1)
    expect(writeSet.checks).toEqual([{ id: 1, version: ahead, dead: false }])
  })

  test('a stored text that does not change is passed on as it is', () => {
    const snapshot = snapshotOf([{ ids: ['A'] }])
    const text = '{"b": 12345678901234567890, "a" :1}'
    snapshot.mappings.get(idKey(1, 'A'))!.person.propertiesJson = text
    const { stamps } = fold([event('A'), event('A', { set: { a: 1 } })], snapshot)
    expect(stamps.map((stamp) => stamp.personPropertiesJson)).toEqual([text, text])
  })

  test('two events under one uuid both count', () => {
    const first = event('A', { set: { a: 1 } })
    const { of } = foldOver([], [first, { ...first, name: 'other', set: { b: 2 } }])
    expect(of('A')?.props).toMatchObject({ a: 1, b: 2 })
  })
})
