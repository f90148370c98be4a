/**
 * Makes the rows of single raw offsets again, for a repair of ClickHouse: as a replay does (replay.ts), but of any age,
 * and only of the offsets that are asked for. In: a raw partition and offsets that have a receipt. Out: the rows of each,
 * for every table, and the offsets that nothing can be made of, with the reason. Changes nothing.
 *
 * What must hold: outcomes are those of the receipt, never those of today; stamps are as persons are now, and rows say so
 * (`_restamped`). Where a duplicate's first copy lies is not known any more. Memory: a page of the raw
 * log, and the raw records and rows of one chunk (CHUNK events, CHUNK_BYTES of raw records).
 */
import { FIRST_GENERATION, type ProjectCatalog, type Sql } from '../catalog/index.ts'
import {
  codeOfRow,
  DUPLICATE,
  decodeOutcomes,
  LOST,
  NIL_UUID,
  type OffsetOutcome,
  STORED,
  TOPICS,
  viewOf,
} from '../event/index.ts'
import type { Log, LogRecord, StoredRecord } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { finishBatch, judgeBatch, openBatch, rowSlots, type Slot } from './batch.ts'
import { checksumOf } from './checksum.ts'
import { judgeAgain, readNote } from './cookieless/index.ts'
import type { ClaimVerdict } from './dedup/claims.ts'
import { type LaneId, readReceipts, type StoredReceipt } from './fence.ts'
import { createIdentity } from './identity/index.ts'
import type { StateRows } from './identity/types.ts'
import { encodeRows, type OutputLane, outputRecords } from './output.ts'
import { identityOptionsOf } from './project-options.ts'
import { type ProjectsOf, projectsOf } from './projects.ts'
import { takeOutcome, unlikeThen } from './replay.ts'
import { identityRequest } from './steps/identity-request.ts'
import { openGeoipOf, Transformations } from './transformations.ts'

export type RemakeDeps = {
  /** As the setting says. */
  geoipDatabase: string
  sql: Sql
  log: Log
  projects: ProjectCatalog
  partitions: number
  logger: Logger
}

/** Why nothing can be made of an offset. */
export type Unmakeable = 'no_receipt' | 'not_in_the_log' | 'other_bytes' | 'unreadable_today'

export type Remade = {
  /** Of the topics of events, outcomes, dead letters and warnings. */
  records: LogRecord[]
  unmakeable: Map<number, Unmakeable>
}

const CHUNK = 200
/** Of raw records: an event may be as large as its raw topic takes. */
const CHUNK_BYTES = 4 * 2 ** 20
/** Instead of the dedup index, which belongs to the role: what it said then is in the receipt. */
const FIRST: ClaimVerdict = { kind: 'first', holder: undefined, uuidReused: false }
const COPY: ClaimVerdict = { kind: 'duplicate', holder: { logId: NIL_UUID, offset: 0 }, uuidReused: false }
const NO_STATE: StateRows = { persons: [], personDistinctIds: [], groups: [] }

/** `offsets` in ascending order. One answer per chunk; each offset is in the answer of exactly one. */
export async function* remakeRows(
  deps: RemakeDeps,
  lane: LaneId,
  offsets: readonly number[],
): AsyncGenerator<Remade> {
  if (offsets.length === 0) return
  const receipts = await readReceipts(deps.sql, lane, offsets[0]!, offsets.at(-1)! + 1)
  const geoip = openGeoipOf(deps.geoipDatabase)
  const transformations = new Transformations({ ...deps, geoip })
  const makers = {
    projectsOf: projectsOf(deps.projects, deps.logger),
    identity: createIdentity(deps.sql),
    transformations,
  }
  try {
    yield* remakeInReceipts(deps, makers, lane, offsets, receipts)
  } finally {
    await transformations.close()
  }
}

type Makers = {
  projectsOf: ProjectsOf
  identity: ReturnType<typeof createIdentity>
  transformations: Transformations
}

async function* remakeInReceipts(
  deps: RemakeDeps,
  makers: Makers,
  lane: LaneId,
  offsets: readonly number[],
  receipts: readonly StoredReceipt[],
): AsyncGenerator<Remade> {
  const [bounds, output] = await Promise.all([boundsOf(deps.log, lane), outputOf(deps, lane)])
  let at = 0
  const offsetsBelow = (end: number): number[] => {
    const from = at
    while (at < offsets.length && offsets[at]! < end) at++
    return offsets.slice(from, at)
  }
  for (const receipt of receipts) {
    const before = offsetsBelow(receipt.fromOffset)
    if (before.length > 0) yield nothing(before, 'no_receipt')
    const own = offsetsBelow(receipt.toOffset)
    const isHeld = (offset: number) => offset >= bounds.start && offset < bounds.end
    const gone = own.filter((offset) => !isHeld(offset))
    if (gone.length > 0) yield nothing(gone, 'not_in_the_log')
    const wanted = new Set(own.filter(isHeld))
    if (wanted.size === 0) continue
    if (await isAsThen(deps.log, lane, receipt, bounds)) {
      for await (const raw of readRaw(deps.log, lane, wanted))
        yield await remakeChunk(
          makers,
          lane,
          { ...output, configVersion: receipt.configVersion },
          receipt,
          raw,
        )
    }
    if (wanted.size > 0) yield nothing([...wanted], 'other_bytes')
  }
  const behind = offsetsBelow(Number.MAX_SAFE_INTEGER)
  if (behind.length > 0) yield nothing(behind, 'no_receipt')
}

