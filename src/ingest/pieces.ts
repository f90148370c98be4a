/**
 * Cuts what a batch sends into pieces that the log takes: a log refuses for ever a send that is larger than all that
 * may wait in it, and a batch is large when each of its rows carries a large person. Order is kept: a piece is sent
 * when the one before it is durable.
 */
import type { SendRecord } from '../log/index.ts'

/** Well below what may wait in a log (64 MiB), of which each batch in work takes its part. */
export const PIECE_BYTES_MAX = 8 * 2 ** 20

/** `records` in order, in pieces of at most `bytesMax`, or one record when that is larger. */
export function* piecesOf(
  records: readonly SendRecord[],
  bytesMax = PIECE_BYTES_MAX,
): Generator<SendRecord[], void, undefined> {
  let from = 0
  let bytes = 0
  for (let i = 0; i < records.length; i++) {
    const size = records[i]!.header.length + records[i]!.value.length
    if (i > from && bytes + size > bytesMax) {
      yield records.slice(from, i)
      from = i
      bytes = 0
    }
    bytes += size
  }
  if (from < records.length) yield records.slice(from)
}
