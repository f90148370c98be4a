/**
 * A strict cursor over the bytes of a JSON text: validates what it passes and says where each value begins and ends,
 * without building a tree. What comes in: bytes; what goes out: places in them, and the few values a caller picks.
 *
 * What must hold: a text is accepted exactly when `JSON.parse` accepts its UTF-8 decoding (a byte order mark and
 * invalid UTF-8 are refused); whoever keeps the last of repeated members sees what `JSON.parse` sees. There is no limit
 * on depth here and no recursion: `deepest` says how deep a skipped value went and `keys` how many members were passed,
 * and the caller decides. Only the number of all values may be bounded, because what costs is values, not bytes.
 * Cost: half a nanosecond per byte in strings, 5 to 10 per value or escape; nothing is allocated but what is picked.
 */
import { isUtf8 } from 'node:buffer'
import { atom, isAtomLength } from './atoms.ts'

const SPACE = 0x20
const QUOTE = 0x22
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const BACKSLASH = 0x5c
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const LETTER_E = 0x65
const LETTER_F = 0x66
const LETTER_N = 0x6e
const LETTER_T = 0x74
const LETTER_U = 0x75

/** 1 for bytes that stand for themselves inside a string. */
const PLAIN = new Uint8Array(256).fill(1, 0x20)
PLAIN[QUOTE] = 0
PLAIN[BACKSLASH] = 0
/** 1 for what may follow a backslash alone. */
const SHORT_ESCAPE = new Uint8Array(256)
for (const char of '"\\/bfnrt') SHORT_ESCAPE[char.charCodeAt(0)] = 1
const HEX_DIGIT = new Uint8Array(256)
for (const char of '0123456789abcdefABCDEF') HEX_DIGIT[char.charCodeAt(0)] = 1

const IN_ARRAY = 0
const IN_OBJECT = 1

/** The text is not JSON; `at` is the byte where that shows. */
export class JsonScanError extends Error {
  constructor(
    message: string,
    readonly at: number,
  ) {
    super(message)
    this.name = 'JsonScanError'
  }
}

/** The text holds more values than the caller wants to look at. */
export class JsonValuesError extends Error {
  constructor(readonly valuesMax: number) {
    super(`the text holds more than ${valuesMax} values`)
    this.name = 'JsonValuesError'
  }
}

/**
 * What the reading of a string counts as, in values that are passed: texts cost more to make than to skip, and a text
 * that is one object of the members that a caller reads consists of nothing else.
 */
