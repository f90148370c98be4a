import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { put } from '../../event/index.ts'
import { deepEqual } from './properties.ts'
import { JSON_DEPTH_MAX, sanitiseJson, sanitiseText } from './sanitise.ts'
import type { Json } from './types.ts'

const nested = (levels: number): Json => {
  let value: Json = 1
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { k: value }
  return value
}

describe('sanitise', () => {
  test.each([
    ['plain', 'plain'],
    ['a\0b', 'a\ufffdb'],
    ['\ud800', '\ufffd'],
    ['x\udc00y\0', 'x\ufffdy\ufffd'],
    ['😀', '😀'],
    ['\\u0000', '\\u0000'],
  ])('%j', (raw, clean) => {
    expect(sanitiseText(raw)).toBe(clean)
    expect(sanitiseJson({ [raw]: [raw, { k: raw }] })).toEqual({ [clean]: [clean, { k: clean }] })
  })

  test('a clean value is passed on, not copied', () => {
    const value = { a: [1, 'x', { b: null }], c: true }
    expect(sanitiseJson(value)).toBe(value)
  })

  test('numbers beyond double precision are null', () => {
    expect(sanitiseJson(JSON.parse('[1e999, -1e999, 1]'))).toEqual([null, null, 1])
  })

  test('`__proto__` is a key like any other', () => {
    const clean = sanitiseJson(JSON.parse('{"__proto__":{"polluted":"\\u0000"},"z":1}'))
    expect(JSON.stringify(clean)).toBe('{"__proto__":{"polluted":"\ufffd"},"z":1}')
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
    const target = {}
    put(target, '__proto__', 5)
    expect(Object.getPrototypeOf(target)).toBe(Object.prototype)
    expect(JSON.stringify(target)).toBe('{"__proto__":5}')
  })

  test('nesting up to the limit passes, beyond it is refused, and neither takes long', () => {
    expect(sanitiseJson(nested(JSON_DEPTH_MAX))).toBeDefined()
    expect(() => sanitiseJson(nested(JSON_DEPTH_MAX + 1))).toThrow('nested deeper')
    expect(() => sanitiseJson(nested(50_000))).toThrow(expect.objectContaining({ code: 'HR_STATE_REFUSED' }))
    let dirty: Json = '\0'
    for (let i = 0; i < JSON_DEPTH_MAX - 1; i++) dirty = { '\0a': dirty, b: i }
    expect(JSON.stringify(sanitiseJson(dirty))).not.toContain('\\u0000')
  })

  const json = fc.json({ stringUnit: 'binary' }).map((text) => JSON.parse(text) as Json)

  test('what comes out has nothing that Postgres refuses, and stays as it is the second time', () => {
    fc.assert(
      fc.property(json, (value) => {
        const clean = sanitiseJson(value)
        expect(JSON.stringify(clean)).not.toMatch(/(?<!\\)(\\\\)*\\u(0000|d[89a-f])/)
        expect(sanitiseJson(clean)).toBe(clean)
      }),
    )
  })

  test('deep equality is equality of the JSON with sorted keys', () => {
    const sorted = (value: Json): unknown => {
      if (Array.isArray(value)) return { list: value.map(sorted) }
      if (typeof value !== 'object' || value === null) return value === 0 ? 0 : value
      const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
      return { object: entries.map(([key, inner]) => [key, sorted(inner)]) }
    }
    fc.assert(
      fc.property(json, json, (a, b) => {
        expect(deepEqual(a, JSON.parse(JSON.stringify(a)))).toBe(true)
        expect(deepEqual(a, b)).toBe(JSON.stringify(sorted(a)) === JSON.stringify(sorted(b)))
      }),
    )
  })
})
