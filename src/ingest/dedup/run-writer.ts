/**
 * Writes the file of a run: `add` takes claims in their order, `finish` makes the file whole, `sync` makes it durable
 * beside the work. Bounded memory: 128 KiB, and 8 bytes per 113 claims. A file that was not finished has no header.
 */
import { randomInt } from 'node:crypto'
import { closeSync, fsync, fsyncSync, openSync, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { writeFully } from '../../platform/index.ts'
import { appendedMsAt, CLAIM_WORDS } from './claim-words.ts'
import { copyClaim } from './recent-claims.ts'
import {
  addToFilter,
  BLOCK_BYTES,
  BLOCK_COUNT_AT,
  BLOCK_NUMBER_AT,
  BLOCK_RUN_AT,
  BLOCK_WORDS,
  CLAIMS_PER_BLOCK,
  checksumOf,
  dataBlocksFor,
  FENCE_WORDS,
  FILTER_BYTES,
  FILTER_WORDS,
  fencesPosition,
  filterBlockOf,
  filterBlocksFor,
  filterPosition,
  headerBlock,
  type RunLayout,
  sealBlock,
  sealFilterBlock,
} from './run-format.ts'

const BUFFER_BYTES = 65_536
const BUFFER_BLOCKS = BUFFER_BYTES / BLOCK_BYTES
const BUFFER_FILTER_BLOCKS = BUFFER_BYTES / FILTER_BYTES

export class RunWriter {
  private readonly fd: number
  private readonly layout: RunLayout
  private readonly data = new Uint32Array(BUFFER_BYTES / 4)
  private readonly filter = new Uint32Array(BUFFER_BYTES / 4)
  private readonly fences: Uint32Array
  /** Data blocks and filter blocks that are in the file. */
  private dataWritten = 0
  private filterWritten = 0
  /** Where in `data` the block is that takes claims, and how many it has. */
  private blockAt = 0
  private inBlock = 0
  private syncing: 'no' | 'under way' | 'done' = 'no'
  private syncError: Error | undefined
  private released = false

  /** Its name in the folder. */
  get file(): string {
    return basename(this.path)
  }

  /** At most `countMax` claims will come. */
  constructor(
    readonly path: string,
    countMax: number,
  ) {
    this.fd = openSync(path, 'wx')
    this.layout = {
      id: randomInt(2 ** 32),
      count: 0,
      dataBlocks: 0,
      dataBlocksMax: dataBlocksFor(countMax),
      filterBlocks: filterBlocksFor(countMax),
      firstMs: Number.MAX_SAFE_INTEGER,
      lastMs: 0,
      fencesChecksum: 0,
    }
    this.fences = new Uint32Array(this.layout.dataBlocksMax * FENCE_WORDS)
  }

  add(words: Uint32Array, at: number): void {
    const { layout } = this
    if (this.inBlock === CLAIMS_PER_BLOCK) this.endBlock()
    if (this.inBlock === 0) {
      this.fences[layout.dataBlocks * FENCE_WORDS] = words[at]!
      this.fences[layout.dataBlocks * FENCE_WORDS + 1] = words[at + 4]!
    }
    copyClaim(words, at, this.data, this.blockAt + this.inBlock * CLAIM_WORDS)
    this.inBlock++
    layout.count++
    const appendedMs = appendedMsAt(words, at)
    if (appendedMs < layout.firstMs) layout.firstMs = appendedMs
    if (appendedMs > layout.lastMs) layout.lastMs = appendedMs

    const block = filterBlockOf(words[at]!, layout.filterBlocks)
    while (block >= this.filterWritten + BUFFER_FILTER_BLOCKS) this.flushFilter(BUFFER_FILTER_BLOCKS)
    addToFilter(this.filter, (block - this.filterWritten) * FILTER_WORDS, words[at + 1]!, words[at + 2]!)
  }

  /** The file is whole after this, and durable once `isDurable`. */
  finish(): RunLayout {
    const { layout } = this
    if (this.inBlock > 0) this.endBlock()
    this.flushData()
    while (this.filterWritten < layout.filterBlocks) {
      this.flushFilter(Math.min(BUFFER_FILTER_BLOCKS, layout.filterBlocks - this.filterWritten))
    }
    const fences = this.fences.subarray(0, layout.dataBlocks * FENCE_WORDS)
    layout.fencesChecksum = checksumOf(fences)
    this.write(fences, fencesPosition(layout))
    this.write(headerBlock(layout), 0)
    this.syncing = 'under way'
    fsync(this.fd, (error) => {
      this.syncing = 'done'
      this.syncError = error ?? undefined
      if (this.released) closeSync(this.fd)
    })
    return layout
  }

  /** Throws when the file could not be made durable. */
  get isDurable(): boolean {
    if (this.syncError) throw this.syncError
    return this.syncing === 'done'
  }

  /** Waits, and keeps the thread, until the file is durable. */
  syncNow(): void {
    if (!this.isDurable) fsyncSync(this.fd)
  }

  /** A descriptor that the system is at work on must not be closed: its number could be another file's by then. */
  close(): void {
    if (this.released) return
    this.released = true
    if (this.syncing !== 'under way') closeSync(this.fd)
  }

  /** Gives the file up. */
  abandon(): void {
    this.close()
    rmSync(this.path, { force: true })
  }

  private endBlock(): void {
    const { data, layout, blockAt } = this
    data.fill(0, blockAt + this.inBlock * CLAIM_WORDS, blockAt + BLOCK_WORDS)
    data[blockAt + BLOCK_COUNT_AT] = this.inBlock
    data[blockAt + BLOCK_NUMBER_AT] = layout.dataBlocks
    data[blockAt + BLOCK_RUN_AT] = layout.id
    sealBlock(data, blockAt)
    layout.dataBlocks++
    this.inBlock = 0
    this.blockAt += BLOCK_WORDS
    if (this.blockAt === BUFFER_BLOCKS * BLOCK_WORDS) this.flushData()
  }

  private flushData(): void {
    this.write(this.data.subarray(0, this.blockAt), BLOCK_BYTES * (1 + this.dataWritten))
    this.dataWritten = this.layout.dataBlocks
    this.blockAt = 0
  }

  private flushFilter(blocks: number): void {
    const { filter, layout } = this
    for (let block = 0; block < blocks; block++) {
      sealFilterBlock(filter, block * FILTER_WORDS, this.filterWritten + block, layout.id)
    }
    const position = filterPosition(layout) + this.filterWritten * FILTER_BYTES
    this.write(filter.subarray(0, blocks * FILTER_WORDS), position)
    filter.fill(0)
    this.filterWritten += blocks
  }

  private write(words: Uint32Array, position: number): void {
    writeFully(this.fd, new Uint8Array(words.buffer, words.byteOffset, words.byteLength), position)
  }
}
