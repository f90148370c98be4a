/**
 * User code cannot tell the properties that it is given from an object that was there whole: whatever is done to both
 * shows the same and comes to the same.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { Json, JsonObject } from '../event/index.ts'
import { compileTransformation } from './compile.ts'
import { hmacSha256 } from './helpers.ts'
import type { TransformEvent, TransformOutcome } from './outcome.ts'
import { Sandbox } from './sandbox.ts'

type Step = { do: string; key: string; value: Json }

/** Does the steps to `event.properties` and to a plain object, and gives both back, with what was seen on the way. */
const SOURCE = `
const DO = {
  get: (o, key) => o[key],
  same: (o, key) => o[key] === o[key],
  set: (o, key, value) => { o[key] = value },
  unset: (o, key) => { o[key] = undefined },
  delete: (o, key) => delete o[key],
  has: (o, key) => key in o,
  own: (o, key) => Object.hasOwn(o, key),
  hasOwnProperty: (o, key) => Object.prototype.hasOwnProperty.call(o, key),
  describe: (o, key) => Object.getOwnPropertyDescriptor(o, key),
  keys: (o) => Object.keys(o),
  entries: (o) => Object.entries(o),
  loop: (o) => { const seen = []; for (const key in o) seen.push(key); return seen },
  names: (o) => Object.getOwnPropertyNames(o),
  symbols: (o) => Object.getOwnPropertySymbols(o).length,
  spread: (o) => ({ ...o }),
  rest: (o, key) => { const { [key]: one, ...rest } = o; return [one, rest] },
  json: (o) => JSON.stringify(o),
  assign: (o, key, value) => { Object.assign(o, { [key]: value, other: key }) },
  inner: (o, key, value) => { if (o[key] !== null && typeof o[key] === 'object') o[key].inner = value },
  push: (o, key, value) => { if (Array.isArray(o[key])) o[key].push(value) },
  shared: (o, key, value) => { o[key] = o.a; o.b = [o.a, value] },
  define: (o, key, value) => { Object.defineProperty(o, key, { value, enumerable: true, configurable: true, writable: true }) },
  hide: (o, key, value) => { Object.defineProperty(o, key, { value, enumerable: false, configurable: true }) },
  getter: (o, key, value) => { Object.defineProperty(o, key, { get: () => value, enumerable: true, configurable: true }) },
  heir: (o, key, value) => { const heir = Object.create(o); heir[key] = value; return [heir[key], o[key], key in heir] },
  throughReflect: (o, key, value) => [Reflect.set(o, key, value), Reflect.get(o, key), Reflect.has(o, key)],
  freeze: (o, key, value) => { Object.freeze(o); return Reflect.set(o, key, value) },
  seal: (o, key) => { Object.seal(o); return Reflect.deleteProperty(o, key) },
  extensible: (o) => Object.isExtensible(o),
  prototype: (o) => [Object.getPrototypeOf(o) === Object.prototype, o instanceof Object, String(o), Array.isArray(o)],
  withPrototype: (o, key) => { Object.setPrototypeOf(o, { inherited: 1 }); return [o.inherited, o[key]] },
  symbol: (o, key, value) => { o[Symbol.iterator] = value; return o[Symbol.iterator] },
  function: (o, key) => { o[key] = () => 1; return typeof o[key] },
  toJSON: (o, key, value) => { if (key !== '__proto__') o[key] = { toJSON: (name) => [name, value] } },
  circle: (o, key) => { if (key === '__proto__') return; o[key] = o; const same = o[key][key] === o; o[key] = 0; delete o[key]; return same },
}
const run = (o, steps) => steps.map(({ do: what, key, value }) => {
  try {
    return DO[what](o, key, value === null ? null : JSON.parse(JSON.stringify(value))) ?? 'nothing'
  } catch (error) {
    return error.name
  }
})
export default (event, { lookup }) => {
  const steps = lookup('steps', event.uuid)
  const plain = lookup('plain', event.uuid)
  const seen = JSON.stringify(run(event.properties, steps))
  const seenOfPlain = JSON.stringify(run(plain, steps))
  return [event, { ...event, properties: plain }, { ...event, properties: { seen, seenOfPlain } }]
}`

