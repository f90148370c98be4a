/**
 * After a crash: brings into the log what Postgres has taken but the log may not have. The receipt is taken as
 * given (outcomes, row counts, chain); no effect is applied again; persons and groups are stamped as they are now
 * and the rows are marked `_restamped`; state rows of the outbox are read anew. Records get the same sources and
 * `prev`, so a copy of what had landed is recognised by every reader.
 *
 * Transformations are those of then: the receipt names their generation. What a location database said may differ.
 * The options of a project are those of now, not of then. They cannot change an outcome or a row count; what may
 * differ is inside the rows: `$ip`, what is lifted to the person, person_mode and the person's columns. And the warning
 * of an event that was dropped under an option that is gone is not made again (its outcome is). The ids of cookieless
 * events are those of then: the receipt has kept them.
 */
import type { Sql } from '../catalog/index.ts'
import {
  DUPLICATE,
  decodeOutcomes,
  describeOutcome,
  NIL_UUID,
  type OffsetOutcome,
  type OutcomeCode,
  STORED,
} from '../event/index.ts'
import type { Log, SendRecord, StoredRecord } from '../log/index.ts'
import {
  type Decision,
  finishBatch,
  type Judge,
  judgeBatch,
  openBatch,
  rowBeside,
  rowSlots,
  type Slot,
} from './batch.ts'
import { rangeChecksum } from './checksum.ts'
import { judgeAgain, readNote } from './cookieless/index.ts'
import { ingestError } from './errors.ts'
import { type LaneId, name, type StoredReceipt } from './fence.ts'
import type { Identity } from './identity/types.ts'
import { encodeRows, type OutputLane, outputRecords } from './output.ts'
import { identityOptionsOf } from './project-options.ts'
import type { ProjectsOf } from './projects.ts'
import { identityRequest } from './steps/identity-request.ts'
import type { Transformations } from './transformations.ts'

export type ReplayDeps = {
  sql: Sql
  log: Log
  identity: Identity
  projectsOf: ProjectsOf
  judge: Judge
  transformations: Pick<Transformations, 'at'>
}

/** The records that the batch of `receipt` sends. Throws HR_INGEST_CHANGED when the raw bytes are not the same. */
export async function replayRecords(
  deps: ReplayDeps,
  lane: LaneId,
  output: OutputLane,
  receipt: StoredReceipt,
): Promise<SendRecord[]> {
  const raw = await readRange(deps.log, lane, receipt)
  if (rangeChecksum(raw) !== receipt.checksum) {
    throw ingestError(
      'HR_INGEST_CHANGED',
      `${name(lane)} offsets ${receipt.fromOffset} to ${receipt.toOffset - 1} hold other bytes than when they were processed`,
    )
  }
  const outcomes = decodeOutcomes(receipt.outcomes)
  const codeOf = (offset: number) => outcomes[offset - receipt.fromOffset]!.code
  const noted = readNote(receipt.outbox?.cookieless ?? [], receipt.fromOffset)
  const { slots, tokens } = openBatch(raw)
  const projects = await deps.projectsOf(tokens)
  const { waiting } = judgeBatch(
    slots,
    lane,
    projects,
    judgeAsDecided(deps.judge, codeOf),
    (event, offset) => judgeAgain(event, noted.get(offset), codeOf(offset)),
    (offset) => codeOf(offset) === STORED,
  )
  await (await deps.transformations.at(receipt.configVersion)).apply(waiting)
  finishBatch(slots, waiting, new Map())
  slots.forEach((slot, i) => {
    takeOutcome(lane, slot, outcomes[i]!)
  })
  for (const [offset, warning] of receipt.outbox?.warnings ?? [])
    slots[offset - receipt.fromOffset]!.warnings.push(warning)
  const rowsOf = rowSlots(slots)
  const stored = rowsOf.filter((slot) => !slot.decision)
  const requests = stored.map((slot) => {
    const { event, warnings } = identityRequest(slot.draft!)
    slot.warnings.push(...warnings)
    return event
  })
  const stamps = await deps.identity.restamp(requests, identityOptionsOf(projects))
  const rows = encodeRows(rowsOf, stamps, output, true)
  const stateRows = receipt.outbox
    ? await deps.identity.stateRows(receipt.outbox)
    : { persons: [], personDistinctIds: [], groups: [] }
  return outputRecords(rowsOf, rows, stateRows, output, receipt.prev)
}

/**
 * What was no duplicate then is none now; of a duplicate the index says where the first copy is. `codeAt` gives the
 * outcome of an offset, undefined where none was decided.
 */
export function judgeAsDecided(judge: Judge, codeAt: (offset: number) => OutcomeCode | undefined): Judge {
  return (requests) => {
    const verdicts = judge(requests)
    return requests.map((request, i) => {
      const code = codeAt(request.offset)
      return code === undefined || code === DUPLICATE
        ? verdicts[i]!
        : { kind: 'first', holder: undefined, uuidReused: verdicts[i]!.uuidReused }
    })
  }
}

