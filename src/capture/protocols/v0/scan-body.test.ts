import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { HeadraceError } from '../../../event/index.ts'
import { scanBody } from './scan-body.ts'

const EVENTS_MAX = 10_000

/** JSON text of a value, with white space of any kind between its tokens. */
const spelled = fc
  .tuple(fc.json({ maxDepth: 4 }), fc.constantFrom('', ' ', '\n\t', '  '))
  .map(([text, space]) => (space === '' ? text : JSON.stringify(JSON.parse(text), null, space)))
const gap = fc.constantFrom('', ' ', '\n', '\t\r\n  ')
const key = fc.oneof(
  fc.string(),
  fc.constantFrom('event', 'properties', 'distinct_id', 'uuid', '__proto__', 'batch', ''),
)
const eventText = fc
  .tuple(fc.array(fc.tuple(key, spelled, gap), { maxLength: 6 }), gap)
  .map(([members, end]) => {
    const texts = members.map(([name, value, space]) => `${space}${JSON.stringify(name)}${space}:${value}`)
    return `{${texts.join(',')}${end}}`
  })

const keysIn = (value: unknown): number => {
  if (typeof value !== 'object' || value === null) return 0
  const inside = Object.values(value).reduce((sum: number, inner) => sum + keysIn(inner), 0)
  return inside + (Array.isArray(value) ? 0 : Object.keys(value).length)
}
const depthOf = (value: unknown): number => {
  if (typeof value !== 'object' || value === null) return 0
  return 1 + Object.values(value).reduce((deepest: number, inner) => Math.max(deepest, depthOf(inner)), 0)
}

describe('slicing a body into events', () => {
  test('and joining them again loses no byte, whatever the events are', () => {
    const element = fc.oneof(eventText, spelled)
    fc.assert(
      fc.property(
        fc.array(fc.tuple(gap, element, gap), { maxLength: 12 }),
        fc.boolean(),
        (parts, isArray) => {
          const list = parts.map(([before, text, after]) => before + text + after).join(',')
          const head = isArray ? '[' : '{ "sent_at":"é", "batch" :['
          const text = isArray ? `${head}${list}]` : `${head}${list}] ,"api_key":"t"}`
          const bytes = Buffer.from(text)
          const { events } = scanBody(bytes, EVENTS_MAX)
          expect(events.map(({ start, end }) => bytes.toString('utf8', start, end))).toEqual(
            parts.map(([, inner]) => inner.trim()),
          )
          // Between the slices there is white space, and the comma.
          let at = Buffer.byteLength(head)
          let joined = bytes.toString('utf8', 0, at)
          for (const { start, end } of events) {
            expect(bytes.toString('utf8', at, start)).toMatch(/^\s*,?\s*$/)
            joined += bytes.toString('utf8', at, end)
            at = end
          }
          expect(joined + bytes.toString('utf8', at)).toBe(text)
        },
      ),
      { numRuns: 1000 },
    )
  })

  test('gives each the depth and the number of keys that its tree has', () => {
    const tree = fc.dictionary(key, fc.jsonValue({ maxDepth: 6 }), { maxKeys: 6 })
    fc.assert(
      fc.property(fc.array(tree, { maxLength: 5 }), (events) => {
        const scanned = scanBody(Buffer.from(JSON.stringify({ batch: events })), EVENTS_MAX).events
        expect(scanned.map(({ keys, depth }) => [keys, depth])).toEqual(
          events.map((event) => [keysIn(event), depthOf(event)]),
        )
      }),
      { numRuns: 1000 },
    )
  })

  test('takes every object and array that JSON.parse takes, or says what shape is missing; and none else', () => {
    const seed = Buffer.from(
      '{"api_key":"t","batch":[{"event":"é\\u0041","properties":{"a":[1,-2.5e3,null,true,{}],"b":"\\"\\n"}},7],"x":{}}',
    )
    const edit = fc.tuple(fc.nat(), fc.constantFrom('set', 'insert', 'remove', 'double'), fc.nat(255))
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 3 }), (edits) => {
        const mutated = [...seed]
        for (const [place, kind, byte] of edits) {
          const at = place % (mutated.length + 1)
          if (kind === 'set') mutated[at] = byte
          else if (kind === 'insert') mutated.splice(at, 0, byte)
          else if (kind === 'remove') mutated.splice(at, 1)
          else mutated.splice(at, 0, ...mutated.slice(at, at + 16))
        }
        const bytes = Buffer.from(mutated)
        let isJson = true
        try {
          JSON.parse(decoder.decode(bytes))
        } catch {
          isJson = false
        }
        let code = ''
        try {
          scanBody(bytes, EVENTS_MAX)
        } catch (error) {
          expect(error).toBeInstanceOf(HeadraceError)
          code = (error as HeadraceError).code
        }
        expect(code === 'HR_CAPTURE_NOT_JSON').toBe(!isJson)
        if (isJson) expect(['', 'HR_CAPTURE_WRONG_SHAPE']).toContain(code)
      }),
      { numRuns: 20_000 },
    )
  })
})

test('values are counted over the whole body, and what is read counts more', () => {
  const rows: [string, number][] = [
    ['[]', 1],
    ['[1,2]', 3],
    ['[{}]', 2],
    ['[[[]]]', 3],
    ['[{"a":1,"b":[1,{"c":""}]}]', 7],
    ['[{"event":"e"}]', 6],
    ['[{"event":"\\u0065"}]', 23],
    ['[{"\\u0065vent":1}]', 23],
  ]
  for (const [text, values] of rows) {
    expect(scanBody(Buffer.from(text), EVENTS_MAX, values).events.length).toBeGreaterThanOrEqual(0)
    expect(() => scanBody(Buffer.from(text), EVENTS_MAX, values - 1)).toThrow(
      expect.objectContaining({ code: 'HR_CAPTURE_TOO_MANY_VALUES' }),
    )
  }
})
