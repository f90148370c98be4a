import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { formatLine, readLines } from './log-stream.ts'

const message = {
  level: 40,
  time: '2026-11-23T02:00:00.123Z',
  role: 'load',
  msg: 'slow',
  rows: 5,
  note: 'a b',
}
const line = JSON.stringify(message)

describe('a line as it is printed', () => {
  const rows: [rule: string, line: string, json: boolean, printed: string][] = [
    ['one of our messages', line, false, '02:00:00.123 load       warn  slow rows=5 note="a b"'],
    [
      'a message with line breaks is one line',
      JSON.stringify({ ...message, rows: undefined, note: undefined, msg: 'a\n  b' }),
      false,
      '02:00:00.123 load       warn  a b',
    ],
    ['as JSON it stays as it is', line, true, line],
    [
      'words of a runtime are kept',
      'Segmentation fault',
      false,
      '             load             Segmentation fault',
    ],
    [
      'an error shows its code and sentence, not its stack',
      JSON.stringify({
        ...message,
        rows: undefined,
        note: undefined,
        err: { code: 'HR_X', message: 'no', stack: 's' },
      }),
      false,
      '02:00:00.123 load       warn  slow err="HR_X: no"',
    ],
    ['JSON that is no message is kept', '{"a":1}', false, '             load             {"a":1}'],
  ]
  test.each(rows)('%s', (_, text, json, printed) =>
    expect(formatLine('load', text, { json, colour: false })).toBe(printed),
  )

  test('words of a runtime become a message in a JSON stream', () => {
    const printed = JSON.parse(formatLine('load', 'Killed', { json: true, colour: false })) as Record<
      string,
      unknown
    >
    expect(printed).toMatchObject({ level: 40, role: 'load', msg: 'Killed' })
  })

  test('colours only where they are seen', () => {
    const start = '\x1b['
    expect(formatLine('load', line, { json: false, colour: true })).toContain(start)
    expect(formatLine('load', line, { json: false, colour: false })).not.toContain(start)
  })
})

describe('splitting a byte stream', () => {
  const split = async (chunks: Uint8Array[]) => {
    const lines: string[] = []
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(chunk)
        controller.close()
      },
    })
    await readLines(stream, (text) => lines.push(text))
    return lines
  }

  test('however it is cut, the lines are the same', async () => {
    const wanted = ['first', 'zwölf Boxkämpfer', '日本', 'last without a break']
    const bytes = new TextEncoder().encode(wanted.join('\n'))
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(bytes.length)), async (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), bytes.length]
        const chunks = at.slice(1).map((end, i) => bytes.subarray(at[i], end))
        expect(await split(chunks)).toEqual(wanted)
      }),
    )
  })

  test('I6: a line without end is cut, not collected', async () => {
    const chunk = new TextEncoder().encode('x'.repeat(50_000))
    const lines = await split([chunk, chunk, chunk])
    expect(lines.length).toBe(2)
    expect(Math.max(...lines.map((text) => text.length))).toBeLessThanOrEqual(65_537)
  })
})
