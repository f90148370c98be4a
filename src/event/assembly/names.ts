/** Strings that are looked up by their bytes: keys among the names that a caller looks for, and texts among the atoms. */
import { BODY, EACH_BYTE } from './layout'

/** What `SLOT_VALUE_TEXT` says of a string; a known atom is its number, an unknown one ATOM_UNKNOWN less its number. */
const TEXT_UTF8: i32 = -1
export const TEXT_ESCAPED: i32 = -2
const TEXT_ASCII: i32 = -3
const ATOM_UNKNOWN: i32 = -4

const ATOMS_BASE: usize = 65_536
/** An atom is its length and its bytes. */
const ATOM_ENTRY_BYTES: usize = 80
const ATOM_BYTES_AT: usize = 8
const ATOM_SLOT_BITS: u64 = 9

/** 2^64 by the golden ratio, whose products spread over the upper bits. */
const SPREAD: u64 = (0x9e3779b9 << 32) | 0x7f4a7c15

/** The number of the name of `length` bytes at `p`, or -1. ../json-fields.ts makes the tables and says what is in them. */
export function find(fields: usize, p: usize, length: usize): i32 {
  if (length > <usize>load<u32>(fields + 4)) return -1
  const list = <usize>load<u32>(fields + 8 + (length << 2))
  if (list === 0) return -1
  const count = load<u32>(fields + list)
  let entry = fields + list + 8
  const entryBytes = 8 + (((length + 7) >> 3) << 3)
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

/** Which atom the string of `length` bytes at `p` is or may become; ../atoms.ts says which lengths have atoms. */
export function textOf(p: usize, length: usize): i32 {
  if (length === 0 || length > 64) return TEXT_UTF8
  if (length >= 24 && length < 40) return isAscii(p, length) ? TEXT_ASCII : TEXT_UTF8
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

/** Of 8 bytes and more. */
function isAscii(p: usize, length: usize): bool {
  const last = length - 8
  let bits = load<u64>(p + last)
  for (let i: usize = 0; i < last; i += 8) bits |= load<u64>(p + i)
  return (bits & (EACH_BYTE * 0x80)) === 0
}

/** Takes `length` bytes at `at` for atom number `number`. */
export function keepAtom(number: i32, at: i32, length: i32): void {
  const entry = ATOMS_BASE + <usize>number * ATOM_ENTRY_BYTES
  store<i32>(entry, length)
  memory.copy(entry + ATOM_BYTES_AT, BODY + <usize>at, length)
}
