/**
 * The compressions that bodies come in: by what name clients hint at them, and by which first bytes they are known.
 * No magic here can be the beginning of JSON, of a form or of base64, so that bytes can be asked before hints.
 */

/** Whole-stream compressions, by their names in `Content-Encoding`. */
export type Encoding = 'gzip' | 'deflate' | 'br' | 'zstd'

/** What a client says that its payload is. `base64` and names nobody knows say nothing that the bytes do not. */
export type Hint = Encoding | 'lz64'

const HINTS: ReadonlyMap<string, Hint> = new Map([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['gzip-js', 'gzip'],
  ['deflate', 'deflate'],
  ['zlib', 'deflate'],
  ['br', 'br'],
  ['brotli', 'br'],
  ['zstd', 'zstd'],
  ['lz64', 'lz64'],
  ['lz-string', 'lz64'],
])

/** The compression that a name stands for, in any case; undefined for all others, which is never an error. */
export function hintOf(name: string | null | undefined): Hint | undefined {
  return name ? HINTS.get(name.trim().toLowerCase()) : undefined
}

const DEFLATE_METHOD = 8

/** The compression whose magic `bytes` begin with. brotli and raw deflate have none. */
export function encodingOf(bytes: Uint8Array): Encoding | undefined {
  const first = bytes[0]
  if (first === 0x1f) return bytes[1] === 0x8b ? 'gzip' : undefined
  if (first === 0x28) return bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd ? 'zstd' : undefined
  // `x` begins base64 too, but none of the four levels of a zlib header is of its alphabet.
  if (first === 0x78) return isZlibLevel(bytes[1]) ? 'deflate' : undefined
  return undefined
}

function isZlibLevel(byte: number | undefined): boolean {
  return byte === 0x01 || byte === 0x5e || byte === 0x9c || byte === 0xda
}

/** True when `deflate` is the zlib-wrapped kind, which the standard means; some clients send it bare. */
export function isZlib(bytes: Uint8Array): boolean {
  const first = bytes[0]!
  return (first & 0x0f) === DEFLATE_METHOD && first >> 4 <= 7 && ((first << 8) | (bytes[1] ?? 0)) % 31 === 0
}
