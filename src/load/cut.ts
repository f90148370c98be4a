/**
 * Which of the waiting rows go into the next INSERT. In: per input (one partition of one topic) its waiting rows in
 * offset order. Out: how many of each to take, always a prefix. What must hold: a cut is never over the limits, and
 * never empty while a row waits, so that the loader always moves. Pure; one pass over the rows, about 20 ns each.
 *
 * The months are limited because every month is a block, a part and an entry of the deduplication window of its
 * own, and ClickHouse refuses an INSERT into more than 100 of them.
 */

export type CutLimits = { rowsMax: number; bytesMax: number; monthsMax: number }

export const CUT_LIMITS: CutLimits = { rowsMax: 500_000, bytesMax: 128 * 1024 * 1024, monthsMax: 50 }

/** What cutting needs to know of a row. */
export type Cuttable = {
  readonly row: Uint8Array
  /** In which ClickHouse keeps it, from `monthOf`; the same for all rows of a table other than `events`. */
  readonly month: number
}

export type Cut = {
  /** Parallel to the inputs: how many rows of each. */
  taken: number[]
  rows: number
  bytes: number
  months: number
}

/**
 * Takes from the inputs in their order until a limit is met. A row that would bring one month too many ends its own
 * input, since order within a partition is kept; the other inputs go on. The caller turns the order of the inputs,
 * so that none waits for ever.
 */
export function planCut(inputs: readonly (readonly Cuttable[])[], limits: CutLimits): Cut {
  const months = new Set<number>()
  const taken: number[] = []
  let rows = 0
  let bytes = 0
  let full = false
  for (const waiting of inputs) {
    let count = 0
    let lastMonth = Number.NaN
    while (!full && count < waiting.length) {
      const { row, month } = waiting[count]!
      if (rows > 0 && (rows + 1 > limits.rowsMax || bytes + row.length > limits.bytesMax)) {
        full = true
        break
      }
      if (month !== lastMonth) {
        if (!months.has(month)) {
          if (months.size >= limits.monthsMax) break
          months.add(month)
        }
        lastMonth = month
      }
      rows++
      bytes += row.length
      count++
    }
    taken.push(count)
  }
  return { taken, rows, bytes, months: months.size }
}

/** What DateTime64 can hold; rows outside are clamped to it when they are written (`row-codec.ts`). */
const TIME_MS_MIN = Date.UTC(1900, 0, 1)
const TIME_MS_MAX = Date.UTC(2299, 11, 31, 23, 59, 59, 999)

let monthStartMs = 0
let monthEndMs = 0
let monthKnown = 0

/** Number of the UTC month of an epoch time: rows of one month go to one ClickHouse partition. */
export function monthOf(timestampMs: number): number {
  const ms = Math.min(Math.max(timestampMs, TIME_MS_MIN), TIME_MS_MAX)
  // Nearly all rows are of the same month as the one before: two comparisons instead of a Date (10 times cheaper).
  if (ms >= monthStartMs && ms < monthEndMs) return monthKnown
  const date = new Date(ms)
  const year = date.getUTCFullYear()
  const month = date.getUTCMonth()
  monthStartMs = Date.UTC(year, month, 1)
  monthEndMs = Date.UTC(year, month + 1, 1)
  monthKnown = year * 12 + month
  return monthKnown
}

/** Extends the checksum of an INSERT by one row; starts at 0n. */
export function extendChecksum(checksum: bigint, row: Uint8Array): bigint {
  return Bun.hash.xxHash64(row, checksum)
}

/** As stored: below 2^53, so that it is a number everywhere. */
export function finishChecksum(checksum: bigint): number {
  return Number(checksum & 0x1f_ffff_ffff_ffffn)
}