const PICK_VALUES = 3
const ESCAPED_PICK_VALUES = 20
/** No bound that any text reaches, and still an integer of 32 bits, which are counted twice as fast. */
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
  private readonly view: DataView
  private keyStart = 0
  private keyEnd = 0
  private keyEscaped = false
  private stack: Uint8Array = new Uint8Array(64)

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
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    this.valuesLeft = valuesMax
  }

  /** Passes white space; the first byte of the next token, or -1 at the end. */
  peek(): number {
    const first = this.bytes[this.at]
    if (first! > SPACE) return first!
    this.at = skipSpace(this.bytes, this.at)
    return this.at < this.bytes.length ? this.bytes[this.at]! : -1
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
    if (--this.valuesLeft < 0) throw new JsonValuesError(this.valuesMax)
    this.at++
    if (this.peek() !== close) return true
    this.at++
    return false
  }

  /** After a member's value: true when another follows, false when the object was closed. */
  nextMember(): boolean {
    return this.next(CLOSE_BRACE, '`,` or `}` was expected')
  }

  /** After an element: true when another follows, false when the array was closed. */
  nextElement(): boolean {
    return this.next(CLOSE_BRACKET, '`,` or `]` was expected')
  }

  private next(close: number, expected: string): boolean {
    if (this.bytes[this.at] === COMMA) {
      this.at++
      return true
    }
    const byte = this.peek()
    if (byte !== COMMA && byte !== close) throw this.unexpected(expected)
    this.at++
    return byte === COMMA
  }

  /** Passes a member's key and the colon. `keyIn` tells which key it was. */
  key(): void {
    const { bytes } = this
    if (bytes[this.at] !== QUOTE && this.peek() !== QUOTE) {
      throw this.unexpected('a key in double quotes was expected')
    }
    this.keys++
    const start = this.at + 1
    escapeSeen = false
    const end = stringEnd(bytes, this.view, start)
    this.keyStart = start
    this.keyEnd = end
    this.keyEscaped = escapeSeen
    this.at = end + 1
    if (bytes[end + 1] !== COLON && this.peek() !== COLON) throw this.unexpected('`:` was expected')
    this.at++
  }

  /**
   * Passes members until one whose key is in `fields`: gives its number, with its value next, or -1 when the object was
   * closed. `behindValue` says that the last thing passed was a member's value and not the opening brace. The same as
   * `key`, `keyIn`, `skip` and `nextMember` in a loop, in two thirds of the time: all places stay in registers.
   */
  seek(fields: JsonFields, behindValue: boolean): number {
    const { bytes, view } = this
    let at = this.at
    let isBehindValue = behindValue
    for (;;) {
      if (isBehindValue) {
        if (bytes[at] !== COMMA) {
          at = skipSpace(bytes, at)
          if (bytes[at] === CLOSE_BRACE) {
            this.at = at + 1
            return -1
          }
          if (bytes[at] !== COMMA) throw unexpected(bytes, at, '`,` or `}` was expected')
        }
        at++
      }
      isBehindValue = true
      if (bytes[at] !== QUOTE) {
        at = skipSpace(bytes, at)
        if (bytes[at] !== QUOTE) throw unexpected(bytes, at, 'a key in double quotes was expected')
      }
      this.keys++
      const start = at + 1
      escapeSeen = false
      const end = stringEnd(bytes, view, start)
      const isEscaped = escapeSeen
      at = end + 1
      if (bytes[at] !== COLON) {
        at = skipSpace(bytes, at)
        if (bytes[at] !== COLON) throw unexpected(bytes, at, '`:` was expected')
      }
      at++
      const field = isEscaped ? this.escapedKeyIn(fields, start, end) : fields.find(bytes, start, end)
      if (field >= 0) {
        this.at = at
        return field
      }
      const byte = bytes[at]!
      if (byte === QUOTE) at = stringEnd(bytes, view, at + 1) + 1
      else if (byte >= ZERO && byte <= NINE) at = numberEnd(bytes, at)
      else if (byte === LETTER_T || byte === LETTER_F || byte === LETTER_N) at = literalEnd(bytes, at)
      else {
        this.at = at
        this.skip()
        at = this.at
        continue
      }
      if (--this.valuesLeft < 0) throw new JsonValuesError(this.valuesMax)
    }
  }

  /** Number of the last key in `fields`, or -1. */
  keyIn(fields: JsonFields): number {
    if (!this.keyEscaped) return fields.find(this.bytes, this.keyStart, this.keyEnd)
    return this.escapedKeyIn(fields, this.keyStart, this.keyEnd)
  }

  private escapedKeyIn(fields: JsonFields, start: number, end: number): number {
    if (end - start > fields.escapedBytesMax) return -1
    this.count(ESCAPED_PICK_VALUES)
    return fields.findText(this.text(start, end, true))
  }

  /** Passes the next value and returns it, or its place. */
  pick(): JsonPick {
    const first = this.peek()
    const start = this.at
    if (first === QUOTE) {
      escapeSeen = false
      const end = stringEnd(this.bytes, this.view, start + 1)
      this.count(escapeSeen ? ESCAPED_PICK_VALUES + 1 : PICK_VALUES + 1)
      this.at = end + 1
      return this.text(start + 1, end, escapeSeen)
    }
    this.skip()
    switch (first) {
      case OPEN_BRACE:
        return new JsonSlice('object', start, this.at)
      case OPEN_BRACKET:
        return new JsonSlice('array', start, this.at)
      case LETTER_T:
        return true
      case LETTER_F:
        return false
      case LETTER_N:
        return null
      default:
        return new JsonSlice('number', start, this.at)
    }
  }

  /** Passes the next value, whatever it is. */
  skip(): void {
    const { bytes, view } = this
    let at = this.at
    if (bytes[at]! <= SPACE) at = skipSpace(bytes, at)
    // Most values are strings, and need none of what follows.
    if (bytes[at] === QUOTE) {
      this.at = stringEnd(bytes, view, at + 1) + 1
      if (--this.valuesLeft < 0) throw new JsonValuesError(this.valuesMax)
      return
    }
    let valuesLeft = this.valuesLeft
    let keys = this.keys
    let stack: Uint8Array = this.stack
    let depth = 0
    let deepest = this.deepest
    value: for (;;) {
      if (--valuesLeft < 0) throw new JsonValuesError(this.valuesMax)
      let first = bytes[at]
      if (first! <= SPACE) {
        at = skipSpace(bytes, at)
        first = bytes[at]
      }
      if (first === QUOTE) {
        at = stringEnd(bytes, view, at + 1) + 1
      } else if (first === OPEN_BRACE || first === OPEN_BRACKET) {
        const kind = first === OPEN_BRACE ? IN_OBJECT : IN_ARRAY
        if (++depth > deepest) deepest = depth
        at = skipSpace(bytes, at + 1)
        if (bytes[at] === (kind === IN_OBJECT ? CLOSE_BRACE : CLOSE_BRACKET)) {
          at++
          depth--
        } else {
          if (depth >= stack.length) stack = this.grow()
          stack[depth] = kind
          if (kind === IN_OBJECT) {
            keys++
            at = memberValue(bytes, view, at)
          }
          continue
        }
      } else if (first === MINUS || (first! >= ZERO && first! <= NINE)) {
        at = numberEnd(bytes, at)
      } else {
        at = literalEnd(bytes, at)
      }
      // The value ends at `at`: close what it closes, or go on to the next one.
      while (depth > 0) {
        let byte = bytes[at]
        if (byte! <= SPACE) {
          at = skipSpace(bytes, at)
          byte = bytes[at]
        }
        if (byte === COMMA) {
          at++
          if (stack[depth] === IN_OBJECT) {
            keys++
            at = memberValue(bytes, view, skipSpace(bytes, at))
          }
          continue value
        }
        if (byte !== (stack[depth] === IN_OBJECT ? CLOSE_BRACE : CLOSE_BRACKET)) {
          throw unexpected(bytes, at, `\`,\` or \`${stack[depth] === IN_OBJECT ? '}' : ']'}\` was expected`)
        }
        at++
        depth--
      }
      break
    }
    this.at = at
    this.deepest = deepest
    this.keys = keys
    this.valuesLeft = valuesLeft
  }

  private count(values: number): void {
    this.valuesLeft -= values
    if (this.valuesLeft < 0) throw new JsonValuesError(this.valuesMax)
  }

  /** Throws unless only white space is left. */
  finish(): void {
    if (this.peek() !== -1) throw this.unexpected('the end of the text was expected')
  }

  /** The string whose bytes between the quotes are `start … end`. */
  private text(start: number, end: number, escaped: boolean): string {
    if (escaped) return JSON.parse(this.bytes.toString('utf8', start - 1, end + 1)) as string
    const length = end - start
    return length > 0 && isAtomLength(length)
      ? atom(this.bytes, start, end)
      : this.bytes.toString('utf8', start, end)
  }

  private grow(): Uint8Array {
    const grown = new Uint8Array(this.stack.length * 2)
    grown.set(this.stack)
    this.stack = grown
    return grown
  }

  private unexpected(expected: string): JsonScanError {
    return unexpected(this.bytes, this.at, expected)
  }
}

