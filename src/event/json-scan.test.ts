import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import fc from 'fast-check'
import { JsonFields } from './json-fields.ts'
import { JsonScanner, JsonSlice } from './json-scan.ts'
import { JsonScanError, JsonValuesError } from './scan-errors.ts'

setDefaultTimeout(60_000)

/** Of all lengths that the look-up tells apart: below, at and above a word, and alike at either end. */
const NAMES = [
  'a',
  'b',
  'é',
  'event',
  'evenu',
  '$set_one',
  '$set_two',
  '$set_once',
  '__proto__',
  'a name of more than sixteen bytes',
  'b name of more than sixteen bytes',
  'a name of more_than sixteen bytes',
]
const names = new JsonFields(NAMES)
const FOREIGN = [
  '',
  'c',
  'evens',
  '$set_onc',
  '$set_ones',
  'a name of more than sixteen byte',
  'x'.repeat(70),
]

/** What the scanner says about a whole text: accepted or not. */
function accepts(bytes: Buffer): boolean {
  try {
    const scanner = new JsonScanner(bytes)
    scanner.skip()
    scanner.finish()
    return true
  } catch (error) {
    if (error instanceof JsonScanError) return false
    throw error
  }
}

/** The same by way of the cursor calls, with a tree built of what they return; members that have no name in `names` are left out. */
function build(scanner: JsonScanner): unknown {
  const first = scanner.peek()
  if (first === 0x7b) {
    const members = new Map<string, unknown>()
    if (scanner.enterObject()) {
      for (let field = scanner.seek(names, false); field >= 0; field = scanner.seek(names, true)) {
        members.set(NAMES[field]!, build(scanner))
      }
    }
    return members
  }
  if (first === 0x5b) {
    const array: unknown[] = []
    if (scanner.enterArray()) {
      do array.push(build(scanner))
      while (scanner.nextElement())
    }
    return array
  }
  const value = scanner.pick()
  if (value instanceof JsonSlice) return Number(scanner.bytes.toString('utf8', value.start, value.end))
  return value
}

/** What `build` is to make of a value. */
function expectedOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(expectedOf)
  if (typeof value !== 'object' || value === null) return value
  const members = Object.entries(value).filter(([name]) => NAMES.includes(name))
  return new Map(members.map(([name, inner]) => [name, expectedOf(inner)]))
}

