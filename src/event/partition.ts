/**
 * Which partition a captured event belongs to: a pure function of captured bytes, never of policy, so that order
 * holds for ever. The hash is Kafka's own (murmur2 of the key), so that any Kafka tool finds the same partition.
 * Cost: about 0.2 µs for a key of 60 bytes.
 */
const SEED = 0x9747b28c
const M = 0x5bd1e995

/** Kafka's murmur2 of `bytes`, as an unsigned 31-bit number. */
export function murmur2(bytes: Uint8Array): number {
  const length = bytes.length
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

/** The partition number of `key` in a deployment born with `partitions`. */
export function partitionOf(key: PartitionKey, partitions: number): number {
  const text = `${key.token}:${key.kind === 'distinctId' ? key.distinctId : key.kind === 'personless' ? key.uuid : key.ip}`
  // encodeInto avoids an allocation per event; keys that might not fit (3 bytes per UTF-16 unit) take the slow way.
  const bytes =
    text.length * 3 <= scratch.length
      ? scratch.subarray(0, encoder.encodeInto(text, scratch).written)
      : encoder.encode(text)
  return murmur2(bytes) % partitions
}
