import { describe, expect, test } from 'bun:test'
import { childUuid } from '../event/index.ts'
import { type ChainStep, runChain } from './chain.ts'
import { compileTransformation } from './compile.ts'
import { hmacSha256 } from './helpers.ts'
import type { FailurePolicy, TransformEvent } from './outcome.ts'
import { type LogLine, Sandbox } from './sandbox.ts'

const hash = hmacSha256('key')
const HELPERS = {
  geoip: (ip: string) => (ip === '203.0.113.7' ? { country: 'NL' } : null),
  isBot: (userAgent: string) => userAgent.includes('bot'),
  hash,
  lookup: (table: string, key: string) => (table === 'plans' ? { key } : null),
}
const UUID = '01890000-0000-7000-8000-000000000001'
const EVENT: TransformEvent = {
  uuid: UUID,
  event: 'viewed',
  distinctId: 'user',
  timestampMs: Date.UTC(2026, 10, 23, 12),
  properties: { a: 1 },
}

async function step(source: string, policy: FailurePolicy = 'quarantine'): Promise<ChainStep> {
  const sandbox = await Sandbox.open(await compileTransformation(source), HELPERS)
  return { name: source, policy, run: (events) => sandbox.run(events) }
}

async function returned(expression: string, properties = '{"a":1}'): Promise<string> {
  const source = `export default (event, { geoip, isBot, hash, lookup }) => ({ ...event, properties: { x: ${expression} } })`
  const [outcome] = await runChain([await step(source)], [{ ...EVENT, properties: JSON.parse(properties) }])
  if (outcome?.kind !== 'kept') throw new Error(JSON.stringify(outcome))
  return JSON.stringify(outcome.events[0]!.event.properties)
}

describe('what a transformation sees and gives', () => {
  const CASES: [rule: string, expression: string, x: string | undefined, properties?: string][] = [
    ['time is the event’s', '[Date.now(), new Date()]', '[1795435200000,"2026-11-23T12:00:00.000Z"]'],
    ['local time is UTC', 'new Date("2026-07-01T10:00:00").getHours()', '10'],
    ['dates of parts are UTC', 'new Date(2026, 6, 1).toISOString()', '"2026-07-01T00:00:00.000Z"'],
    ['dates with a zone keep it', 'Date.parse("2026-07-01T10:00:00+02:00")', '1782892800000'],
    ['days are UTC', 'new Date("2026-07-01").getTime()', '1782864000000'],
    ['NaN and Infinity are null', '[NaN, Infinity]', '[null,null]'],
    ['undefined goes', 'undefined', undefined],
    ['half characters become U+FFFD', '"\\ud800"', '"\ufffd"'],
    [
      'text of every kind',
      '"a\\u0000\\u001e\\u001fé😀\\n\\\\u0000"',
      '"a\ufffd\\u001e\\u001fé😀\\n\\\\u0000"',
    ],
    ['__proto__ is a key like others', 'event.properties', '{"__proto__":{"a":1}}', '{"__proto__":{"a":1}}'],
    ['white space of the client', 'event.properties.a', '2', '{\n\t"a" :\r 2 }'],
    ['hash', 'hash("x")', JSON.stringify(hash('x'))],
    ['geoip', '[geoip("203.0.113.7"), geoip("::1")]', '[{"country":"NL"},null]'],
    ['isBot', '[isBot("a bot"), isBot("")]', '[true,false]'],
    ['lookup', '[lookup("plans", "k"), lookup("", "")]', '[{"key":"k"},null]'],
    [
      'padding',
      '["a".padStart(4, "xy"), "a".padEnd(3), "ab".repeat(5), "a".repeat(0)]',
      '["xyxa","a  ","ababababab",""]',
    ],
    [
      'lists',
      '[[[1], [2]].flat(), [1, 2].flatMap((n) => [n, n]), [1].concat([2], 3)]',
      '[[1,2],[1,1,2,2],[1,2,3]]',
    ],
    [
      'searching',
      '["abc".indexOf("c"), "a.b".split("."), "aXa".replace("X", () => "y")]',
      '[2,["a","b"],"aya"]',
    ],
  ]
  for (const [rule, expression, x, properties] of CASES)
    test(rule, async () =>
      expect(await returned(expression, properties)).toBe(x === undefined ? '{}' : `{"x":${x}}`),
    )

  test('chance is the same for an event wherever it runs, and another for another', async () => {
    const chance = await step(
      'export default (event) => ({ ...event, properties: { n: [Math.random(), Math.random()] } })',
    )
    const other = { ...EVENT, uuid: '01890000-0000-7000-8000-000000000002' }
    const run = async (events: TransformEvent[]) =>
      (await runChain([chance], events)).map((one) =>
        one.kind === 'kept' ? JSON.stringify(one.events[0]!.event.properties) : '',
      )
    const [first, second] = await run([EVENT, other])
    expect(await run([other, EVENT])).toEqual([second!, first!])
    const [a, b] = (JSON.parse(first!) as { n: number[] }).n
    expect(new Set([a, b, first, second]).size).toBe(4)
    expect(a).toBeWithin(0, 1)
  })

  test('a helper that fails fails the batch, whatever the user catches', async () => {
    const lookup = () => {
      throw new Error('the table is out of reach')
    }
    const compiled = await compileTransformation(
      'export default (event, { lookup }) => { try { lookup("a", "b") } catch {} return event }',
    )
    const sandbox = await Sandbox.open(compiled, { ...HELPERS, lookup })
    await expect(sandbox.run([EVENT])).rejects.toThrow('the table is out of reach')
  })

  test('log keeps a bounded number of bounded lines', async () => {
    const compiled = await compileTransformation(
      'export default (event, { log }) => { for (let i = 0; i < 150; i++) log("line", { i }, "x".repeat(2000)); return event }',
    )
    const sandbox = await Sandbox.open(compiled, HELPERS)
    const { logs } = await sandbox.run([EVENT])
    expect(logs).toHaveLength(100)
    expect(logs[7]).toEqual({ uuid: UUID, text: `line {"i":7} ${'x'.repeat(987)}` } satisfies LogLine)
  })
})

