import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { isOpenDay, isZone, lastClosedDay, openDays, zoneDay } from './calendar-day.ts'

const HOUR_MS = 3_600_000
const at = (iso: string) => Date.parse(iso)

describe('the day of an instant', () => {
  test.each([
    ['UTC when no zone is named', '2026-03-10T23:59:59.999Z', [undefined], '2026-03-10'],
    ['east of UTC it is tomorrow', '2026-01-01T20:30:01Z', ['Asia/Tehran'], '2026-01-02'],
    ['the farthest east', '2026-01-01T10:00:00Z', ['Pacific/Kiritimati'], '2026-01-02'],
    ['west of UTC it is yesterday', '2026-01-01T02:59:00Z', ['America/Sao_Paulo'], '2025-12-31'],
    ['the farthest west', '2026-01-01T10:59:00Z', ['Pacific/Midway'], '2025-12-31'],
    ['in any case', '2026-01-01T20:30:01Z', ['asia/tehran'], '2026-01-02'],
    [
      "the event's zone before the project's",
      '2026-01-01T12:00:00Z',
      ['Pacific/Kiritimati', 'UTC'],
      '2026-01-02',
    ],
    ["no zone: the project's", '2026-01-01T12:00:00Z', ['Not/A_Zone', 'Pacific/Kiritimati'], '2026-01-02'],
    ['no text: the project’s', '2026-01-01T12:00:00Z', [7, 'Pacific/Kiritimati'], '2026-01-02'],
    ['neither is one: UTC', '2026-01-01T12:00:00Z', ['x'.repeat(10_000), ''], '2026-01-01'],
  ])('%s', (_rule, instant, zones, day) => {
    expect(zoneDay(at(instant), ...zones).day).toBe(day)
  })

  test.each([
    ['plain', 'Europe/Vienna', '2026-03-10T12:00:00Z', '2026-03-09T23:00:00Z', '2026-03-10T23:00:00Z'],
    [
      'clocks go forward: 23 hours',
      'Europe/Vienna',
      '2026-03-29T12:00:00Z',
      '2026-03-28T23:00:00Z',
      '2026-03-29T22:00:00Z',
    ],
    [
      'clocks go back: 25 hours',
      'Europe/Vienna',
      '2026-10-25T12:00:00Z',
      '2026-10-24T22:00:00Z',
      '2026-10-25T23:00:00Z',
    ],
    [
      'there is no midnight',
      'Africa/Cairo',
      '2026-04-24T12:00:00Z',
      '2026-04-23T22:00:00Z',
      '2026-04-24T21:00:00Z',
    ],
    [
      'there are two midnights',
      'America/Havana',
      '2026-11-01T12:00:00Z',
      '2026-11-01T04:00:00Z',
      '2026-11-02T05:00:00Z',
    ],
    [
      'the day before one that was left out',
      'Pacific/Apia',
      '2011-12-30T09:00:00Z',
      '2011-12-29T10:00:00Z',
      '2011-12-30T10:00:00Z',
    ],
  ])('where it begins and ends: %s', (_rule, zone, instant, start, end) => {
    const day = zoneDay(at(instant), zone)
    expect(new Date(day.startMs).toISOString()).toBe(new Date(start).toISOString())
    expect(new Date(day.endMs).toISOString()).toBe(new Date(end).toISOString())
  })

  test('what is remembered of a zone answers as a fresh look would', () => {
    const zones = ['Europe/Vienna', 'America/Havana', 'Africa/Cairo', 'Pacific/Chatham', 'Asia/Kathmandu']
    const instants = fc.integer({ min: at('2025-01-01T00:00:00Z'), max: at('2027-12-31T00:00:00Z') })
    fc.assert(
      fc.property(fc.constantFrom(...zones), instants, (zone, instant) => {
        const { day, startMs, endMs } = zoneDay(instant, zone)
        const shown = new Intl.DateTimeFormat('en-CA', { timeZone: zone }).format(instant)
        expect(day).toBe(shown)
        expect(instant).toBeGreaterThanOrEqual(startMs)
        expect(instant).toBeLessThan(endMs)
      }),
      { numRuns: 500 },
    )
  })

  test('more names than are remembered', () => {
    for (let i = 0; i < 3_000; i++) expect(zoneDay(0, `No/Zone_${i}`).day).toBe('1970-01-01')
    expect(isZone('Europe/Vienna')).toBe(true)
    expect(isZone('No/Zone_1')).toBe(false)
  })
})

describe('a day is open from 12 hours before its midnight UTC to 86 hours behind it', () => {
  const day = '2026-03-10'
  const midnight = at('2026-03-10T00:00:00Z')
  test.each([
    ['just before', -12 * HOUR_MS - 1, false],
    ['the first moment', -12 * HOUR_MS, true],
    ['the last moment', 86 * HOUR_MS - 1, true],
    ['just behind', 86 * HOUR_MS, false],
  ])('%s', (_rule, offsetMs, open) => {
    expect(isOpenDay(day, midnight + offsetMs)).toBe(open)
  })

  test('openDays and lastClosedDay say the same', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 400 * 24 }), fc.integer({ min: -1, max: 1 }), (hours, ms) => {
        const now = at('2026-01-05T00:00:00Z') + hours * HOUR_MS + ms
        const days = openDays(now)
        expect(days.length).toBeGreaterThanOrEqual(4)
        expect(days.length).toBeLessThanOrEqual(5)
        for (const one of days) expect(isOpenDay(one, now)).toBe(true)
        const behind = new Date(at(`${days.at(-1)}T00:00:00Z`) + 24 * HOUR_MS).toISOString().slice(0, 10)
        expect(isOpenDay(behind, now)).toBe(false)
        const closed = lastClosedDay(now)
        expect(isOpenDay(closed, now)).toBe(false)
        expect(at(`${closed}T00:00:00Z`) + 24 * HOUR_MS).toBe(at(`${days[0]}T00:00:00Z`))
      }),
    )
  })
})
