/**
 * The inner loops of the JSON scanner (../json-scan.ts), in AssemblyScript: strings by 16 bytes (SIMD) or by 8 where the
 * CPU has none, numbers, literals, white space, whole values, and members until one that is looked for. What comes in:
 * a text that `../scan-memory.ts` copied to BODY, and places in it; what goes out: places and counts, in the slots.
 *
 * What must hold: behind the text stand PADDING zeros, which end every loop over bytes, so that none asks for the end;
 * behind those lies a byte per level of nesting. Nothing here allocates, recurses or writes behind the stack.
 * The two artefacts beside this file are made of it by scripts/wasm.ts, which also checks that they are current.
 */

/** Where things lie; ../scan-memory.ts says the same. */
const SLOT_AT: usize = 0
const SLOT_DEEPEST: usize = 4
const SLOT_KEYS: usize = 8
const SLOT_VALUES_LEFT: usize = 12
const SLOT_ERROR_AT: usize = 16
const SLOT_KEY_START: usize = 20
const SLOT_KEY_END: usize = 24
const SLOT_VALUE_AT: usize = 28
const SLOT_VALUE_END: usize = 32
const SLOT_VALUE_TEXT: usize = 36
const ATOMS_BASE: usize = 65_536
const BODY: usize = 131_072
const PADDING: usize = 64

/** What went wrong; ../scan-errors.ts has the words. */
const TOO_MANY_VALUES: i32 = 1
const ENDS_IN_STRING: i32 = 2
const CONTROL_CHARACTER: i32 = 3
const UNKNOWN_ESCAPE: i32 = 4
const NO_KEY: i32 = 5
const NO_COLON: i32 = 6
const NO_COMMA_IN_OBJECT: i32 = 7
const NO_COMMA_IN_ARRAY: i32 = 8
const NO_DIGIT: i32 = 9
const NO_VALUE: i32 = 10

/** Answers of `seek` that are no field; errors are SEEK_ERROR less their code. */
const SEEK_CLOSED: i32 = -1
const SEEK_ESCAPED: i32 = -2
const SEEK_ERROR: i32 = -2

/** Where `seek` starts: at a key, behind a member's value, or at the value of a member that is not looked for. */
const BEHIND_VALUE: i32 = 1
const AT_FOREIGN_VALUE: i32 = 2

/** What `SLOT_VALUE_TEXT` says of a string; a known atom is its number, an unknown one ATOM_UNKNOWN less its number. */
const TEXT_BARE: i32 = -1
const TEXT_ESCAPED: i32 = -2
const ATOM_UNKNOWN: i32 = -3

/** An atom is its length and its bytes. */
const ATOM_ENTRY_BYTES: usize = 80
const ATOM_BYTES_AT: usize = 8
const ATOM_SLOT_BITS: u64 = 9

const SPACE: u8 = 0x20
const QUOTE: u8 = 0x22
const COMMA: u8 = 0x2c
const MINUS: u8 = 0x2d
const DOT: u8 = 0x2e
const ZERO: u8 = 0x30
const COLON: u8 = 0x3a
const OPEN_BRACKET: u8 = 0x5b
const BACKSLASH: u8 = 0x5c
const CLOSE_BRACKET: u8 = 0x5d
const LETTER_U: u8 = 0x75
const OPEN_BRACE: u8 = 0x7b
const CLOSE_BRACE: u8 = 0x7d

/** `b`, `f`, `n`, `r`, `t` and the backslash, as bits from 0x40 on. */
const SHORT_ESCAPES: u64 = (1 << 28) | (1 << 34) | (1 << 38) | (1 << 46) | (1 << 50) | (1 << 52)
/** A factor that puts a byte into each byte of a word. */
const EACH_BYTE: u64 = (0x01010101 << 32) | 0x01010101
/** 2^64 by the golden ratio, whose products spread over the upper bits. */
const SPREAD: u64 = (0x9e3779b9 << 32) | 0x7f4a7c15
const TRUE: u32 = 0x65757274
const ALSE: u32 = 0x65736c61
const NULL: u32 = 0x6c6c756e

