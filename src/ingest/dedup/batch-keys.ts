/**
 * The keys of one batch, from `judge` to `store`: which of its events came first, and the words of each, so that they are
 * made once.
 */
import { ClaimTable } from './claim-table.ts'
import { CLAIM_WORDS, type ClaimKeys, type ClaimRequest, copyKey, type Visit } from './claim-words.ts'

export class BatchKeys {
  readonly words: Uint32Array
  /** Of the newest first one of each event. */
  private readonly table: ClaimTable
  private stored = 0

  constructor(readonly requests: readonly ClaimRequest[]) {
    this.words = new Uint32Array(requests.length * CLAIM_WORDS)
    this.table = new ClaimTable(requests.length)
  }

  /** Tells `visit` of the first one of the event at `place`, and of some of other events with its uuid. */
  find(place: number, visit: Visit): void {
    const at = place * CLAIM_WORDS
    const number = this.table.slots[this.table.locate(this.words, this.words, at, visit)]!
    if (number !== 0) visit(this.words, (number - 1) * CLAIM_WORDS)
  }

  /** Notes the request at `place` as a first one. */
  add(place: number): void {
    this.table.slots[this.table.locate(this.words, this.words, place * CLAIM_WORDS)] = place + 1
  }

  /** Writes the words of `claim`: those made here, if the claims come in the order of the batch; else new ones. */
  writeKey(claim: ClaimRequest, keys: ClaimKeys, words: Uint32Array, at: number): void {
    for (let place = this.stored; place < this.requests.length; place++) {
      if (this.requests[place] !== claim) continue
      copyKey(this.words, place * CLAIM_WORDS, words, at)
      this.stored = place + 1
      return
    }
    // Others than were judged: not looked for again and again.
    this.stored = this.requests.length
    keys.write(claim, words, at)
  }
}