async function readRange(log: Log, lane: LaneId, receipt: StoredReceipt): Promise<StoredRecord[]> {
  const records: StoredRecord[] = []
  for await (const some of log.read(lane.topic, lane.partition, receipt.fromOffset, receipt.toOffset))
    records.push(...some)
  if (records.length !== receipt.toOffset - receipt.fromOffset) {
    throw ingestError(
      'HR_INGEST_CHANGED',
      `${name(lane)} offsets ${receipt.fromOffset} to ${receipt.toOffset - 1} are not all in the log`,
    )
  }
  return records
}

/** What the receipt says wins over what the steps say today: a token may have become known since. */
export function takeOutcome(lane: LaneId, slot: Slot, outcome: OffsetOutcome): void {
  if (outcome.code === STORED) {
    takeRows(lane, slot, outcome)
    return
  }
  if (outcome.gone) {
    takeEnds(slot, outcome.gone)
    return
  }
  slot.more = []
  const { state, reason } = describeOutcome(outcome.code)
  if (slot.decision && sameOutcome(slot.decision, state, reason)) return
  if (reason === 'unknown_token') {
    // Nobody was there to be warned then, and the row of the outcome has its place with nobody.
    slot.warnings.length = 0
    slot.teamId = 0
  }
  slot.decision = decisionOf(outcome.code)
}

/** Of an event of several rows, those that were stored are, and the others end as they did. */
function takeRows(lane: LaneId, slot: Slot, outcome: OffsetOutcome): void {
  const trouble = unlikeThen(slot, outcome)
  if (trouble !== undefined)
    throw ingestError(
      'HR_INGEST_CHANGED',
      `${name(lane)} offset ${slot.record.offset} was stored, ${trouble}`,
    )
  for (const row of [slot, ...slot.more]) {
    const end = outcome.gone?.find(({ sub }) => sub === row.sub)
    row.decision = end ? decisionOf(end.code) : undefined
  }
}

/** No row of several was stored: each ends as it did. */
function takeEnds(slot: Slot, gone: NonNullable<OffsetOutcome['gone']>): void {
  slot.more = gone.flatMap(({ sub }) =>
    sub === 0 ? [] : [slot.more.find((row) => row.sub === sub) ?? rowBeside(slot, sub)],
  )
  for (const row of [slot, ...slot.more])
    row.decision = decisionOf(gone.find(({ sub }) => sub === row.sub)!.code)
}

/**
 * Why the rows of a stored event cannot be made today as they were made then; undefined when they can. What its
 * transformations would have hidden is never stored as it came in instead.
 */
export function unlikeThen(slot: Slot, { code, rows, gone = [] }: OffsetOutcome): string | undefined {
  if (code !== STORED) return undefined
  if (isOfTransformations(slot.decision))
    return `but its project's transformations ${slot.decision?.kind === 'drop' ? 'drop it' : 'fail on it'} today`
  const made = rows + gone.length
  const makes = 1 + slot.more.length
  if (made !== makes) return `as ${made} rows, and comes to ${makes} today`
  const isGone = (row: Slot) => gone.some(({ sub }) => sub === row.sub)
  if ([slot, ...slot.more].some((row) => !row.draft && !isGone(row)))
    return 'but its event cannot be read today'
  return undefined
}

export function isOfTransformations(decision: Decision | undefined): boolean {
  return (
    decision !== undefined &&
    decision.kind !== 'duplicate' &&
    (decision.reason === 'dropped_by_transformation' || decision.reason === 'transformation_failed')
  )
}

function sameOutcome(decision: Decision, state: string, reason: string): boolean {
  if (decision.kind === 'duplicate') return state === 'duplicate'
  return decision.reason === reason
}

/** Of reasons that another step than `identity` gives. */
const STEP_OF: Readonly<Record<string, 'stamp' | 'load' | 'transform'>> = {
  event_too_large: 'stamp',
  refused_by_warehouse: 'load',
  transformation_failed: 'transform',
}

/**
 * As it was decided then, of what is known of it: code and reason. The step is part of a dead letter's key: under
 * another one a row that is sent again would be a second one.
 */
export function decisionOf(code: OutcomeCode): Decision {
  const { state, reason } = describeOutcome(code)
  switch (state) {
    case 'duplicate':
      // The index was rebuilt since and the holder is known to it no more; the trace finds it by the uuid.
      return { kind: 'duplicate', holder: { logId: NIL_UUID, offset: 0 } }
    case 'dropped':
      return { kind: 'drop', reason: reason as never }
    default:
      return {
        kind: 'deadLetter',
        reason: reason as never,
        detail: 'decided before a restart; see the logs of that time',
        step: STEP_OF[reason] ?? 'identity',
      }
  }
}
