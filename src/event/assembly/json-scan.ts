/**
 * The inner loops of the JSON scanner (../json-scan.ts), in AssemblyScript: whole values, and members until one that is
 * looked for. What comes in: a text that ../scan-memory.ts copied to BODY, and places in it; what goes out: places and
 * counts, in the slots.
 *
 * What must hold: behind the text stand PADDING zeros, which end every loop over bytes, so that none asks for the end;
 * behind those lies a byte per level of nesting. Nothing here allocates, recurses or writes behind the stack.
 * scripts/wasm.ts makes the two artefacts in this folder of it and checks that they are current.
 * Cost: 6 to 8 ns per string, most of which is the way from one string's end to the next one's start.
 */
import {
  BODY,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  errorCode,
  fail,
  MINUS,
  NO_COLON,
  NO_COMMA_IN_ARRAY,
  NO_COMMA_IN_OBJECT,
  NO_KEY,
  OPEN_BRACE,
  OPEN_BRACKET,
  PADDING,
  QUOTE,
  SLOT_AT,
  SLOT_DEEPEST,
  SLOT_KEY_END,
  SLOT_KEY_START,
  SLOT_KEYS,
  SLOT_VALUE_AT,
  SLOT_VALUE_END,
  SLOT_VALUE_TEXT,
  SLOT_VALUES_LEFT,
  SPACE,
  TOO_MANY_VALUES,
  wrong,
} from './layout'
import { find, TEXT_ESCAPED, textOf } from './names'
import {
  clearEscapeSeen,
  escapeSeen,
  isDigit,
  isLiteral,
  literalEnd,
  numberEnd,
  setBodyEnd,
  spaceEnd,
  stringEnd,
} from './tokens'

export { keepAtom } from './names'

/** Answers of `seek` that are no field; errors are SEEK_ERROR less their code. */
const SEEK_CLOSED: i32 = -1
const SEEK_ESCAPED: i32 = -2
const SEEK_ERROR: i32 = -2

/** Where `seek` starts: at a key, behind a member's value, or at the value of a member that is not looked for. */
const BEHIND_VALUE: i32 = 1
const AT_FOREIGN_VALUE: i32 = 2

const IN_ARRAY: u8 = 0
const IN_OBJECT: u8 = 1

/** Where the levels of nesting lie. */
let stack: usize = BODY

/** A text of `length` bytes was copied to BODY. */
export function begin(length: i32): void {
  const bodyEnd = BODY + <usize>length
  setBodyEnd(bodyEnd)
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
      clearEscapeSeen()
      const end = stringEnd(start)
      if (end === 0) return SEEK_ERROR - errorCode
      p = end + 1
      if (load<u8>(p) !== COLON) {
        p = spaceEnd(p)
        if (load<u8>(p) !== COLON) return SEEK_ERROR - fail(NO_COLON, p)
      }
      p++
      if (escapeSeen) {
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

function lookAt(p: usize): void {
  const first = load<u8>(p)
  let end: usize = 0
  if (first === QUOTE) {
    clearEscapeSeen()
    end = stringEnd(p + 1)
    if (end !== 0) store<i32>(SLOT_VALUE_TEXT, escapeSeen ? TEXT_ESCAPED : textOf(p + 1, end - p - 1))
  } else if (isDigit(first) || first === MINUS) {
    end = numberEnd(p)
  } else if (isLiteral(first)) {
    end = literalEnd(p)
  }
  store<i32>(SLOT_VALUE_AT, <i32>(p - BODY))
  store<i32>(SLOT_VALUE_END, end === 0 ? -1 : <i32>(end - BODY))
}

function storeCounts(deepest: i32, keys: i32, valuesLeft: i32): void {
  store<i32>(SLOT_DEEPEST, deepest)
  store<i32>(SLOT_KEYS, keys)
  store<i32>(SLOT_VALUES_LEFT, valuesLeft)
}
