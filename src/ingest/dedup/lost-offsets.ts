/**
 * Offsets that an operator gave up (`headrace repair gap`): their events ended as lost, also those that had a claim
 * because their batch was applied and never produced. Such a claim must not win: a copy that is sent again is the only one.
 * A few ranges, asked only of what would be a duplicate.
 */
import { guardState, type Sql } from '../../catalog/index.ts'

type Range = { logId: string; from: number; to: number | null }

export class LostOffsets {
  static readonly none = new LostOffsets([])

  constructor(private readonly ranges: readonly Range[]) {}

  static async read(sql: Sql, partition: number): Promise<LostOffsets> {
    const ranges = await guardState(
      `losses of partition ${partition}`,
      () => sql<Range[]>`
        SELECT log_id AS "logId", from_offset AS from, to_offset AS to FROM ingest_loss
        WHERE partition = ${partition}`,
    )
    return new LostOffsets(ranges)
  }

  /** A range without an end is of a log that is gone. */
  has(logId: string, offset: number): boolean {
    return this.ranges.some(
      (range) => range.logId === logId && offset >= range.from && (range.to === null || offset < range.to),
    )
  }

  /** How many of the offsets [from, to). */
  countIn(logId: string, from: number, to: number): number {
    let count = 0
    for (const range of this.ranges) {
      if (range.logId !== logId) continue
      count += Math.max(0, Math.min(range.to ?? Infinity, to) - Math.max(range.from, from))
    }
    return count
  }
}
