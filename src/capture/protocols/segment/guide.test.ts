import { describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startTestCapture } from '../../../../test/support/capture.ts'
import { CALL_TYPES, CALLS, CONTEXT_PROPERTIES, DROPPED_MEMBERS, MESSAGE_MEMBERS } from './mapping-tables.ts'

const GUIDE = readFileSync(join(import.meta.dir, '../../../../docs/guides/segment.md'), 'utf8')

/** Rows of the table between the comments `name` and `end of name`, without backticks. */
function tableOf(name: string): string[][] {
  const from = GUIDE.indexOf(`<!-- ${name} -->`)
  const to = GUIDE.indexOf(`<!-- end of ${name} -->`)
  if (from < 0 || to < from) throw new Error(`the guide has no table ${name}`)
  const lines = GUIDE.slice(from, to)
    .split('\n')
    .filter((line) => line.startsWith('|'))
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  )
}

describe('the guide says what the tables say', () => {
  test('calls', () => {
    const calls = CALL_TYPES.flatMap((type) => {
      const { event, members } = CALLS[type]
      if (members.length === 0) return [[type, event, '', '']]
      return members.map(([from, to]) => [type, event, from, to])
    })
    const any = MESSAGE_MEMBERS.map(([from, to]) => ['any', '', from, to])
    expect(tableOf('calls')).toEqual([...calls, ...any])
  })

  test('context', () => {
    expect(tableOf('context')).toEqual(CONTEXT_PROPERTIES.map((row) => [...row]))
  })

  test.each([...DROPPED_MEMBERS])('%s is named as not kept', (member) => {
    expect(/Not kept: ([^;]*);/.exec(GUIDE)?.[1]).toContain(`\`${member}\``)
  })
})

test('the example by hand', async () => {
  const [, path, key, body] = /curl http:\/\/127\.0\.0\.1:8010(\S+) -u (\S+:) -d '([^']+)'/.exec(GUIDE)!
  const capture = await startTestCapture()
  try {
    const response = await capture.post(path!, body!, {
      authorization: `Basic ${btoa(key!)}`,
      'content-type': 'application/x-www-form-urlencoded',
    })
    expect(await response.text()).toBe('{"success":true}')
    const [stored] = await capture.stored()
    expect(JSON.parse(stored!.value)).toEqual({
      event: 'plan bought',
      distinct_id: 'ada',
      properties: { plan: 'team', $groups: { company: 'analytical' }, $ip: '192.0.2.7' },
    })
  } finally {
    await capture.stop()
  }
})
