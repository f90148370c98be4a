/**
 * Receipts of what nobody can read any more. In: a range whose raw records are gone, and what rows say of its offsets.
 * Out: receipts that say the same of these, and `lost` for exactly the rest, so that the audit still sums up; and, for
 * batches that were applied but not wholly produced, receipts amended to what rows say. No row is made up.
 */
import { fromCovering, type Transaction } from '../catalog/index.ts'
import {
  decodeOutcomes,
  describeOutcome,
  encodeOutcomes,
  LOST,
  type OffsetOutcome,
  type OutcomeCode,
  type Place,
  type ReceiptCount,
  STORED,
  sourceHash,
  storedSubs,
} from '../event/index.ts'
import { type Outbox, rangeChecksum } from '../ingest/index.ts'
import type { Log, StoredRecord } from '../log/index.ts'

/** Offsets per receipt: an audit unpacks one at a time. */
const OFFSETS_MAX = 100_000

const HOUR_MS = 3_600_000

/** Keys per statement. */
const LISTED_MAX = 5_000

/** Offsets [from, to). */
export type Range = { from: number; to: number }
export type Lane = { topic: string; partition: number; logId: string }

type Receipt = {
  from_offset: number
  to_offset: number
  checksum: number
  outcomes: Uint8Array
  prev_offset: number | null
  prev_sub: number | null
  config_version: number
  outbox: Outbox | null
  counts: ReceiptCount[] | null
  created_at: Date
}

/** What rows say of offsets: offset → what had been decided. */
export type Decided = ReadonlyMap<number, OutcomeCode>

/**
 * Receipts for offsets of which Postgres has none and whose raw records nobody can read: what rows say of each, else
 * lost. `prev` is the place emitted before them. Returns what is lost and the last place emitted.
 */
export async function insertGone(
  tx: Transaction,
  lane: Lane,
  { from, to }: Range,
  { decided, projects }: { decided: Decided; projects: ReadonlyMap<number, number> },
  prev: Place | undefined,
): Promise<{ lost: Range[]; last: Place | undefined }> {
  const hour = Math.floor(Date.now() / HOUR_MS)
  const lost: Range[] = []
  let last = prev
  for (let at = from; at < to; at += OFFSETS_MAX) {
    const outcomes: OffsetOutcome[] = []
    const counts = new Map<string, ReceiptCount>()
    for (let offset = at; offset < Math.min(at + OFFSETS_MAX, to); offset++) {
      const code = decided.get(offset) ?? LOST
      outcomes.push({ code, rows: code === STORED ? 1 : 0 })
      if (code === LOST) addOffset(lost, offset)
      else {
        const teamId = projects.get(offset) ?? 0
        const count = counts.get(`${teamId}/${code}`) ?? [hour, teamId, '', code, 0]
        counts.set(`${teamId}/${code}`, count)
        count[4]++
      }
    }
    const rest = { checksum: 0, configVersion: 0, outbox: null, counts: [...counts.values()] }
    await insertReceipt(tx, lane, at, outcomes, last, rest)
    last = lastStored(at, outcomes) ?? last
  }
  return { lost, last }
}

/**
 * Brings the receipts of [fence.producedThrough, fence.nextOffset) in line with what rows say of them, below
 * `readableFrom`: what lies at or above it is left to be produced again. Returns what is lost and the last place that
 * readers can have seen.
 */
