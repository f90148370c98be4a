/**
 * A strict cursor over the bytes of a JSON text: validates what it passes and says where each value begins and ends,
 * without building a tree. What comes in: bytes; what goes out: places in them, and the few values a caller picks.
 *
 * What must hold: a text is accepted exactly when `JSON.parse` accepts its UTF-8 decoding (a byte order mark and
 * invalid UTF-8 are refused); whoever keeps the last of repeated members sees what `JSON.parse` sees. There is no limit
 * on depth here and no recursion: `deepest` says how deep a skipped value went and `keys` how many members were passed,
 * and the caller decides. Only the number of all values may be bounded, because what costs is values, not bytes.
 *
 * All loops over bytes are in WebAssembly (assembly/json-scan.ts), which works on a copy of the text. Where the cursor
 * stands and what it counted is here, so that several scanners may be in use: one whose text another has displaced lays
 * it down again. Places are those of `bytes`. What the loops noted about a value counts only for the text and the place
 * it was noted for.
 * Cost: 0.1 ns per byte in long strings, 6 to 8 per short one, 3 per escape, 20 per member that is sought; nothing is
 * allocated but what is picked.
 */
import { isUtf8 } from 'node:buffer'
import { atom, makeAtom } from './atoms.ts'
import type { JsonFields } from './json-fields.ts'
import { invalidUtf8At, JsonScanError, JsonValuesError, scanError, unexpected } from './scan-errors.ts'
import { layText, look, SLOT, scanSlots, seek, skip, space } from './scan-memory.ts'

const SPACE = 0x20
const QUOTE = 0x22
const COMMA = 0x2c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const LETTER_F = 0x66
const LETTER_N = 0x6e
const LETTER_T = 0x74

/** What `seek` and the slot of a value's text say; assembly/json-scan.ts and assembly/names.ts say the same. */
const AT_KEY = 0
const BEHIND_VALUE = 1
const AT_FOREIGN_VALUE = 2
const SEEK_CLOSED = -1
const SEEK_ESCAPED = -2
const SEEK_ERROR = -2
const TEXT_ESCAPED = -2
const TEXT_ASCII = -3
const ATOM_UNKNOWN = -4

/**
 * What the reading of a string counts as, in values that are passed: texts cost more to make than to skip, and a text
 * that is one object of the members that a caller reads consists of nothing else.
 */
const PICK_VALUES = 3
const ESCAPED_PICK_VALUES = 20
/** No bound that any text reaches. */
const VALUES_MAX = 0x7fff_ffff

/** A number, object or array that was picked: its place in the text. */
export class JsonSlice {
  constructor(
    readonly kind: 'number' | 'object' | 'array',
    readonly start: number,
    readonly end: number,
  ) {}
}

/** What `pick` returns: strings, booleans and null as such, everything else as a place. */
export type JsonPick = string | boolean | null | JsonSlice

/** Numbers of scanners, so that none is kept alive for being the last one. */
let scanners = 0
/** The scanner whose text lies in the loops' memory. */
let inMemory = 0

export class JsonScanner {
  readonly bytes: Buffer
  /** The next byte to look at. */
  at = 0
  /** Deepest nesting of the values skipped since the caller last set it; a scalar is 0, `[]` is 1. */
  deepest = 0
  /** Members passed since the caller last set it, those of skipped values included. */
  keys = 0
  /** Values that may still be passed. */
  private valuesLeft: number
  private readonly number = ++scanners

  /**
   * Throws JsonScanError when `bytes` are not UTF-8. Once more than `valuesMax` values were passed (a string that is
   * picked counts as four of them, as 21 when it holds escapes) the next call throws JsonValuesError.
   */
  constructor(
    bytes: Buffer,
    private readonly valuesMax = VALUES_MAX,
  ) {
    if (!isUtf8(bytes)) throw new JsonScanError('the text is not valid UTF-8', invalidUtf8At(bytes))
    this.bytes = bytes
    this.valuesLeft = valuesMax
  }

  /** Passes white space; the first byte of the next token, or -1 at the end. */
  peek(): number {
    const first = this.bytes[this.at]
    if (first! > SPACE) return first!
    this.lay()
    this.at = space(this.at)
    return this.bytes[this.at] ?? -1
  }

  /** Passes `{`; true when a member follows, false when it was `{}`. */
  enterObject(): boolean {
    return this.enter(OPEN_BRACE, CLOSE_BRACE, 'an object')
  }

  /** Passes `[`; true when an element follows, false when it was `[]`. */
  enterArray(): boolean {
    return this.enter(OPEN_BRACKET, CLOSE_BRACKET, 'an array')
  }

  private enter(open: number, close: number, what: string): boolean {
    if (this.peek() !== open) throw this.unexpected(`${what} was expected`)
    this.count(1)
    this.at++
    if (this.peek() !== close) return true
    this.at++
    return false
  }