const IN_ARRAY: u8 = 0
const IN_OBJECT: u8 = 1

let bodyEnd: usize = BODY
let stack: usize = BODY
/** Set when a string that is passed holds a backslash; whoever wants to know clears it first. */
let escapeSeen: i32 = 0
let errorCode: i32 = 0

/** A text of `length` bytes was copied to BODY. */
export function begin(length: i32): void {
  bodyEnd = BODY + <usize>length
  stack = bodyEnd + PADDING
  memory.fill(bodyEnd, 0, PADDING)
  store<i32>(SLOT_VALUE_AT, -1)
}

/** Passes white space. */
export function space(at: i32): i32 {
  return <i32>(spaceEnd(BODY + <usize>at) - BODY)
}

/** Notes the value at `at`, when it is a string, number or literal: its end, and what its text is. -1 is no end. */
export function look(at: i32): void {
  lookAt(BODY + <usize>at)
}

/** Takes `length` bytes at `at` for atom number `number`. */
export function keepAtom(number: i32, at: i32, length: i32): void {
  const entry = ATOMS_BASE + <usize>number * ATOM_ENTRY_BYTES
  store<i32>(entry, length)
  memory.copy(entry + ATOM_BYTES_AT, BODY + <usize>at, length)
}

/** Passes the next value, whatever it is: 0 or what is wrong. */
export function skip(at: i32, deepest: i32, keys: i32, valuesLeft: i32): i32 {
  const end = passValue(spaceEnd(BODY + <usize>at), deepest, keys, valuesLeft)
  if (end === 0) return errorCode
  store<i32>(SLOT_AT, <i32>(end - BODY))
  return 0
}

/**
 * Passes members until one whose key is in the table `fields`: its number, with its value next and noted as by `look`.
 * SEEK_CLOSED behind the closing brace. SEEK_ESCAPED at the value of a member whose key holds escapes and may be one.
 */
export function seek(fields: usize, from: i32, at: i32, deepest: i32, keys: i32, valuesLeft: i32): i32 {
  let p = BODY + <usize>at
  let isBehindValue = from === BEHIND_VALUE
  let isAtForeignValue = from === AT_FOREIGN_VALUE
  while (true) {
    if (!isAtForeignValue) {
      if (isBehindValue) {
        if (load<u8>(p) !== COMMA) {
          p = spaceEnd(p)
          const byte = load<u8>(p)
          if (byte === CLOSE_BRACE) {
            store<i32>(SLOT_AT, <i32>(p + 1 - BODY))
            storeCounts(deepest, keys, valuesLeft)
            return SEEK_CLOSED
          }
          if (byte !== COMMA) return SEEK_ERROR - fail(NO_COMMA_IN_OBJECT, p)
        }
        p++
      }
      if (load<u8>(p) !== QUOTE) {
        p = spaceEnd(p)
        if (load<u8>(p) !== QUOTE) return SEEK_ERROR - fail(NO_KEY, p)
      }
      keys++
      const start = p + 1
      escapeSeen = 0
      const end = stringEnd(start)
      if (end === 0) return SEEK_ERROR - errorCode
      p = end + 1
      if (load<u8>(p) !== COLON) {
        p = spaceEnd(p)
        if (load<u8>(p) !== COLON) return SEEK_ERROR - fail(NO_COLON, p)
      }
      p++
      if (escapeSeen !== 0) {
        if (end - start <= <usize>load<u32>(fields)) {
          store<i32>(SLOT_AT, <i32>(p - BODY))
          storeCounts(deepest, keys, valuesLeft)
          store<i32>(SLOT_KEY_START, <i32>(start - BODY))
          store<i32>(SLOT_KEY_END, <i32>(end - BODY))
          return SEEK_ESCAPED
        }
      } else {
        const field = find(fields, start, end - start)
        if (field >= 0) {
          p = spaceEnd(p)
          store<i32>(SLOT_AT, <i32>(p - BODY))
          storeCounts(deepest, keys, valuesLeft)
          lookAt(p)
          return field
        }
      }
    }
    isBehindValue = true
    isAtForeignValue = false
    const first = load<u8>(p)
    if (first === QUOTE) {
      p = stringEnd(p + 1) + 1
      if (p === 1) return SEEK_ERROR - errorCode
      if (--valuesLeft < 0) return SEEK_ERROR - TOO_MANY_VALUES
    } else if (isDigit(first)) {
      p = numberEnd(p)
      if (p === 0) return SEEK_ERROR - errorCode
      if (--valuesLeft < 0) return SEEK_ERROR - TOO_MANY_VALUES
    } else if (isLiteral(first)) {
      p = literalEnd(p)
      if (p === 0) return SEEK_ERROR - errorCode
      if (--valuesLeft < 0) return SEEK_ERROR - TOO_MANY_VALUES
    } else {
      p = passValue(spaceEnd(p), deepest, keys, valuesLeft)
      if (p === 0) return SEEK_ERROR - errorCode
      deepest = load<i32>(SLOT_DEEPEST)
      keys = load<i32>(SLOT_KEYS)
      valuesLeft = load<i32>(SLOT_VALUES_LEFT)
    }
  }
}

