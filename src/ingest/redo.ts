/**
 * After Postgres was restored: offsets that had been decided in the time that it lost are decided once more, the same
 * way. In: what the row topics say became of each, as `headrace repair rewind` stored it. Out: batches as always, whose
 * effects and receipts are new and whose rows have the sources that they had: every reader takes them for copies, so
 * ClickHouse keeps the first ones, and the receipts agree with them.
 *
 *   halted (HR_INGEST_STATE_BEHIND) ──rewind approved──▶ redo, to `through` ──▶ as always
 */
import { guardState, type Sql } from '../catalog/index.ts'
import { DUPLICATE, decodeOutcomes, type OffsetOutcome, STORED } from '../event/index.ts'
import type { StoredRecord } from '../log/index.ts'
import {
  DECIDED_AFTER_EFFECTS,
  DECIDED_BEFORE_DEDUP,
  type Forced,
  finishBatch,
  type Judge,
  type JudgeCookieless,
  judgeBatch,
  outcomeCode,
  rowCode,
  rowSlots,
  type Slot,
} from './batch.ts'
import type { ClaimRequest } from './dedup/claims.ts'
import { ingestError } from './errors.ts'
import { type LaneId, name } from './fence.ts'
import type { IngestProject } from './project-options.ts'
import { decisionOf, isOfTransformations, judgeAsDecided, takeOutcome } from './replay.ts'
import type { Sets } from './transformations.ts'

/** The row topics say nothing of such an offset: it is decided now. Codes of outcomes end far below. */
export const UNDECIDED = 255

type Chunk = { from: number; to: number; outcomes: Uint8Array }

export class Redo {
  private decoded: { chunk: Chunk; outcomes: OffsetOutcome[] } | undefined

  private constructor(
    /** In order, side by side. */
    private readonly chunks: readonly Chunk[],
  ) {}

  /** What is to be done once more from `nextOffset` on; undefined, as nearly always, when nothing is. */
  static async open(sql: Sql, lane: LaneId, nextOffset: number): Promise<Redo | undefined> {
    const chunks = await guardState(
      'read what is to be decided once more',
      () => sql<Chunk[]>`
        SELECT from_offset AS from, to_offset AS to, outcomes FROM ingest_redo
        WHERE log_id = ${lane.logId} AND partition = ${lane.partition} AND to_offset > ${nextOffset}
        ORDER BY from_offset`,
    )
    return chunks.length > 0 ? new Redo(chunks) : undefined
  }

  /** Decided before below this. */
  get through(): number {
    return this.chunks.at(-1)!.to
  }

  /** Parts of `records` of which each is either decided before, or not. */
  split(records: StoredRecord[]): StoredRecord[][] {
    const before = this.through - records[0]!.offset
    if (before <= 0 || before >= records.length) return [records]
    return [records.slice(0, before), records.slice(before)]
  }

  /** What became of an offset then; undefined when that is not known. */
  at(offset: number): OffsetOutcome | undefined {
    if (this.decoded === undefined || offset < this.decoded.chunk.from || offset >= this.decoded.chunk.to) {
      const chunk = this.chunks.find(({ from, to }) => from <= offset && offset < to)
      if (!chunk) return undefined
      this.decoded = { chunk, outcomes: decodeOutcomes(chunk.outcomes) }
    }
    const outcome = this.decoded.outcomes[offset - this.decoded.chunk.from]
    return outcome?.code === UNDECIDED ? undefined : outcome
  }
}

/** As a batch that is decided the first time, but what was decided stands. Throws HR_INGEST_CHANGED when a stored event cannot be read today. */
export async function prepareRedo(
  redo: Redo,
  slots: readonly Slot[],
  lane: LaneId,
  projects: ReadonlyMap<string, IngestProject>,
  judge: Judge,
  forced: Forced,
  judgeCookieless: JudgeCookieless,
  sets: Sets,
): Promise<ClaimRequest[]> {
  const { claims, waiting } = judgeBatch(
    slots,
    lane,
    projects,
    judgeAsDecided(judge, (offset) => redo.at(offset)?.code),
    judgeCookieless,
    (offset) => tookEffect(redo.at(offset)),
  )
  await sets.apply(waiting)
  finishBatch(slots, waiting, forced)
  const first = slots[0]!.record.offset
  for (const slot of slots) {
    const outcome = redo.at(slot.record.offset)
    if (!outcome || forced.has(slot.record.offset)) continue
    const isAfterEffects = outcome.code !== STORED && tookEffect(outcome)
    if (isAfterEffects && isOfTransformations(slot.decision))
      throw ingestError(
        'HR_INGEST_CHANGED',
        `${name(lane)} offset ${slot.record.offset} took effect on its person, but its project's transformations keep it out today`,
      )
    if (isAfterEffects && slot.draft && !slot.decision)
      for (const row of rowSlots([slot])) row.afterEffects = decisionOf(outcome.code)
    else takeOutcome(lane, slot, outcome.code === STORED ? rowsOfToday(slot) : outcome)
  }
  return claims.filter(({ offset }) => {
    const code = outcomeCode(slots[offset - first]!)
    return code !== DUPLICATE && !DECIDED_BEFORE_DEDUP.has(code)
  })
}

/** The row topics tell of an offset that it was stored, not as how many rows: its transformations do, as they did then. */
function rowsOfToday(slot: Slot): OffsetOutcome {
  const rows = [slot, ...slot.more]
  const gone = rows.flatMap((row) =>
    row.decision && row.draft ? [{ sub: row.sub, code: rowCode(row) }] : [],
  )
  // One that is not there any more at all is told by `takeOutcome`.
  if (gone.length === 0 || gone.length === rows.length) return { code: STORED, rows: rows.length }
  return { code: STORED, rows: rows.length - gone.length, gone }
}

function tookEffect(outcome: OffsetOutcome | undefined): boolean {
  return outcome !== undefined && (outcome.code === STORED || DECIDED_AFTER_EFFECTS.has(outcome.code))
}
