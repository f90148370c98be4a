/**
 * What an answer says about the events of its request: 2xx took them, 410 wants no more, 429 and 503 with Retry-After ask
 * to wait, all else (redirects, too) failed and is tried again. Pure.
 */
import { shorten, type Verdict } from '../targets/target.ts'
import type { HttpAnswer, HttpFault } from './client.ts'

export function verdictOf(answer: HttpAnswer, nowMs: number): Verdict {
  const { status, body } = answer
  const said = { status, response: shorten(body) }
  if (status >= 200 && status < 300) return { kind: 'delivered', ...said }
  if (status === 410) return { kind: 'gone', ...said }
  if (status >= 300 && status < 400) {
    const location = answer.header('location')
    return { kind: 'failed', status, response: shorten(`redirect to ${location ?? 'nowhere'}, not followed`) }
  }
  const waitMs = retryAfterMs(answer.header('retry-after'), nowMs)
  if (status === 429 || (status === 503 && waitMs !== undefined))
    return { kind: 'busy', ...said, ...(waitMs === undefined ? {} : { waitMs }) }
  return { kind: 'failed', ...said }
}

export function verdictOfFault(fault: HttpFault): Verdict {
  return { kind: 'failed', status: 0, response: shorten(fault.message) }
}

/** Seconds or a date (RFC 9110, 10.2.3); undefined when it is neither. */
export function retryAfterMs(header: string | null, nowMs: number): number | undefined {
  if (header === null) return undefined
  const text = header.trim()
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1_000
  const dateMs = Date.parse(text)
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs)
}