/** `\\uXXXX` */
const ESCAPE_BYTES_MAX = 6

/** Names of members that a caller looks for, found by length first, so that a foreign key costs one look-up. */
export class JsonFields {
  private readonly byLength: { bytes: Buffer; number: number }[][] = []
  private readonly byText = new Map<string, number>()
  /** No key whose escaped form is longer is any of the names. */
  readonly escapedBytesMax: number

  /** `names[i]` is field number i. */
  constructor(names: readonly string[]) {
    for (const [number, name] of names.entries()) {
      const bytes = Buffer.from(name)
      while (this.byLength.length <= bytes.length) this.byLength.push([])
      this.byLength[bytes.length]!.push({ bytes, number })
      this.byText.set(name, number)
    }
    this.escapedBytesMax = Math.max(...names.map((name) => name.length)) * ESCAPE_BYTES_MAX
  }

  /** The number of the key whose unescaped bytes are `start … end`, or -1. */
  find(bytes: Uint8Array, start: number, end: number): number {
    const length = end - start
    if (length >= this.byLength.length) return -1
    candidates: for (const candidate of this.byLength[length]!) {
      const name = candidate.bytes
      for (let i = length - 1; i >= 0; i--) if (name[i] !== bytes[start + i]) continue candidates
      return candidate.number
    }
    return -1
  }

