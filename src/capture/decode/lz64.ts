/**
 * Decodes lz64, the base64 of lz-string, which SDKs sent before browsers could gzip. What comes in: its text; what goes
 * out: UTF-8, or undefined when it is no such text or was cut.
 *
 * The format is LZ78 over UTF-16 units. Each character holds six bits, first bit highest; a code's lowest bit comes
 * first. Codes 0 and 1 announce a new unit of 8 or 16 bits, 2 is the end, all others name a phrase. A phrase is always
 * the one before it and the unit that follows it in the output, so a phrase is a place in the output, not a string.
 *
 * Must hold: it stops when more than `unitsMax` units come out. A lone surrogate becomes U+FFFD, as it does wherever a
 * browser makes UTF-8. Cost: about 10 ns per unit that does not repeat anything, all on our thread.
 */

const CODE_UNIT8 = 0
const CODE_UNIT16 = 1
const CODE_END = 2
const FIRST_PHRASE = 3
const NO_BITS = -1
/** Phrases longer than this are copied by the platform. */
const COPY_LOOP_UNITS_MAX = 24
const OUTPUT_UNITS_START = 16_384

/** Six bits per character, the first bit lowest; the alphabets of lz-string's base64 and of its URI form. */
const BITS = new Int8Array(256).fill(NO_BITS)
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
for (const [value, char] of [...ALPHABET].entries()) BITS[char.charCodeAt(0)] = reversed6(value)
// A plus sign becomes a space on its way through a form. Padding counts as zeros.
for (const char of '+ ') BITS[char.charCodeAt(0)] = reversed6(62)
for (const char of '/-') BITS[char.charCodeAt(0)] = reversed6(63)
for (const char of '=$') BITS[char.charCodeAt(0)] = 0

function reversed6(value: number): number {
  let bits = 0
  for (let bit = 0; bit < 6; bit++) if (value & (1 << bit)) bits |= 32 >> bit
  return bits
}

/** More came out than was allowed. */
export class Lz64TooLarge extends Error {}

/** True when `text` begins as the lz64 of a JSON object or array does; no base64 of anything known begins so. */
export function beginsLikeLz64Json(text: Uint8Array): boolean {
  const second = text[1]!
  return text[0] === 0x4e && ((second >= 0x34 && second <= 0x37) || (second >= 0x6f && second <= 0x72))
}

/** The UTF-8 that `text` stands for. Throws Lz64TooLarge. */
export function lz64Decoded(text: Uint8Array, unitsMax: number): Buffer | undefined {
  const length = trimmedLength(text)
  let at = 0
  // Bits that were read and not used, the next one lowest.
  let bits = 0
  let bitCount = 0

  let output = new Uint16Array(Math.min(unitsMax, Math.max(OUTPUT_UNITS_START, length)))
  let units = 0
  // Place and length of each phrase; the first three codes are none.
  let starts = new Int32Array(1024)
  let lengths = new Int32Array(1024)
  let phrases = FIRST_PHRASE
  let codeBits = 2
  // Phrases until codes grow by a bit.
  let enlargeIn = 1
  let lastStart = 0
  let lastLength = 0

  for (;;) {
    if (bitCount === 0 && at >= length) return undefined
    while (bitCount < codeBits) {
      const six = at < length ? BITS[text[at]!]! : 0
      if (six === NO_BITS) return undefined
      bits |= six << bitCount
      bitCount += 6
      at++
    }
    let code = bits & ((1 << codeBits) - 1)
    bits >>>= codeBits
    bitCount -= codeBits
    if (code === CODE_END) break

    if (phrases + 2 > starts.length) {
      starts = grown(starts)
      lengths = grown(lengths)
    }
    let start: number
    let size: number
    if (code === CODE_UNIT8 || code === CODE_UNIT16) {
      const unitBits = code === CODE_UNIT8 ? 8 : 16
      while (bitCount < unitBits) {
        const six = at < length ? BITS[text[at]!]! : 0
        if (six === NO_BITS) return undefined
        bits |= six << bitCount
        bitCount += 6
        at++
      }
      const unit = bits & ((1 << unitBits) - 1)
      bits >>>= unitBits
      bitCount -= unitBits
      if (units === output.length) output = room(output, units + 1, unitsMax)
      code = phrases++
      start = units
      size = 1
      starts[code] = start
      lengths[code] = size
      output[units++] = unit
      if (--enlargeIn === 0) enlargeIn = 1 << codeBits++
    } else {
      if (code < phrases) {
        start = starts[code]!
        size = lengths[code]!
      } else if (code === phrases && lastLength > 0) {
        start = lastStart
        size = lastLength + 1
      } else {
        return undefined
      }
      if (units + size > output.length) output = room(output, units + size, unitsMax)
      if (size > COPY_LOOP_UNITS_MAX && start + size <= units) output.copyWithin(units, start, start + size)
      else for (let i = 0; i < size; i++) output[units + i] = output[start + i]!
      start = units
      units += size
    }
    if (lastLength > 0) {
      starts[phrases] = lastStart
      lengths[phrases] = lastLength + 1
      phrases++
      if (--enlargeIn === 0) enlargeIn = 1 << codeBits++
    }
    lastStart = start
    lastLength = size
  }
  return Buffer.from(Buffer.from(output.buffer, 0, units * 2).toString('utf16le'))
}

function trimmedLength(text: Uint8Array): number {
  let length = text.length
  while (length > 0 && (text[length - 1] === 0x0a || text[length - 1] === 0x0d)) length--
  return length
}

function grown(array: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(array.length * 2)
  larger.set(array)
  return larger
}

function room(output: Uint16Array, units: number, unitsMax: number): Uint16Array<ArrayBuffer> {
  if (units > unitsMax) throw new Lz64TooLarge()
  const larger = new Uint16Array(Math.min(unitsMax, Math.max(units, output.length * 2)))
  larger.set(output)
  return larger
}
