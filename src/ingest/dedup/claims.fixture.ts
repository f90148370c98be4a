/** What tests of the dedup index share: claims to store, and an index whose runs are tiny. */
import type { ClaimRequest } from './claims.ts'

export const LOG = '11111111-1111-4111-8111-111111111111'
export const HOUR = 3_600_000

export function claimOf(offset: number, changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    teamId: 1,
    uuid: uuidOf(offset),
    event: 'e',
    distinctId: 'd',
    logId: LOG,
    offset,
    appendedMs: 1_000_000 + offset,
    replayOf: undefined,
    ...changes,
  }
}

/** The n-th id: of even n near in time, of odd n random to look at. */
export function uuidOf(n: number): string {
  if (n % 2 === 0) return `018f4b2e-0000-7000-8000-${n.toString(16).padStart(12, '0')}`
  const hex = new Bun.CryptoHasher('md5').update(String(n)).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`
}

type Index = {
  reached(ms: number): void
  store(claims: ClaimRequest[], logId: string, completeTo: number): void
}

/** Stores claims of the offsets [from, to) in batches, as a lane that is alone does. */
export function storeRange(index: Index, from: number, to: number, batch = 50): void {
  for (let at = from; at < to; at += batch) {
    const end = Math.min(at + batch, to)
    index.reached(claimOf(at).appendedMs)
    index.store(
      Array.from({ length: end - at }, (_, i) => claimOf(at + i)),
      LOG,
      end,
    )
  }
}