/** Passes the value whose first byte is at `p`; leaves the counts in the slots. 0 when something is wrong. */
function passValue(p: usize, deepest: i32, keys: i32, valuesLeft: i32): usize {
  if (load<u8>(p) === QUOTE) {
    p = stringEnd(p + 1)
    if (p === 0) return 0
    if (--valuesLeft < 0) return wrong(TOO_MANY_VALUES, p)
    storeCounts(deepest, keys, valuesLeft)
    return p + 1
  }
  const stackBase = stack
  let depth: i32 = 0
  let kind: u8 = IN_ARRAY
  while (true) {
    if (--valuesLeft < 0) return wrong(TOO_MANY_VALUES, p)
    let byte = load<u8>(p)
    if (byte <= SPACE) {
      p = spaceEnd(p)
      byte = load<u8>(p)
    }
    if (byte === QUOTE) {
      p = stringEnd(p + 1) + 1
      if (p === 1) return 0
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      if (++depth > deepest) deepest = depth
      p++
      if (load<u8>(p) <= SPACE) p = spaceEnd(p)
      // The closing bracket and the closing brace stand two behind the opening ones.
      if (load<u8>(p) !== byte + 2) {
        store<u8>(stackBase + <usize>depth, kind)
        if (byte === OPEN_BRACE) {
          kind = IN_OBJECT
          keys++
          p = memberValue(p)
          if (p === 0) return 0
        } else {
          kind = IN_ARRAY
        }
        continue
      }
      p++
      depth--
    } else if (isDigit(byte) || byte === MINUS) {
      p = numberEnd(p)
      if (p === 0) return 0
    } else {
      p = literalEnd(p)
      if (p === 0) return 0
    }
    // The value ends at `p`: close what it closes, or go on to the next one.
    while (true) {
      if (depth === 0) {
        storeCounts(deepest, keys, valuesLeft)
        return p
      }
      byte = load<u8>(p)
      if (byte <= SPACE) {
        p = spaceEnd(p)
        byte = load<u8>(p)
      }
      if (byte === COMMA) {
        p++
        if (kind === IN_OBJECT) {
          keys++
          if (load<u8>(p) !== QUOTE) p = spaceEnd(p)
          p = memberValue(p)
          if (p === 0) return 0
        }
        break
      }
      if (kind === IN_OBJECT) {
        if (byte !== CLOSE_BRACE) return wrong(NO_COMMA_IN_OBJECT, p)
      } else if (byte !== CLOSE_BRACKET) {
        return wrong(NO_COMMA_IN_ARRAY, p)
      }
      p++
      kind = load<u8>(stackBase + <usize>depth)
      depth--
    }
  }
}

/** `p` is at a member's key; the place behind its colon. */
function memberValue(p: usize): usize {
  if (load<u8>(p) !== QUOTE) return wrong(NO_KEY, p)
  p = stringEnd(p + 1) + 1
  if (p === 1) return 0
  if (load<u8>(p) !== COLON) {
    p = spaceEnd(p)
    if (load<u8>(p) !== COLON) return wrong(NO_COLON, p)
  }
  return p + 1
}

