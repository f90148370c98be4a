/**
 * A run of claims, opened for reading: one look into the filter for a uuid that is new, and one read of 4 KiB for one
 * that is there. Filters are kept in memory, 2.1 bytes per claim, as long as the process has room for them
 * (`FilterMemory`); of the others 64 bytes are read from the file, mostly out of the page cache: 1–2 µs.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { basename } from 'node:path'
import { CLAIM_WORDS, isSameDigest, isSameUuid, type Visit } from './claim-words.ts'
import type { DedupMemory } from './dedup-memory.ts'
import { DamagedIndex } from './failures.ts'
import {
  BLOCK_BYTES,
  BLOCK_COUNT_AT,
  BLOCK_WORDS,
  bytesOf,
  checksumOf,
  FENCE_WORDS,
  FILTER_BYTES,
  FILTER_WORDS,
  fencesPosition,
  filterBlockOf,
  filterPosition,
  isBlockWhole,
  isFilterBlockWhole,
  isInFilter,
  type RunLayout,
  readHeader,
} from './run-format.ts'

/** One at a time: a look-up ends before the next begins. */
const blockScratch = new Uint32Array(BLOCK_WORDS)
const filterScratch = new Uint32Array(FILTER_WORDS)

export class Run {
  readonly file: string
  readonly layout: RunLayout
  private readonly filterBlocks: number
  private readonly fences: Uint32Array
  private filter: Uint32Array | undefined
  private closed = false

  /** Throws DamagedIndex when the file is not there or not whole, and the system's errors. */
  constructor(
    readonly path: string,
    private readonly memory: DedupMemory,
    private readonly fd = openRun(path),
  ) {
    this.file = basename(path)
    try {
      const header = new Uint32Array(BLOCK_WORDS)
      this.read(header, 0)
      const layout = readHeader(header)
      if (!layout) throw this.damaged('its header')
      this.layout = layout
      this.filterBlocks = layout.filterBlocks
      this.fences = new Uint32Array(layout.dataBlocks * FENCE_WORDS)
      this.read(this.fences, fencesPosition(layout))
      if (checksumOf(this.fences) !== layout.fencesChecksum) throw this.damaged('its fences')
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** Brings the filter into memory, if there is room and it is not there. */
  loadFilter(): void {
    const { layout } = this
    if (this.filter || !this.memory.takeFilter(layout.filterBlocks * FILTER_BYTES)) return
    // Ours only when it is whole: one of zeros would say of every claim that it is not here.
    const filter = new Uint32Array(layout.filterBlocks * FILTER_WORDS)
    this.read(filter, filterPosition(layout))
    for (let block = 0; block < layout.filterBlocks; block++) {
      if (!isFilterBlockWhole(filter, block * FILTER_WORDS, block, layout.id))
        throw this.damaged(`block ${block} of its filter`)
    }
    this.filter = filter
  }

  get count(): number {
    return this.layout.count
  }

  /** On disk. */
  get bytes(): number {
    return bytesOf(this.layout)
  }

  get memoryBytes(): number {
    return this.fences.byteLength + (this.filter?.byteLength ?? 0)
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    closeSync(this.fd)
    if (this.filter) this.memory.giveFilter(this.filter.byteLength)
  }

  /**
   * Calls `hit` with the place of each of `count` keys whose uuid may be in the run. A loop of nothing else, so that
   * the waits for memory overlap: half the time of asking each run for one key after the other.
   */
  screen(keys: Uint32Array, count: number, hit: (place: number) => void): void {
    const { filter, filterBlocks } = this
    for (let place = 0, at = 0; place < count; place++, at += CLAIM_WORDS) {
      if (filter) {
        const block = filterBlockOf(keys[at]!, filterBlocks) * FILTER_WORDS
        if (isInFilter(filter, block, keys[at + 1]!, keys[at + 2]!)) hit(place)
      } else if (this.isInFile(keys, at)) hit(place)
    }
  }

  /**
   * Tells `visit` of the claim of the event at `at` of `key`, and of those of other events with its uuid that stand
   * beside it: two blocks are read at most, three where chance has it.
   */
  find(key: Uint32Array, at: number, visit: Visit): void {
    const { fences } = this
    const first = key[at]!
    let enough = false
    let anyOther = false
    for (let block = this.blockOf(first, key[at + 4]!); ; block++) {
      this.readBlocks(blockScratch, block, 1)
      const end = blockScratch[BLOCK_COUNT_AT]! * CLAIM_WORDS
      for (let claim = 0; claim < end && blockScratch[claim]! <= first; claim += CLAIM_WORDS) {
        if (!isSameUuid(blockScratch, claim, key, at)) continue
        if (isSameDigest(blockScratch, claim, key, at)) enough = visit(blockScratch, claim)
        else if (!enough) {
          anyOther = true
          enough = visit(blockScratch, claim)
        }
      }
      const next = (block + 1) * FENCE_WORDS
      if (fences[next] !== first) return
      // It may begin with the event, or with the first other one.
      if (fences[next + 1]! > key[at + 4]! && (anyOther || enough)) return
    }
  }

  /** Reads data blocks `[from, from + count)`. */
  readBlocks(into: Uint32Array, from: number, count: number): void {
    this.read(into.subarray(0, count * BLOCK_WORDS), BLOCK_BYTES * (1 + from))
    for (let block = 0; block < count; block++) {
      if (!isBlockWhole(into, block * BLOCK_WORDS, from + block, this.layout.id))
        throw this.damaged(`block ${from + block}`)
    }
  }

  /** As the filter in the file says. */
  private isInFile(key: Uint32Array, at: number): boolean {
    const { layout } = this
    const number = filterBlockOf(key[at]!, layout.filterBlocks)
    this.read(filterScratch, filterPosition(layout) + number * FILTER_BYTES)
    if (!isFilterBlockWhole(filterScratch, 0, number, layout.id))
      throw this.damaged(`block ${number} of its filter`)
    return isInFilter(filterScratch, 0, key[at + 1]!, key[at + 2]!)
  }

  /** The last block that begins before these two words: claims with them may begin at its end. */
  private blockOf(first: number, second: number): number {
    const { fences } = this
    let low = 0
    let high = this.layout.dataBlocks
    while (low < high) {
      const middle = (low + high) >>> 1
      const fence = fences[middle * FENCE_WORDS]!
      if (fence < first || (fence === first && fences[middle * FENCE_WORDS + 1]! < second)) low = middle + 1
      else high = middle
    }
    return Math.max(0, low - 1)
  }

  private read(words: Uint32Array, position: number): void {
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
    for (let at = 0; at < bytes.length; ) {
      const got = readSync(this.fd, bytes, at, bytes.length - at, position + at)
      if (got === 0) throw this.damaged('its length')
      at += got
    }
  }

  private damaged(part: string): DamagedIndex {
    return new DamagedIndex(`${this.file} is damaged: ${part}`, this.path)
  }
}

function openRun(path: string): number {
  try {
    return openSync(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new DamagedIndex(`${basename(path)} is missing`, undefined, error)
    }
    throw error
  }
}
