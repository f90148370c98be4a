/**
 * The WebAssembly instance that runs the inner loops of all JSON scanners, and its memory: slots for what it answers,
 * the tables of fields, the atoms, the text of one scanner, and behind it a byte per level of nesting. What comes in:
 * texts and tables to lay there; what goes out: the calls, and the slots to read their answers from.
 *
 * What must hold: the memory holds the text of the scanner that laid one last, and nothing of what was noted about
 * another text. Memory grows to the largest text and is kept: at most twice that text, of which the half for nesting is
 * touched only as deep as a text goes. Views of it die when it grows, so `scanSlots` is read anew at each use.
 * Cost: a call 5 ns, laying a text of 1.2 kB 40 ns.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where things lie; assembly/layout.ts says the same. */
const FIELDS_BASE = 1024
const FIELDS_END = 65_536
const BODY = 131_072
const PADDING = 64

/** A text may not be longer: that and the nesting behind it is what the memory was declared for. */
const TEXT_BYTES_MAX = 1_073_741_824
const PAGE_BYTES = 65_536

/** Numbers of 32-bit words in memory. */
export const SLOT = {
  at: 0,
  deepest: 1,
  keys: 2,
  valuesLeft: 3,
  errorAt: 4,
  keyStart: 5,
  keyEnd: 6,
  valueAt: 7,
  valueEnd: 8,
  valueText: 9,
} as const

type Exports = {
  memory: WebAssembly.Memory
  begin(length: number): void
  space(at: number): number
  look(at: number): void
  keepAtom(number: number, at: number, length: number): void
  skip(at: number, deepest: number, keys: number, valuesLeft: number): number
  seek(fields: number, from: number, at: number, deepest: number, keys: number, valuesLeft: number): number
}

/** JavaScriptCore has no SIMD in WebAssembly on x86 CPUs without AVX. */
function compileLoops(): WebAssembly.Module {
  const read = (name: string) => readFileSync(join(import.meta.dirname, 'assembly', name))
  const simd = read('json-scan.simd.wasm')
  return new WebAssembly.Module(WebAssembly.validate(simd) ? simd : read('json-scan.words.wasm'))
}

const loops = new WebAssembly.Instance(compileLoops()).exports as Exports
const { memory, begin } = loops
export const { space, look, keepAtom, skip, seek } = loops

export let scanSlots = new Int32Array(memory.buffer, 0, FIELDS_BASE / 4)
let bytesInMemory = new Uint8Array(memory.buffer)
let fieldsUsed = FIELDS_BASE

/** Lays `text` into memory, for a scanner that passes at most `valuesMax` values. */
export function layText(text: Uint8Array, valuesMax: number): void {
  if (text.length > TEXT_BYTES_MAX)
    throw new Error(`a text of ${text.length} bytes is too long to be scanned`)
  // No value nests deeper than there are values or bytes; level 0 has a byte as well.
  const needed = BODY + text.length + PADDING + Math.min(text.length, valuesMax) + 1
  if (needed > bytesInMemory.length) {
    memory.grow(Math.ceil((needed - bytesInMemory.length) / PAGE_BYTES))
    bytesInMemory = new Uint8Array(memory.buffer)
    scanSlots = new Int32Array(memory.buffer, 0, FIELDS_BASE / 4)
  }
  bytesInMemory.set(text, BODY)
  begin(text.length)
}

/** Room for a table of fields, which is never given back: the tables are those of the protocols. */
export function layFields(table: Uint8Array): number {
  const place = fieldsUsed
  if (place + table.length > FIELDS_END) throw new Error('there is no room for another table of fields')
  fieldsUsed += Math.ceil(table.length / 8) * 8
  bytesInMemory.set(table, place)
  return place
}
