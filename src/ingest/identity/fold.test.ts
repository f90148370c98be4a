/** The rules by table: numbers are those of the ingestion spec §24. Pure: stored state is given as plain data. */
import { describe, expect, test } from 'bun:test'
import { personUuid } from '../../event/index.ts'
import { fold } from './fold.ts'
import { emptySnapshot, groupKey, idKey, type PersonRow, type Snapshot } from './snapshot.ts'
import { alias, dangerous, event, identify, MINUTE_MS, T0 } from './test-support.ts'
import type { IdentityEvent, JsonObject } from './types.ts'

/** A stored person, named after its first id. */
type Given = {
  ids: string[]
  props?: JsonObject
  identified?: boolean
  createdAtMs?: number
  version?: number
}

type Person = { ids: string[]; props: JsonObject; identified: boolean; createdAtMs: number }

function snapshotOf(given: readonly Given[]): Snapshot {
  const snapshot = emptySnapshot()
  given.forEach(({ ids, props = {}, identified = false, createdAtMs = T0, version = 1 }, i) => {
    const person: PersonRow = {
      id: i + 1,
      teamId: 1,
      uuid: personUuid(1, ids[0]!),
      propertiesJson: JSON.stringify(props),
      createdAtMs,
      isIdentified: identified,
      version,
      dead: false,
    }
    for (const id of ids) snapshot.mappings.set(idKey(1, id), { version: id === ids[0] ? 0 : 1, person })
  })
  return snapshot
}

/** Who is alive after the batch, as the write set leaves it, by the id that names the person. */
function foldOver(given: readonly Given[], events: readonly IdentityEvent[]) {
  const snapshot = snapshotOf(given)
  const { stamps, writeSet } = fold(events, snapshot)
  const persons = new Map<string, Person>()
  const owner = new Map<string, string>()
  for (const [key, { person }] of snapshot.mappings) {
    owner.set(key.slice(2), person.uuid)
    persons.set(person.uuid, {
      ids: [],
      props: JSON.parse(person.propertiesJson),
      identified: person.isIdentified,
      createdAtMs: person.createdAtMs,
    })
  }
  for (const write of writeSet.persons) {
    persons.set(write.uuid, {
      ids: [],
      props: JSON.parse(write.shownPropertiesJson),
      identified: write.isIdentified,
      createdAtMs: write.createdAtMs,
    })
  }
  for (const merge of writeSet.merges) {
    for (const [id, uuid] of owner) if (uuid === merge.loserUuid) owner.set(id, merge.homeUuid)
    persons.delete(merge.loserUuid)
  }
  for (const mapping of writeSet.mappings) owner.set(mapping.distinctId, mapping.personUuid)
  for (const [id, uuid] of owner) persons.get(uuid)!.ids.push(id)
  const living = [...persons].map(([uuid, person]) => ({ uuid, ...person, ids: person.ids.sort() }))
  const warnings = stamps.flatMap((stamp) => stamp.warnings.map((warning) => warning.type))
  return { stamps, writeSet, living, warnings, of: (id: string) => living.find((p) => p.ids.includes(id)) }
}

const creator = (e: IdentityEvent) => ({ $creator_event_uuid: e.uuid })

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

