/** Writes `value` (0 to 2^31 - 1), seven bits a byte, the lowest first, to `at`; gives the place behind it. */
export function writeUnsigned(out: Buffer, at: number, value: number): number {
  let left = value
  while (left >= 128) {
    out[at++] = (left & 127) | 128
    left >>>= 7
  }
  out[at++] = left
  return at
}
