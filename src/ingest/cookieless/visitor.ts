/**
 * A visitor: all events of one day, project, address, registrable domain, user agent and extra. The ids of a visitor
 * are hashes of these under the day's salt, with a number n that tells its persons apart (ingestion spec §11):
 *
 *   SipHash-double(salt, "team-ip-rootDomain-userAgent-n-extra")     the base hash is that of n = 0
 */
import { uuidText } from '../../event/index.ts'
import { sipHashDouble } from './siphash.ts'

/** The distinct id that a client sends while it knows none. */
export const COOKIELESS_DISTINCT_ID = '$posthog_cookieless'
const EXTRA_UNITS_MAX = 100

export class Visitor {
  readonly #salt: Uint8Array
  readonly #before: string
  readonly #behind: string
  readonly baseHash: Buffer

  constructor(
    salt: Uint8Array,
    readonly day: string,
    readonly teamId: number,
    seen: { ip: string; rootDomain: string; userAgent: string; extra: string },
  ) {
    this.#salt = salt
    this.#before = `${teamId}-${seen.ip}-${seen.rootDomain}-${seen.userAgent}-`
    this.#behind = `-${seen.extra.slice(0, EXTRA_UNITS_MAX)}`
    this.baseHash = this.hash(0)
  }

  /** The hash of the `n`-th person of this visitor. */
  hash(n: number): Buffer {
    return sipHashDouble(this.#salt, `${this.#before}${n}${this.#behind}`)
  }

  /**
   * The id of the session of person `n` that began at `startMs`: UUIDv7 whose other bits are a hash, so that a batch
   * that is tried again gives the same.
   */
  sessionId(n: number, startMs: number): string {
    const text = `session-${this.teamId}-${this.baseHash.toString('hex')}-${n}-${startMs}`
    return uuidV7From(startMs, sipHashDouble(this.#salt, text))
  }
}

/** `cookieless_` and the hash in base64 without padding. */
export function distinctIdOf(hash: Buffer): string {
  return `cookieless_${unpadded(hash)}`
}

/** `cookielessd_` and the base hash. */
export function deviceIdOf(baseHash: Buffer): string {
  return `cookielessd_${unpadded(baseHash)}`
}

function unpadded(hash: Buffer): string {
  return hash.toString('base64').slice(0, 22)
}

/** UUIDv7 of `timeMs`, its other bits from the first ten bytes of `bits`. */
export function uuidV7From(timeMs: number, bits: Uint8Array): string {
  const bytes = Buffer.allocUnsafe(16)
  bytes.writeUIntBE(Math.max(0, Math.trunc(timeMs)), 0, 6)
  bytes.set(bits.subarray(0, 10), 6)
  bytes[6] = (bytes[6]! & 0x0f) | 0x70
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return uuidText(bytes)
}
