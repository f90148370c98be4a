/**
 * Where in the index a question about receipts begins. They lie side by side, so the one that covers an offset is the last
 * that begins at or below it; asked by their ends alone, the index is read from the partition's very first one, which
 * takes longer the older a deployment is.
 */
import type { Sql, Transaction } from './postgres.ts'

/** A condition: only receipts from the one that covers `offset` on. */
export function fromCovering(sql: Sql | Transaction, logId: string, partition: number, offset: number) {
  return sql`from_offset >= coalesce((
    SELECT max(from_offset) FROM receipt
    WHERE log_id = ${logId} AND partition = ${partition} AND from_offset <= ${offset}), 0)`
}
