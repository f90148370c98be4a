/** What user code may try, row by row: it is cut within its budget, and its neighbours are unharmed. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import type { JsonObject } from '../event/index.ts'
import { compileTransformation } from './compile.ts'
import { hmacSha256 } from './helpers.ts'
import type { TransformEvent } from './outcome.ts'
import { SANDBOX_LIMITS, Sandbox } from './sandbox.ts'

const HELPERS = {
  geoip: () => null,
  isBot: (userAgent: string) => userAgent.includes('bot'),
  hash: hmacSha256('key'),
  lookup: () => null,
}
/** Small budgets make small tests; the clock is left far away, so that a busy machine changes nothing. */
const LIMITS = { ...SANDBOX_LIMITS, interruptsMax: 5, clockMsMax: 20_000, memoryBytesMax: 20 * 1024 * 1024 }

function event(number: number, properties: JsonObject): TransformEvent {
  return {
    uuid: `01890000-0000-7000-8000-${String(number).padStart(12, '0')}`,
    event: 'viewed',
    distinctId: `user ${number}`,
    timestampMs: 1_764_000_000_000 + number,
    properties,
  }
}

/** What the middle one of three events does, and what becomes of it. */
const ABUSE: [rule: string, body: string, kind: string, says?: string | RegExp][] = [
  // Time
  ['an endless loop', 'while (true);', 'timeout'],
  ['an endless loop that catches', 'for (;;) try { for (;;); } catch {} finally { for (;;); }', 'timeout'],
  ['an endless generator', 'for (const n of (function* () { for (;;) yield 1 })());', 'timeout'],
  ['a catastrophic regular expression', `/^(a+)+$/.test('a'.repeat(40) + 'b')`, 'timeout'],
  [
    'a getter that never ends',
    'return { event: "x", distinct_id: "y", get properties() { for (;;); } }',
    'timeout',
  ],
  ['toJSON that never ends', 'event.properties.x = { toJSON() { for (;;); } }; return event', 'timeout'],
  ['an error whose message never ends', 'throw { name: "x", get message() { for (;;); } }', 'timeout'],
  ['a Proxy that never ends', 'return new Proxy({}, { get() { for (;;); } })', 'timeout'],
  ['a sparse array to walk', 'new Array(2 ** 32 - 1).indexOf(1)', 'exception', /too long/],
  ['a sparse array to sort', 'new Array(2 ** 32 - 1).sort()', 'exception', /too long/],
  ['a sparse array in concat', '[].concat(new Array(2 ** 32 - 1))', 'exception', /too long/],
  ['a sparse array in flat', '[[new Array(2 ** 32 - 1)]].flat(3)', 'exception', /too long/],
  ['a sparse array from flatMap', '[1].flatMap(() => new Array(2 ** 32 - 1))', 'exception', /too long/],
  ['an array-like without end', '[].includes.call({ length: 2 ** 53 - 1 }, 1)', 'exception', /Array\.from/],
  [
    'a spreadable without end',
    '[].concat({ length: 2 ** 53 - 2, [Symbol.isConcatSpreadable]: true })',
    'exception',
    /spreads arrays only/,
  ],
  [
    'a search of the square of two long texts',
    `('a'.repeat(2e4)).indexOf('a'.repeat(1e4) + 'b')`,
    'exception',
    /too long/,
  ],
  [
    'the search under whatever name it has',
    `const names = Reflect.ownKeys(String.prototype).filter((name) => typeof name === 'symbol')
     for (const name of names) 'a'.repeat(2e4)[name]('a'.repeat(1e4) + 'b')
     'a'.repeat(2e4).indexOf('a'.repeat(1e4) + 'b')`,
    'exception',
    /too long/,
  ],
  // Memory
  ['a heap that grows', 'const all = []; for (let i = 0; ; i++) all[i] = new Uint8Array(100_000)', 'memory'],
  [
    'a heap that grows and catches',
    'const all = []; for (;;) try { for (;;) all.push(new Uint8Array(100_000)) } catch {}',
    'timeout',
  ],
  ['a text that doubles', `let text = 'x'; for (;;) text += text`, 'exception', /./],
  ['a text repeated to the sky', `'x'.repeat(2 ** 29)`, 'exception', /too long/],
  ['padding to the sky', `'x'.padEnd(2 ** 29)`, 'exception', /too long/],
  ['recursion', 'const f = () => f() + 1; f()', 'exception', /stack/],
  [
    'nesting deeper than JSON is written',
    'let deep = {}; for (let i = 0; i < 20_000; i++) deep = { deep }; return { ...event, properties: deep }',
    'output',
  ],
  // Output
  [
    'ten megabytes',
    `event.properties.x = new Array(20).fill('x'.repeat(1e5)); return event`,
    'output',
    /allowed/,
  ],
  ['a thousand events', 'return new Array(1000).fill(event)', 'output', /100 are allowed/],
  [
    'many events, large together',
    `event.properties.x = 'x'.repeat(2.6e5); return [event, event, event, event]`,
    'output',
    /more than/,
  ],
  ['a BigInt', 'event.properties.x = 10n; return event', 'output', /BigInt/i],
  ['a circle', 'event.properties.x = event.properties; return event', 'output', /circular/],
  ['a getter that throws', 'return { ...event, get properties() { throw new Error("no") } }', 'output', /no/],
  // Shape
  ['a number', 'return 1', 'shape', /number/],
  ['NaN', 'return NaN', 'shape', /number/],
  ['a text', 'return "event"', 'shape', /string/],
  ['true', 'return true', 'shape', /boolean/],
  ['null among events', 'return [event, null]', 'shape', /null/],
  ['a promise that never settles', 'return new Promise(() => {})', 'shape', /promise/],
  ['a generator', 'return (function* () { yield event })()', 'shape', /`event`/],
  ['no properties', 'return { ...event, properties: undefined }', 'shape', /`properties`/],
  ['a list of properties', 'return { ...event, properties: [] }', 'shape', /`properties`/],
  [
    'properties that turn into a text',
    'event.properties.toJSON = () => "text"; return event',
    'shape',
    /`properties`/,
  ],
  [
    'properties that turn into nothing',
    'event.properties.toJSON = () => undefined; return event',
    'shape',
    /`properties`/,
  ],
  ['an empty name', 'return { ...event, event: "" }', 'shape', /`event`/],
  ['a name that is an object', 'return { ...event, event: { toString: () => "x" } }', 'shape', /`event`/],
  ['a distinct_id that is a number', 'return { ...event, distinct_id: 1 }', 'shape', /`distinct_id`/],
  // Exceptions
  ['an error', 'throw new TypeError("no such thing")', 'exception', 'TypeError: no such thing'],
  ['a thrown text', 'throw "text"', 'exception', 'it threw text'],
  ['a thrown null', 'throw null', 'exception', 'it threw null'],
  ['a thrown undefined', 'throw undefined', 'exception', 'it threw undefined'],
  ['a thrown symbol', 'throw Symbol("x")', 'exception', 'it threw a symbol'],
  ['a thrown function', 'throw () => 1', 'exception', /it threw/],
  [
    'an error that hides',
    'throw { toString: null, name: { toString: null } }',
    'exception',
    /cannot be shown/,
  ],
  ['a message without end', 'throw new Error("x".repeat(1e4))', 'exception', /^Error: x{493}$/],
  ['require', 'return require("fs")', 'exception', /require/],
  ['process', 'return process.env', 'exception', /process/],
  ['fetch', 'return fetch("https://example.com")', 'exception', /fetch/],
  ['a helper without end', 'for (;;) hash("x")', 'exception', /calls of helpers/],
  ['a helper with an argument without end', 'hash("x".repeat(2e5))', 'exception', /too long/],
  ['a helper with what is no text', 'hash({})', 'exception', /takes a text/],
]