  findText(name: string): number {
    return this.byText.get(name) ?? -1
  }
}

/** Set by `stringEnd` when it passes a backslash; whoever wants to know clears it first. */
let escapeSeen = false

/** Bytes of a string that are looked at one by one; most keys and values end before. */
const NEAR_BYTES = 24

/** `start` is behind the opening quote; returns the place of the closing one. */
function stringEnd(bytes: Uint8Array, view: DataView, start: number): number {
  const near = start + NEAR_BYTES
  let at = start
  // Comparing is a third faster here than looking up PLAIN.
  for (; at < near; at++) {
    const byte = bytes[at]!
    if (byte === QUOTE || byte === BACKSLASH || byte < SPACE) break
  }
  return bytes[at] === QUOTE ? at : farStringEnd(bytes, view, at)
}

/**
 * The same for the rest of a string. Looks at four bytes at once, which halves the time: the masks find bytes below
 * 0x20, quotes and backslashes (and sometimes a byte behind one of them, which costs a second look and nothing else).
 */
function farStringEnd(bytes: Uint8Array, view: DataView, start: number): number {
  const length = bytes.length
  const lastWord = length - 4
  let at = start
  for (;;) {
    while (at <= lastWord) {
      const word = view.getInt32(at, true)
      const quotes = word ^ 0x22222222
      const backslashes = word ^ 0x5c5c5c5c
      const found =
        ((word - 0x20202020) & ~word) |
        ((quotes - 0x01010101) & ~quotes) |
        ((backslashes - 0x01010101) & ~backslashes)
      if ((found & 0x80808080) !== 0) break
      at += 4
    }
    while (at < length && PLAIN[bytes[at]!] === 1) at++
    if (at >= length) throw new JsonScanError('the text ends inside a string', at)
    let byte = bytes[at]!
    if (byte === QUOTE) return at
    if (byte !== BACKSLASH)
      throw new JsonScanError(`a control character stands in a string (byte ${byte})`, at)
    escapeSeen = true
    // Escapes come in rows.
    do {
      const escapeByte = at + 1 < length ? bytes[at + 1]! : 0
      if (SHORT_ESCAPE[escapeByte] === 1) {
        at += 2
      } else if (escapeByte === LETTER_U && isHex4(bytes, at + 2)) {
        at += 6
      } else {
        throw new JsonScanError('a string holds an escape that JSON does not know', at)
      }
      byte = at < length ? bytes[at]! : 0
    } while (byte === BACKSLASH)
  }
}

