/**
 * Makes the rows of single raw offsets again, for a repair of ClickHouse: as a replay does (replay.ts), but of any age,
 * and only of the offsets that are asked for. In: a raw partition and offsets that have a receipt. Out: the rows of each,
 * for every table, and the offsets that nothing can be made of, with the reason. Changes nothing.
 *
 * What must hold: outcomes are those of the receipt, never those of today; stamps are as persons are now, and rows say so
 * (`_restamped`). Where a duplicate's first copy lies is not known any more. Memory: the raw records of one receipt, or
 * of the span that is asked for, and the rows of CHUNK events.
 */
import type { ProjectCatalog, Sql } from '../catalog/index.ts'
import {
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
import { openBatch, prepareBatch } from './batch.ts'
import { rangeChecksum } from './checksum.ts'
import { judgeAgain, readNote } from './cookieless/index.ts'
import type { ClaimVerdict } from './dedup/claims.ts'
import { type LaneId, readReceipts, type StoredReceipt } from './fence.ts'
import { createIdentity } from './identity/index.ts'
import type { StateRows } from './identity/types.ts'
import { encodeRows, type OutputLane, outputRecords } from './output.ts'
import { identityOptionsOf } from './project-options.ts'
import { type ProjectsOf, projectsOf } from './projects.ts'
import { takeOutcome } from './replay.ts'
import { identityRequest } from './steps/identity-request.ts'

export type RemakeDeps = {
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

const CHUNK = 500
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
  const makers = { projectsOf: projectsOf(deps.projects, deps.logger), identity: createIdentity(deps.sql) }
  const [bounds, output] = await Promise.all([boundsOf(deps.log, lane), outputOf(deps, lane)])
  const covered = new Set<number>()
  for (const receipt of receipts) {
    const own = offsets.filter((offset) => offset >= receipt.fromOffset && offset < receipt.toOffset)
    for (const offset of own) covered.add(offset)
    const readable = own.filter((offset) => offset >= bounds.start && offset < bounds.end)
    const gone = own.filter((offset) => !readable.includes(offset))
    if (gone.length > 0) yield nothing(gone, 'not_in_the_log')
    if (readable.length === 0) continue
    const raw = await readRaw(deps.log, lane, receipt, bounds, readable)
    if (!raw) {
      yield nothing(readable, 'other_bytes')
      continue
    }
    for (let i = 0; i < raw.length; i += CHUNK)
      yield await remakeChunk(makers, lane, output, receipt, raw.slice(i, i + CHUNK))
  }
  const without = offsets.filter((offset) => !covered.has(offset))
  if (without.length > 0) yield nothing(without, 'no_receipt')
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
  return { logId, partition, partitions, historical, rowBytesMax: events!.recordBytesMax }
}

/**
 * The raw records at `offsets`; undefined when the range of the receipt holds other bytes than then. A range that
 * retention has cut, or that was cut before (checksum 0), cannot be compared: its records are those of the log id.
 */
async function readRaw(
  log: Log,
  lane: LaneId,
  receipt: StoredReceipt,
  bounds: { start: number; end: number },
  offsets: readonly number[],
): Promise<StoredRecord[] | undefined> {
  const wanted = new Set(offsets)
  const whole = receipt.checksum !== 0 && receipt.fromOffset >= bounds.start && receipt.toOffset <= bounds.end
  const from = whole ? receipt.fromOffset : offsets[0]!
  const to = whole ? receipt.toOffset : offsets.at(-1)! + 1
  const records: StoredRecord[] = []
  for await (const some of log.read(lane.topic, lane.partition, from, to))
    records.push(...(whole ? some : some.filter(({ offset }) => wanted.has(offset))))
  if (whole && rangeChecksum(records) !== receipt.checksum) return undefined
  const found = records.filter(({ offset }) => wanted.has(offset))
  return found.length === wanted.size ? found : undefined
}

async function remakeChunk(
  { projectsOf, identity }: { projectsOf: ProjectsOf; identity: ReturnType<typeof createIdentity> },
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
  prepareBatch(
    all,
    lane,
    projects,
    (requests) => requests.map(({ offset }) => (codeOf(offset) === DUPLICATE ? COPY : FIRST)),
    new Map(),
    (event, offset) => judgeAgain(event, noted.get(offset), codeOf(offset)),
    (offset) => codeOf(offset) === STORED,
  )
  const unmakeable = new Map<number, Unmakeable>()
  const slots = all.filter((slot) => {
    const { offset } = slot.record
    const code = codeOf(offset)
    const readable = code !== LOST && (code !== STORED || slot.draft !== undefined)
    if (readable) takeOutcome(lane, slot, outcomeOf(offset))
    else unmakeable.set(offset, 'unreadable_today')
    return readable
  })
  const bySlot = new Map(slots.map((slot) => [slot.record.offset, slot]))
  for (const [offset, warning] of receipt.outbox?.warnings ?? []) bySlot.get(offset)?.warnings.push(warning)
  const requests = slots
    .filter((slot) => !slot.decision)
    .map((slot) => {
      const { event, warnings } = identityRequest(slot.draft!)
      slot.warnings.push(...warnings)
      return event
    })
  const stamps = await identity.restamp(requests, identityOptionsOf(projects))
  const rows = encodeRows(slots, stamps, output, true)
  const records = outputRecords(slots, rows, NO_STATE, output, undefined)
  return {
    records: records.map(({ header, value, ...record }) => ({
      ...record,
      header: viewOf(header),
      value: viewOf(value),
    })),
    unmakeable,
  }
}