describe('abuse', () => {
  for (const [rule, body, kind, says] of ABUSE)
    test(rule, async () => {
      const source = `export default function (event, { hash }) { if (event.properties.bad) { ${body} } return event }`
      const sandbox = await Sandbox.open(await compileTransformation(source), HELPERS, LIMITS)
      const events = [event(1, {}), event(2, { bad: true }), event(3, { a: 1 })]
      const { outcomes } = await sandbox.run(events)
      expect(outcomes[0]).toEqual({ kind: 'kept', events: [events[0]!] })
      expect(outcomes[2]).toEqual({ kind: 'kept', events: [events[2]!] })
      const bad = outcomes[1]!
      if (bad.kind !== 'failed') throw new Error(`it was ${JSON.stringify(bad).slice(0, 300)}`)
      expect([bad.failure.kind, bad.failure.message]).toEqual([kind as 'timeout', bad.failure.message])
      if (says instanceof RegExp) expect(bad.failure.message).toMatch(says)
      else if (says) expect(bad.failure.message).toBe(says)
      sandbox.close()
    })
})

/** What user code may do to its own world: the bridge does not care. Each leaves the events as they were. */
const TAMPERING = [
  'JSON.parse = JSON.stringify = () => { throw 1 }',
  'globalThis.JSON = undefined; globalThis.Array = undefined; globalThis.String = undefined',
  'Object.freeze = Reflect.apply = () => { throw 1 }',
  'Array.isArray = () => true',
  'Array.prototype.push = Array.prototype.join = String.prototype.slice = String.prototype.charCodeAt = () => { throw 1 }',
  'Array.prototype[Symbol.iterator] = () => { throw 1 }',
  'String.prototype.toJSON = () => "stolen"',
  'Date.now = Date.parse = () => { throw 1 }; globalThis.Date = null',
  'Promise.prototype.then = () => { throw 1 }; globalThis.Promise = class { static [Symbol.hasInstance]() { return true } }',
  'Object.setPrototypeOf(Object.prototype.constructor, null)',
  'delete globalThis.Reflect; delete globalThis.Object',
  'Promise.resolve().then(() => { throw 1 }); new Promise(() => {})',
]

