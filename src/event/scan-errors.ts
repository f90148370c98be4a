/** What the JSON scanner says when a text is not what it takes: where the text breaks, and in which words. */
import { isUtf8 } from 'node:buffer'

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

/** What the loops answer; assembly/layout.ts says the same. */
const TOO_MANY_VALUES = 1
const ENDS_IN_STRING = 2
const CONTROL_CHARACTER = 3
const UNKNOWN_ESCAPE = 4
const EXPECTED = new Map([
  [5, 'a key in double quotes was expected'],
  [6, '`:` was expected'],
  [7, '`,` or `}` was expected'],
  [8, '`,` or `]` was expected'],
  [9, 'a digit was expected'],
  [10, 'a value was expected'],
])

/** The error that the loops call `code`, found at `at`. */
export function scanError(code: number, bytes: Buffer, at: number, valuesMax: number): Error {
  switch (code) {
    case TOO_MANY_VALUES:
      return new JsonValuesError(valuesMax)
    case ENDS_IN_STRING:
      return new JsonScanError('the text ends inside a string', at)
    case CONTROL_CHARACTER:
      return new JsonScanError(`a control character stands in a string (byte ${bytes[at]})`, at)
    case UNKNOWN_ESCAPE:
      return new JsonScanError('a string holds an escape that JSON does not know', at)
    default:
      return unexpected(bytes, at, EXPECTED.get(code)!)
  }
}

/** Another byte than `expected` says stands at `at`, or the text ends there. */
export function unexpected(bytes: Buffer, at: number, expected: string): JsonScanError {
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
export function invalidUtf8At(bytes: Buffer): number {
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
