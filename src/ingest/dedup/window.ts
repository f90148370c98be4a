/**
 * The dedup window against what the raw log keeps. The index itself keeps the window whatever the log does; but one that
 * is built anew has only the log to learn from.
 */

/** One sentence when a raw topic keeps its records for less than the window; undefined when all is well. */
export function windowBeyondLog(
  windowHours: number,
  topics: readonly { name: string; retentionMs?: number | undefined }[],
): string | undefined {
  const short = topics.filter(({ retentionMs }) => (retentionMs ?? Infinity) < windowHours * 3_600_000)
  if (short.length === 0) return undefined
  const kept = short.map(({ name, retentionMs }) => `${name} keeps ${hours(retentionMs!)} h`).join(', ')
  return `the dedup window (HEADRACE_DEDUP_WINDOW_HOURS) is ${windowHours} h, but ${kept}: ${MEANING}`
}

/** The same, seen when it has happened: claims that a rebuilt index lacks, of records appended before `sinceMs`. */
export function lackingClaims(lane: string, offsets: number, sinceMs: number): string {
  return `the dedup index lacks ${offsets} offsets of ${lane} that the log no longer holds, from before ${new Date(sinceMs).toISOString()} and within the window: a copy of one of their events is stored a second time`
}

const MEANING =
  'an index that is built anew (on another machine without `headrace dedup restore`, or after damage) knows only what the log holds, and a copy of an older event is then stored a second time'

function hours(ms: number): number {
  return Math.round(ms / 360_000) / 10
}
