/**
 * Which partition a captured event belongs to: a pure function of captured bytes, never of policy, so that order
 * holds for ever. The hash is Kafka's own (murmur2 of the key), so that any Kafka tool finds the same partition.
 * Cost: about 0.1 µs for a key of 60 bytes.
 */
const SEED = 0x9747b28c
const M = 0x5bd1e995

/** Kafka's murmur2 of the first `length` bytes, as an unsigned 31-bit number. */
export function murmur2(bytes: Uint8Array, length = bytes.length): number {
  let h = SEED ^ length
  const words = length >> 2
  for (let i = 0; i < words; i++) {
    const at = i << 2
    let k = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    k = Math.imul(k, M)
    k ^= k >>> 24
    k = Math.imul(k, M)
    h = Math.imul(h, M) ^ k
  }
  const tail = words << 2
  const left = length & 3
  if (left === 3) h ^= bytes[tail + 2]! << 16
  if (left >= 2) h ^= bytes[tail + 1]! << 8
  if (left >= 1) {
    h ^= bytes[tail]!
    h = Math.imul(h, M)
  }
  h ^= h >>> 13
  h = Math.imul(h, M)
  h ^= h >>> 15
  return h & 0x7fffffff
}

/** What decides the partition of an event. */
export type PartitionKey =
  /** The event can change the state of a person: order per distinct id. */
  | { kind: 'distinctId'; token: string; distinctId: string }
  /** The event can change no state: spread by uuid. */
  | { kind: 'personless'; token: string; uuid: string }
  /** The identity is made from the address later on. */
  | { kind: 'cookieless'; token: string; ip: string }

const encoder = new TextEncoder()
const scratch = new Uint8Array(8192)
/** The token whose bytes, with the colon, stand at the front of `scratch`. */
let prefixToken: string | undefined
let prefixBytes = 0

/** The partition number of `key` in a deployment born with `partitions`. */
export function partitionOf(key: PartitionKey, partitions: number): number {
  const { token } = key
  const rest = key.kind === 'distinctId' ? key.distinctId : key.kind === 'personless' ? key.uuid : key.ip
  // Three bytes per UTF-16 unit at most.
  if ((token.length + 1 + rest.length) * 3 > scratch.length) {
    const bytes = encoder.encode(`${token}:${rest}`)
    return murmur2(bytes, bytes.length) % partitions
  }
  if (token !== prefixToken) {
    prefixBytes = encoder.encodeInto(`${token}:`, scratch).written
    prefixToken = token
  }
  return murmur2(scratch, writeText(rest, prefixBytes)) % partitions
}

/** Writes `text` into `scratch` at `at`; gives the place behind it. */
function writeText(text: string, at: number): number {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 127) return at + encoder.encodeInto(text, scratch.subarray(at)).written
    scratch[at + i] = code
  }
  return at + text.length
}
