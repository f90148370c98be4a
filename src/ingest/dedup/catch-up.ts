/**
 * Brings a dedup index from where it is complete to the fence, by reading the raw log: after a crash, and when the
 * partition comes from another machine, with a snapshot or without. The receipts say which offsets made a claim, so the result is what the
 * index would have been. About 5 µs per event; records that the log no longer holds are older than any window.
 */
import type { Sql } from '../../catalog/index.ts'
import { DUPLICATE, decodeOutcomes, decodeRawHeader } from '../../event/index.ts'
import type { Log, StoredRecord } from '../../log/index.ts'
import { DECIDED_BEFORE_DEDUP } from '../batch.ts'
import { ingestError } from '../errors.ts'
import { type LaneId, name, readReceipts } from '../fence.ts'
import type { ProjectsOf } from '../projects.ts'
import type { ClaimRequest, Claims } from './claims.ts'

/** Offsets per round: bounds the memory. */
const ROUND_OFFSETS = 20_000

/** Returns how many offsets were read. `signal` stops it between two rounds; the index stays consistent. */
export async function catchUp(
  claims: Claims,
  deps: { sql: Sql; log: Log; projectsOf: ProjectsOf },
  lane: LaneId,
  fence: number,
  signal: AbortSignal,
): Promise<number> {
  const { start } = await deps.log.bounds(lane.topic, lane.partition)
  const from = Math.max(claims.completeTo(lane.logId), start)
  for (let at = from; at < fence && !signal.aborted; ) {
    const to = Math.min(at + ROUND_OFFSETS, fence)
    const claimed = await claimedOffsets(deps.sql, lane, at, to)
    for await (const records of deps.log.read(lane.topic, lane.partition, at, to)) {
      claims.store(
        await requestsOf(records, claimed, lane, deps.projectsOf),
        lane.logId,
        records.at(-1)!.offset + 1,
      )
    }
    at = to
  }
  return Math.max(0, fence - from)
}

/** The offsets of [from, to) whose events hold a claim. */
async function claimedOffsets(sql: Sql, lane: LaneId, from: number, to: number): Promise<Set<number>> {
  const claimed = new Set<number>()
  let expected = from
  for (const receipt of await readReceipts(sql, lane, from, to)) {
    if (receipt.fromOffset > expected) break
    const outcomes = decodeOutcomes(receipt.outcomes)
    for (let offset = Math.max(from, receipt.fromOffset); offset < Math.min(to, receipt.toOffset); offset++) {
      const { code } = outcomes[offset - receipt.fromOffset]!
      if (code !== DUPLICATE && !DECIDED_BEFORE_DEDUP.has(code)) claimed.add(offset)
    }
    expected = receipt.toOffset
  }
  if (expected < to)
    throw ingestError(
      'HR_INGEST_CHANGED',
      `${name(lane)} has no receipt for offset ${expected}, below its fence`,
    )
  return claimed
}

async function requestsOf(
  records: readonly StoredRecord[],
  claimed: ReadonlySet<number>,
  lane: LaneId,
  projectsOf: ProjectsOf,
): Promise<ClaimRequest[]> {
  const headers = records.flatMap((record) =>
    claimed.has(record.offset) ? [{ record, header: decodeRawHeader(record.header) }] : [],
  )
  const projects = await projectsOf(new Set(headers.map(({ header }) => header.token)))
  return headers.flatMap(({ record, header }) => {
    const teamId = projects.get(header.token)?.teamId
    // The project was deleted since: nothing of it can come again.
    if (teamId === undefined) return []
    return [
      {
        teamId,
        uuid: header.uuid,
        event: header.event,
        distinctId: header.distinctId,
        logId: lane.logId,
        offset: record.offset,
        appendedMs: record.appendedMs,
        replayOf: header.replayOf,
      },
    ]
  })
}
