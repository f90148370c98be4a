/**
 * A claim as nine 32-bit words, in memory and on disk alike: 36 bytes.
 *
 *   0–3  the uuid, mixed    4  digest, low    5  digest, high 16 | log number 16
 *   6  offset, low          7  offset, high 16 | appended, high 16          8  appended, low (epoch ms)
 *
 * The uuid is mixed by a keyed one-to-one function: equal words mean equal uuids, and words of ids that are near in
 * time, or made to be near, are spread as evenly as those of random ids. So one structure serves both kinds, a word is
 * its own hash, and nobody outside can choose where an id falls. Claims are ordered by word 0, then 4 (so that two words
 * find one claim also where a client sends one uuid with everything), then the others: those of a uuid are neighbours.
 */
import { type Source, writeUuid } from '../../event/index.ts'

export type ClaimRequest = {
  teamId: number
  /** Canonical. */
  uuid: string
  event: string
  distinctId: string
  logId: string
  offset: number
  /** The log's time of the record, epoch ms: the clock of the window. */
  appendedMs: number
  replayOf: Source | undefined
}

export const CLAIM_WORDS = 9
export const CLAIM_BYTES = CLAIM_WORDS * 4
/** Log numbers have 16 bits. */
export const LOGS_MAX = 65_536

const UINT32 = 2 ** 32
const HALF_MASK = 0xffff

/** Makes keys; one for each index, because the key of the mixing is drawn when the index is created. */
export class ClaimKeys {
  private readonly uuid = new Uint32Array(4)
  private readonly uuidBytes = new Uint8Array(this.uuid.buffer)
  private readonly hash = new BigUint64Array(1)
  private readonly hashWords = new Uint32Array(this.hash.buffer)

  constructor(private readonly seed: number) {}

  /** Writes words 0–5 at `at`, with the log number 0. */
  write(request: ClaimRequest, words: Uint32Array, at: number): void {
    const { uuid, event } = request
    if (!writeUuid(uuid, this.uuidBytes, 0)) throw new Error(`"${uuid}" is not a canonical uuid`)
    const { seed } = this
    let a = this.uuid[0]!
    let b = this.uuid[1]!
    let c = this.uuid[2]!
    let d = this.uuid[3]!
    // Each line adds a function of the other three words: it can be undone, so no two uuids become one.
    a ^= scramble(b ^ scramble(c ^ scramble(d ^ seed)))
    b ^= scramble(c ^ scramble(d ^ scramble(a ^ seed)))
    c ^= scramble(d ^ scramble(a ^ scramble(b ^ seed)))
    d ^= scramble(a ^ scramble(b ^ scramble(c ^ seed)))
    words[at] = a
    words[at + 1] = b
    words[at + 2] = c
    words[at + 3] = d
    // A BigInt that is only stored costs a third of one that is taken apart.
    this.hash[0] = Bun.hash.xxHash64(
      `${request.teamId}\u0000${event.length}\u0000${event}${request.distinctId}`,
    )
    words[at + 4] = this.hashWords[0]!
    words[at + 5] = this.hashWords[1]! & ~HALF_MASK
  }
}

/** MurmurHash3's finaliser: each bit of the input changes about half of the output. */
function scramble(word: number): number {
  let x = word
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return x ^ (x >>> 16)
}

/** Words 0–5. Word by word is a third of the time of `set` with `subarray`. */
export function copyKey(from: Uint32Array, at: number, to: Uint32Array, toAt: number): void {
  for (let word = 0; word < 6; word++) to[toAt + word] = from[at + word]!
}

/** Adds to words 0–5 who holds the claim. */
export function writeHolder(
  words: Uint32Array,
  at: number,
  logNumber: number,
  offset: number,
  appendedMs: number,
): void {
  words[at + 5] = (words[at + 5]! & ~HALF_MASK) | logNumber
  words[at + 6] = offset % UINT32
  words[at + 7] = (Math.floor(offset / UINT32) << 16) | (Math.floor(appendedMs / UINT32) & HALF_MASK)
  words[at + 8] = appendedMs % UINT32
}

/** 48 bits. */
export function digestAt(words: Uint32Array, at: number): number {
  return (words[at + 5]! >>> 16) * UINT32 + words[at + 4]!
}

export function logNumberAt(words: Uint32Array, at: number): number {
  return words[at + 5]! & HALF_MASK
}

export function offsetAt(words: Uint32Array, at: number): number {
  return (words[at + 7]! >>> 16) * UINT32 + words[at + 6]!
}

export function appendedMsAt(words: Uint32Array, at: number): number {
  return (words[at + 7]! & HALF_MASK) * UINT32 + words[at + 8]!
}

export function isSameUuid(a: Uint32Array, i: number, b: Uint32Array, j: number): boolean {
  return a[i] === b[j] && a[i + 1] === b[j + 1] && a[i + 2] === b[j + 2] && a[i + 3] === b[j + 3]
}

export function isSameDigest(a: Uint32Array, i: number, b: Uint32Array, j: number): boolean {
  return a[i + 4] === b[j + 4] && (a[i + 5]! ^ b[j + 5]!) >>> 16 === 0
}

/** The order of claims: below 0, 0 for two claims of the same event, above 0. */
export function compareClaims(a: Uint32Array, i: number, b: Uint32Array, j: number): number {
  return (
    a[i]! - b[j]! ||
    a[i + 4]! - b[j + 4]! ||
    a[i + 1]! - b[j + 1]! ||
    a[i + 2]! - b[j + 2]! ||
    a[i + 3]! - b[j + 3]! ||
    (a[i + 5]! >>> 16) - (b[j + 5]! >>> 16)
  )
}

/**
 * Told of a claim that a look-up met: of the very event that was looked for, or of another one with its uuid. True: of
 * others it has seen enough. Of those only a few are told: it is for a warning, and one client may send a uuid with
 * everything.
 */
export type Visit = (words: Uint32Array, at: number) => boolean