function parseAccepts(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

const CASES: [string, boolean][] = [
  ['', false],
  [' ', false],
  ['{}', true],
  [' \t\r\n[ ] ', true],
  ['\v[]', false],
  ['\u00a0[]', false],
  ['\ufeff{}', false],
  ['[1,]', false],
  ['[,1]', false],
  ['[1 2]', false],
  ['{"a":1,}', false],
  ['{"a" 1}', false],
  ['{a:1}', false],
  ["{'a':1}", false],
  ['{"a":1}}', false],
  ['[[]', false],
  ['[}', false],
  ['{"a":]}', false],
  ['0', true],
  ['-0', true],
  ['-', false],
  ['01', false],
  ['+1', false],
  ['.5', false],
  ['1.', false],
  ['1.5e+10', true],
  ['1e', false],
  ['1e999', true],
  ['-1E-999', true],
  ['NaN', false],
  ['Infinity', false],
  ['-Infinity', false],
  ['0x10', false],
  ['1_000', false],
  ['true', true],
  ['tru', false],
  ['truex', false],
  ['True', false],
  ['null', true],
  ['undefined', false],
  ['"a\\u0000b"', true],
  ['"\\ud800"', true],
  ['"\\uD83D\\uDE00"', true],
  ['"\\u12g4"', false],
  ['"\\u123', false],
  ['"\\x41"', false],
  ['"\\', false],
  ['"a', false],
  ['"\u0000"', false],
  ['"\n"', false],
  ['"\t"', false],
  ['"\u007f"', true],
  ['"\u2028\u2029"', true],
  ['"é漢😀"', true],
  ['{"__proto__":{"a":1},"constructor":2}', true],
  ['{"a":1,"a":2}', true],
  ['/* c */1', false],
  ['1//', false],
]

describe('accepts what JSON.parse accepts', () => {
  test.each(CASES)('%j is %p', (text, expected) => {
    expect(parseAccepts(text)).toBe(expected)
    expect(accepts(Buffer.from(text))).toBe(expected)
  })

  test('any JSON value, in any spelling of white space', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), fc.constantFrom('', ' ', '\n\t'), (text, space) => {
        const spaced = space === '' ? text : JSON.stringify(JSON.parse(text), null, space)
        expect(accepts(Buffer.from(spaced))).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  test('texts with bytes changed, removed, doubled and put in', () => {
    const seeds = CASES.filter(([, good]) => good).map(([text]) => text)
    seeds.push(
      '{"api_key":"phc_x","batch":[{"event":"a\\u0041","properties":{"$x":[1,-2.5e3,null,true,false,{}],"q":"\\"\\\\\\n"}}]}',
    )
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    const bytes = [...'{}[]":,\\/bfnrtu0123456789abcdefE+-. \n\t\r'].map((c) => c.charCodeAt(0))
    bytes.push(0, 0x1f, 0x7f, 0x80, 0xc3, 0xa9, 0xed, 0xa0, 0xff)
    const edit = fc.tuple(
      fc.nat(),
      fc.constantFrom('set', 'insert', 'remove', 'double'),
      fc.constantFrom(...bytes),
    )
    fc.assert(
      fc.property(
        fc.constantFrom(...seeds),
        fc.array(edit, { minLength: 1, maxLength: 4 }),
        (seed, edits) => {
          const mutated = [...Buffer.from(seed)]
          for (const [place, kind, byte] of edits) {
            const at = place % (mutated.length + 1)
            if (kind === 'set') mutated[at] = byte
            else if (kind === 'insert') mutated.splice(at, 0, byte)
            else if (kind === 'remove') mutated.splice(at, 1)
            else mutated.splice(at, 0, ...mutated.slice(at, at + 8))
          }
          const body = Buffer.from(mutated)
          let expected: boolean
          try {
            expected = parseAccepts(decoder.decode(body))
          } catch {
            expected = false
          }
          expect(accepts(body)).toBe(expected)
        },
      ),
      { numRuns: 20_000 },
    )
  })
})

describe('what it gives', () => {
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      // Long enough, and of few enough kinds, to be made atoms of and to be found again.
      fc.constantFrom(...FOREIGN, 'web', '1.449.2', '漢字', 'y'.repeat(23), 'y'.repeat(24), 'y'.repeat(40)),
      fc.string({ maxLength: 70, unit: 'binary' }),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom(true, false, null, 0, -1),
      fc.array(tie('value'), { maxLength: 4 }),
      fc
        .array(fc.tuple(fc.constantFrom(...NAMES, ...FOREIGN), tie('value')), { maxLength: 6 })
        .map((members) => Object.fromEntries(members)),
    ),
  }))
  /** The JSON of a value, in which every `every`th unit of every string and key is escaped; 0 is none. */
  const spelled = (tree: unknown, space: string, every: number): string => {
    const join = (open: string, parts: string[], close: string) =>
      `${open}${space}${parts.join(`${space},${space}`)}${space}${close}`
    if (Array.isArray(tree)) {
      return join(
        '[',
        tree.map((inner) => spelled(inner, space, every)),
        ']',
      )
    }
    if (typeof tree === 'object' && tree !== null) {
      const members = Object.entries(tree).map(
        ([key, inner]) => `${spelled(key, space, every)}${space}:${space}${spelled(inner, space, every)}`,
      )
      return join('{', members, '}')
    }
    if (typeof tree !== 'string' || every === 0) return JSON.stringify(tree)
    const units = Array.from({ length: tree.length }, (_, at) =>
      at % every === 0
        ? `\\u${tree.charCodeAt(at).toString(16).padStart(4, '0')}`
        : JSON.stringify(tree[at]).slice(1, -1),
    )
    return `"${units.join('')}"`
  }

  test('is what JSON.parse gives, escaped or not', () => {
    let escaped = 0
    fc.assert(
      fc.property(value, fc.constantFrom('', ' ', '\n\t'), fc.nat(4), (tree, space, every) => {
        const text = spelled(tree, space, every)
        if (text.includes('\\u00')) escaped++
        const scanner = new JsonScanner(Buffer.from(text))
        const built = build(scanner)
        scanner.finish()
        expect(built).toEqual(expectedOf(JSON.parse(text)))
      }),
      { numRuns: 5000 },
    )
    expect(escaped).toBeGreaterThan(100)
  })

  test('stays the same when scanners take turns at every value', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.string({ maxLength: 30 })), { minLength: 2, maxLength: 5 }),
        (texts) => {
          const turns = texts.map((elements) => {
            const scanner = new JsonScanner(
              Buffer.from(JSON.stringify(elements.map((text) => ({ a: text })))),
            )
            return { scanner, elements, goesOn: scanner.enterArray(), given: [] as unknown[] }
          })
          while (turns.some((turn) => turn.goesOn)) {
            const going = turns.filter((turn) => turn.goesOn)
            for (const { scanner } of going) {
              scanner.enterObject()
              scanner.seek(names, false)
            }
            for (const turn of going) turn.given.push(turn.scanner.pick())
            for (const turn of going) {
              expect(turn.scanner.seek(names, true)).toBe(-1)
              turn.goesOn = turn.scanner.nextElement()
            }
          }
          for (const { given, elements } of turns) expect(given).toEqual(elements)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('a text far longer than those before, and a short one behind it', () => {
    const long = 'x'.repeat(20_000_000)
    const scanner = new JsonScanner(Buffer.from(`{"a":"${long}","b":[[1]]}`))
    expect(build(scanner)).toEqual(
      new Map<string, unknown>([
        ['a', long],
        ['b', [[1]]],
      ]),
    )
    expect(accepts(Buffer.from('[1'))).toBe(false)
    expect(accepts(Buffer.from('"x'))).toBe(false)
    expect(accepts(Buffer.from('[1]'))).toBe(true)
  })
})