describe('tampering', () => {
  for (const code of TAMPERING)
    for (const where of ['outside', 'inside'] as const)
      test(`${where}: ${code}`, async () => {
        const [outside, inside] = where === 'outside' ? [code, ''] : ['', `try { ${code} } catch {}`]
        const source = `${outside};\nexport default (event) => { ${inside};\nreturn event }`
        const sandbox = await Sandbox.open(await compileTransformation(source), HELPERS, LIMITS)
        const events = [event(1, { a: [1, 'two'] }), event(2, {}), event(3, { a: 1 })]
        for (const _ of [1, 2])
          expect((await sandbox.run(events)).outcomes).toEqual(
            events.map((one) => ({ kind: 'kept', events: [one] })),
          )
        sandbox.close()
      })

  /** What every object and list inherits cannot be added to: the interpreter itself would meet it. */
  const REFUSED = [
    'Object.prototype.toJSON = () => 1',
    'Object.defineProperty(Object.prototype, "event", { set() { throw 1 }, get() { return "stolen" } })',
    'Object.defineProperty(Array.prototype, 0, { set() { throw 1 }, get() { return 1 } })',
    'Array.prototype.toJSON = () => 1',
  ]
  for (const code of REFUSED) {
    test(`refused outside: ${code}`, async () => {
      const compiled = await compileTransformation(`${code}; export default (event) => event`)
      await expect(Sandbox.open(compiled, HELPERS, LIMITS)).rejects.toMatchObject({
        code: 'HR_TRANSFORM_START',
      })
    })
    test(`refused inside: ${code}`, async () => {
      const source = `export default (event) => { if (event.properties.bad) { ${code} } return event }`
      const sandbox = await Sandbox.open(await compileTransformation(source), HELPERS, LIMITS)
      const { outcomes } = await sandbox.run([event(1, { bad: true }), event(2, { a: [1] })])
      expect(outcomes).toMatchObject([
        {
          kind: 'failed',
          failure: { kind: 'exception', message: expect.stringMatching(/^TypeError/), line: 1 },
        },
        { kind: 'kept', events: [event(2, { a: [1] })] },
      ])
      sandbox.close()
    })
  }
})

describe('rebuilding', () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    const source = `let kept = []
      export default (event) => {
        if (event.properties.loop) for (;;);
        if (event.properties.hoard) kept.push(new Uint8Array(3_000_000))
        if (event.properties.hog) for (;;) kept.push(new Uint8Array(100_000))
        return event
      }`
    sandbox = await Sandbox.open(await compileTransformation(source), HELPERS, {
      ...LIMITS,
      interruptsMax: 2,
    })
  })
  afterAll(() => sandbox.close())

  test('an event that fails for what others left behind runs again and is kept', async () => {
    const events = Array.from({ length: 12 }, (_, i) => event(i, { hoard: true }))
    const { outcomes, rebuilds } = await sandbox.run(events)
    expect(outcomes).toEqual(events.map((one) => ({ kind: 'kept', events: [one] })))
    expect(rebuilds).toBeGreaterThan(0)
  })

  test('200 rebuilds leave the memory of the process flat', async () => {
    const cut = async (times: number) => {
      for (let i = 0; i < times; i += 2) {
        const { outcomes } = await sandbox.run([
          event(1, { loop: true }),
          event(2, { hog: true }),
          event(3, {}),
        ])
        expect(outcomes.map((one) => (one.kind === 'failed' ? one.failure.kind : one.kind))).toEqual([
          'timeout',
          'memory',
          'kept',
        ])
      }
      Bun.gc(true)
      return process.memoryUsage.rss()
    }
    const before = await cut(20)
    const after = await cut(200)
    expect(after - before).toBeLessThan(24 * 1024 * 1024)
  }, 30_000)
})
