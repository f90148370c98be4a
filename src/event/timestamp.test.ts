import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { type ClientTime, correctTime, parseTimestamp } from './timestamp.ts'

const READABLE: [string, string][] = [
  ['2026-11-22T02:33:00.123Z', '2026-11-22T02:33:00.123Z'],
  ['2026-11-22T02:33:00Z', '2026-11-22T02:33:00.000Z'],
  ['2026-11-22t02:33:00z', '2026-11-22T02:33:00.000Z'],
  ['2026-11-22T02:33:00.123999999+00:00', '2026-11-22T02:33:00.123Z'],
  ['2026-11-22T02:33:00.5Z', '2026-11-22T02:33:00.500Z'],
  ['2026-11-22T02:33:00.001234', '2026-11-22T02:33:00.001Z'],
  ['2026-11-22T04:33:00+02:00', '2026-11-22T02:33:00.000Z'],
  ['2026-11-22T04:33:00+02', '2026-11-22T02:33:00.000Z'],
  ['2026-11-22T04:33:00+0200', '2026-11-22T02:33:00.000Z'],
  ['2026-11-21T21:03:00-05:30', '2026-11-22T02:33:00.000Z'],
  ['2026-11-22 02:33:00', '2026-11-22T02:33:00.000Z'],
  ['2026-11-22 02:33:00 UTC', '2026-11-22T02:33:00.000Z'],
  ['2026-11-22T02:33', '2026-11-22T02:33:00.000Z'],
  ['2026-11-22', '2026-11-22T00:00:00.000Z'],
  ['2024-02-29', '2024-02-29T00:00:00.000Z'],
  ['2016-12-31T23:59:60Z', '2017-01-01T00:00:00.000Z'],
  ['2026/11/22', '2026-11-22T00:00:00.000Z'],
  ['2026/1/2 03:04:05', '2026-01-02T03:04:05.000Z'],
  ['11/22/2026', '2026-11-22T00:00:00.000Z'],
  ['Sun, 22 Nov 2026 02:33:00 GMT', '2026-11-22T02:33:00.000Z'],
  ['22 Nov 2026 03:33:00 +0100', '2026-11-22T02:33:00.000Z'],
  ['Sun, 2 Nov 2026 2:33:00', '2026-11-02T02:33:00.000Z'],
  ['1795314780', '2026-11-22T02:33:00.000Z'],
  ['1795314780123', '2026-11-22T02:33:00.123Z'],
  ['1795314780.5', '2026-11-22T02:33:00.500Z'],
  [' 2026-11-22T02:33:00Z ', '2026-11-22T02:33:00.000Z'],
  ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000Z'],
]

const UNREADABLE = [
  '',
  'yesterday',
  '2026-13-01T00:00:00Z',
  '2026-02-29',
  '2026-11-31',
  '2026-11-22T24:00:00Z',
  '2026-11-22T02:60:00Z',
  '2026-11-22T02:33:00.Z',
  '2026-11-22T02:33:00+25:00',
  '2026-11-22T02:33:00+1',
  '2026-11-22T02:33:00Zulu',
  '2026-11-22\u000002:33:00',
  '20261122',
  '12/2026',
  '31/12/2026',
  'Sun, 22 Foo 2026 02:33:00 GMT',
  'x'.repeat(100_000),
]

describe('parseTimestamp', () => {
  test.each(READABLE)('%s', (text, iso) => {
    expect(new Date(parseTimestamp(text)!).toISOString()).toBe(iso)
  })

  test.each(UNREADABLE)('%p is not a time', (text) => {
    expect(parseTimestamp(text)).toBeUndefined()
  })

  test('reads what toISOString writes', () => {
    fc.assert(
      fc.property(
        fc.date({
          min: new Date('0000-01-01T00:00:00Z'),
          max: new Date('9999-12-31T23:59:59.999Z'),
          noInvalidDate: true,
        }),
        (date) => expect(parseTimestamp(date.toISOString())).toBe(date.getTime()),
      ),
    )
  })
})

const NOW = Date.parse('2026-11-22T02:33:00Z')
const TRUST_MS = 30_000
const SECOND = 1000
const HOUR = 3_600_000

function at(ms: number): string {
  return new Date(ms).toISOString()
}

