/**
 * Time of an event: reading what clients write, and correcting it for a clock that is wrong (capture spec §3.4).
 * Transit is not skew: a client whose clock is within `trustMs` of ours when it sent is believed, so that a slow
 * upload does not reorder a device's events; beyond that, its events move by the difference of the clocks.
 * Pure; the usual spelling (`2026-11-22T02:33:00.123Z`) costs about 0.1 µs.
 */
import type { TimeRule } from './raw-record.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 3_600_000
const DAY_MS = 86_400_000
/** An event further in the future than this is taken as now: more than any time zone mistake explains. */
const FUTURE_MS_MAX = 23 * HOUR_MS
/** What ClickHouse's DateTime64 can hold begins here; Go's zero time and year 1 do not pass. */
const EARLIEST_MS = Date.UTC(1900, 0, 1)
/** Digits of seconds end, and of milliseconds begin: 5138-11-16 in seconds, 1973-03-03 in milliseconds. */
const EPOCH_MS_FROM = 100_000_000_000

/** What an event says about its time; all as sent. */
export type ClientTime = {
  timestamp: string | undefined
  /** Age of the event when it was sent, ms; wins over `timestamp`. */
  offsetMs: number | undefined
  /** The client's clock when it sent, epoch ms. */
  sentAtMs: number | undefined
  /** `$ignore_sent_at`: the timestamp is meant as it stands. */
  ignoreSentAt: boolean
}

/** An event's time by our clock (epoch ms), the rule that said so, and the client's own time where it is another. */
export type CorrectedTime = { timestampMs: number; timeRule: TimeRule; clientTimeMs: number | undefined }

export function correctTime(client: ClientTime, nowMs: number, trustMs: number): CorrectedTime {
  const { timestamp, offsetMs, sentAtMs } = client
  const said = timestamp === undefined ? undefined : parseTimestamp(timestamp)
  const trusted = sentAtMs !== undefined && Math.abs(sentAtMs - nowMs) <= trustMs
  if (offsetMs !== undefined) {
    return bounded((trusted ? sentAtMs : nowMs) - offsetMs, 'offset', nowMs, said)
  }
  if (said === undefined) {
    const timeRule = timestamp === undefined ? 'now' : 'unreadable'
    return { timestampMs: nowMs, timeRule, clientTimeMs: undefined }
  }
  if (sentAtMs === undefined || trusted || client.ignoreSentAt) return bounded(said, 'client', nowMs, said)
  return bounded(said - (sentAtMs - nowMs), 'skewCorrected', nowMs, said)
}

function bounded(atMs: number, rule: TimeRule, nowMs: number, said: number | undefined): CorrectedTime {
  let timestampMs = Math.trunc(atMs)
  let timeRule = rule
  if (atMs > nowMs + FUTURE_MS_MAX) {
    timestampMs = nowMs
    timeRule = 'futureClamped'
  } else if (!(atMs >= EARLIEST_MS)) {
    timestampMs = 0
    timeRule = 'outOfRange'
  }
  return { timestampMs, timeRule, clientTimeMs: said === timestampMs ? undefined : said }
}

/**
 * Epoch ms (whole, rounded down) of what clients write as a time: RFC 3339 and ISO 8601 with `T` or a space, with any
 * offset or none (then UTC), a bare date, `YYYY/MM/DD` and `MM/DD/YYYY`, RFC 2822, and digits of seconds or
 * milliseconds. Undefined when it is none of these or names a day that does not exist.
 */
export function parseTimestamp(text: string): number | undefined {
  return parseIso(text) ?? parseOther(text.trim())
}

/** `YYYY-MM-DD[T| ]hh:mm[:ss[.f…]][zone]`, read by hand: a regular expression costs three times as much. */
function parseIso(text: string): number | undefined {
  const length = text.length
  if (length < 10 || length > 64 || text.charCodeAt(4) !== 45 || text.charCodeAt(7) !== 45) return undefined
  const year = number(text, 0, 4)
  const month = number(text, 5, 2)
  const day = number(text, 8, 2)
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return undefined
  if (length === 10) return utc(year, month, day, 0)
  const separator = text[10]
  if (separator !== 'T' && separator !== ' ' && separator !== 't') return undefined
  if (length < 16 || text.charCodeAt(13) !== 58) return undefined
  const hour = number(text, 11, 2)
  const minute = number(text, 14, 2)
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59) return undefined
  let at = 16
  let second = 0
  let fractionMs = 0
  if (text.charCodeAt(at) === 58) {
    second = number(text, at + 1, 2)
    // 60 is a leap second: it counts as the first moment of the next minute.
    if (second < 0 || second > 60) return undefined
    at += 3
    const point = text.charCodeAt(at)
    if (point === 46 || point === 44) {
      at++
      const digitsFrom = at
      let scale = 100
      for (; at < length; at++) {
        const digit = text.charCodeAt(at) - 48
        if (digit < 0 || digit > 9) break
        fractionMs += digit * scale
        // Digits below a millisecond count for nothing.
        scale = Math.trunc(scale / 10)
      }
      if (at === digitsFrom) return undefined
    }
  }
  const zoneMs = parseZone(text, at)
  if (zoneMs === undefined) return undefined
  const dayMs = hour * HOUR_MS + minute * MINUTE_MS + second * 1000 + fractionMs
  return utc(year, month, day, dayMs - zoneMs)
}