describe('chain', () => {
  const BAD = 'export default (event) => { event.event = "changed"; throw new Error("no") }'

  test('no step leaves each event as it is', async () =>
    expect(await runChain([], [EVENT])).toEqual([
      { kind: 'kept', events: [{ event: EVENT, changes: [] }], failures: [] },
    ]))

  test('each step sees what the one before it left', async () => {
    const steps = [
      await step('export default (event) => { event.properties.b = 2; return event }'),
      await step('export default (event) => ({ ...event, event: Object.keys(event.properties).join() })'),
    ]
    expect(await runChain(steps, [EVENT])).toMatchObject([
      { kind: 'kept', events: [{ event: { event: 'a,b', uuid: UUID } }] },
    ])
  })

  test('several are numbered by their place at the end', async () => {
    const twice = await step('export default (event) => [event, event]')
    const [outcome] = await runChain([twice, twice], [EVENT])
    const uuids = outcome?.kind === 'kept' ? outcome.events.map(({ event }) => event.uuid) : []
    expect(uuids).toEqual([UUID, childUuid(UUID, 1), childUuid(UUID, 2), childUuid(UUID, 3)])
  })

  test('a failed step is applied not at all', async () => {
    const [outcome] = await runChain([await step(BAD, 'pass')], [EVENT])
    const failure = { kind: 'exception', message: 'Error: no', line: 1 }
    expect(outcome).toEqual({
      kind: 'kept',
      events: [{ event: EVENT, changes: [] }],
      failures: [{ step: BAD, failure }],
    } as never)
  })

  const FAILED: [FailurePolicy, string][] = [
    ['drop', 'dropped'],
    ['quarantine', 'quarantined'],
  ]
  for (const [policy, kind] of FAILED)
    test(`${policy} after a failure, and the steps behind it are not asked`, async () => {
      const steps = [await step(BAD, policy), await step('export default () => { throw 1 }', 'pass')]
      expect(await runChain(steps, [EVENT])).toMatchObject([{ kind, step: BAD }])
    })

  test('an event of several that is quarantined takes the others with it', async () => {
    const steps = [
      await step('export default (event) => [event, { ...event, event: "bad" }]'),
      await step('export default (event) => { if (event.event === "bad") throw 1; return event }'),
    ]
    expect(await runChain(steps, [EVENT])).toMatchObject([
      { kind: 'quarantined', failure: { message: 'it threw 1' } },
    ])
  })
})
