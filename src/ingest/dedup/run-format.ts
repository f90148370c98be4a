/**
 * The file of a run: claims in order, written once and never changed. Little-endian words, in blocks of 4 KiB.
 *
 *   header block | data blocks | room for more data blocks | filter blocks of 64 bytes | fences
 *
 * A data block holds 113 claims, how many they are, its number, the id of its run and a checksum. The fences are of the
 * first claim of each block the two words that claims are ordered by first: one read finds a claim. The filter says which uuids cannot be in the
 * run: 15 words of bits and a checksum per block, 16 bits and 6 probes per claim, wrong for about 1.5 in 1,000. Words are
 * evenly spread and in order, so data and filter are both written from front to back in bounded memory.
 * 38.4 bytes per claim. Every read checks what it read: damage is told, and never believed.
 */
import { endianness } from 'node:os'
import { CLAIM_WORDS } from './claim-words.ts'

if (endianness() !== 'LE') throw new Error('runs of claims are little-endian, and this machine is not')

/** Of a claim: words 0 and 4. */
export const FENCE_WORDS = 2
export const BLOCK_BYTES = 4_096
export const BLOCK_WORDS = BLOCK_BYTES / 4
export const CLAIMS_PER_BLOCK = 113
export const BLOCK_COUNT_AT = CLAIMS_PER_BLOCK * CLAIM_WORDS
export const BLOCK_NUMBER_AT = BLOCK_COUNT_AT + 1
export const BLOCK_RUN_AT = BLOCK_COUNT_AT + 2
const CHECKSUM_AT = BLOCK_WORDS - 1

export const FILTER_WORDS = 16
export const FILTER_BYTES = FILTER_WORDS * 4
const FILTER_BIT_WORDS = FILTER_WORDS - 1
const FILTER_BITS_PER_CLAIM = 16

const MAGIC = 0x4c43_5248
const VERSION = 2
const UINT32 = 2 ** 32

/** What a header says, and what follows from it. */
export type RunLayout = {
  /** Random; stands in each block, so that no block of another file can pass for one of this. */
  id: number
  count: number
  dataBlocks: number
  /** For how many there is room: how many claims remain of a merge is not known before its end. */
  dataBlocksMax: number
  filterBlocks: number
  firstMs: number
  lastMs: number
  fencesChecksum: number
}

export function dataBlocksFor(claims: number): number {
  return Math.ceil(claims / CLAIMS_PER_BLOCK)
}

export function filterBlocksFor(claims: number): number {
  return Math.max(1, Math.ceil((claims * FILTER_BITS_PER_CLAIM) / (FILTER_BIT_WORDS * 32)))
}

export function filterPosition(layout: { dataBlocksMax: number }): number {
  return BLOCK_BYTES * (1 + layout.dataBlocksMax)
}

export function fencesPosition(layout: { dataBlocksMax: number; filterBlocks: number }): number {
  return filterPosition(layout) + layout.filterBlocks * FILTER_BYTES
}

/** Bytes on disk: the room that no block took is a hole. */
export function bytesOf(layout: RunLayout): number {
  return (
    BLOCK_BYTES * (1 + layout.dataBlocks) +
    layout.filterBlocks * FILTER_BYTES +
    layout.dataBlocks * FENCE_WORDS * 4
  )
}

/** Where in the filter the uuid with this first word is. */
export function filterBlockOf(firstWord: number, filterBlocks: number): number {
  return Math.floor((firstWord * filterBlocks) / UINT32)
}

export function addToFilter(filter: Uint32Array, block: number, second: number, third: number): void {
  setBits(filter, block, second)
  setBits(filter, block, third)
}

export function isInFilter(filter: Uint32Array, block: number, second: number, third: number): boolean {
  return hasBits(filter, block, second) && hasBits(filter, block, third)
}