/** Offset east of UTC in ms of what stands at `at` to the end: nothing, `Z`, `+hh`, `+hhmm`, `+hh:mm`, `UTC`. */
function parseZone(text: string, at: number): number | undefined {
  if (at === text.length) return 0
  let from = at
  if (text.charCodeAt(from) === 32) from++
  const left = text.length - from
  const sign = text.charCodeAt(from)
  if (left === 1) return (sign | 0x20) === 122 ? 0 : undefined
  if (sign === 43 || sign === 45) {
    const hours = number(text, from + 1, 2)
    const colon = text.charCodeAt(from + 3) === 58 ? 1 : 0
    const minutes = left === 3 ? 0 : number(text, from + 3 + colon, 2)
    if (left !== 3 && left !== 5 + colon) return undefined
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return undefined
    return (sign === 43 ? 1 : -1) * (hours * HOUR_MS + minutes * MINUTE_MS)
  }
  const name = text.slice(from).toUpperCase()
  return name === 'UTC' || name === 'GMT' ? 0 : undefined
}

const SLASHED = /^(?:(\d{4})\/(\d{1,2})\/(\d{1,2})|(\d{1,2})\/(\d{1,2})\/(\d{4}))(?:[T ](.+))?$/
const RFC_2822 =
  /^(?:[A-Za-z]{3,9},?\s+)?(\d{1,2})[\s-]([A-Za-z]{3})[a-z]*[\s-](\d{4})\s+(\d{1,2}:\d{2}(?::\d{2})?)(?:\s*(.+))?$/
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']

function parseOther(text: string): number | undefined {
  if (text.length > 64) return undefined
  if (/^-?\d{9,16}(\.\d+)?$/.test(text)) {
    const value = Number(text)
    return Math.floor(Math.abs(value) >= EPOCH_MS_FROM ? value : value * 1000)
  }
  const slashed = SLASHED.exec(text)
  if (slashed) {
    const [, y1, m1, d1, m2, d2, y2, time] = slashed
    return parseIso(`${y1 ?? y2}-${pad(m1 ?? m2!)}-${pad(d1 ?? d2!)}${time === undefined ? '' : `T${time}`}`)
  }
  const mail = RFC_2822.exec(text)
  if (mail) {
    const [, day, name, year, time, zone = ''] = mail
    const month = MONTHS.indexOf(name!.toLowerCase()) + 1
    // A zone may be followed by its name in brackets.
    return parseIso(
      `${year}-${pad(String(month))}-${pad(day!)}T${time!.padStart(time!.length > 5 ? 8 : 5, '0')}${zone.replace(/\s*\(.*\)$/, '')}`,
    )
  }
  // A year beyond four digits, or before year 0, as ISO 8601 writes them: valid, and out of any range of ours.
  if (/^[+-]\d{6}-\d{2}-\d{2}T/.test(text)) {
    const value = Date.parse(text)
    return Number.isNaN(value) ? undefined : value
  }
  return parseIso(text)
}

function pad(text: string): string {
  return text.padStart(2, '0')
}

/** `count` digits at `at`, or -1. */
function number(text: string, at: number, count: number): number {
  let value = 0
  for (let i = 0; i < count; i++) {
    const digit = text.charCodeAt(at + i) - 48
    // Past the end charCodeAt is NaN, which fails both comparisons turned this way.
    if (!(digit >= 0 && digit <= 9)) return -1
    value = value * 10 + digit
  }
  return value
}

function daysIn(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

/** The day that was asked for last, as its number and its first moment: an event's neighbours are of the same day. */
let lastDay = 0
let lastDayMs = Number.NaN

function utc(year: number, month: number, day: number, restMs: number): number {
  const asked = (year * 100 + month) * 100 + day
  if (asked !== lastDay) {
    lastDayMs = firstMomentOf(year, month, day)
    lastDay = asked
  }
  return lastDayMs + restMs
}

/** Date.UTC takes years 0 to 99 for 1900 to 1999, so those go around by 400 years, which all have the same length. */
function firstMomentOf(year: number, month: number, day: number): number {
  if (year >= 100) return Date.UTC(year, month - 1, day)
  return Date.UTC(year + 400, month - 1, day) - 146_097 * DAY_MS
}