/** `p` is behind the opening quote; the place of the closing one. */
function stringEnd(p: usize): usize {
  p = plainEnd(p)
  return load<u8>(p) === QUOTE ? p : escapedStringEnd(p)
}

/** The place of the next byte that does not stand for itself in a string. */
function plainEnd(p: usize): usize {
  if (ASC_FEATURE_SIMD) {
    while (true) {
      const bytes = v128.load(p)
      const found = i8x16.bitmask(
        v128.or(
          v128.or(i8x16.eq(bytes, i8x16.splat(0x22)), i8x16.eq(bytes, i8x16.splat(0x5c))),
          i8x16.eq(i8x16.min_u(bytes, i8x16.splat(0x1f)), bytes),
        ),
      )
      if (found !== 0) return p + <usize>ctz(found)
      p += 16
    }
  } else {
    while (true) {
      const word = load<u64>(p)
      const quotes = word ^ (EACH_BYTE * 0x22)
      const backslashes = word ^ (EACH_BYTE * 0x5c)
      // The lowest bit that is found is right; those above it may come of a borrow.
      const found =
        (((word - EACH_BYTE * 0x20) & ~word) |
          ((quotes - EACH_BYTE) & ~quotes) |
          ((backslashes - EACH_BYTE) & ~backslashes)) &
        (EACH_BYTE * 0x80)
      if (found !== 0) return p + <usize>(ctz(found) >> 3)
      p += 8
    }
  }
}

/** The same for the rest of a string whose byte at `p` is no quote and does not stand for itself. */
function escapedStringEnd(p: usize): usize {
  while (true) {
    if (load<u8>(p) !== BACKSLASH) return wrong(p < bodyEnd ? CONTROL_CHARACTER : ENDS_IN_STRING, p)
    escapeSeen = 1
    // Escapes come in rows.
    do {
      const letter = load<u8>(p + 1)
      if (isShortEscape(letter)) p += 2
      else if (letter === LETTER_U && isHex4(p + 2)) p += 6
      else return wrong(UNKNOWN_ESCAPE, p)
    } while (load<u8>(p) === BACKSLASH)
    p = plainEnd(p)
    if (load<u8>(p) === QUOTE) return p
  }
}

function isShortEscape(letter: u8): bool {
  if (letter >= 0x40) return letter < 0x80 && ((SHORT_ESCAPES >> (<u64>letter - 0x40)) & 1) !== 0
  return letter === QUOTE || letter === 0x2f
}

function isHex4(p: usize): bool {
  return isHex(load<u8>(p)) && isHex(load<u8>(p + 1)) && isHex(load<u8>(p + 2)) && isHex(load<u8>(p + 3))
}

function isHex(byte: u8): bool {
  return isDigit(byte) || <u32>(byte | 0x20) - 0x61 < 6
}

function isDigit(byte: u8): bool {
  return <u32>byte - 0x30 < 10
}

/** The first letter of `true`, `false` or `null`. */
function isLiteral(byte: u8): bool {
  return byte === 0x74 || byte === 0x66 || byte === 0x6e
}

function numberEnd(p: usize): usize {
  if (load<u8>(p) === MINUS) p++
  // A leading zero stands alone.
  if (load<u8>(p) === ZERO) {
    p++
  } else {
    p = digitsEnd(p)
    if (p === 0) return 0
  }
  if (load<u8>(p) === DOT) {
    p = digitsEnd(p + 1)
    if (p === 0) return 0
  }
  if ((load<u8>(p) | 0x20) === 0x65) {
    const sign = load<u8>(p + 1)
    p = digitsEnd(sign === MINUS || sign === 0x2b ? p + 2 : p + 1)
  }
  return p
}

/** Passes one digit or more. */
function digitsEnd(start: usize): usize {
  let p = start
  while (isDigit(load<u8>(p))) p++
  return p === start ? wrong(NO_DIGIT, p) : p
}

