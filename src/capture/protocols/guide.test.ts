/** The guide to the protocols: its examples are run as they stand, and its tables are those of the code. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startTestCapture, type TestCapture } from '../../../test/support/capture.ts'
import { v0Routes } from './v0/index.ts'
import { DETAILS } from './v1/results.ts'

setDefaultTimeout(60_000)

const GUIDE = readFileSync(join(import.meta.dir, '../../../docs/guides/protocols.md'), 'utf8')
const EXAMPLES = [...GUIDE.matchAll(/```sh\n(curl .+?)\n```\n\n```json\n(.+?)\n```/gs)]

let capture: TestCapture
beforeAll(async () => {
  capture = await startTestCapture()
})
afterAll(() => capture.stop())

test.each(EXAMPLES.map(([, command, answer]) => [command!, answer!] as const))(
  '%s',
  async (command, expected) => {
    // As curl would send it, which not every machine has.
    const [, path] = /^curl http:\/\/127\.0\.0\.1:8010(\S+) /.exec(command)!
    const [, body] = / -d '([^']+)'$/.exec(command)!
    const headers = [...command.matchAll(/ -H '([^:']+): ([^']+)'/g)].map(
      ([, name, value]) => [name!.toLowerCase(), value!] as const,
    )
    const response = await capture.post(path!, body!, {
      'content-type': 'application/x-www-form-urlencoded',
      ...Object.fromEntries(headers),
    })
    const answer = await response.text()
    expect(JSON.parse(answer)).toEqual(JSON.parse(expected))
  },
)

test('both protocols have an example', () => expect(EXAMPLES.length).toBe(2))

test('details', () => {
  const table = GUIDE.slice(GUIDE.indexOf('<!-- details -->'), GUIDE.indexOf('<!-- end of details -->'))
  const rows = [...table.matchAll(/^\| `(\w+)` \| `(\w+)` \|$/gm)].map(([, reason, details]) => [
    reason,
    details,
  ])
  expect(rows).toEqual(Object.entries(DETAILS))
})

test('paths of v0', () => {
  const named = /Paths, with and without a slash at the end: ([^;]+);/.exec(GUIDE)![1]!
  const paths = [...named.matchAll(/`(\/[^`]+)`/g)].map(([, path]) => path!)
  const routes = v0Routes({} as Parameters<typeof v0Routes>[0])
  expect(paths.sort()).toEqual([...routes.keys()].sort())
})
