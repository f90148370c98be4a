import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { foldOver } from './fold.fixture.ts'
import { event, identify } from './identity.fixture.ts'
import { compactJson, GROUP_BYTES_MAX, isOver, keepWithin, PERSON_BYTES_MAX } from './property-limit.ts'
import type { IdentityEvent, JsonObject } from './types.ts'

const bytesOf = (value: unknown) => Buffer.byteLength(JSON.stringify(value))
/** About `kib` KiB of two-byte characters. */
const large = (kib: number) => 'é'.repeat(kib * 512)

describe('keepWithin', () => {
  const long = 'x'.repeat(9)
  test.each([
    ['what fits stays', { a: 'x', b: 'y' }, ['a', 'b'], {}, 100, [], { a: 'x', b: 'y' }],
    ['of the new the first by name goes', { a: 1, b: long }, ['a', 'b'], {}, 17, ['a'], { b: long }],
    ['a protected one goes last', { z: 'y', email: long }, ['z', 'email'], {}, 22, ['z'], { email: long }],
    ['what stood there comes back', { a: long, b: 1 }, ['a'], { a: 0 }, 14, ['a'], { a: 0, b: 1 }],
    ['but not when that is longer', { a: 1, b: long }, ['a', 'b'], { a: 20 }, 14, ['b'], { a: 1 }],
    ['stored ones go down to the target', { a: 1, b: 2, c: 3, d: 4 }, [], {}, 20, ['a', 'b'], { c: 3, d: 4 }],
    ['protected ones after them', { email: long, x: 1, y: 2 }, [], {}, 30, ['x', 'y', 'email'], {}],
  ] as [string, JsonObject, string[], JsonObject, number, string[], JsonObject][])(
    '%s',
    (_, properties, latest, before, limit, leftOut, rest) => {
      const target = limit - 5
      expect(
        keepWithin(
          { limit, target: latest.length > 0 ? limit : Math.min(target, 15) },
          properties,
          latest,
          before,
        ),
      ).toEqual(leftOut)
      expect(properties).toEqual(rest)
    },
  )

  test('whatever comes, it fits afterwards, and what was stored within the limit stays', () => {
    const values = fc.dictionary(fc.string(), fc.oneof(fc.string({ unit: 'binary' }), fc.integer()), {
      maxKeys: 12,
    })
    fc.assert(
      fc.property(values, values, fc.integer({ min: 2, max: 200 }), (old, news, limit) => {
        const before = JSON.parse(JSON.stringify(old)) as JsonObject
        const properties = { ...before, ...(JSON.parse(JSON.stringify(news)) as JsonObject) }
        const fitted = bytesOf(properties) <= limit
        const leftOut = keepWithin({ limit, target: limit }, properties, Object.keys(news), before)
        expect(bytesOf(properties)).toBeLessThanOrEqual(limit)
        if (fitted) expect(leftOut).toEqual([])
        if (bytesOf(before) <= limit)
          for (const key of Object.keys(before)) expect(Object.hasOwn(properties, key)).toBe(true)
      }),
    )
  })
})

test.each([
  ['x'.repeat(8), false],
  ['x'.repeat(9), true],
  ['é'.repeat(4), false],
  ['é'.repeat(5), true],
])('%s over 8 bytes: %p', (json, over) => expect(isOver(8, json)).toBe(over))

test('numbers that Postgres writes out are spelled as JSON again', () => {
  const writtenOut = `{"n": [${Array.from({ length: 2_000 }, () => `1${'0'.repeat(300)}`).join(', ')}]}`
  expect(compactJson(writtenOut)).toBe(JSON.stringify({ n: new Array(2_000).fill(1e300) }))
  expect(compactJson('{"a": 1}')).toBe('{"a": 1}')
})

describe('a person that would become too large', () => {
  const tooLarge = ['person_properties_too_large' as const]

  test('by its creation: what does not fit is left out', () => {
    const { of, warnings } = foldOver([], [event('A', { set: { a: large(700), b: 1 } })])
    expect(Object.keys(of('A')!.props).sort()).toEqual(['$creator_event_uuid', 'b'])
    expect(warnings).toEqual(tooLarge)
  })

  test('by an update: what it had stays, the small new property is taken', () => {
    const props = { a: large(300), b: 'old' }
    const { of, stamps, warnings } = foldOver(
      [{ ids: ['A'], props }],
      [event('A', { set: { b: large(400), c: 1 } })],
    )
    expect(of('A')!.props).toEqual({ ...props, c: 1 })
    expect(JSON.parse(stamps[0]!.personPropertiesJson)).toEqual({ ...props, c: 1 })
    expect(warnings).toEqual(tooLarge)
  })

  test('event by event it never passes the limit', () => {
    const events = Array.from({ length: 20 }, (_, i) => event('A', { set: { [`k${i}`]: large(100) } }))
    const { of, stamps } = foldOver([], events)
    for (const { personPropertiesJson } of stamps)
      expect(Buffer.byteLength(personPropertiesJson)).toBeLessThanOrEqual(PERSON_BYTES_MAX.limit)
    expect(of('A')!.props).toHaveProperty('k5')
    expect(of('A')!.props).not.toHaveProperty('k6')
  })

  test('by a merge: the survivor keeps its own', () => {
    const { of, warnings } = foldOver(
      [
        { ids: ['anon'], props: { a: large(400), small: 1 } },
        { ids: ['B'], props: { b: large(300) } },
      ],
      [identify('B', 'anon')],
    )
    expect(of('anon')!.props).toEqual({ b: large(300), small: 1 })
    expect(warnings).toEqual(tooLarge)
  })
})

test('a group that would become too large keeps what it had', () => {
  const change = (set: JsonObject) => event('A', { groupIdentify: { type: 'org', key: 'o', set } })
  const { writeSet, warnings } = foldOver(
    [{ ids: ['A'] }],
    [change({ a: large(200), b: 'old' }), change({ b: large(100), c: 1 }), change({ d: large(300) })],
  )
  const json = writeSet.groups[0]!.propertiesJson
  expect(JSON.parse(json)).toEqual({ a: large(200), b: 'old', c: 1 })
  expect(Buffer.byteLength(json)).toBeLessThanOrEqual(GROUP_BYTES_MAX.limit)
  expect(warnings).toEqual(['group_properties_too_large', 'group_properties_too_large'])
})

test.each([
  ['a property', { set: { [`${'x'.repeat(99)}😀`]: large(700) } }],
  ['a group type', { groups: { [`${'x'.repeat(99)}${'😀'.repeat(200)}`]: 'k' } }],
  ['a group', { groups: { org: `${'x'.repeat(99)}${'😀'.repeat(200)}` } }],
])('the cut name of %s in a warning is text that Postgres holds', (_, more) => {
  const { stamps } = foldOver([], [event('A', more as Partial<IdentityEvent>)])
  expect(stamps[0]!.warnings).toHaveLength(1)
  expect(JSON.stringify(stamps[0]!.warnings)).not.toContain('\\ud')
})