export async function amendUnproduced(
  tx: Transaction,
  log: Log,
  lane: Lane,
  fence: { nextOffset: number; producedThrough: number },
  readableFrom: number,
  decided: Decided,
): Promise<{ lost: Range[]; last: Place | undefined }> {
  const receipts = await tx<Receipt[]>`
    SELECT from_offset, to_offset, checksum, outcomes, prev_offset, prev_sub, config_version, outbox, counts, created_at
    FROM receipt WHERE log_id = ${lane.logId} AND partition = ${lane.partition}
      AND to_offset > ${fence.producedThrough} AND from_offset < ${fence.nextOffset}
      AND ${fromCovering(tx, lane.logId, lane.partition, fence.producedThrough)}
    ORDER BY from_offset`
  const [stands] = await tx<{ last_offset: number | null; last_sub: number | null }[]>`
    SELECT last_offset, last_sub FROM ingest_fence WHERE log_id = ${lane.logId} AND partition = ${lane.partition}`
  let last = placeOf(stands?.last_offset ?? null, stands?.last_sub ?? null)
  if (receipts.length === 0) return { lost: [], last }
  const lost: Range[] = []
  last = placeOf(receipts[0]!.prev_offset, receipts[0]!.prev_sub)
  for (const receipt of receipts) {
    const from = receipt.from_offset
    const cut = Math.min(Math.max(readableFrom, from), receipt.to_offset)
    const before = decodeOutcomes(receipt.outcomes)
    const gone = before.slice(0, cut - from)
    const kept = before.slice(cut - from)
    // A batch is applied only after the one before it was acknowledged.
    const isNewest = receipt.to_offset >= fence.nextOffset
    const amended = gone.map((outcome, i) =>
      !isNewest || from + i < fence.producedThrough || decided.has(from + i)
        ? outcome
        : { code: LOST, rows: 0 },
    )
    await tx`
      DELETE FROM receipt WHERE log_id = ${lane.logId} AND partition = ${lane.partition} AND from_offset = ${from}`
    const { counts } = receipt
    const isWhole = amended.length === 0 || kept.length === 0 || isOfOneProject(counts)
    const common = {
      configVersion: receipt.config_version,
      createdAt: receipt.created_at,
      // The roll-up makes them come to the outcomes, under the project when there is one alone.
      counts: isWhole ? counts : null,
    }
    if (amended.length > 0) {
      const checksum = kept.length === 0 ? receipt.checksum : 0
      await insertReceipt(tx, lane, from, amended, last, { ...common, checksum, outbox: marksOf(receipt) })
      last = lastStored(from, amended) ?? last
    }
    if (kept.length > 0) {
      const checksum = rangeChecksum(await readRaw(log, lane, { from: cut, to: receipt.to_offset }))
      await insertReceipt(tx, lane, cut, kept, last, {
        ...common,
        checksum,
        outbox: receipt.outbox && outboxFrom(receipt.outbox, receipt.from_offset, cut),
      })
      last = lastStored(cut, kept) ?? last
    } else if (receipt.outbox) await republish(tx, receipt.outbox)
    amended.forEach(({ code }, i) => {
      if (code === LOST && before[i]!.code !== LOST) addOffset(lost, from + i)
    })
  }
  return { lost, last }
}

/** Both parts of the batch may be counted by the counts of the whole then. */
function isOfOneProject(counts: readonly ReceiptCount[] | null): boolean {
  return new Set(counts?.map(([, teamId]) => teamId)).size <= 1
}

/** The outbox of a batch that began at `from`, for its part from `cut` on. */
function outboxFrom(outbox: Outbox, from: number, cut: number): Outbox {
  const { warnings, cookieless, ...rest } = outbox
  return {
    ...rest,
    ...(warnings && { warnings: warnings.filter(([offset]) => offset >= cut) }),
    ...(cookieless && {
      cookieless: cookieless.map((ids) => ({
        ...ids,
        at: ids.at.flatMap((place) => (from + place >= cut ? [from + place - cut] : [])),
      })),
    }),
  }
}

/** Who opens the partition later still has to know where the row topics stood. */
function marksOf({ outbox }: Receipt): Outbox | null {
  return outbox?.marks ? { persons: [], mappings: [], groups: [], marks: outbox.marks } : null
}

