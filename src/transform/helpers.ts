/**
 * What a transformation may ask the host for. User code and built-in transformations see the same signatures. All are
 * synchronous, and must be functions of their arguments and of data that is fixed for the batch, so that a replay
 * decides alike. One that throws fails the batch, never the event: the world is at fault, not the event.
 */
import type { Json } from '../event/index.ts'

export type HostHelpers = {
  /** Where an IP address is, or null when that is not known. */
  readonly geoip: (ip: string) => Json
  readonly isBot: (userAgent: string) => boolean
  /** HMAC-SHA256 of the text, in lower-case hex. */
  readonly hash: (text: string) => string
  /** What a named table says of a key, or null. */
  readonly lookup: (table: string, key: string) => Json
}

/** The answer to what user code asked by name; undefined for what is no question of this kind. */
export function ask(
  helpers: HostHelpers,
  name: string,
  [first, second]: readonly string[],
): Json | undefined {
  switch (name) {
    case 'geoip':
      return helpers.geoip(first!)
    case 'isBot':
      return helpers.isBot(first!)
    case 'hash':
      return helpers.hash(first!)
    case 'lookup':
      return helpers.lookup(first!, second!)
    default:
      return undefined
  }
}

/**
 * `hash` for one project: keyed, because a bare hash of an e-mail address is found by trying all addresses. With the
 * hasher of the runtime 1 µs; `node:crypto` takes 4.
 */
export function hmacSha256(key: string | Uint8Array): HostHelpers['hash'] {
  const keyed = new Bun.CryptoHasher('sha256', key)
  return (text) => keyed.copy().update(text).digest('hex')
}