/** Three bits, each chosen by nine bits of `word`: four for the word, five for the bit in it. Loops take twice the time. */
function setBits(filter: Uint32Array, block: number, word: number): void {
  filter[block + ((((word >>> 5) & 15) * FILTER_BIT_WORDS) >>> 4)]! |= 1 << (word & 31)
  filter[block + ((((word >>> 14) & 15) * FILTER_BIT_WORDS) >>> 4)]! |= 1 << ((word >>> 9) & 31)
  filter[block + ((((word >>> 23) & 15) * FILTER_BIT_WORDS) >>> 4)]! |= 1 << ((word >>> 18) & 31)
}

function hasBits(filter: Uint32Array, block: number, word: number): boolean {
  return (
    ((filter[block + ((((word >>> 5) & 15) * FILTER_BIT_WORDS) >>> 4)]! >>> (word & 31)) & 1) === 1 &&
    ((filter[block + ((((word >>> 14) & 15) * FILTER_BIT_WORDS) >>> 4)]! >>> ((word >>> 9) & 31)) & 1) ===
      1 &&
    ((filter[block + ((((word >>> 23) & 15) * FILTER_BIT_WORDS) >>> 4)]! >>> ((word >>> 18) & 31)) & 1) === 1
  )
}

export function sealFilterBlock(filter: Uint32Array, block: number, number: number, run: number): void {
  filter[block + FILTER_BIT_WORDS] = filterChecksum(filter, block, number, run)
}

export function isFilterBlockWhole(filter: Uint32Array, block: number, number: number, run: number): boolean {
  return filter[block + FILTER_BIT_WORDS] === filterChecksum(filter, block, number, run)
}

function filterChecksum(filter: Uint32Array, block: number, number: number, run: number): number {
  let hash = Math.imul(number ^ run, 0x9e3779b1)
  for (let word = 0; word < FILTER_BIT_WORDS; word++) {
    hash = Math.imul(hash ^ (hash >>> 15) ^ filter[block + word]!, 0x85ebca6b)
  }
  return (hash ^ (hash >>> 16)) >>> 0
}

export function checksumOf(words: Uint32Array): number {
  return Bun.hash.xxHash32(new Uint8Array(words.buffer, words.byteOffset, words.byteLength))
}

export function sealBlock(words: Uint32Array, at: number): void {
  words[at + CHECKSUM_AT] = checksumOf(words.subarray(at, at + CHECKSUM_AT))
}

export function isBlockWhole(words: Uint32Array, at: number, number: number, run: number): boolean {
  return (
    words[at + CHECKSUM_AT] === checksumOf(words.subarray(at, at + CHECKSUM_AT)) &&
    words[at + BLOCK_NUMBER_AT] === number &&
    words[at + BLOCK_RUN_AT] === run
  )
}

export function headerBlock(layout: RunLayout): Uint32Array {
  const words = new Uint32Array(BLOCK_WORDS)
  words.set([
    MAGIC,
    VERSION,
    layout.id,
    layout.count,
    layout.dataBlocks,
    layout.dataBlocksMax,
    layout.filterBlocks,
    layout.fencesChecksum,
    Math.floor(layout.firstMs / UINT32),
    layout.firstMs % UINT32,
    Math.floor(layout.lastMs / UINT32),
    layout.lastMs % UINT32,
  ])
  sealBlock(words, 0)
  return words
}

/** Undefined when the block is no header of this version, or not whole. */
export function readHeader(words: Uint32Array): RunLayout | undefined {
  if (words[0] !== MAGIC || words[1] !== VERSION) return undefined
  if (words[CHECKSUM_AT] !== checksumOf(words.subarray(0, CHECKSUM_AT))) return undefined
  return {
    id: words[2]!,
    count: words[3]!,
    dataBlocks: words[4]!,
    dataBlocksMax: words[5]!,
    filterBlocks: words[6]!,
    fencesChecksum: words[7]!,
    firstMs: words[8]! * UINT32 + words[9]!,
    lastMs: words[10]! * UINT32 + words[11]!,
  }
}
