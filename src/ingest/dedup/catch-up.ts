/**
 * Brings a dedup index from where it is complete to the fence, by reading the raw log: after a crash, and when the
 * partition comes from another machine, with a snapshot or without. The receipts say which offsets made a claim, so the
 * result is what the index would have been, as far as the log still holds the records. About 5 µs per event.
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

export type CaughtUp = {
  /** Offsets read. */
  read: number
  /** Offsets that were decided and that the log no longer holds, all appended before `sinceMs`. */
  lacking: { offsets: number; sinceMs: number } | undefined
}

/**
 * `signal` stops it between two rounds; the index stays consistent. `projectsOf` must not take a token for unknown by
 * memory: the project of a stored event may be younger than that memory, and its claim would be left out for good.
 */
export async function catchUp(
  claims: Claims,
  deps: { sql: Sql; log: Log; projectsOf: ProjectsOf },
  lane: LaneId,
  fence: number,
  signal: AbortSignal,
): Promise<CaughtUp> {
  const { start } = await deps.log.bounds(lane.topic, lane.partition)
  const completeTo = claims.completeTo(lane.logId)
  const from = Math.max(completeTo, start)
  let sinceMs: number | undefined
  for (let at = from; at < fence && !signal.aborted; ) {
    const to = Math.min(at + ROUND_OFFSETS, fence)
    const claimed = await claimedOffsets(deps.sql, lane, at, to)
    for await (const records of deps.log.read(lane.topic, lane.partition, at, to)) {
      sinceMs ??= records[0]!.appendedMs
      claims.store(
        await requestsOf(records, claimed, lane, deps.projectsOf),
        lane.logId,
        records.at(-1)!.offset + 1,
      )
    }
    at = to
  }
  const gone = Math.max(0, start - completeTo)
  const offsets = gone - claims.lost.countIn(lane.logId, completeTo, completeTo + gone)
  return {
    read: Math.max(0, fence - from),
    lacking: offsets > 0 ? { offsets, sinceMs: sinceMs ?? Date.now() } : undefined,
  }
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
