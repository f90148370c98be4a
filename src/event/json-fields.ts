/**
 * Names of members that a caller of the JSON scanner looks for, each with a number. They lie in the scanner's memory,
 * found by length first, so that a foreign key costs one look-up. Made once, when a module is loaded: the memory for
 * them is 63 KiB and is not given back.
 */
import { layFields } from './scan-memory.ts'

/** `\\uXXXX` */
const ESCAPE_BYTES_MAX = 6

const WORD_BYTES = 8

function inWords(bytes: number): number {
  return Math.ceil(bytes / WORD_BYTES) * WORD_BYTES
}

export class JsonFields {
  /** Where the table lies in the scanner's memory. */
  readonly table: number
  private readonly byText = new Map<string, number>()

  /** `names[i]` is field number i. */
  constructor(names: readonly string[]) {
    for (const [number, name] of names.entries()) this.byText.set(name, number)
    this.table = layFields(tableOf(names))
  }

  /** The number of a name, or -1. */
  find(name: string): number {
    return this.byText.get(name) ?? -1
  }
}

/**
 * The table as `find` of assembly/names.ts reads it: the length of the longest escaped key that can be a name, that
 * of the longest name, for each length the place of its names in the table or 0; then for each length how many names it
 * has, and of each its number and its bytes, filled up with zeros to whole words.
 */
function tableOf(names: readonly string[]): Buffer {
  const byLength: { bytes: Buffer; number: number }[][] = []
  for (const [number, name] of names.entries()) {
    const bytes = Buffer.from(name)
    while (byLength.length <= bytes.length) byLength.push([])
    byLength[bytes.length]!.push({ bytes, number })
  }
  const head = Buffer.alloc(inWords(8 + byLength.length * 4))
  head.writeUInt32LE(Math.max(...names.map((name) => name.length)) * ESCAPE_BYTES_MAX, 0)
  head.writeUInt32LE(byLength.length - 1, 4)
  const parts = [head]
  let place = head.length
  for (const [length, entries] of byLength.entries()) {
    if (entries.length === 0) continue
    head.writeUInt32LE(place, 8 + length * 4)
    const entryBytes = WORD_BYTES + inWords(length)
    const list = Buffer.alloc(WORD_BYTES + entries.length * entryBytes)
    list.writeUInt32LE(entries.length, 0)
    for (const [i, { bytes, number }] of entries.entries()) {
      const at = WORD_BYTES + i * entryBytes
      list.writeUInt32LE(number, at)
      bytes.copy(list, at + WORD_BYTES)
    }
    parts.push(list)
    place += list.length
  }
  return Buffer.concat(parts)
}
