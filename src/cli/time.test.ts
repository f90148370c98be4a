import { describe, expect, test } from 'bun:test'
import { parseTime } from './time.ts'

const NOW = Date.UTC(2026, 4, 17, 12)

describe('a time on the command line', () => {
  const rows: [text: string, ms: number][] = [
    ['90s', NOW - 90_000],
    ['30m', NOW - 1_800_000],
    ['12h', NOW - 43_200_000],
    ['7d', NOW - 7 * 86_400_000],
    ['2026-05-17', Date.UTC(2026, 4, 17)],
    ['2026-05-17T12:30', Date.UTC(2026, 4, 17, 12, 30)],
    ['2026-05-17 12:30:01.5', Date.UTC(2026, 4, 17, 12, 30, 1, 500)],
    ['2026-05-17T12:30Z', Date.UTC(2026, 4, 17, 12, 30)],
    ['2026-05-17T12:30+02:00', Date.UTC(2026, 4, 17, 10, 30)],
  ]
  test.each(rows)('%s', (text, ms) => expect(parseTime(text, NOW)).toBe(ms))

  test.each(['', 'yesterday', '7', '7w', '-1d', '2026-13-01', '2026-05', '17.5.2026'])(
    '%p is refused',
    (text) => {
      expect(() => parseTime(text, NOW)).toThrow('a date such as')
    },
  )
})
