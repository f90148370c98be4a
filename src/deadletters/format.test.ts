/** JSON is shown with every token as the client sent it. */
import { describe, expect, test } from 'bun:test'
import { indentJson } from './format.ts'

describe('indented JSON', () => {
  const rows: [rule: string, text: string, shown: string][] = [
    [
      'members on lines of their own',
      '{"a":1,"b":[true,null]}',
      '{\n  "a": 1,\n  "b": [\n    true,\n    null\n  ]\n}',
    ],
    [
      'long numbers and their form stay',
      '[12345678901234567890,1.50,1e3]',
      '[\n  12345678901234567890,\n  1.50,\n  1e3\n]',
    ],
    ['nothing inside texts is taken apart', '{"a":"x, {\\"y\\": [1]}"}', '{\n  "a": "x, {\\"y\\": [1]}"\n}'],
    ['empty ones stay on their line', '{"a":{},"b":[ ]}', '{\n  "a": {},\n  "b": []\n}'],
    ['space between tokens goes', ' [ 1 ,\n2 ] ', '[\n  1,\n  2\n]'],
    ['a value alone', '"x"', '"x"'],
  ]
  test.each(rows)('%s', (_, text, shown) => {
    expect(indentJson(text)).toBe(shown)
    expect(JSON.parse(indentJson(text))).toEqual(JSON.parse(text))
  })
})