describe('identify, alias, merge (§24.3)', () => {
  test('32, 33: without another id nothing is joined and nobody is identified', () => {
    const { living } = foldOver([], [event('A', { name: '$identify' }), identify('A', 'A')])
    expect(living).toMatchObject([{ ids: ['A'], identified: false }])
  })

  test('34: neither exists: one person named after the event, with both ids', () => {
    const e = identify('new', 'old', { set: { foo: 'bar' }, timestampMs: T0 - 3 })
    const { living, writeSet } = foldOver([], [e])
    expect(living).toEqual([
      {
        uuid: personUuid(1, 'new'),
        ids: ['new', 'old'],
        props: { foo: 'bar', ...creator(e) },
        identified: true,
        createdAtMs: T0 - 3,
      },
    ])
    expect(writeSet.mappings.map((m) => [m.distinctId, m.version])).toEqual([
      ['new', 0],
      ['old', T0],
    ])
  })

  test('35, 53: both ids on one person: it is identified; again: nothing is written', () => {
    const given = [{ ids: ['new', 'old'], props: { a: 1 } }]
    const { of, writeSet } = foldOver(given, [identify('new', 'old')])
    expect(of('new')?.identified).toBe(true)
    expect(writeSet.mappings).toEqual([])
    const again = foldOver([{ ...given[0]!, identified: true }], [identify('new', 'old')])
    expect(again.writeSet.persons).toEqual([])
    expect(again.writeSet.merges).toEqual([])
  })

  test('36: only P(new): old goes to it, and the person rises so that others see it', () => {
    const { living, writeSet } = foldOver(
      [{ ids: ['new'], identified: true, version: 5 }],
      [identify('new', 'old')],
    )
    expect(living).toMatchObject([{ uuid: personUuid(1, 'new'), ids: ['new', 'old'], identified: true }])
    expect(writeSet.persons).toMatchObject([{ version: T0, propertiesJson: undefined }])
  })

  test('37: only P(old), anonymous: new goes to it', () => {
    const { living } = foldOver([{ ids: ['old'] }], [identify('new', 'old')])
    expect(living).toMatchObject([{ uuid: personUuid(1, 'old'), ids: ['new', 'old'], identified: true }])
  })

  test('67, W-15: only P(old), identified: new is not put onto a known person', () => {
    const { living, warnings } = foldOver([{ ids: ['old'], identified: true }], [identify('new', 'old')])
    expect(living).toMatchObject([
      { ids: ['old'] },
      { uuid: personUuid(1, 'new'), ids: ['new'], identified: true },
    ])
    expect(warnings).toEqual(['cannot_attach_to_identified'])
  })

  test('$merge_dangerously may put a new id onto a known person', () => {
    const { living, warnings } = foldOver([{ ids: ['old'], identified: true }], [dangerous('new', 'old')])
    expect(living).toMatchObject([{ uuid: personUuid(1, 'old'), ids: ['new', 'old'] }])
    expect(warnings).toEqual([])
  })

  test('38: an anonymous person merges into the known one, with the earlier birth', () => {
    const { living, writeSet } = foldOver(
      [
        { ids: ['old'], createdAtMs: T0 - 50 },
        { ids: ['new'], identified: true, createdAtMs: T0 },
      ],
      [identify('new', 'old')],
    )
    expect(living).toMatchObject([
      { uuid: personUuid(1, 'new'), ids: ['new', 'old'], identified: true, createdAtMs: T0 - 50 },
    ])
    expect(writeSet.merges).toMatchObject([
      { loserUuid: personUuid(1, 'old'), intoUuid: personUuid(1, 'new'), homeUuid: personUuid(1, 'new') },
    ])
    expect(writeSet.checks.map((check) => check.id)).toEqual([1, 2])
  })

  test('W-12: the survivor rises above both versions', () => {
    const high = T0 + 500
    const { writeSet } = foldOver(
      [
        { ids: ['old'], version: high },
        { ids: ['new'], version: 3 },
      ],
      [identify('new', 'old')],
    )
    expect(writeSet.persons[0]!.version).toBe(high + 1)
    expect(writeSet.merges[0]!.version).toBe(high + 1)
  })

  test('39, 40: a known person is not merged away; the event still counts for its own', () => {
    for (const identified of [false, true]) {
      const { living, warnings, writeSet } = foldOver(
        [
          { ids: ['old'], identified: true },
          { ids: ['new'], identified },
        ],
        [identify('new', 'old', { set: { x: 1 } })],
      )
      expect(living).toMatchObject([
        { ids: ['old'], props: {} },
        { ids: ['new'], identified: true, props: { x: 1 } },
      ])
      expect(warnings).toEqual(['cannot_merge_already_identified'])
      // The refusal rests on the other person, so it has to be as it was read.
      expect(writeSet.checks.map((check) => check.id)).toEqual([1, 2])
    }
  })

  test('41: the survivor wins over the loser, the event over both', () => {
    const { of } = foldOver(
      [
        { ids: ['old'], props: { a: 1, b: 2 } },
        { ids: ['new'], props: { b: 3, c: 4, d: 5 } },
      ],
      [identify('new', 'old', { set: { d: 6, e: 7 }, setOnce: { a: 8, f: 9 } })],
    )
    expect(of('new')?.props).toEqual({ a: 1, b: 3, c: 4, d: 6, e: 7, f: 9 })
  })

  test('43: an alias is an identify by another name', () => {
    const given = [
      { ids: ['S'], props: { a: 1 } },
      { ids: ['T'], props: { b: 2 } },
    ]
    expect(foldOver(given, [alias('T', 'S')]).living).toEqual(foldOver(given, [identify('T', 'S')]).living)
  })

  test('44: $merge_dangerously merges known persons', () => {
    const { living } = foldOver(
      [
        { ids: ['S'], identified: true, createdAtMs: T0 - 1 },
        { ids: ['T'], identified: true },
      ],
      [dangerous('T', 'S')],
    )
    expect(living).toMatchObject([{ uuid: personUuid(1, 'T'), ids: ['S', 'T'], createdAtMs: T0 - 1 }])
  })

  const ILLEGAL = [
    '',
    '   ',
    'null',
    'undefined',
    '"undefined"',
    "'null'",
    '[object Object]',
    'NaN',
    'ANONYMOUS',
    'x\0',
  ]
  test.each([...ILLEGAL, 'x'.repeat(401)])('45, 46, 48: %j joins nobody, on either side', (illegal) => {
    for (const e of [identify('A', illegal), identify(illegal, 'A')]) {
      const { living, warnings } = foldOver([{ ids: ['A'] }], [e])
      expect(warnings).toEqual(['cannot_merge_with_illegal_distinct_id'])
      expect(living.every((person) => person.ids.length === 1 && !person.identified)).toBe(true)
    }
  })

  test.each(['nan', 'NAN', 'Null', 'x'.repeat(400), '😀'.repeat(400)])(
    '48: %j is an id like any other',
    (id) => {
      expect(foldOver([], [identify('A', id)]).warnings).toEqual([])
    },
  )

  test('47: an alias that is null or empty is no request', () => {
    for (const otherId of [null, '', 0, false]) {
      const e = event('T', { name: '$create_alias', merge: { kind: 'alias', otherId } })
      const { living, warnings } = foldOver([], [e])
      expect(warnings).toEqual([])
      expect(living).toMatchObject([{ ids: ['T'], identified: false }])
    }
  })

  test('W-22: an id that is an object with a hostile toString is a placeholder', () => {
    for (const otherId of [{ toString: null }, [1], [], { valueOf: 1 }]) {
      const { warnings } = foldOver(
        [],
        [event('T', { name: '$identify', merge: { kind: 'identify', otherId } })],
      )
      expect(warnings).toEqual(['cannot_merge_with_illegal_distinct_id'])
    }
  })

  test('49: alias twice, in reverse, and before anybody exists ends in one person', () => {
    const { living } = foldOver([], [alias('T', 'S'), alias('T', 'S'), alias('S', 'T'), alias('U', 'T')])
    expect(living.map((person) => person.ids)).toEqual([['S', 'T'], ['U']])
    const anonymous = foldOver(
      [],
      [event('S'), event('T'), alias('T', 'S'), alias('T', 'S'), alias('S', 'T')],
    )
    expect(anonymous.living.map((person) => person.ids)).toEqual([['S', 'T']])
  })

  test('61, W-1: what the loser had is in the same write set', () => {
    const { writeSet } = foldOver(
      [{ ids: ['old'], props: { only: 'here' } }, { ids: ['new'] }],
      [identify('new', 'old', { set: { a: 1 } })],
    )
    expect(JSON.parse(writeSet.persons[0]!.propertiesJson!)).toEqual({ only: 'here', a: 1 })
    expect(writeSet.merges).toHaveLength(1)
  })

  test('65: several anonymous ids in one batch: the known one is refused, the first wins over the later', () => {
    const { living, warnings } = foldOver(
      [
        { ids: ['A'], props: { x: 'A' } },
        { ids: ['a'], props: { x: 'a', y: 'a' } },
        { ids: ['b'], identified: true },
        { ids: ['c'], props: { x: 'c', y: 'c', z: 'c' } },
      ],
      [identify('A', 'a'), identify('A', 'b'), identify('A', 'c')],
    )
    expect(living).toMatchObject([
      { ids: ['A', 'a', 'c'], props: { x: 'A', y: 'a', z: 'c' } },
      { ids: ['b'] },
    ])
    expect(warnings).toEqual(['cannot_merge_already_identified'])
  })

  test('69, W-5: a `$set` before an alias of the same person stays', () => {
    const { of } = foldOver(
      [{ ids: ['A', 'S'], identified: true }],
      [identify('A', 'S', { set: { plan: 'pro' } }), alias('A', 'S')],
    )
    expect(of('A')?.props).toEqual({ plan: 'pro' })
  })

  test('W-30: what the source was told in the same batch survives its merge', () => {
    const { of } = foldOver(
      [{ ids: ['old'] }, { ids: ['new'] }],
      [event('old', { set: { a: 1 } }), identify('new', 'old')],
    )
    expect(of('new')?.props).toEqual({ a: 1 })
  })

  test('a chain of merges in one batch leads every id to the last survivor', () => {
    const { living, writeSet } = foldOver(
      [{ ids: ['a'] }, { ids: ['b'] }, { ids: ['c'], identified: true }],
      [event('n'), dangerous('b', 'a'), dangerous('b', 'n'), dangerous('c', 'b')],
    )
    expect(living).toMatchObject([{ ids: ['a', 'b', 'c', 'n'] }])
    expect(writeSet.merges.map((merge) => merge.homeUuid)).toEqual(Array(3).fill(personUuid(1, 'c')))
    // The id was born in the batch with a person of its own name, and then moved: that needs an override.
    expect(writeSet.mappings).toMatchObject([
      { distinctId: 'n', version: T0, personUuid: personUuid(1, 'c') },
    ])
  })
})

