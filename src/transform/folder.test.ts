import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCases, tell } from './cases.ts'
import { readSetFolder, writeExample } from './folder.ts'
import { hmacSha256 } from './helpers.ts'

let root: string
let example: string
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'headrace-transform-'))
  example = join(root, 'example')
  writeExample(example)
})
afterAll(() => rmSync(root, { recursive: true }))

let made = 0
/** A copy of the example with other files. */
function folderWith(files: Record<string, unknown>): string {
  const folder = join(root, String(++made))
  cpSync(example, folder, { recursive: true })
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  return folder
}

async function results(folder: string) {
  const { definition, cases } = readSetFolder(folder)
  return runCases(definition, cases)
}

test('the example passes, and a second `init` leaves it', async () => {
  expect((await results(example)).map(({ differences }) => differences)).toEqual([[]])
  const own = folderWith({ 'section.ts': 'export default () => null' })
  expect(writeExample(own)).toEqual(['headrace.d.ts'])
  expect(readFileSync(join(own, 'section.ts'), 'utf8')).toBe('export default () => null')
})

describe('cases', () => {
  const steps = [{ name: 'code', file: 'section.ts' }]
  const CASES: [rule: string, code: string, one: object, differences: string[]][] = [
    [
      'a property that differs',
      'event.properties.a = 2; return event',
      { input: { properties: { a: 1 } }, expected: [{ properties: { a: 3 } }] },
      ['properties.a: 3 → 2'],
    ],
    [
      'the order of keys says nothing',
      'event.properties.a = { y: 1, x: 2 }; return event',
      { input: {}, expected: { properties: { a: { x: 2, y: 1 } } } },
      [],
    ],
    [
      'fields that are absent are as in the input',
      'return event',
      { input: { event: 'e', properties: { a: 1 } }, expected: [{}] },
      [],
    ],
    ['a name', 'event.event = "x"; return event', { input: {}, expected: {} }, ['event: "event" → "x"']],
    ['dropped', 'return null', { input: {}, expected: 'dropped' }, []],
    [
      'not dropped',
      'return event',
      { input: {}, expected: 'dropped' },
      ['expected it to be dropped; it was kept'],
    ],
    [
      'failed',
      'throw new Error("no")',
      { input: {}, expected: [{}] },
      ['expected an event; code failed in line 1: Error: no'],
    ],
    ['quarantined', 'throw 1', { input: {}, expected: 'quarantined' }, []],
    [
      'several',
      'return [event, event]',
      { input: {}, expected: [{}, { event: 'x' }] },
      ['event 2: event: "x" → "event"'],
    ],
    [
      'their number',
      'return [event, event]',
      { input: {}, expected: [{}, {}, {}] },
      ['expected 3 events; it became 2'],
    ],
    [
      'a location',
      'event.properties = geoip("1.2.3.4"); return event',
      {
        input: {},
        locations: { '1.2.3.4': { country_code: 'X' } },
        expected: { properties: { country_code: 'X' } },
      },
      [],
    ],
    [
      'a hash under the known key',
      'event.properties.h = hash("a"); return event',
      { input: {}, expected: { properties: { h: hmacSha256('test')('a') } } },
      [],
    ],
    [
      'a table',
      'event.properties.plan = lookup("plans", "a"); return event',
      { input: {}, expected: { properties: { plan: { paid: true } } } },
      [],
    ],
    [
      'time',
      'event.properties.t = new Date().getUTCFullYear(); return event',
      { input: { timestamp: '2024-05-05' }, expected: { properties: { t: 2024 } } },
      [],
    ],
  ]
  for (const [rule, code, one, differences] of CASES)
    test(rule, async () => {
      const folder = folderWith({
        'transformations.json': { steps, tables: { plans: 'plans.json' } },
        'plans.json': { a: { paid: true } },
        'section.ts': `export default (event, { geoip, hash, lookup }) => { ${code} }`,
        'cases/section.json': one,
      })
      expect((await results(folder)).map((result) => result.differences)).toEqual([differences])
    })

  test('what user code logs is told', async () => {
    const folder = folderWith({
      'transformations.json': { steps },
      'section.ts': 'export default (event, { log }) => { log("seen", event.properties); return event }',
      'cases/section.json': [{ name: 'one', input: { properties: { a: 1 } }, expected: [{}] }],
    })
    expect(await results(folder)).toEqual([
      { name: 'one', file: 'cases/section.json', differences: [], logs: ['code: seen {"a":1}'] },
    ])
  })
})

describe('a folder that cannot be read', () => {
  const REFUSED: [rule: string, files: Record<string, unknown>, says: RegExp][] = [
    ['no JSON', { 'transformations.json': '{' }, /^transformations.json is not JSON/],
    [
      'a file that is not there',
      { 'transformations.json': { steps: [{ name: 'a', file: 'none.ts' }] } },
      /^none.ts cannot be read/,
    ],
    [
      'a file outside',
      { 'transformations.json': { steps: [{ name: 'a', file: '../example/section.ts' }] } },
      /outside of the folder/,
    ],
    [
      'a table that is none',
      { 'transformations.json': { steps: [], tables: { a: 'section.ts' } } },
      /section.ts is not JSON/,
    ],
    ['an unknown word', { 'transformations.json': { steps: [], stepz: 1 } }, /stepz/],
    [
      'a case without an event',
      { 'cases/section.json': { expected: [] } },
      /cases.section.json, case 1: `input` is no event/,
    ],
    ['a case without an end', { 'cases/section.json': { input: {} } }, /`expected` is neither/],
  ]
  for (const [rule, files, says] of REFUSED)
    test(rule, () =>
      expect(() => readSetFolder(folderWith(files))).toThrow(
        expect.objectContaining({ code: 'HR_TRANSFORM_SET', message: expect.stringMatching(says) }),
      ),
    )

  test('a link that leads outside', () => {
    const folder = folderWith({ 'transformations.json': { steps: [{ name: 'a', file: 'link.ts' }] } })
    symlinkSync(join(example, 'section.ts'), join(folder, 'link.ts'))
    expect(() => readSetFolder(folder)).toThrow(/outside of the folder/)
  })
})

test('what became of an event, in words', () => {
  const failure = { kind: 'refused', message: 'no', line: undefined } as const
  expect(tell({ kind: 'dropped', step: 'a', failures: [{ step: 'a', failure }] })).toBe('a dropped it (no)')
})
