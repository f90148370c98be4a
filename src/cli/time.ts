/** Times on the command line: a date, or how long ago. */
import { InvalidArgumentError } from 'commander'

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** Epoch ms. A date without a zone is UTC. */
export function parseTime(text: string, nowOrBefore: unknown = undefined): number {
  const nowMs = typeof nowOrBefore === 'number' ? nowOrBefore : Date.now()
  const ago = /^(\d{1,6})([smhd])$/.exec(text)
  if (ago) return nowMs - Number(ago[1]) * UNIT_MS[ago[2] as keyof typeof UNIT_MS]
  const date = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?$/.exec(text)
  const ms = date ? Date.parse(`${text.replace(' ', 'T')}${date[4] || !date[1] ? '' : 'Z'}`) : Number.NaN
  if (Number.isNaN(ms))
    throw new InvalidArgumentError(
      'a date such as 2026-05-17 or 2026-05-17T12:30 (UTC), or 30m, 12h, 7d ago, is needed',
    )
  return ms
}
