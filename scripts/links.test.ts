import { describe, expect, test } from 'bun:test'
import { anchorsOf, brokenBecause, pointersOf } from './links.ts'

describe('links', () => {
  test('anchors', () => {
    const text = '# One `two`, three!\n## Same\n## Same\n```\n# not one\n```\n### [Linked](x.md) HR_A_B\n'
    expect([...anchorsOf(text)]).toEqual(['one-two-three', 'same', 'same-1', 'linked-hr_a_b'])
  })

  test.each([
    ['beside', 'docs/a.md', '[x](b.md)', ['docs/b.md']],
    ['above, with an anchor', 'docs/a.md', '[x](../README.md#start)', ['README.md#start']],
    ['within the file', 'docs/a.md', '[x](#here)', ['docs/a.md#here']],
    ['elsewhere', 'docs/a.md', '[x](https://example.com/b.md)', []],
    ['in code', 'docs/a.md', '`[x](b.md)`\n```\n[x](c.md)\n```\n', []],
    ['in a source', 'src/a.ts', "docs: 'docs/runbooks/load.md#gap',", ['docs/runbooks/load.md#gap']],
  ])('pointers %s', (_, file, text, pointers) => expect(pointersOf(file, text)).toEqual(pointers))

  test.each([
    ['a heading that is there', 'a.md#one', undefined],
    ['a file', 'a.md', undefined],
    ['a heading that is not', 'a.md#two', 'there is no such heading'],
    ['a file that is not', 'b.md', 'there is no such file'],
  ])('%s', (_, pointer, reason) =>
    expect(brokenBecause(pointer, (path: string) => (path === 'a.md' ? '# One' : undefined))).toBe(reason),
  )
})
