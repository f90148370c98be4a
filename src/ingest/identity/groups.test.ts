/** Groups by table: numbers are those of the ingestion spec §24. */
import { describe, expect, test } from 'bun:test'
import { fold } from './fold.ts'
import { event, T0 } from './identity.fixture.ts'
import { emptySnapshot, groupKey } from './snapshot.ts'
import type { IdentityEvent, JsonObject } from './types.ts'

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
