/**
 * Makes one run of several that are neighbours in age, a little at a time. Of several claims of one event the newest
 * stays; expired ones go. About 0.1 µs per claim; memory: 32 KiB per run.
 */
import { appendedMsAt, CLAIM_WORDS, compareClaims } from './claim-words.ts'
import type { Run } from './run.ts'
import { BLOCK_COUNT_AT, BLOCK_WORDS } from './run-format.ts'
import type { RunWriter } from './run-writer.ts'

const READ_BLOCKS = 8

export class Merge {
  private readonly cursors: Cursor[]

  /** `runs`: from the oldest to the newest. */
  constructor(
    readonly runs: readonly Run[],
    readonly writer: RunWriter,
    private readonly before: number,
  ) {
    this.cursors = runs.map((run) => new Cursor(run))
  }

  /** Reads about `claims` claims; true when all are written. */
  step(claims: number): boolean {
    const { cursors, writer, before } = this
    for (let n = 0; n < claims; n++) {
      let least: Cursor | undefined
      for (let i = 0; i < cursors.length; i++) {
        const cursor = cursors[i]!
        if (cursor.ended) continue
        if (least === undefined || cursor.first < least.first) {
          least = cursor
        } else if (cursor.first === least.first) {
          const order = compareClaims(cursor.words, cursor.at, least.words, least.at)
          // Two claims of one event: the older gives way.
          if (order === 0) least.next()
          if (order <= 0) least = cursor
        }
      }
      if (least === undefined) return true
      if (appendedMsAt(least.words, least.at) >= before) writer.add(least.words, least.at)
      least.next()
    }
    return false
  }
}

class Cursor {
  readonly words = new Uint32Array(READ_BLOCKS * BLOCK_WORDS)
  at = 0
  /** The first word at `at`. */
  first = 0
  ended = false
  private blocksRead = 0
  private block = 0
  private blocks = 0
  private blockEnd = 0

  constructor(private readonly run: Run) {
    this.nextBlock()
  }

  next(): void {
    this.at += CLAIM_WORDS
    if (this.at < this.blockEnd) this.first = this.words[this.at]!
    else this.nextBlock()
  }

  private nextBlock(): void {
    this.block++
    if (this.block >= this.blocks) {
      this.blocks = Math.min(READ_BLOCKS, this.run.layout.dataBlocks - this.blocksRead)
      this.block = 0
      if (this.blocks === 0) {
        this.ended = true
        return
      }
      this.run.readBlocks(this.words, this.blocksRead, this.blocks)
      this.blocksRead += this.blocks
    }
    this.at = this.block * BLOCK_WORDS
    this.blockEnd = this.at + this.words[this.at + BLOCK_COUNT_AT]! * CLAIM_WORDS
    this.first = this.words[this.at]!
  }
}
