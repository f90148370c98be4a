/**
 * Receipts of what is lost. In: a range whose raw records are gone. Out: receipts that say `lost` for exactly it, so
 * that the audit still sums up; and, for batches that were applied but not wholly produced, receipts amended to what
 * the row topics hold. No row is made up.
 */

import type { Sql, Transaction } from '../catalog/index.ts'
import {
  decodeOutcomes,
  decodeRowHeader,
  describeOutcome,
  encodeOutcomes,
  LOST,
  type OffsetOutcome,
  type Place,
  STORED,
  sourceHash,
  TOPICS,
} from '../event/index.ts'
import { type Outbox, rangeChecksum, stretchesSince } from '../ingest/index.ts'
import type { Log, StoredRecord } from '../log/index.ts'

/** Offsets per receipt: an audit unpacks one at a time. */
const OFFSETS_MAX = 100_000

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
  created_at: Date
}

/** Receipts for offsets of which nothing was ever decided. `prev` is the place emitted before them. */
export async function insertLost(
  tx: Transaction,
  lane: Lane,
  { from, to }: Range,
  prev: Place | undefined,
): Promise<void> {
  for (let at = from; at < to; at += OFFSETS_MAX) {
    const through = Math.min(at + OFFSETS_MAX, to)
    const outcomes: OffsetOutcome[] = Array.from({ length: through - at }, () => ({ code: LOST, rows: 0 }))
    await insertReceipt(tx, lane, at, outcomes, prev, { checksum: 0, configVersion: 0, outbox: null })
  }
}

/**
 * Brings the receipts of [fence.producedThrough, fence.nextOffset) in line with what was produced of them, below
 * `readableFrom`: what lies at or above it is left to be produced again. Returns what is lost and the last place that
 * readers can have seen.
 */
export async function amendUnproduced(
  tx: Transaction,
  deps: { sql: Sql; log: Log },
  lane: Lane,
  fence: { nextOffset: number; producedThrough: number },
  readableFrom: number,
): Promise<{ lost: Range[]; last: Place | undefined }> {
  const receipts = await tx<Receipt[]>`
    SELECT from_offset, to_offset, checksum, outcomes, prev_offset, prev_sub, config_version, outbox, created_at
    FROM receipt WHERE log_id = ${lane.logId} AND partition = ${lane.partition}
      AND to_offset > ${fence.producedThrough} AND from_offset < ${fence.nextOffset} ORDER BY from_offset`
  const [stands] = await tx<{ last_offset: number | null; last_sub: number | null }[]>`
    SELECT last_offset, last_sub FROM ingest_fence WHERE log_id = ${lane.logId} AND partition = ${lane.partition}`
  let last = placeOf(stands?.last_offset ?? null, stands?.last_sub ?? null)
  if (receipts.length === 0) return { lost: [], last }
  const produced = await producedOffsets(deps, lane)
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
      !isNewest || from + i < fence.producedThrough || produced.has(from + i)
        ? outcome
        : { code: LOST, rows: 0 },
    )
    await tx`
      DELETE FROM receipt WHERE log_id = ${lane.logId} AND partition = ${lane.partition} AND from_offset = ${from}`
    const common = { configVersion: receipt.config_version, createdAt: receipt.created_at }
    if (amended.length > 0) {
      const checksum = kept.length === 0 ? receipt.checksum : 0
      await insertReceipt(tx, lane, from, amended, last, { ...common, checksum, outbox: marksOf(receipt) })
      last = lastStored(from, amended) ?? last
    }
    if (kept.length > 0) {
      const checksum = rangeChecksum(await readRaw(deps.log, lane, { from: cut, to: receipt.to_offset }))
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
  if (listed.length === 0) return
  await tx`
    INSERT INTO state_republish AS s (kind, team_id, type_index, key, above)
    SELECT kind, team, index, key, above FROM jsonb_to_recordset(${JSON.stringify(listed)}::text::jsonb)
      AS l(kind text, team int, index smallint, key text, above bigint)
    ON CONFLICT (kind, team_id, type_index, key) DO UPDATE SET above = greatest(s.above, excluded.above)`
}

async function insertReceipt(
  tx: Transaction,
  lane: Lane,
  from: number,
  outcomes: readonly OffsetOutcome[],
  prev: Place | undefined,
  rest: { checksum: number; configVersion: number; outbox: Outbox | null; createdAt?: Date },
): Promise<void> {
  const counts = { stored: 0, duplicate: 0, dropped: 0, dead_lettered: 0, erased: 0, expired: 0, lost: 0 }
  let rows = 0
  let hashSum = 0n
  outcomes.forEach(({ code, rows: ofOffset }, i) => {
    counts[describeOutcome(code).state]++
    for (let sub = 0; code === STORED && sub < ofOffset; sub++) {
      rows++
      hashSum += BigInt(sourceHash({ offset: from + i, sub }))
    }
  })
  await tx`
    INSERT INTO receipt (log_id, partition, from_offset, to_offset, checksum, outcomes, stored, duplicate, dropped,
      dead_lettered, stored_rows, hash_sum, prev_offset, prev_sub, config_version, outbox, created_at)
    VALUES (${lane.logId}, ${lane.partition}, ${from}, ${from + outcomes.length}, ${rest.checksum},
      ${encodeOutcomes(outcomes)}, ${counts.stored}, ${counts.duplicate}, ${counts.dropped}, ${counts.dead_lettered},
      ${rows}, ${String(hashSum)}, ${prev?.offset ?? null}, ${prev?.sub ?? null}, ${rest.configVersion},
      ${rest.outbox ? JSON.stringify(rest.outbox) : null}::text::jsonb, coalesce(${rest.createdAt ?? null}::timestamptz, now()))`
}

/** Offsets of this raw log of which a row lies behind the marks of the newest receipts. */
async function producedOffsets(deps: { sql: Sql; log: Log }, lane: Lane): Promise<Set<number>> {
  const offsets = new Set<number>()
  const topics = [TOPICS.events, TOPICS.outcomes] as const
  for (const { topic, partition, from, to } of await stretchesSince(deps, lane.partition, topics)) {
    for await (const records of deps.log.read(topic, partition, from, to)) {
      for (const { header } of records) {
        const { source } = decodeRowHeader(header)
        if (source.logId === lane.logId) offsets.add(source.offset)
      }
    }
  }
  return offsets
}

async function readRaw(log: Log, { topic, partition }: Lane, { from, to }: Range): Promise<StoredRecord[]> {
  const records: StoredRecord[] = []
  for await (const some of log.read(topic, partition, from, to)) records.push(...some)
  return records
}

function lastStored(from: number, outcomes: readonly OffsetOutcome[]): Place | undefined {
  const at = outcomes.findLastIndex(({ code }) => code === STORED)
  return at < 0 ? undefined : { offset: from + at, sub: outcomes[at]!.rows - 1 }
}

function placeOf(offset: number | null, sub: number | null): Place | undefined {
  return offset === null || sub === null ? undefined : { offset, sub }
}

function addOffset(ranges: Range[], offset: number): void {
  const last = ranges.at(-1)
  if (last?.to === offset) last.to++
  else ranges.push({ from: offset, to: offset + 1 })
}
