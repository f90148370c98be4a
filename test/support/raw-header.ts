/** The header of a raw record as capture writes it for a plain event: a test names only what it is about. */
import type { RawHeader } from '../../src/event/index.ts'

export type PlainHeader = Pick<RawHeader, 'token' | 'distinctId' | 'event' | 'uuid' | 'timestampMs'> &
  Partial<RawHeader>

/** Captured when it happened, by no known SDK, with person processing. */
export function plainHeader(known: PlainHeader): RawHeader {
  return {
    timeRule: 'client',
    nowMs: known.timestampMs,
    sentAtMs: undefined,
    ip: '',
    userAgent: '',
    sdk: '',
    personProcessing: 'on',
    cookieless: false,
    clientTimeMs: undefined,
    disposition: 'event',
    requestId: '',
    replayOf: undefined,
    ...known,
  }
}
