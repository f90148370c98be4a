/** Identify, alias and merge by table: numbers are those of the ingestion spec §24. */
import { describe, expect, test } from 'bun:test'
import { personUuid } from '../../event/index.ts'
import { creator, foldOver } from './fold.fixture.ts'
import { fold } from './fold.ts'
import { alias, dangerous, event, identify, T0 } from './identity.fixture.ts'
import { emptySnapshot, idKey, type PersonRow } from './snapshot.ts'

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
    '$posthog_cookieless',
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
    timesJson: undefined,
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
