import { describe, expect, test } from 'bun:test'
import { compileTransformation, SOURCE_CHARS_MAX, sourceLine } from './compile.ts'

describe('what is refused', () => {
  const REFUSED: [rule: string, source: string, says: RegExp][] = [
    ['a syntax error', 'export default (event) => {\n  let x = ;\n}', /Unexpected ; \(line 2, column 11\)/],
    [
      'a name declared twice',
      'let a = 1; let a = 2; export default () => a',
      /already been declared \(line 1/,
    ],
    [
      'an import',
      "\nimport fs from 'node:fs'\nexport default () => fs",
      /imports 'node:fs'.*\(line 2, column 1\)/,
    ],
    ['an export from elsewhere', "export { x as default } from 'y'", /imports 'y'.*\(line 1, column 1\)/],
    ['a dynamic import', "export default () => {\n  return import('x') }", /imports 'x'/],
    ['no default export', 'export const a = 1', /no default export/],
    ['an async function', '\n export default async (event) => event', /async.*\(line 2, column 2\)/],
    ['a source without end', 'x'.repeat(SOURCE_CHARS_MAX + 1), /100001 characters/],
  ]
  for (const [rule, source, says] of REFUSED)
    test(rule, () =>
      expect(compileTransformation(source)).rejects.toMatchObject({
        code: 'HR_TRANSFORM_COMPILE',
        class: 'rejected',
        message: expect.stringMatching(says),
      }),
    )
})

test('types go, and each line of code knows where it came from', async () => {
  const source = `import type { Event } from 'types'
interface Shape {
  a: string
}

export default function (event: Shape): Shape {
  const one: number = 1

  throw new Error(String(one))
}`
  const compiled = await compileTransformation(source)
  const line = compiled.code.split('\n').findIndex((text) => text.includes('throw'))
  expect(compiled.code).not.toContain('interface')
  expect(sourceLine(compiled, line + 1, compiled.code.split('\n')[line]!.indexOf('throw') + 1)).toBe(9)
})
