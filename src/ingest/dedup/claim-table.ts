/**
 * Finds claims that stand in an array of words, by uuid and digest: a hash table of one typed array, 8 bytes per claim that
 * it has room for, no object per claim.
 *
 * The first two events of a uuid are found by the uuid alone, so one walk finds an event and sees whether its uuid
 * stands for another one as well; further ones by uuid and digest. So the way is short for any input, also when a client
 * sends one uuid with everything, or makes ids that are near each other.
 */
import { CLAIM_WORDS, isSameDigest, isSameUuid, type Visit } from './claim-words.ts'

/** Two, because one of them may be the event that is looked for. */
const EVENTS_BY_UUID = 2

export class ClaimTable {
  /** Number + 1 of a claim, 0 where there is none. At most half is taken. */
  readonly slots: Int32Array
  private readonly mask: number

  constructor(claims: number) {
    this.slots = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(1, claims) * 2)))
    this.mask = this.slots.length - 1
  }

  /**
   * The slot of the claim of the event at `at` of `key`, or the free one where it belongs. Tells `visit` of claims of other
   * events with its uuid, at most two, the oldest first.
   */
  locate(words: Uint32Array, key: Uint32Array, at: number, visit?: Visit): number {
    const { slots, mask } = this
    let slot = key[at]! & mask
    for (let others = 0; slots[slot] !== 0; slot = (slot + 1) & mask) {
      const found = (slots[slot]! - 1) * CLAIM_WORDS
      if (!isSameUuid(words, found, key, at)) continue
      if (isSameDigest(words, found, key, at)) {
        if (visit && others === 0) this.visitNext(words, slot, visit)
        return slot
      }
      visit?.(words, found)
      if (++others === EVENTS_BY_UUID) return this.locateExact(words, key, at)
    }
    return slot
  }

  /** The first event of a uuid was looked for: the second one is another. */
  private visitNext(words: Uint32Array, from: number, visit: Visit): void {
    const { slots, mask } = this
    const at = (slots[from]! - 1) * CLAIM_WORDS
    for (let slot = (from + 1) & mask; slots[slot] !== 0; slot = (slot + 1) & mask) {
      const found = (slots[slot]! - 1) * CLAIM_WORDS
      if (!isSameUuid(words, found, words, at)) continue
      visit(words, found)
      return
    }
  }

  private locateExact(words: Uint32Array, key: Uint32Array, at: number): number {
    const { slots, mask } = this
    let slot = (key[at]! ^ Math.imul(key[at + 4]!, 0x9e3779b1)) & mask
    for (; slots[slot] !== 0; slot = (slot + 1) & mask) {
      const found = (slots[slot]! - 1) * CLAIM_WORDS
      if (isSameUuid(words, found, key, at) && isSameDigest(words, found, key, at)) break
    }
    return slot
  }
}