const RULES: [string, Partial<ClientTime>, number, string][] = [
  ['nothing said: now', {}, NOW, 'now'],
  ['no sent_at: at face value', { timestamp: at(NOW - HOUR) }, NOW - HOUR, 'client'],
  [
    'a clock within the trust is believed: transit is not skew',
    { timestamp: at(NOW - HOUR), sentAtMs: NOW - 20 * SECOND },
    NOW - HOUR,
    'client',
  ],
  [
    'the trust ends at exactly its limit',
    { timestamp: at(NOW - HOUR), sentAtMs: NOW - TRUST_MS },
    NOW - HOUR,
    'client',
  ],
  [
    'one ms beyond it is skew',
    { timestamp: at(NOW - HOUR), sentAtMs: NOW - TRUST_MS - 1 },
    NOW - HOUR + TRUST_MS + 1,
    'skewCorrected',
  ],
  [
    'a clock that is ahead',
    { timestamp: at(NOW + HOUR - 5 * SECOND), sentAtMs: NOW + HOUR },
    NOW - 5 * SECOND,
    'skewCorrected',
  ],
  [
    '$ignore_sent_at: at face value in spite of skew',
    { timestamp: at(NOW - HOUR), sentAtMs: NOW - 5 * HOUR, ignoreSentAt: true },
    NOW - HOUR,
    'client',
  ],
  ['offset wins', { timestamp: at(NOW - HOUR), offsetMs: 5000 }, NOW - 5000, 'offset'],
  ['unreadable: now', { timestamp: 'soon' }, NOW, 'unreadable'],
  ['23 h ahead is kept', { timestamp: at(NOW + 23 * HOUR) }, NOW + 23 * HOUR, 'client'],
  ['beyond 23 h ahead: now', { timestamp: at(NOW + 23 * HOUR + 1) }, NOW, 'futureClamped'],
  ['an offset into the far future: now', { offsetMs: -48 * HOUR }, NOW, 'futureClamped'],
  ["Go's zero time", { timestamp: '0001-01-01T00:00:00Z' }, 0, 'outOfRange'],
  [
    'the first moment that can be stored',
    { timestamp: '1900-01-01T00:00:00Z' },
    Date.UTC(1900, 0, 1),
    'client',
  ],
  ['an offset beyond all time', { offsetMs: 1e300 }, 0, 'outOfRange'],
  ['a year of six digits', { timestamp: '+010000-01-01T00:00:00Z' }, NOW, 'futureClamped'],
]

test.each(RULES)('correctTime: %s', (_, said, timestampMs, timeRule) => {
  const client: ClientTime = {
    timestamp: undefined,
    offsetMs: undefined,
    sentAtMs: undefined,
    ignoreSentAt: false,
    ...said,
  }
  expect(correctTime(client, NOW, TRUST_MS)).toMatchObject({ timestampMs, timeRule })
})

describe("correctTime keeps the client's own time where it is another", () => {
  const client = (said: Partial<ClientTime>): ClientTime => ({
    timestamp: undefined,
    offsetMs: undefined,
    sentAtMs: undefined,
    ignoreSentAt: false,
    ...said,
  })
  test.each([
    ['believed: nothing to keep', { timestamp: at(NOW - HOUR) }, undefined],
    ['skew', { timestamp: at(NOW - HOUR), sentAtMs: NOW - 5 * HOUR }, NOW - HOUR],
    ['future', { timestamp: at(NOW + 24 * HOUR) }, NOW + 24 * HOUR],
    ['offset beside a timestamp', { timestamp: at(NOW - HOUR), offsetMs: 5000 }, NOW - HOUR],
    ['none given', { offsetMs: 5000 }, undefined],
    ['unreadable', { timestamp: 'soon' }, undefined],
  ])('%s', (_, said, clientTimeMs) => {
    expect(correctTime(client(said), NOW, TRUST_MS).clientTimeMs).toBe(clientTimeMs)
  })

  test('an offset counts from the sending where the clock is trusted: transit is not age', () => {
    const sentAtMs = NOW - 20 * SECOND
    expect(correctTime(client({ offsetMs: 5000, sentAtMs }), NOW, TRUST_MS).timestampMs).toBe(sentAtMs - 5000)
    expect(correctTime(client({ offsetMs: 5000, sentAtMs: NOW - HOUR }), NOW, TRUST_MS).timestampMs).toBe(
      NOW - 5000,
    )
  })
})
