/** I4 in Postgres: receipts without a hole, right about each offset, summing to the log; fences at its end. */
import {
  type DeadLetterReason,
  type DropReason,
  DUPLICATE,
  deadLetterCode,
  decodeOutcomes,
  dropCode,
  type OutcomeCode,
  STORED,
  sourceHash,
} from '../../../src/event/index.ts'
import type { Findings } from './findings.ts'
import { type Expected, type Model, placeOf } from './model.ts'

export type Receipt = {
  log_id: string
  partition: number
  from_offset: number
  to_offset: number
  outcomes: Uint8Array
  stored: number
  duplicate: number
  dropped: number
  dead_lettered: number
  stored_rows: number
  hash_sum: number
  prev_offset: number | null
}

export type Fence = {
  log_id: string
  partition: number
  next_offset: number
  produced_through: number
  last_offset: number | null
}

/** Where each lane of the raw log ends. */
export type LaneEnd = { logId: string; partition: number; end: number }

/** `receipts` in the order of their offsets. Call it behind `checkRows`, which settles what either lane may hold. */
export function checkReceipts(
  model: Model,
  lanes: readonly LaneEnd[],
  receipts: readonly Receipt[],
  fences: readonly Fence[],
  findings: Findings,
): void {
  for (const lane of lanes) {
    const isOf = (row: { log_id: string; partition: number }) =>
      row.log_id === lane.logId && row.partition === lane.partition
    const { at, last } = checkLane(model, receipts.filter(isOf), findings)
    const name = placeOf({ ...lane, offset: lane.end })
    findings.expect(at === lane.end, 'I4: receipts do not reach the end of the log', () => `${name} (${at})`)
    const fence = fences.find(isOf)
    const stands = fence?.next_offset === lane.end && fence.produced_through === lane.end
    findings.expect(
      stands,
      'a fence is not at the end of the log',
      () => `${name} (${JSON.stringify(fence)})`,
    )
    findings.expect(fence?.last_offset === last, 'a fence names another last event', () => name)
  }
  findings.expect(fences.length === lanes.length, 'fences of no lane', () => JSON.stringify(fences))
}

function checkLane(
  model: Model,
  receipts: readonly Receipt[],
  findings: Findings,
): { at: number; last: number | null } {
  let at = 0
  let last: number | null = null
  for (const receipt of receipts) {
    const { log_id: logId, partition, from_offset: from, to_offset: to } = receipt
    const name = placeOf({ logId, partition, offset: from })
    findings.expect(from === at, 'I4: receipts with a hole or an overlap', () => `${name} behind ${at}`)
    findings.expect(receipt.prev_offset === last, 'a receipt names another event before it', () => name)
    const outcomes = decodeOutcomes(receipt.outcomes)
    findings.expect(outcomes.length === to - from, 'a receipt of another length', () => name)
    const counts = { stored: 0, duplicate: 0, dropped: 0, dead_lettered: 0 }
    let hashSum = 0
    for (let offset = from; offset < to; offset++) {
      const place = placeOf({ logId, partition, offset })
      const expected = model.expected.get(place)
      if (!expected) {
        findings.note('I4: a receipt for what is not in the log', place)
        continue
      }
      counts[expected.state]++
      findings.expect(
        outcomes[offset - from]?.code === codeOf(expected),
        'I4: a receipt tells another end state',
        () => `${place} (${outcomes[offset - from]?.code} instead of ${codeOf(expected)})`,
      )
      if (expected.state !== 'stored') continue
      hashSum += sourceHash({ offset, sub: 0 })
      last = offset
    }
    const { stored, duplicate, dropped, dead_lettered } = receipt
    findings.expect(
      Bun.deepEquals(counts, { stored, duplicate, dropped, dead_lettered }) && receipt.stored_rows === stored,
      'I4: the sums of a receipt',
      () => name,
    )
    findings.expect(receipt.hash_sum === hashSum, 'I4: the hash sum of a receipt', () => name)
    at = to
  }
  return { at, last }
}

function codeOf({ state, reason }: Expected): OutcomeCode {
  if (state === 'stored') return STORED
  if (state === 'duplicate') return DUPLICATE
  return state === 'dropped' ? dropCode(reason as DropReason) : deadLetterCode(reason as DeadLetterReason)
}
