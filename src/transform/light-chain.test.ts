/** Several steps in one call: the same outcomes as from each step's own sandbox, whatever the code and the events are. */
import { afterAll, describe, expect, test } from 'bun:test'
import type { Json } from '../event/index.ts'
import { type ChainStep, runChain } from './chain.ts'
import { compileTransformation } from './compile.ts'
import { LightChain } from './light-chain.ts'
import type { TransformEvent } from './outcome.ts'
import { SANDBOX_LIMITS } from './sandbox.ts'
import { type OpenSet, openSet, parseSet } from './set.ts'

const code = (body: string) =>
  `export default (event, helpers) => { const p = event.properties; ${body}; return event }`

const VALUES: Json[] = [
  ...['', 'text', 'ünï\u20ac\u{1f600}', 'a\u001fb|c.d', 'NUL \0', 'half \ud800', '1e3', '\\u0000"'],
  ...[0, -0, 1.5, 1e300, 2 ** 53, true, false, null, [], {}, [1, [null]], { a: { $set: 'x' } }],
]
const EVENTS: TransformEvent[] = [
  {},
  { a: 'one', b: 2, c: 'three' },
  { b: null, a: false, 10: 'ten', 2: 'two', toJSON: 'no', constructor: 'own' },
  JSON.parse('{"__proto__": "own", "a": "x", "hasOwnProperty": 1}') as Record<string, Json>,
  ...VALUES.map((a) => ({ z: 'before', a, ключ: 'behind', b: 1 })),
  Object.fromEntries(Array.from({ length: 1_200 }, (_, i) => [`k${i}`, i])),
].map((properties, i) => ({
  uuid: `018f4b2e-0000-7000-8000-${String(i).padStart(12, '0')}`,
  event: i % 5 ? 'e' : 'half \ud800',
  distinctId: `d${i}`,
  timestampMs: Date.UTC(2026, 0, 1) + i,
  properties: properties as TransformEvent['properties'],
}))

/** In the order in which they work together; each is also run behind each other. */
const BODIES = {
  'as it was': '',
  'reads all kinds': 'p.a; "b" in p; p.missing; Object.hasOwn(p, "toJSON"); p.hasOwnProperty',
  writes: 'p.new = "n"; p.b = p.a; p.c = 1',
  'numbers that are none in JSON': 'p.x = NaN; p.y = -0; p.z = Infinity; p.u = undefined',
  'takes away and puts back': 'delete p.a; p.q = 1; p.a = "again"; delete p.q',
  'takes away': 'delete p.a; delete p.new; delete p.b; p.gone = delete p.nothing',
  'looks at what is left': 'p.seen = [typeof p.a, typeof p.new, "a" in p, p.b === undefined].join()',
  'looks at all': 'p.all = Object.keys(p).join()',
  objects: 'if (p.a && typeof p.a === "object") p.a.more = 1; p.list = [p.b]',
  'a hostile text': 'p.t = "\\0"; p.h = "\\ud800"; p.s = "\\u001f|R1."',
  'name and id': 'if (p.b) { event.event = "other"; event.distinct_id = "o" }',
  drops: 'if (p.a === "one") return null',
  several: 'if (p.b === 2) return [event, event]',
  throws: 'if (p.a === false) throw new Error("no")',
  'the clock and chance': 'p.now = Date.now(); p.chance = Math.random(); p.hash = helpers.hash(String(p.a))',
  heavy: 'if (p.a === "text") for (let i = 0; i < 100000; i++); if (p.a === "one") for (;;)',
  tampers:
    'String.prototype.slice = Array.prototype.join = Reflect.ownKeys = JSON.parse = () => "stolen"; p.tampered = 1',
} as const

const opened: OpenSet[] = []
afterAll(() => {
  for (const set of opened) set.close()
})
async function stepsOf(...bodies: string[]): Promise<readonly ChainStep[]> {
  const steps = bodies.map((body, i) => ({ name: `s${i}`, source: code(body) }))
  const set = await openSet(parseSet({ steps }), { key: 'key', geoip: () => null })
  opened.push(set)
  return set.steps
}
const eachForItself = (steps: readonly ChainStep[]) =>
  steps.map((step) => {
    const { light: _, ...rest } = step as ChainStep & { light?: LightChain }
    return rest as ChainStep
  })
/** With the order of properties, which `toEqual` does not see. */
const told = (outcomes: unknown) => JSON.stringify(outcomes, undefined, 1)

describe('a chain in one call', () => {
  const names = Object.keys(BODIES) as (keyof typeof BODIES)[]
  test.each(
    names.map((name, i) => [name, names[(i * 7 + 3) % names.length]!, names[(i * 5 + 1) % names.length]!]),
  )(
    '%s, %s, %s: as each step for itself',
    async (...chain) => {
      const steps = await stepsOf(...chain.map((name) => BODIES[name as keyof typeof BODIES]))
      const expected = told(await runChain(eachForItself(steps), EVENTS))
      expect(told(await runChain(steps, EVENTS))).toBe(expected)
      // Again, after what the first batch did to it.
      expect(told(await runChain(steps, EVENTS))).toBe(expected)
    },
    20_000,
  )

  test('answers what is light, and leaves the rest', async () => {
    const helpers = {
      geoip: () => null,
      isBot: () => false,
      hash: (text: string) => text,
      lookup: () => null,
    }
    const bodies = ['p.n = 1', 'if (p.a === "one") return null', 'if (p.a === false) throw 1', '']
    const compiled = await Promise.all(bodies.map((body) => compileTransformation(code(body))))
    const light = new LightChain(compiled, helpers, SANDBOX_LIMITS)
    const replies = await light.run(EVENTS.slice(0, 3))
    expect(replies.map((own) => own?.map((reply) => reply[0]).join(''))).toEqual(['RSSS', 'RD', 'RS'])
    light.close()
  })

  test('what never ends costs its event its outcome, and its neighbours nothing', async () => {
    const steps = await stepsOf('p.n = 1', 'if (p.a === "one") for (;;);')
    for (let batch = 0; batch < 3; batch++) {
      const outcomes = await runChain(steps, EVENTS)
      expect(outcomes.map(({ kind }) => kind)).toEqual(
        EVENTS.map((_, i) => (i === 1 ? 'quarantined' : 'kept')),
      )
    }
  })
})
