/**
 * Receipts must lie side by side from the first offset to the fence. In: receipts as they are read. Out: the
 * receipts, checked, each starting where the one before it ended, and a finding for every hole and every overlap.
 */
import type { Sql } from '../catalog/index.ts'
import { type CheckedReceipt, checkReceipt, partOf } from './check-receipt.ts'
import type { Finding } from './findings.ts'
import { type Lane, readReceipt, readReceipts } from './receipts.ts'

/** The receipts of [from, to) in order; `report` is called for what is not tiled. */
export async function* tiledReceipts(
  sql: Sql,
  lane: Lane,
  from: number,
  to: number,
  report: (finding: Finding) => void,
  pageReceipts?: number,
): AsyncGenerator<CheckedReceipt> {
  let expected = from
  for await (const page of readReceipts(sql, lane, from, to, pageReceipts)) {
    for (const receipt of page) {
      if (receipt.from > expected) yield* await fill(sql, lane, expected, receipt.from, report)
      if (receipt.from < expected) {
        report({
          kind: 'receipt_overlap',
          from: receipt.from,
          to: Math.min(receipt.to, expected),
          detail: 'two receipts',
        })
      }
      expected = Math.max(expected, receipt.to)
      // One at a time: unpacked, a coarse one may be large.
      yield checkReceipt(receipt)
    }
  }
  if (expected < to) yield* await fill(sql, lane, expected, to, report)
}

/**
 * A hole, or a coarse receipt that begins before it: that of the first offsets asked for, or one that was merged of
 * several between two pages.
 */
async function fill(
  sql: Sql,
  lane: Lane,
  from: number,
  to: number,
  report: (finding: Finding) => void,
): Promise<CheckedReceipt[]> {
  const covering = await readReceipt(sql, lane.logId, lane.partition, from)
  const part = covering && partOf(checkReceipt(covering), from, to)
  const end = part?.readable ? part.to : from
  if (end < to)
    report({ kind: 'receipt_missing', from: end, to, detail: 'no receipt, though ingest went past' })
  return part?.readable ? [part] : []
}
