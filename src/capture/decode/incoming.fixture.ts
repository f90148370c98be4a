/** A request as the decoders see it, whose body is already there. */
import { InFlightBudget } from '../limits.ts'
import { type CaptureRequest, Trail } from '../request.ts'
import type { DecodeLimits } from './index.ts'

export const TEST_LIMITS: DecodeLimits = {
  inflatedBytesMax: 2_000_000,
  ratioMax: 1_000_000,
  lz64BytesMax: 1_000_000,
}

export type Sent = {
  /** With its question mark. */
  query?: string
  headers?: Record<string, string>
  budgetBytes?: number
}

export function incomingOf(body: Buffer, { query = '', headers = {}, budgetBytes = 1e8 }: Sent = {}) {
  const request = new Request(`http://capture.test/e/${query}`, { method: 'POST', headers })
  const incoming: CaptureRequest = {
    request,
    path: '/e',
    query: new URL(request.url).searchParams,
    ip: '127.0.0.1',
    nowMs: 0,
    share: new InFlightBudget(budgetBytes).open(),
    trail: new Trail(),
    body: async () => body,
  }
  return incoming
}
