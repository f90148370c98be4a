import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { JsonFields, JsonScanError, JsonScanner, JsonSlice } from './json-scan.ts'

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

/** The same by way of the cursor calls, with a tree built from what they return. */
function build(scanner: JsonScanner): unknown {
  const first = scanner.peek()
  if (first === 0x7b) {
    const object: Record<string, unknown> = {}
    if (scanner.enterObject()) {
      do {
        const keyAt = scanner.peek() === -1 ? 0 : scanner.at
        scanner.key()
        const quoted = scanner.bytes.toString('utf8', keyAt, scanner.at)
        const key = JSON.parse(quoted.slice(0, quoted.lastIndexOf('"') + 1)) as string
        Object.defineProperty(object, key, {
          value: build(scanner),
          enumerable: true,
          writable: true,
          configurable: true,
        })
      } while (scanner.nextMember())
    }
    return object
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
        const scanner = new JsonScanner(Buffer.from(spaced))
        const built = build(scanner)
        scanner.finish()
        expect(JSON.stringify(built)).toBe(JSON.stringify(JSON.parse(spaced)))
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

describe('places', () => {
  test('pick gives the exact bytes of a value', () => {
    const text = '{ "n" : -12.50 , "o":{"a":[1, 2]} ,"s":"x\\u0041\\n","t":true}'
    const scanner = new JsonScanner(Buffer.from(text))
    const fields = new JsonFields(['n', 'o', 's', 't'])
    const picked: unknown[] = []
    scanner.enterObject()
    do {
      scanner.key()
      const field = scanner.keyIn(fields)
      const value = scanner.pick()
      picked[field] = value instanceof JsonSlice ? [value.kind, text.slice(value.start, value.end)] : value
    } while (scanner.nextMember())
    expect(picked).toEqual([['number', '-12.50'], ['object', '{"a":[1, 2]}'], 'xA\n', true])
  })

  test('an escaped key is the key that it spells', () => {
    const scanner = new JsonScanner(Buffer.from('{"\\u0065vent":1,"evenu":2}'))
    const fields = new JsonFields(['event', 'eventx'])
    scanner.enterObject()
    scanner.key()
    expect(scanner.keyIn(fields)).toBe(0)
    scanner.skip()
    scanner.nextMember()
    scanner.key()
    expect(scanner.keyIn(fields)).toBe(-1)
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
