/**
 * What is left when neither ClickHouse nor a log has a row, and an operator accepts that. A stored event becomes `lost`
 * in its receipt and an accepted loss. The end state of any other one is in its receipt still: its row says so again,
 * without the ids that only the record had.
 */
import { fromCovering, guardState, type Sql, stateError, transaction } from '../catalog/index.ts'
import {
  codeOfRow,
  DEAD_LETTERS,
  decodeOutcomes,
  describeOutcome,
  encodeOutcomes,
  LOST,
  NIL_UUID,
  OUTCOMES,
  type OutcomeRow,
  type Place,
  type ReceiptCount,
  STORED,
  sourceHash,
  withoutRow,
} from '../event/index.ts'
import { countLost } from '../ledger/index.ts'
import { addOffset, type Range } from './lost-receipts.ts'
import type { LaneOf, MadeRow } from './warehouse-make.ts'
import type { RowKind } from './warehouse-plan.ts'

const DETAIL = 'the record is lost; this is what its receipt says'

type ReceiptRow = {
  from_offset: number
  to_offset: number
  outcomes: Uint8Array
  counts: ReceiptCount[] | null
  created_ms: number
}

/** `places` of rows of `events` that are gone. One transaction. */
export async function giveUpRows(sql: Sql, lane: LaneOf, places: readonly Place[]): Promise<void> {
  const { logId, partition, topic } = lane
  await guardState('give up rows', () =>
    transaction(sql, async (tx) => {
      const offsets = [...new Set(places.map(({ offset }) => offset))].sort((a, b) => a - b)
      const lost: number[] = []
      const receipts = await tx<ReceiptRow[]>`
        SELECT from_offset, to_offset, outcomes, counts, (extract(epoch FROM created_at) * 1000)::float8 AS created_ms
        FROM receipt WHERE log_id = ${logId} AND partition = ${partition}
          AND from_offset <= ${offsets.at(-1)!} AND to_offset > ${offsets[0]!}
          AND ${fromCovering(tx, logId, partition, offsets[0]!)}
        ORDER BY from_offset FOR UPDATE`
      const covers = ({ from_offset, to_offset }: ReceiptRow, offset: number) =>
        from_offset <= offset && offset < to_offset
      const missed = offsets.find((offset) => !receipts.some((receipt) => covers(receipt, offset)))
      // The ledger merged receipts between the look and the lock: the one that took them in was not seen.
      if (missed !== undefined)
        throw stateError(
          'HR_STATE_CONFLICT',
          `no receipt covers offset ${missed} of ${topic}/${partition} now`,
        )
      for (const receipt of receipts) {
        const outcomes = decodeOutcomes(receipt.outcomes)
        let events = 0
        let deadLetters = 0
        let rows = 0
        let hashSum = 0n
        for (const place of places) {
          const at = place.offset - receipt.from_offset
          const before = outcomes[at]
          const after = before && withoutRow(before, place.sub, LOST)
          if (!after) continue
          outcomes[at] = after
          hashSum += BigInt(sourceHash(place))
          rows++
          if (after.code === STORED) continue
          events++
          // Another row of it is a dead letter since ClickHouse refused it: that is what the event is now.
          if (after.code === LOST) lost.push(place.offset)
          else deadLetters++
        }
        await tx`
          UPDATE receipt SET outcomes = ${encodeOutcomes(outcomes)}, stored = stored - ${events},
            dead_lettered = dead_lettered + ${deadLetters}, stored_rows = stored_rows - ${rows},
            hash_sum = hash_sum - ${String(hashSum)}::numeric
          WHERE log_id = ${logId} AND partition = ${partition} AND from_offset = ${receipt.from_offset}`
        const { to_offset: to, counts, created_ms: decidedMs } = receipt
        await countLost(tx, lane, { to, counts, decidedMs }, events)
      }
      // An event of which a row or a dead letter is left is not lost: a copy of it stays a duplicate.
      for (const { from, to } of rangesOf(lost.sort((a, b) => a - b)))
        await tx`
          INSERT INTO ingest_loss (log_id, partition, from_offset, topic, to_offset, cause)
          VALUES (${logId}, ${partition}, ${from}, ${topic}, ${to}, 'warehouse')
          ON CONFLICT (log_id, partition, from_offset) DO UPDATE SET to_offset = greatest(ingest_loss.to_offset, excluded.to_offset)`
    }),
  )
}

/** `offsets` in ascending order. */
export function rangesOf(offsets: readonly number[]): Range[] {
  const ranges: Range[] = []
  for (const offset of offsets) addOffset(ranges, offset)
  return ranges
}

/** Rows of `outcomes` or `dead_letters` from the receipts alone. */
export async function namelessRows(
  sql: Sql,
  { logId, partition }: LaneOf,
  kind: RowKind,
  places: readonly Place[],
): Promise<MadeRow[]> {
  const offsets = places.map(({ offset }) => offset)
  const receipts = await guardState(
    'read receipts',
    () => sql<Omit<ReceiptRow, 'counts'>[]>`
      SELECT from_offset, to_offset, outcomes, (extract(epoch FROM created_at) * 1000)::float8 AS created_ms
      FROM receipt WHERE log_id = ${logId} AND partition = ${partition}
        AND from_offset <= ${Math.max(...offsets)} AND to_offset > ${Math.min(...offsets)}
        AND ${fromCovering(sql, logId, partition, Math.min(...offsets))}`,
  )
  return receipts.flatMap(({ from_offset, to_offset, outcomes, created_ms }) => {
    const decoded = decodeOutcomes(outcomes)
    const timestampMs = Math.floor(created_ms)
    return places
      .filter(({ offset }) => offset >= from_offset && offset < to_offset)
      .map((place) => {
        const outcome = decoded[place.offset - from_offset]!
        const { state, reason } = describeOutcome(codeOfRow(outcome, place.sub))
        const known = {
          team_id: 0,
          uuid: NIL_UUID,
          event: '',
          distinct_id: '',
          reason,
          timestamp: timestampMs,
          _log_id: logId,
          _partition: partition,
          _offset: place.offset,
          _sub: place.sub,
        }
        const row =
          kind.table === DEAD_LETTERS
            ? DEAD_LETTERS.encode({
                ...known,
                detail: DETAIL,
                step: 'repair',
                raw_header: new Uint8Array(),
                raw_value: new Uint8Array(),
              })
            : OUTCOMES.encode({ ...known, state, first_source: '' } satisfies OutcomeRow)
        return { ...place, row, timestampMs }
      })
  })
}