const UUID = '01890000-0000-7000-8000-000000000001'
let given: JsonObject = {}
let steps: Step[] = []
let sandbox: Sandbox
beforeAll(async () => {
  sandbox = await Sandbox.open(await compileTransformation(SOURCE), {
    geoip: () => null,
    isBot: () => false,
    hash: hmacSha256('key'),
    lookup: (table) => (table === 'steps' ? (steps as Json) : given),
  })
})
afterAll(() => sandbox.close())

async function compare(properties: JsonObject, wanted: Step[]): Promise<void> {
  given = properties
  steps = wanted
  const event: TransformEvent = { uuid: UUID, event: 'e', distinctId: 'd', timestampMs: 1, properties }
  const [outcome] = (await sandbox.run([event])).outcomes
  if (outcome?.kind !== 'kept') throw new Error(JSON.stringify(outcome))
  const [lazy, plain, seen] = outcome.events.map((one) => one.properties)
  expect(seen!.seen).toEqual(seen!.seenOfPlain!)
  expect(JSON.stringify(lazy)).toBe(JSON.stringify(plain))
}

const KEYS = ['a', 'b', 'c', '1', '', '__proto__', 'toString', 'constructor', 'é😀', 'new']
const WORKS = [...SOURCE.matchAll(/^ {2}(\w+): \(o/gm)].map(([, name]) => name!)
const keys = fc.constantFrom(...KEYS)
const values = fc.oneof(
  fc.constantFrom<Json[]>(
    null,
    true,
    false,
    0,
    1.5,
    -7,
    1e21,
    '',
    'text',
    'é😀"\\\n\u001f',
    [],
    {},
    [1, [2]],
    {
      inner: { x: 1 },
    },
  ),
  fc.string() as fc.Arbitrary<Json>,
)

/** How it came over does not matter. */
const whatItBecame = (outcome: TransformOutcome) =>
  outcome.kind === 'kept' ? { kind: outcome.kind, events: outcome.events } : outcome

describe('properties that cross when they are touched', () => {
  test('whatever is done to them shows the same and comes to the same as with a plain object', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(keys, values), { selector: ([key]) => key, maxLength: 9 }),
        fc.array(fc.record({ do: fc.constantFrom(...WORKS), key: keys, value: values }), { maxLength: 8 }),
        async (entries, wanted) => {
          // As JSON: what a client sends has own properties only.
          const text = entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
          await compare(JSON.parse(`{${text.join()}}`), wanted)
        },
      ),
      { numRuns: 600 },
    )
  })

  const CASES: [rule: string, steps: [string, string, Json?][]][] = [
    [
      'a key that was deleted comes back at the end',
      [
        ['delete', 'a'],
        ['set', 'a', 1],
        ['keys', ''],
      ],
    ],
    [
      'a key that is new stands behind the others',
      [
        ['set', 'new', 1],
        ['set', 'a', 2],
        ['keys', ''],
      ],
    ],
    [
      'what is undefined is there, and is not written',
      [
        ['unset', 'a'],
        ['has', 'a'],
        ['json', ''],
      ],
    ],
    [
      'an own __proto__ is a key',
      [
        ['set', '__proto__', 5],
        ['get', '__proto__'],
        ['keys', ''],
      ],
    ],
    [
      'a change inside',
      [
        ['inner', 'o', 5],
        ['get', 'o'],
        ['push', 'l', 3],
      ],
    ],
    ['a toJSON is told its key', [['toJSON', 'a', 3]]],
  ]
  for (const [rule, wanted] of CASES)
    test(rule, () =>
      compare(
        { a: 1, b: 'two', o: { x: 1 }, l: [1, 2] },
        wanted.map(([what, key, value = null]) => ({ do: what, key, value })),
      ),
    )

  test('what is not touched is the very value that came in, and an event that stays is the very event', async () => {
    const code =
      'export default (event) => { if (event.properties.change) event.properties.b = [1, 3]; return event }'
    const own = await Sandbox.open(await compileTransformation(code), {
      geoip: () => null,
      isBot: () => false,
      hash: hmacSha256('key'),
      lookup: () => null,
    })
    const properties = { a: { deep: [1] }, b: [1, 2], change: true }
    const events = [properties, { a: 1 }].map((some) => ({
      uuid: UUID,
      event: 'e',
      distinctId: 'd',
      timestampMs: 1,
      properties: some as JsonObject,
    }))
    const { outcomes } = await own.run(events)
    own.close()
    const [first, second] = outcomes.map((one) => (one.kind === 'kept' ? one.events[0]! : undefined))
    expect(first!.properties).toEqual({ a: { deep: [1] }, b: [1, 3], change: true })
    expect(first!.properties.a).toBe(properties.a)
    expect(second).toBe(events[1]!)
  })

  test('an event that user code keeps is as it was, whatever comes after it', async () => {
    const code = `let kept
      export default (event) => {
        const seen = kept && [kept.properties.n, kept.properties.text]
        kept = event
        return { ...event, properties: { seen } }
      }`
    const own = await Sandbox.open(await compileTransformation(code), {
      geoip: () => null,
      isBot: () => false,
      hash: hmacSha256('key'),
      lookup: () => null,
    })
    const { outcomes } = await own.run(
      [1, 22].map((n) => ({
        uuid: UUID,
        event: 'e',
        distinctId: 'd'.repeat(n),
        timestampMs: 1,
        properties: { n, text: 'x'.repeat(n) },
      })),
    )
    own.close()
    expect(outcomes[1]).toMatchObject({ events: [{ properties: { seen: [1, 'x'] } }] })
  })

  test('texts and names that would break the answer come over as others do', async () => {
    const code = `export default (event) => {
      event.properties[event.distinct_id] = event.properties.text = JSON.parse(event.properties.json)
      return event
    }`
    const own = await Sandbox.open(await compileTransformation(code), {
      geoip: () => null,
      isBot: () => false,
      hash: hmacSha256('key'),
      lookup: () => null,
    })
    const texts = ['a\\u0000b', '\\u001f', '0s\\u001f1sx', '\\ud800', '\\u001f\\u0000', '+1:xs', 'é😀', '']
    const events = texts.flatMap((text) =>
      ['key', 'with:colon', '7', 'é😀s', 'x\u001f0sy'].map((distinctId) => ({
        uuid: UUID,
        event: 'e',
        distinctId,
        timestampMs: 1,
        properties: { text: 'old', json: `"${text}"` } as JsonObject,
      })),
    )
    const { outcomes, rebuilds } = await own.run(events)
    own.close()
    expect(rebuilds).toBe(0)
    expect(outcomes.map(whatItBecame)).toEqual(
      events.map((one) => {
        const text = (JSON.parse(one.properties.json as string) as string)
          .toWellFormed()
          .replaceAll('\0', '\ufffd')
        return {
          kind: 'kept',
          events: [{ ...one, properties: { ...one.properties, text, [one.distinctId]: text } }],
        }
      }),
    )
  })

  const CODE: [rule: string, code: string][] = [
    ['all names', 'Object.keys(event.properties); event.properties.x = 1; return event'],
    ['a copy', 'return { ...event, properties: { ...event.properties, x: 1 } }'],
    ['one', 'event.properties.x = event.properties.p1 === undefined ? 2 : 1; return event'],
  ]
  for (const [rule, code] of CODE)
    test(`hundreds of kinds of events, of which ${rule} is looked at`, async () => {
      const own = await Sandbox.open(await compileTransformation(`export default (event) => { ${code} }`), {
        geoip: () => null,
        isBot: () => false,
        hash: hmacSha256('key'),
        lookup: () => null,
      })
      const events = Array.from({ length: 300 }, (_, n) => ({
        uuid: UUID,
        event: 'e',
        distinctId: 'd',
        timestampMs: 1,
        properties: JSON.parse(`{"p1":${n},"p${n + 2}":"é","nothing":null,"yes":true}`) as JsonObject,
      }))
      // More of a kind than a realm remembers, and one with more properties than cross one by one.
      events.push({
        ...events[0]!,
        properties: Object.fromEntries(Array.from({ length: 1_500 }, (_, n) => [`p${n}`, n])),
      })
      const { outcomes, rebuilds } = await own.run([...events, ...events])
      own.close()
      expect(rebuilds).toBe(0)
      expect(outcomes.map(whatItBecame)).toEqual(
        [...events, ...events].map((one) => ({
          kind: 'kept',
          events: [{ ...one, properties: { ...one.properties, x: 1 } }],
        })),
      )
    })
})