function literalEnd(p: usize): usize {
  const word = load<u32>(p)
  if (word === TRUE || word === NULL) return p + 4
  if (load<u8>(p) === 0x66 && load<u32>(p + 1) === ALSE) return p + 5
  return wrong(NO_VALUE, p)
}

function spaceEnd(p: usize): usize {
  while (true) {
    const byte = load<u8>(p)
    if (byte > SPACE || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) return p
    p++
  }
}

/** The number of the name of `length` bytes at `p`, or -1. ../json-fields.ts makes the tables and says what is in them. */
function find(fields: usize, p: usize, length: usize): i32 {
  if (length > <usize>load<u32>(fields + 4)) return -1
  const list = <usize>load<u32>(fields + 8 + (length << 2))
  if (list === 0) return -1
  const count = load<u32>(fields + list)
  let entry = fields + list + 8
  const entryBytes = 8 + ((length + 7) & ~(<usize>7))
  for (let i: u32 = 0; i < count; i++) {
    if (isSame(p, entry + 8, length)) return load<i32>(entry)
    entry += entryBytes
  }
  return -1
}

/** The same `length` bytes stand at `p` and `q`. Both may be read up to a whole word. */
function isSame(p: usize, q: usize, length: usize): bool {
  if (length < 8) return ((load<u64>(p) ^ load<u64>(q)) & lowBytes(length)) === 0
  // The last word first: names begin alike more often than they end alike.
  const last = length - 8
  if (load<u64>(p + last) !== load<u64>(q + last)) return false
  for (let i: usize = 0; i < last; i += 8) if (load<u64>(p + i) !== load<u64>(q + i)) return false
  return true
}

/** A mask of the first `length` bytes of a word, fewer than 8. */
function lowBytes(length: usize): u64 {
  return ((<u64>1) << ((<u64>length) << 3)) - 1
}

function lookAt(p: usize): void {
  const first = load<u8>(p)
  let end: usize = 0
  if (first === QUOTE) {
    escapeSeen = 0
    end = stringEnd(p + 1)
    if (end !== 0) store<i32>(SLOT_VALUE_TEXT, escapeSeen !== 0 ? TEXT_ESCAPED : textOf(p + 1, end - p - 1))
  } else if (isDigit(first) || first === MINUS) {
    end = numberEnd(p)
  } else if (isLiteral(first)) {
    end = literalEnd(p)
  }
  store<i32>(SLOT_VALUE_AT, <i32>(p - BODY))
  store<i32>(SLOT_VALUE_END, end === 0 ? -1 : <i32>(end - BODY))
}

/** Which atom the string of `length` bytes at `p` is or may become; ../atoms.ts says which lengths have atoms. */
function textOf(p: usize, length: usize): i32 {
  if (length === 0 || length > 64 || (length >= 24 && length < 40)) return TEXT_BARE
  let hash = <u64>length
  if (length < 8) {
    hash += load<u64>(p) & lowBytes(length)
  } else {
    hash += load<u64>(p) * SPREAD + load<u64>(p + length - 8) + load<u64>(p + ((length - 8) >> 1))
  }
  const number = <i32>((hash * SPREAD) >> (64 - ATOM_SLOT_BITS))
  const entry = ATOMS_BASE + <usize>number * ATOM_ENTRY_BYTES
  const isKnown = load<u32>(entry) === <u32>length && isSame(p, entry + ATOM_BYTES_AT, length)
  return isKnown ? number : ATOM_UNKNOWN - number
}

function storeCounts(deepest: i32, keys: i32, valuesLeft: i32): void {
  store<i32>(SLOT_DEEPEST, deepest)
  store<i32>(SLOT_KEYS, keys)
  store<i32>(SLOT_VALUES_LEFT, valuesLeft)
}

function fail(code: i32, p: usize): i32 {
  errorCode = code
  store<i32>(SLOT_ERROR_AT, <i32>(p - BODY))
  return code
}

function wrong(code: i32, p: usize): usize {
  fail(code, p)
  return 0
}
