import { describe, expect, test } from 'bun:test'
import { readFailures, readSummary } from './test-output.ts'

const RUN = `bun test v1

src/a/one.test.ts:
(pass) adds [0.12ms]
42 |   expect(sum).toBe(3)
error: expect(received).toBe(expected)
(fail) sums > of two [1.50ms]
(skip) sums > of none

src/b/two.test.ts:
 7 pass
(fail) waits
  this test timed out after 60000ms.

2 tests failed:
(fail) sums > of two [1.50ms]
(fail) waits

 11 pass
 1 skip
 2 fail
 13 expect() calls
Ran 14 tests across 2 files. [2.00s]
`

describe('the output of bun test', () => {
  test('its last counts are the summary', () => {
    expect(readSummary(RUN)).toEqual({ passed: 11, failed: 2, skipped: 1 })
  })

  test('nothing said is nothing counted', () => {
    expect(readSummary('Segmentation fault')).toEqual({ passed: 0, failed: 0, skipped: 0 })
  })

  test('a failure is named with its file and what was printed about it alone', () => {
    expect(readFailures(RUN)).toEqual([
      {
        file: 'src/a/one.test.ts',
        name: 'sums > of two',
        said: ['42 |   expect(sum).toBe(3)', 'error: expect(received).toBe(expected)'],
      },
      { file: 'src/b/two.test.ts', name: 'waits', said: [' 7 pass'] },
    ])
  })

  test('an error that belongs to no test is one of its file', () => {
    const output =
      'a.test.ts:\n\n# Unhandled error between tests\n---\nerror: late\n---\n(fail) waits\n 1 fail\n 1 error\n'
    expect(readFailures(output).map(({ file, name }) => [file, name])).toEqual([
      ['a.test.ts', 'an unhandled error between its tests'],
      ['a.test.ts', 'waits'],
    ])
    expect(readSummary(output).failed).toBe(2)
  })

  test('colours do not hide it', () => {
    expect(readFailures('a.test.ts:\n\u001b[31m(fail)\u001b[0m hides [1.00ms]')).toEqual([
      { file: 'a.test.ts', name: 'hides', said: [] },
    ])
  })
})