/** State that only this batch would have sent: it is sent as it is now. */
async function republish(tx: Transaction, { persons, mappings, groups }: Outbox): Promise<void> {
  const listed = [
    ...persons.map(([team, key]) => ({ kind: 'person', team, index: 0, key })),
    ...mappings.map(([team, key]) => ({ kind: 'mapping', team, index: 0, key })),
    ...groups.map(([team, index, key]) => ({ kind: 'group', team, index, key })),
  ]
  await listState(
    tx,
    listed.map((one) => ({ ...one, above: 0 })),
  )
}

export type ListedState = { kind: string; team: number; index: number; key: string; above: number }

/** Lists state to be sent again (src/ingest/identity/republish.ts). */
export async function listState(tx: Transaction, listed: readonly ListedState[]): Promise<void> {
  for (let at = 0; at < listed.length; at += LISTED_MAX) {
    const some = JSON.stringify(listed.slice(at, at + LISTED_MAX))
    await tx`
      INSERT INTO state_republish AS s (kind, team_id, type_index, key, above)
      SELECT kind, team, index, key, above FROM jsonb_to_recordset(${some}::text::jsonb)
        AS l(kind text, team int, index smallint, key text, above bigint)
      ON CONFLICT (kind, team_id, type_index, key) DO UPDATE SET above = greatest(s.above, excluded.above)`
  }
}

async function insertReceipt(
  tx: Transaction,
  lane: Lane,
  from: number,
  outcomes: readonly OffsetOutcome[],
  prev: Place | undefined,
  rest: {
    checksum: number
    configVersion: number
    outbox: Outbox | null
    counts: readonly ReceiptCount[] | null
    createdAt?: Date
  },
): Promise<void> {
  const counts = { stored: 0, duplicate: 0, dropped: 0, dead_lettered: 0, erased: 0, expired: 0, lost: 0 }
  let rows = 0
  let hashSum = 0n
  outcomes.forEach((outcome, i) => {
    counts[describeOutcome(outcome.code).state]++
    for (const sub of storedSubs(outcome)) {
      rows++
      hashSum += BigInt(sourceHash({ offset: from + i, sub }))
    }
  })
  await tx`
    INSERT INTO receipt (log_id, partition, from_offset, to_offset, checksum, outcomes, stored, duplicate, dropped,
      dead_lettered, stored_rows, hash_sum, prev_offset, prev_sub, config_version, outbox, counts, created_at)
    VALUES (${lane.logId}, ${lane.partition}, ${from}, ${from + outcomes.length}, ${rest.checksum},
      ${encodeOutcomes(outcomes)}, ${counts.stored}, ${counts.duplicate}, ${counts.dropped}, ${counts.dead_lettered},
      ${rows}, ${String(hashSum)}, ${prev?.offset ?? null}, ${prev?.sub ?? null}, ${rest.configVersion},
      ${rest.outbox ? JSON.stringify(rest.outbox) : null}::text::jsonb,
      ${rest.counts ? JSON.stringify(rest.counts) : null}::text::jsonb, coalesce(${rest.createdAt ?? null}::timestamptz, now()))`
}

async function readRaw(log: Log, { topic, partition }: Lane, { from, to }: Range): Promise<StoredRecord[]> {
  const records: StoredRecord[] = []
  for await (const some of log.read(topic, partition, from, to)) records.push(...some)
  return records
}

function lastStored(from: number, outcomes: readonly OffsetOutcome[]): Place | undefined {
  const at = outcomes.findLastIndex(({ code }) => code === STORED)
  if (at < 0) return undefined
  const { rows, gone } = outcomes[at]!
  return { offset: from + at, sub: rows + (gone?.length ?? 0) - 1 }
}

function placeOf(offset: number | null, sub: number | null): Place | undefined {
  return offset === null || sub === null ? undefined : { offset, sub }
}

export function addOffset(ranges: Range[], offset: number): void {
  const last = ranges.at(-1)
  if (last?.to === offset) last.to++
  else ranges.push({ from: offset, to: offset + 1 })
}
