/** What the files of the loops share: where things lie in memory, the bytes of JSON, and how an error is told. */

/** Where things lie; ../scan-memory.ts says the same. */
export const SLOT_AT: usize = 0
export const SLOT_DEEPEST: usize = 4
export const SLOT_KEYS: usize = 8
export const SLOT_VALUES_LEFT: usize = 12
export const SLOT_ERROR_AT: usize = 16
export const SLOT_KEY_START: usize = 20
export const SLOT_KEY_END: usize = 24
export const SLOT_VALUE_AT: usize = 28
export const SLOT_VALUE_END: usize = 32
export const SLOT_VALUE_TEXT: usize = 36
export const BODY: usize = 131_072
export const PADDING: usize = 64

/** What went wrong; ../scan-errors.ts has the words. */
export const TOO_MANY_VALUES: i32 = 1
export const ENDS_IN_STRING: i32 = 2
export const CONTROL_CHARACTER: i32 = 3
export const UNKNOWN_ESCAPE: i32 = 4
export const NO_KEY: i32 = 5
export const NO_COLON: i32 = 6
export const NO_COMMA_IN_OBJECT: i32 = 7
export const NO_COMMA_IN_ARRAY: i32 = 8
export const NO_DIGIT: i32 = 9
export const NO_VALUE: i32 = 10

export const SPACE: u8 = 0x20
export const QUOTE: u8 = 0x22
export const COMMA: u8 = 0x2c
export const MINUS: u8 = 0x2d
export const DOT: u8 = 0x2e
export const ZERO: u8 = 0x30
export const COLON: u8 = 0x3a
export const OPEN_BRACKET: u8 = 0x5b
export const BACKSLASH: u8 = 0x5c
export const CLOSE_BRACKET: u8 = 0x5d
export const LETTER_U: u8 = 0x75
export const OPEN_BRACE: u8 = 0x7b
export const CLOSE_BRACE: u8 = 0x7d

/** A factor that puts a byte into each byte of a word. */
export const EACH_BYTE: u64 = (0x01010101 << 32) | 0x01010101

export let errorCode: i32 = 0

export function fail(code: i32, p: usize): i32 {
  errorCode = code
  store<i32>(SLOT_ERROR_AT, <i32>(p - BODY))
  return code
}

export function wrong(code: i32, p: usize): usize {
  fail(code, p)
  return 0
}