function isHex4(bytes: Uint8Array, at: number): boolean {
  if (at + 4 > bytes.length) return false
  return (
    (HEX_DIGIT[bytes[at]!]! &
      HEX_DIGIT[bytes[at + 1]!]! &
      HEX_DIGIT[bytes[at + 2]!]! &
      HEX_DIGIT[bytes[at + 3]!]!) ===
    1
  )
}

/** `at` is at a member's key; returns the place behind its colon. */
function memberValue(bytes: Uint8Array, view: DataView, at: number): number {
  if (bytes[at] !== QUOTE) throw unexpected(bytes, at, 'a key in double quotes was expected')
  const colon = skipSpace(bytes, stringEnd(bytes, view, at + 1) + 1)
  if (bytes[colon] !== COLON) throw unexpected(bytes, colon, '`:` was expected')
  return colon + 1
}

function numberEnd(bytes: Uint8Array, start: number): number {
  let at = bytes[start] === MINUS ? start + 1 : start
  // A leading zero stands alone.
  if (bytes[at] === ZERO) at++
  else at = digitsEnd(bytes, at)
  if (bytes[at] === DOT) at = digitsEnd(bytes, at + 1)
  if (at < bytes.length && (bytes[at]! | 0x20) === LETTER_E) {
    const sign = bytes[at + 1]
    at = digitsEnd(bytes, sign === MINUS || sign === 0x2b ? at + 2 : at + 1)
  }
  return at
}

/** Passes one digit or more. */
function digitsEnd(bytes: Uint8Array, start: number): number {
  let at = start
  while (at < bytes.length && bytes[at]! >= ZERO && bytes[at]! <= NINE) at++
  if (at === start) throw unexpected(bytes, at, 'a digit was expected')
  return at
}

const LITERALS = new Map(['true', 'false', 'null'].map((word) => [word.charCodeAt(0), Buffer.from(word)]))

function literalEnd(bytes: Uint8Array, at: number): number {
  const word = at < bytes.length ? LITERALS.get(bytes[at]!) : undefined
  if (!word) throw unexpected(bytes, at, 'a value was expected')
  for (let i = 1; i < word.length; i++) {
    if (bytes[at + i] !== word[i]) throw unexpected(bytes, at, 'a value was expected')
  }
  return at + word.length
}

function skipSpace(bytes: Uint8Array, at: number): number {
  while (at < bytes.length) {
    const byte = bytes[at]!
    if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) return at
    at++
  }
  return at
}

function unexpected(bytes: Uint8Array, at: number, expected: string): JsonScanError {
  if (at >= bytes.length)
    return new JsonScanError(`the text ends where ${expected.replace(/ was expected$/, '')} was expected`, at)
  const byte = bytes[at]!
  const shown =
    byte > 0x20 && byte < 0x7f
      ? `\`${String.fromCharCode(byte)}\``
      : `byte 0x${byte.toString(16).padStart(2, '0')}`
  return new JsonScanError(`${expected}, not ${shown}`, at)
}

const UTF8_CHUNK_BYTES = 65_536

/** Where the UTF-8 breaks, for the message: passes whole chunks, then halves the one that is bad. */
function invalidUtf8At(bytes: Buffer): number {
  let from = 0
  for (;;) {
    const to = Math.min(from + UTF8_CHUNK_BYTES, bytes.length)
    const cut = cutToUtf8(bytes, from, to)
    if (cut < 0) break
    if (to === bytes.length) return to - cut
    from = to - cut
  }
  let good = from
  let bad = Math.min(from + UTF8_CHUNK_BYTES, bytes.length)
  while (bad - good > 1) {
    const middle = (good + bad) >> 1
    if (cutToUtf8(bytes, from, middle) >= 0) good = middle
    else bad = middle
  }
  return good
}

/** How many bytes at the end of `from … to` belong to a character that goes on behind it; -1 when it is bad. */
function cutToUtf8(bytes: Buffer, from: number, to: number): number {
  for (let cut = 0; cut <= 3 && from + cut <= to; cut++) {
    if (isUtf8(bytes.subarray(from, to - cut))) return cut
  }
  return -1
}
