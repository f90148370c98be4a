/**
 * Where the tokens of JSON end: strings, numbers, literals and white space. What comes in: the place where one begins;
 * what goes out: the place behind it, or 0 when something is wrong, which is then told by `wrong`. The zeros behind the
 * text end every loop.
 */
import {
  BACKSLASH,
  BODY,
  CONTROL_CHARACTER,
  DOT,
  EACH_BYTE,
  ENDS_IN_STRING,
  LETTER_U,
  MINUS,
  NO_DIGIT,
  NO_VALUE,
  QUOTE,
  SPACE,
  UNKNOWN_ESCAPE,
  wrong,
  ZERO,
} from './layout'

/** `b`, `f`, `n`, `r`, `t` and the backslash, as bits from 0x40 on. */
const SHORT_ESCAPES: u64 = (1 << 28) | (1 << 34) | (1 << 38) | (1 << 46) | (1 << 50) | (1 << 52)
const TRUE: u32 = 0x65757274
const ALSE: u32 = 0x65736c61
const NULL: u32 = 0x6c6c756e

/** The end of the text that lies at BODY. */
let bodyEnd: usize = BODY
/** Set when a string that is passed holds a backslash; whoever wants to know clears it first. */
export let escapeSeen: bool = false

export function setBodyEnd(end: usize): void {
  bodyEnd = end
}

export function clearEscapeSeen(): void {
  escapeSeen = false
}

/** `p` is behind the opening quote; the place of the closing one. */
export function stringEnd(p: usize): usize {
  p = plainEnd(p)
  return load<u8>(p) === QUOTE ? p : escapedStringEnd(p)
}

/**
 * The place of the next byte that does not stand for itself in a string. With bit 1 turned over, the quote stands right
 * behind the control characters, so that one comparison finds both.
 */
function plainEnd(p: usize): usize {
  if (ASC_FEATURE_SIMD) {
    while (true) {
      const bytes = v128.load(p)
      const turned = v128.xor(bytes, i8x16.splat(2))
      const quotesAndControls = i8x16.eq(i8x16.min_u(turned, i8x16.splat(0x20)), turned)
      const found = i8x16.bitmask(v128.or(quotesAndControls, i8x16.eq(bytes, i8x16.splat(0x5c))))
      if (found !== 0) return p + <usize>ctz(found)
      p += 16
    }
  } else {
    while (true) {
      const word = load<u64>(p)
      const turned = word ^ (EACH_BYTE * 2)
      const backslashes = word ^ (EACH_BYTE * 0x5c)
      // The lowest bit that is found is right; those above it may come of a borrow.
      const quotesAndControls = (turned - EACH_BYTE * 0x21) & ~word
      const found = (quotesAndControls | ((backslashes - EACH_BYTE) & ~backslashes)) & (EACH_BYTE * 0x80)
      if (found !== 0) return p + <usize>(ctz(found) >> 3)
      p += 8
    }
  }
}

/** The same for the rest of a string whose byte at `p` is no quote and does not stand for itself. */
function escapedStringEnd(p: usize): usize {
  while (true) {
    if (load<u8>(p) !== BACKSLASH) return wrong(p < bodyEnd ? CONTROL_CHARACTER : ENDS_IN_STRING, p)
    escapeSeen = true
    // Escapes come in rows.
    do {
      const letter = load<u8>(p + 1)
      if (isShortEscape(letter)) p += 2
      else if (letter === LETTER_U && isHex4(p + 2)) p += 6
      else return wrong(UNKNOWN_ESCAPE, p)
    } while (load<u8>(p) === BACKSLASH)
    // A lone byte between escapes is not worth looking at 16.
    p = load<u8>(p + 1) === BACKSLASH && isPlain(load<u8>(p)) ? p + 1 : plainEnd(p)
    if (load<u8>(p) === QUOTE) return p
  }
}

/** A byte other than the backslash that stands for itself in a string. */
function isPlain(byte: u8): bool {
  return byte >= SPACE && byte !== QUOTE
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

export function isDigit(byte: u8): bool {
  return <u32>byte - 0x30 < 10
}

/** The first letter of `true`, `false` or `null`. */
export function isLiteral(byte: u8): bool {
  return byte === 0x74 || byte === 0x66 || byte === 0x6e
}

export function numberEnd(p: usize): usize {
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

export function literalEnd(p: usize): usize {
  const word = load<u32>(p)
  if (word === TRUE || word === NULL) return p + 4
  if (load<u8>(p) === 0x66 && load<u32>(p + 1) === ALSE) return p + 5
  return wrong(NO_VALUE, p)
}

/** The place of the next byte that is no white space. */
export function spaceEnd(p: usize): usize {
  if (!isSpace(load<u8>(p))) return p
  return isSpace(load<u8>(p + 1)) ? longSpaceEnd(p + 2) : p + 1
}

/** The same where white space comes in rows, as in indented texts. */
function longSpaceEnd(p: usize): usize {
  if (ASC_FEATURE_SIMD) {
    while (true) {
      const bytes = v128.load(p)
      const spaces = i8x16.eq(bytes, i8x16.splat(0x20))
      const tabs = i8x16.eq(bytes, i8x16.splat(0x09))
      const breaks = v128.or(i8x16.eq(bytes, i8x16.splat(0x0a)), i8x16.eq(bytes, i8x16.splat(0x0d)))
      const other = ~i8x16.bitmask(v128.or(v128.or(spaces, tabs), breaks))
      if ((other & 0xffff) !== 0) return p + <usize>ctz(other)
      p += 16
    }
  } else {
    while (true) {
      while (load<u64>(p) === EACH_BYTE * 0x20) p += 8
      if (!isSpace(load<u8>(p))) return p
      p++
    }
  }
}

function isSpace(byte: u8): bool {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}