function nothing(offsets: readonly number[], why: Unmakeable): Remade {
  return { records: [], unmakeable: new Map(offsets.map((offset) => [offset, why])) }
}

/** What the log holds of this lane; nothing when its topic was made anew. */
async function boundsOf(log: Log, lane: LaneId): Promise<{ start: number; end: number }> {
  const [topic] = await log.describe([lane.topic])
  if (topic?.logId !== lane.logId) return { start: 0, end: 0 }
  return log.bounds(lane.topic, lane.partition)
}

async function outputOf({ log, partitions }: RemakeDeps, lane: LaneId): Promise<OutputLane> {
  const [events] = await log.describe([TOPICS.events])
  const historical = lane.topic === TOPICS.rawHistorical
  const { logId, partition } = lane
  return {
    logId,
    partition,
    partitions,
    historical,
    configVersion: FIRST_GENERATION,
    rowBytesMax: events!.recordBytesMax,
  }
}

/**
 * Whether the range of the receipt holds the bytes of then. A range that retention has cut, or that was cut before
 * (checksum 0), cannot be compared: its records are those of the log id.
 */
async function isAsThen(
  log: Log,
  { topic, partition }: LaneId,
  { fromOffset, toOffset, checksum }: StoredReceipt,
  bounds: { start: number; end: number },
): Promise<boolean> {
  if (checksum === 0 || fromOffset < bounds.start || toOffset > bounds.end) return true
  return (await checksumOf(log.read(topic, partition, fromOffset, toOffset))) === checksum
}

/** The raw records of `wanted`, in ascending order, in chunks; what was read is no longer wanted then. */
async function* readRaw(
  log: Log,
  { topic, partition }: LaneId,
  wanted: Set<number>,
): AsyncGenerator<StoredRecord[]> {
  let chunk: StoredRecord[] = []
  let bytes = 0
  const [first, last] = [wanted.values().next().value!, [...wanted].at(-1)!]
  for await (const records of log.read(topic, partition, first, last + 1)) {
    for (const record of records) {
      if (!wanted.delete(record.offset)) continue
      chunk.push(record)
      bytes += record.header.length + record.value.length
      if (chunk.length < CHUNK && bytes < CHUNK_BYTES) continue
      yield chunk
      chunk = []
      bytes = 0
    }
  }
  if (chunk.length > 0) yield chunk
}

async function remakeChunk(
  { projectsOf, identity, transformations }: Makers,
  lane: LaneId,
  output: OutputLane,
  receipt: StoredReceipt,
  raw: readonly StoredRecord[],
): Promise<Remade> {
  const outcomes = decodeOutcomes(receipt.outcomes)
  const outcomeOf = (offset: number): OffsetOutcome => outcomes[offset - receipt.fromOffset]!
  const codeOf = (offset: number) => outcomeOf(offset).code
  const noted = readNote(receipt.outbox?.cookieless ?? [], receipt.fromOffset)
  const { slots: all, tokens } = openBatch(raw)
  const projects = await projectsOf(tokens)
  const { waiting } = judgeBatch(
    all,
    lane,
    projects,
    (requests) => requests.map(({ offset }) => (codeOf(offset) === DUPLICATE ? COPY : FIRST)),
    (event, offset) => judgeAgain(event, noted.get(offset), codeOf(offset)),
    (offset) => codeOf(offset) === STORED,
  )
  await (await transformations.at(receipt.configVersion)).apply(waiting)
  finishBatch(all, waiting, new Map())
  const unmakeable = new Map<number, Unmakeable>()
  const slots = all.filter((slot) => {
    const { offset } = slot.record
    const outcome = outcomeOf(offset)
    const readable = outcome.code !== LOST && unlikeThen(slot, outcome) === undefined
    if (readable) takeOutcome(lane, slot, outcome)
    else unmakeable.set(offset, 'unreadable_today')
    return readable
  })
  const bySlot = new Map(slots.map((slot) => [slot.record.offset, slot]))
  for (const [offset, warning] of receipt.outbox?.warnings ?? []) bySlot.get(offset)?.warnings.push(warning)
  const isThere = ({ record, sub }: Slot) => codeOfRow(outcomeOf(record.offset), sub) !== LOST
  const rowsOf = rowSlots(slots).filter(isThere)
  const requests = rowsOf
    .filter((slot) => !slot.decision)
    .map((slot) => {
      const { event, warnings } = identityRequest(slot.draft!)
      slot.warnings.push(...warnings)
      return event
    })
  const stamps = await identity.restamp(requests, identityOptionsOf(projects))
  const rows = encodeRows(rowsOf, stamps, output, true)
  const records = outputRecords(rowsOf, rows, NO_STATE, output, undefined)
  return {
    records: records.map(({ header, value, ...record }) => ({
      ...record,
      header: viewOf(header),
      value: viewOf(value),
    })),
    unmakeable,
  }
}
