import { expect, test } from 'bun:test'
import { JsonScanner } from '../../../event/index.ts'
import { lenientBoolean } from './lenient-boolean.ts'

const rows: [boolean | undefined | 'invalid', string[]][] = [
  [
    true,
    [
      'true',
      '1',
      '-1',
      '0.5',
      '1e-999',
      '7e2',
      '"true"',
      '"T"',
      '" Yes "',
      '"y"',
      '"ON"',
      '"1"',
      '"+2.5"',
      '"2."',
      '".5e+1"',
    ],
  ],
  [false, ['false', '0', '-0', '0.000', '0e5', '"false"', '"F"', '"no"', '"n"', '"Off"', '"0"', '"0.0"']],
  [undefined, ['null', '""', '" \\t"']],
  [
    'invalid',
    ['"maybe"', '"truee"', '"0x1"', '"1 2"', '"NaN"', '"Infinity"', '"."', '"1e"', '[]', '[true]', '{}'],
  ],
]
test.each(rows.flatMap(([expected, texts]) => texts.map((text) => [text, expected] as const)))(
  '%s is %p',
  (text, expected) => {
    const bytes = Buffer.from(text)
    expect(lenientBoolean(bytes, new JsonScanner(bytes).pick())).toBe(expected as never)
  },
)

test('what is not there is unset', () => {
  expect(lenientBoolean(Buffer.alloc(0), undefined)).toBeUndefined()
})

// A pattern that can take the digits in two ways is at it for minutes.
test.each(['1', '0.', '.0'])('a long text that is nearly a number (%s…) is refused at once', (text) => {
  expect(lenientBoolean(Buffer.alloc(0), `${text.repeat(60_000 / text.length)}x`)).toBe('invalid')
})