describe('persons that come back (68, W-10)', () => {
  const dead = (id: string, version: number): PersonRow => ({
    id: 9,
    teamId: 1,
    uuid: personUuid(1, id),
    propertiesJson: '{}',
    createdAtMs: T0 - 100,
    isIdentified: true,
    version,
    dead: true,
  })

  test('a deleted person is revived above its tombstone, and its id above old overrides', () => {
    const snapshot = emptySnapshot()
    snapshot.namesakes.set(idKey(1, 'A'), dead('A', T0 + 100))
    const { writeSet } = fold([event('A', { set: { a: 1 } })], snapshot)
    expect(writeSet.checks).toEqual([{ id: 9, version: T0 + 100, dead: true }])
    expect(writeSet.persons).toMatchObject([
      { id: 9, version: T0 + 101, isIdentified: false, createdAtMs: T0 },
    ])
    expect(writeSet.mappings).toMatchObject([{ distinctId: 'A', version: T0, expectedVersion: undefined }])
  })

  test('an id that still points at a deleted person gets one of its own', () => {
    const snapshot = emptySnapshot()
    snapshot.mappings.set(idKey(1, 'B'), { version: T0 + 5, person: dead('A', 3) })
    const { writeSet, stamps } = fold([event('B', { personProcessing: 'off' }), event('B')], snapshot)
    expect(stamps[0]!.personCreatedAtMs).toBe(5_000)
    expect(writeSet.mappings).toEqual([
      {
        teamId: 1,
        distinctId: 'B',
        personUuid: personUuid(1, 'B'),
        version: T0 + 6,
        expectedVersion: T0 + 5,
      },
    ])
  })

  test('a living person that holds the name takes the id back', () => {
    const snapshot = emptySnapshot()
    snapshot.namesakes.set(idKey(1, 'A'), { ...dead('A', 3), dead: false })
    const { writeSet } = fold([event('A', { set: { a: 1 } })], snapshot)
    expect(writeSet.persons).toMatchObject([{ id: 9, propertiesJson: '{"a":1}' }])
    expect(writeSet.mappings).toMatchObject([
      { distinctId: 'A', personUuid: personUuid(1, 'A'), version: T0 },
    ])
  })
})