  /** After an element: true when another follows, false when the array was closed. */
  nextElement(): boolean {
    const byte = this.peek()
    if (byte !== COMMA && byte !== CLOSE_BRACKET) throw this.unexpected('`,` or `]` was expected')
    this.at++
    return byte === COMMA
  }

  /**
   * Passes members until one whose key is in `fields`: gives its number, with its value next, or -1 when the object was
   * closed. `behindValue` says that the last thing passed was a member's value and not the opening brace.
   */
  seek(fields: JsonFields, behindValue: boolean): number {
    let from = behindValue ? BEHIND_VALUE : AT_KEY
    for (;;) {
      this.lay()
      const found = seek(fields.table, from, this.at, this.deepest, this.keys, this.valuesLeft)
      if (found < SEEK_ESCAPED) throw this.error(SEEK_ERROR - found)
      this.at = scanSlots[SLOT.at]!
      this.deepest = scanSlots[SLOT.deepest]!
      this.keys = scanSlots[SLOT.keys]!
      this.valuesLeft = scanSlots[SLOT.valuesLeft]!
      if (found >= SEEK_CLOSED) return found
      this.count(ESCAPED_PICK_VALUES)
      const key = this.escapedText(scanSlots[SLOT.keyStart]! - 1, scanSlots[SLOT.keyEnd]! + 1)
      const field = fields.find(key)
      if (field >= 0) return field
      from = AT_FOREIGN_VALUE
    }
  }

  /** Passes the next value and returns it, or its place. */
  pick(): JsonPick {
    const first = this.peek()
    const start = this.at
    if (first === OPEN_BRACE || first === OPEN_BRACKET) {
      this.skip()
      return new JsonSlice(first === OPEN_BRACE ? 'object' : 'array', start, this.at)
    }
    const end = this.scalarEnd()
    // What is no value is told by the loop that passes values.
    if (end < 0) this.skip()
    if (first === QUOTE) {
      const text = scanSlots[SLOT.valueText]!
      this.count(text === TEXT_ESCAPED ? ESCAPED_PICK_VALUES + 1 : PICK_VALUES + 1)
      this.at = end + 1
      return this.text(text, start + 1, end)
    }
    this.count(1)
    this.at = end
    switch (first) {
      case LETTER_T:
        return true
      case LETTER_F:
        return false
      case LETTER_N:
        return null
      default:
        return new JsonSlice('number', start, end)
    }
  }

  /** Passes the next value, whatever it is. */
  skip(): void {
    this.lay()
    const wrong = skip(this.at, this.deepest, this.keys, this.valuesLeft)
    if (wrong !== 0) throw this.error(wrong)
    this.at = scanSlots[SLOT.at]!
    this.deepest = scanSlots[SLOT.deepest]!
    this.keys = scanSlots[SLOT.keys]!
    this.valuesLeft = scanSlots[SLOT.valuesLeft]!
  }

  /** Throws unless only white space is left. */
  finish(): void {
    if (this.peek() !== -1) throw this.unexpected('the end of the text was expected')
  }

  /** Sees to it that the loops work on this text. */
  private lay(): void {
    if (inMemory === this.number) return
    inMemory = 0
    layText(this.bytes, this.valuesMax)
    inMemory = this.number
  }

  /** The end of the string, number or literal that is next (a string's is its closing quote); -1 when there is none. */
  private scalarEnd(): number {
    // `seek` has noted it mostly.
    if (inMemory !== this.number || scanSlots[SLOT.valueAt] !== this.at) {
      this.lay()
      look(this.at)
    }
    return scanSlots[SLOT.valueEnd]!
  }

  /** The string whose bytes between the quotes are `start … end`; `noted` is what the loops say of it. */
  private text(noted: number, start: number, end: number): string {
    if (noted >= 0) return atom(noted)
    if (noted === TEXT_ESCAPED) return this.escapedText(start - 1, end + 1)
    // A third less time than to look for UTF-8 once more.
    if (noted === TEXT_ASCII) return this.bytes.toString('latin1', start, end)
    const text = this.bytes.toString('utf8', start, end)
    if (noted <= ATOM_UNKNOWN) makeAtom(ATOM_UNKNOWN - noted, text, start, end - start)
    return text
  }

  /** The string whose bytes, quotes included, are `start … end`. */
  private escapedText(start: number, end: number): string {
    return JSON.parse(this.bytes.toString('utf8', start, end)) as string
  }

  private count(values: number): void {
    this.valuesLeft -= values
    if (this.valuesLeft < 0) throw new JsonValuesError(this.valuesMax)
  }

  private error(code: number): Error {
    return scanError(code, this.bytes, scanSlots[SLOT.errorAt]!, this.valuesMax)
  }

  private unexpected(expected: string): JsonScanError {
    return unexpected(this.bytes, this.at, expected)
  }
}