describe('bounds the values', () => {
  const rows: [string, number][] = [
    ['[[],{},1,"a",null]', 6],
    ['{"c":1,"d":[2,{"e":3}]}', 6],
    ['"a"', 1],
    [' "a"', 1],
  ]
  test.each(rows)('skipping %s takes %d', (text, taken) => {
    const enough = new JsonScanner(Buffer.from(text), taken)
    enough.skip()
    enough.finish()
    expect(() => new JsonScanner(Buffer.from(text), taken - 1).skip()).toThrow(JsonValuesError)
  })

  const picks: [string, number][] = [
    ['{}', 1],
    ['{"c":1}', 2],
    ['{"a":1}', 2],
    ['{"a":"b"}', 5],
    ['{"a":"\\n"}', 22],
    ['{"\\u0061":1}', 22],
    ['{"\\u0063":1}', 22],
  ]
  test.each(picks)('reading %s takes %d', (text, taken) => {
    build(new JsonScanner(Buffer.from(text), taken))
    expect(() => build(new JsonScanner(Buffer.from(text), taken - 1))).toThrow(JsonValuesError)
  })
})

describe('places', () => {
  test('pick gives the exact bytes of a value', () => {
    const text = '{ "n" : -12.50 , "o":{"a":[1, 2]} ,"s":"x\\u0041\\n","t":true}'
    const scanner = new JsonScanner(Buffer.from(text))
    const fields = new JsonFields(['n', 'o', 's', 't'])
    const picked: unknown[] = []
    scanner.enterObject()
    for (let field = scanner.seek(fields, false); field >= 0; field = scanner.seek(fields, true)) {
      const value = scanner.pick()
      picked[field] = value instanceof JsonSlice ? [value.kind, text.slice(value.start, value.end)] : value
    }
    expect(picked).toEqual([['number', '-12.50'], ['object', '{"a":[1, 2]}'], 'xA\n', true])
  })

  test('an escaped key is the key that it spells', () => {
    const scanner = new JsonScanner(Buffer.from('{"evens":0,"\\u0065vens":0,"\\u0065vent":1}'))
    scanner.enterObject()
    expect(scanner.seek(names, false)).toBe(NAMES.indexOf('event'))
    expect(scanner.keys).toBe(3)
  })

  test('deepest counts nesting, and a million levels are no trouble', () => {
    const shallow = new JsonScanner(Buffer.from('[1,{"a":[]},[2]]'))
    shallow.skip()
    expect(shallow.deepest).toBe(3)
    const levels = 1_000_000
    const deep = new JsonScanner(Buffer.from('['.repeat(levels) + ']'.repeat(levels)))
    deep.skip()
    deep.finish()
    expect(deep.deepest).toBe(levels)
  })
})

describe('says where the text breaks', () => {
  const rows: [string, Buffer, number][] = [
    ['a missing comma', Buffer.from('{"a":1 "b":2}'), 7],
    ['an unfinished text', Buffer.from('{"a":[1'), 7],
    ['an unfinished string', Buffer.from('["abc'), 5],
    ['an unfinished escape', Buffer.from('"\\u00'), 1],
    ['a NUL', Buffer.from('"ab\0"'), 3],
    ['an unknown literal', Buffer.from('[nul'), 1],
    ['an unfinished number', Buffer.from('-'), 1],
    ['a control character', Buffer.from('"ab\u0001"'), 3],
    ['a bad byte', Buffer.concat([Buffer.from('"é'), Buffer.from([0xff]), Buffer.from('"')]), 3],
    ['a character cut at the end', Buffer.concat([Buffer.from('"a'), Buffer.from([0xe2, 0x82])]), 2],
    [
      'a bad byte behind many chunks',
      Buffer.concat([Buffer.from(`"${'é'.repeat(100_000)}`), Buffer.from([0xc0]), Buffer.from('"')]),
      200_001,
    ],
  ]
  test.each(rows)('%s', (_, bytes, at) => {
    try {
      const scanner = new JsonScanner(bytes)
      scanner.skip()
      scanner.finish()
      throw new Error('accepted')
    } catch (error) {
      expect(error).toBeInstanceOf(JsonScanError)
      expect((error as JsonScanError).at).toBe(at)
    }
  })
})
