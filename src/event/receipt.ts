/**
 * What became of every raw offset of a batch, packed: runs of `(outcome code, row count)`. A batch in which all is
 * stored is four bytes, so receipts keep it for as long as they are kept, and audit, repair and a rebuilt dedup
 * index never have to guess. Layout: per run `varint length · u8 code · varint rows`; a length of 0 stands for one
 * offset with rows that are gone: behind it `varint count · count × (varint sub · u8 code)`.
 */
import { ByteReader, ByteWriter } from './bytes.ts'
import { LOST, type OutcomeCode, STORED } from './reasons.ts'

/**
 * The outcome of one raw offset: its code, and how many rows of it are in `events` (0 unless stored). An event of
 * several rows is stored while one of them is; those that are not any more stand in `gone`, by number.
 */
export type OffsetOutcome = { code: OutcomeCode; rows: number; gone?: readonly GoneRow[] }

/** A row that ingest made and `events` does not have: a dead letter, since ClickHouse refused it, or lost. */
export type GoneRow = { sub: number; code: OutcomeCode }

/** Of a batch's events: [hour of capture since 1970, team id (0 = none), SDK, outcome code, events]. */
export type ReceiptCount = [number, number, string, OutcomeCode, number]

/** Neighbouring offsets that became the same. */
export type OutcomeRun = OffsetOutcome & { length: number }

const writer = new ByteWriter(256)

/** `outcomes[i]` is that of the batch's i-th offset. */
export function encodeOutcomes(outcomes: readonly OffsetOutcome[]): Buffer {
  return encodeRuns(outcomes)
}

/** Neighbours that became the same are joined, so the runs of receipts in a row are packed as one. */
export function encodeRuns(runs: readonly (OffsetOutcome & { length?: number })[]): Buffer {
  writer.length = 0
  for (let start = 0; start < runs.length; ) {
    const { code, rows, gone } = runs[start]!
    if (gone) {
      writeGone(code, rows, gone)
      start++
      continue
    }
    let length = 0
    let end = start
    for (; end < runs.length && isSame(runs[start]!, runs[end]!); end++) length += runs[end]!.length ?? 1
    writer.varint(length)
    writer.u8(code)
    writer.varint(rows)
    start = end
  }
  return writer.take()
}

function isSame(one: OffsetOutcome, other: OffsetOutcome): boolean {
  return one.code === other.code && one.rows === other.rows && !other.gone
}

function writeGone(code: OutcomeCode, rows: number, gone: readonly GoneRow[]): void {
  writer.varint(0)
  writer.u8(code)
  writer.varint(rows)
  writer.varint(gone.length)
  for (const row of gone) {
    writer.varint(row.sub)
    writer.u8(row.code)
  }
}

/** Unpacks what `encodeOutcomes` packed, as runs: costs by the run, not by the offset. */
export function decodeRuns(bytes: Uint8Array): OutcomeRun[] {
  const reader = new ByteReader(bytes)
  const runs: OutcomeRun[] = []
  while (!reader.done) {
    const run = { length: reader.varint(), code: reader.u8(), rows: reader.varint() }
    runs.push(run.length > 0 ? run : { ...run, length: 1, gone: readGone(reader) })
  }
  return runs
}

function readGone(reader: ByteReader): GoneRow[] {
  const gone: GoneRow[] = []
  for (let left = reader.varint(); left > 0; left--) gone.push({ sub: reader.varint(), code: reader.u8() })
  return gone
}

/** Unpacks what `encodeOutcomes` packed: one entry per offset. */
export function decodeOutcomes(bytes: Uint8Array): OffsetOutcome[] {
  return expandRuns(decodeRuns(bytes))
}

/** One entry per offset. */
export function expandRuns(runs: readonly OutcomeRun[]): OffsetOutcome[] {
  const outcomes: OffsetOutcome[] = []
  for (const { length, ...outcome } of runs) for (let i = 0; i < length; i++) outcomes.push(outcome)
  return outcomes
}

const NO_SUBS: readonly number[] = []
const ONLY_FIRST: readonly number[] = [0]

/** Numbers of the rows that `events` has of an offset. */
export function storedSubs({ code, rows, gone }: OffsetOutcome): readonly number[] {
  if (code !== STORED || rows === 0) return NO_SUBS
  if (rows === 1 && !gone) return ONLY_FIRST
  const lacking = new Set(gone?.map(({ sub }) => sub))
  const subs: number[] = []
  for (let sub = 0; subs.length < rows; sub++) if (!lacking.has(sub)) subs.push(sub)
  return subs
}

/** Numbers of the rows that `outcomes` has of an offset: of one that is not stored, and of each refused row. */
export function endedSubs({ code, gone }: OffsetOutcome): readonly number[] {
  if (gone) return gone.flatMap((row) => (row.code === LOST ? [] : [row.sub]))
  return code === STORED || code === LOST ? NO_SUBS : ONLY_FIRST
}

/** What became of one row of an offset. */
export function codeOfRow({ code, gone }: OffsetOutcome, sub: number): OutcomeCode {
  return gone?.find((row) => row.sub === sub)?.code ?? code
}

/**
 * The outcome without its row `sub`, which is `code` now; undefined when that row is not among those that it has. The
 * offset of a last row ends as its rows did: in the dead letters if one of them is there, else lost.
 */
export function withoutRow(
  outcome: OffsetOutcome,
  sub: number,
  code: OutcomeCode,
): OffsetOutcome | undefined {
  if (!storedSubs(outcome).includes(sub)) return undefined
  const rows = outcome.rows - 1
  const gone = [...(outcome.gone ?? []), { sub, code }].sort((a, b) => a.sub - b.sub)
  if (rows > 0) return { code: STORED, rows, gone }
  const end = gone.find((row) => row.code !== LOST)?.code ?? LOST
  // Most events have one row: the offset says it all.
  return end === LOST || gone.length === 1 ? { code: end, rows } : { code: end, rows, gone }
}
