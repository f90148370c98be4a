/**
 * The calendar day of an event where its sender is, and when that day's salt may be used. In: an instant and a time
 * zone by name. Out: `YYYY-MM-DD`, and when that day began there. A day lasts for many events of a zone, so each zone
 * remembers the one it was asked for last: about 0.06 µs, 66 µs when the day is another.
 */
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Somewhere it is this day from here … */
const EARLIEST_ZONE_MS = 12 * HOUR_MS
/** … to here behind its midnight UTC, and three days are left for events that come late (ingestion spec §11). */
const LATEST_MS = (14 + 72) * HOUR_MS

/** A calendar day of a zone; it lasts over [startMs, endMs). */
export type ZoneDay = { day: string; startMs: number; endMs: number }

/** The day as text of the UTC day that holds `atMs`. */
export function utcDay(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 10)
}

/** True while `day` may be somebody's today, or events of it may still be on their way. */
export function isOpenDay(day: string, nowMs: number): boolean {
  const midnightMs = Date.parse(`${day}T00:00:00Z`)
  return nowMs >= midnightMs - EARLIEST_ZONE_MS && nowMs < midnightMs + LATEST_MS
}

/** All days for which `isOpenDay` holds, oldest first: four or five. */
export function openDays(nowMs: number): string[] {
  const days: string[] = []
  const last = Math.floor((nowMs + EARLIEST_ZONE_MS) / DAY_MS) * DAY_MS
  for (let midnightMs = last; nowMs < midnightMs + LATEST_MS; midnightMs -= DAY_MS) {
    days.unshift(utcDay(midnightMs))
  }
  return days
}

/** The last day whose salt must be gone at `nowMs`. */
export function lastClosedDay(nowMs: number): string {
  return utcDay(Math.floor((nowMs - LATEST_MS) / DAY_MS) * DAY_MS)
}

/** Beyond this the memory begins anew: there are some 600 names of zones, but anyone can spell them in any case. */
const ZONES_MAX = 1_000
const ZONE_NAME_UNITS_MAX = 64

type Zone = { format: Intl.DateTimeFormat; last: ZoneDay | undefined }
/** Undefined for a name that is no zone. */
const zones = new Map<string, Zone | undefined>()

/** The day of `atMs` in the first of `zoneNames` that is one, else in UTC. */
export function zoneDay(atMs: number, ...zoneNames: unknown[]): ZoneDay {
  for (const name of zoneNames) {
    const zone = typeof name === 'string' ? zoneOf(name) : undefined
    if (zone) return dayIn(zone, atMs)
  }
  const startMs = Math.floor(atMs / DAY_MS) * DAY_MS
  return { day: utcDay(startMs), startMs, endMs: startMs + DAY_MS }
}

/** True when `name` is that of a time zone. */
export function isZone(name: string): boolean {
  return zoneOf(name) !== undefined
}

function zoneOf(name: string): Zone | undefined {
  if (name === '' || name.length > ZONE_NAME_UNITS_MAX) return undefined
  const known = zones.get(name)
  if (known !== undefined || zones.has(name)) return known
  if (zones.size >= ZONES_MAX) zones.clear()
  const zone = openZone(name)
  zones.set(name, zone)
  return zone
}

function openZone(timeZone: string): Zone | undefined {
  try {
    const format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      calendar: 'gregory',
      numberingSystem: 'latn',
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    })
    return { format, last: undefined }
  } catch {
    // The only way to ask for a zone by name is to try it.
    return undefined
  }
}

function dayIn(zone: Zone, atMs: number): ZoneDay {
  const { last } = zone
  if (last && atMs >= last.startMs && atMs < last.endMs) return last
  const midnightMs = Math.floor(wallClock(zone, atMs) / DAY_MS) * DAY_MS
  zone.last = {
    day: utcDay(midnightMs),
    startMs: startOf(zone, midnightMs),
    endMs: startOf(zone, midnightMs + DAY_MS),
  }
  return zone.last
}

/** What the clock on the wall shows, as if it were UTC. */
function wallClock({ format }: Zone, atMs: number): number {
  const parts: Record<string, string> = {}
  for (const { type, value } of format.formatToParts(atMs)) parts[type] = value
  const { year, month, day, hour, minute, second } = parts
  const wholeMs = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
  )
  return wholeMs + (((atMs % 1000) + 1000) % 1000)
}

/**
 * The first instant of the day whose midnight the wall shows as `midnightMs`. Where a clock change skips midnight the
 * day begins with the change; where it repeats it, with the first of the two.
 */
function startOf(zone: Zone, midnightMs: number): number {
  const offsetsMs = [-DAY_MS, 0, DAY_MS].map((aroundMs) => {
    const nearMs = midnightMs + aroundMs
    return wallClock(zone, nearMs) - nearMs
  })
  const starts = offsetsMs.map((offsetMs) => midnightMs - offsetMs)
  const shown = starts.filter((startMs) => {
    const shownMs = wallClock(zone, startMs)
    return shownMs >= midnightMs && shownMs < midnightMs + DAY_MS
  })
  // A zone that moved over the date line left a day out: it ends where it would have begun.
  return shown.length > 0 ? Math.min(...shown) : Math.max(...starts)
}