describe('groups (§10, §24.4)', () => {
  const groupIdentify = (type: string, key: string, set: JsonObject, more: Partial<IdentityEvent> = {}) =>
    event('A', { name: '$groupidentify', groupIdentify: { type, key, set }, ...more })

  test('70: types are numbered as they come, per team', () => {
    const { stamps, writeSet } = fold(
      [
        event('A', { groups: { company: 'c1', org: 'o1' } }),
        event('A', { groups: { org: 'o2' } }),
        event('A', { teamId: 2, groups: { org: 'o2' } }),
      ],
      emptySnapshot(),
    )
    expect(stamps.map((s) => s.groups.map((g) => [g.index, g.key]))).toEqual([
      [
        [0, 'c1'],
        [1, 'o1'],
      ],
      [[1, 'o2']],
      [[0, 'o2']],
    ])
    expect(writeSet.groupTypes).toHaveLength(3)
    expect(writeSet.groups).toEqual([])
  })

  test('71, W-42: the sixth type is left out, and said', () => {
    const groups = Object.fromEntries(['a', 'b', 'c', 'd', 'e', 'f'].map((type) => [type, 'k']))
    const { stamps, writeSet } = fold([event('A', { groups })], emptySnapshot())
    expect(stamps[0]!.groups.map((g) => g.index)).toEqual([0, 1, 2, 3, 4])
    expect(stamps[0]!.warnings).toMatchObject([{ type: 'too_many_group_types', details: { groupType: 'f' } }])
    expect(writeSet.groupTypes).toHaveLength(5)
  })

  test('a free number below a taken one is used first', () => {
    const snapshot = emptySnapshot()
    snapshot.groupTypes.set(
      1,
      new Map([
        ['a', 0],
        ['c', 2],
      ]),
    )
    expect(fold([event('A', { groups: { b: 'k' } })], snapshot).stamps[0]!.groups[0]!.index).toBe(1)
    expect(snapshot.groupTypes.get(1)!.size).toBe(2)
  })

  test('72: a group is made and merged key by key; the event shows it', () => {
    const { stamps, writeSet } = fold(
      [
        groupIdentify('company', 'c1', { a: 1 }, { timestampMs: T0 - 7, groups: { company: 'c1' } }),
        groupIdentify('company', 'c1', { a: 1, b: 2 }),
        event('A', { groups: { company: 'c1' } }),
      ],
      emptySnapshot(),
    )
    expect(writeSet.groups).toEqual([
      {
        teamId: 1,
        index: 0,
        key: 'c1',
        propertiesJson: '{"a":1,"b":2}',
        createdAtMs: T0 - 7,
        version: T0,
        expectedVersion: undefined,
      },
    ])
    expect(stamps[0]!.groups).toEqual([
      { index: 0, key: 'c1', propertiesJson: '{"a":1}', createdAtMs: T0 - 7 },
    ])
    expect(stamps[2]!.groups[0]!.propertiesJson).toBe('{"a":1,"b":2}')
  })

  const stored = () => {
    const snapshot = emptySnapshot()
    snapshot.groupTypes.set(
      1,
      new Map([
        ['company', 0],
        ['org', 1],
      ]),
    )
    const row = { propertiesJson: '{"a": {"x": [1]}}', createdAtMs: T0 - 9, version: T0 + 3 }
    snapshot.groups.set(groupKey(1, 0, 'c1'), row)
    return snapshot
  }

  test('73: an equal group is not written, whatever the time says', () => {
    const { writeSet } = fold([groupIdentify('company', 'c1', { a: { x: [1] } })], stored())
    expect(writeSet.groups).toEqual([])
  })

  test('a change keeps the birth and raises the version', () => {
    const { writeSet } = fold([groupIdentify('company', 'c1', { b: 1 }, { timestampMs: 0 })], stored())
    expect(writeSet.groups).toMatchObject([{ createdAtMs: T0 - 9, version: T0 + 4, expectedVersion: T0 + 3 }])
    expect(JSON.parse(writeSet.groups[0]!.propertiesJson)).toEqual({ a: { x: [1] }, b: 1 })
  })

  test('76, W-21: one key in two types is two groups', () => {
    const { writeSet } = fold(
      [groupIdentify('company', 'k', { a: 1 }), groupIdentify('org', 'k', { b: 1 })],
      stored(),
    )
    expect(writeSet.groups.map((g) => [g.index, g.propertiesJson])).toEqual([
      [0, '{"a":1}'],
      [1, '{"b":1}'],
    ])
  })

  test('a type or key that could not be an index is left out', () => {
    const e = event('A', { groups: { ['t'.repeat(401)]: 'k', company: 'k'.repeat(401) } })
    const { stamps } = fold([e], emptySnapshot())
    expect(stamps[0]!.groups).toEqual([])
    expect(stamps[0]!.warnings.map((w) => w.type)).toEqual(['group_key_too_long', 'group_key_too_long'])
  })

  test('a personless event carries no groups', () => {
    const e = event('A', { personProcessing: 'off', groups: { company: 'c1' } })
    expect(fold([e], stored()).stamps[0]!.groups).toEqual([])
  })
})
