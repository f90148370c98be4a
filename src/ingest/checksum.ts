/** The checksum of a raw range in its receipt: a replay that reads other bytes must not go on. */
import type { StoredRecord } from '../log/index.ts'

/** Below 2^53, so that it travels as a number everywhere. About 0.2 µs per event. */
export function rangeChecksum(records: readonly StoredRecord[]): number {
  let hash = 0n
  for (const record of records) {
    hash = Bun.hash.xxHash64(record.header, hash)
    hash = Bun.hash.xxHash64(record.value, hash)
  }
  return Number(BigInt.asUintN(53, hash))
}
