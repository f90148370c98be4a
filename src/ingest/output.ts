/**
 * What a batch sends to the log: state rows, events with their chain, outcomes, dead letters, warnings. All rows
 * are RowBinary, ready to insert, under a header with their source. Used by the live way and by the replay, so that
 * both give the same bytes but for the person's stamp.
 */
import {
  type ByteRange,
  ByteReader,
  type Bytes,
  childUuid,
  DEAD_LETTERS,
  encodeOutcomes,
  GROUPS,
  INGESTION_WARNINGS,
  NIL_UUID,
  type OffsetOutcome,
  OUTCOMES,
  PERSON,
  type Place,
  packRowHeader,
  type Source,
  STORED,
  sourceHash,
  TOPICS,
  type TopicName,
  type Warning,
  withoutRow,
  writerPartition,
} from '../event/index.ts'
import type { SendRecord } from '../log/index.ts'
import { rowCode, type Slot } from './batch.ts'
import { batchCounts } from './batch-counts.ts'
import { type CookielessIds, noteIds } from './cookieless/index.ts'
import { BatchTooLarge } from './identity/errors.ts'
import type { BatchReceipt, Stamp, StateRows } from './identity/types.ts'
import { ingestMetrics } from './metrics.ts'
import { packEventRow } from './row.ts'

export type OutputLane = {
  logId: string
  partition: number
  partitions: number
  historical: boolean
  /** The generation of transformations under which the batch is decided; on every row and receipt. */
  configVersion: number
  /** Header + value of the largest record that topic `events` takes. */
  rowBytesMax: number
}

/** Encoded event rows of a batch, parallel to the slots of its rows; undefined where nothing is stored. */
export type EventRows = (ByteRange | undefined)[]

/** Room for the row's header within the record's limit. */
const ROW_HEADER_BYTES_MAX = 64
/** Rows of one batch: bounds its memory, when each of its events carries a large person. */
const BATCH_ROWS_BYTES_MAX = 64 * 2 ** 20
/** What a client wrote can be in the details of a warning. */
const WARNING_DETAILS_UNITS_MAX = 65_536

/**
 * Encodes the rows of all slots that are not decided, with the stamps given in their order. A row that no record
 * can hold decides its slot as a dead letter; on a replay, where the receipt stands, it is stored without the
 * properties of person and groups instead. Throws BatchTooLarge, but not on a replay.
 */
export function encodeRows(
  slots: readonly Slot[],
  stamps: readonly Stamp[],
  lane: OutputLane,
  restamped: boolean,
  batchBytesMax = BATCH_ROWS_BYTES_MAX,
): EventRows {
  let next = 0
  let bytes = 0
  return slots.map((slot) => {
    if (slot.decision) return undefined
    const stamp = stamps[next++]!
    if (slot.afterEffects) {
      slot.decision = slot.afterEffects
      return undefined
    }
    const source = sourceOf(lane, slot)
    const options = { historical: lane.historical, configVersion: lane.configVersion, restamped }
    const row = packEventRow(slot.draft!, stamp, source, options)
    bytes += row.length
    if (bytes > batchBytesMax && bytes > row.length && !restamped)
      throw new BatchTooLarge(`the rows of ${slots.length} events have over ${batchBytesMax} bytes`)
    if (row.length + ROW_HEADER_BYTES_MAX <= lane.rowBytesMax) return row
    if (restamped)
      return packEventRow(slot.draft!, { ...stamp, personPropertiesJson: '{}', groups: [] }, source, options)
    slot.decision = {
      kind: 'deadLetter',
      reason: 'event_too_large',
      detail: `the row has ${row.length} bytes, at most ${lane.rowBytesMax - ROW_HEADER_BYTES_MAX} are allowed`,
      step: 'stamp',
    }
    return undefined
  })
}

/** The receipt of a batch whose rows are encoded. `slots` are those of its rows; `prev` is the place emitted before it. */
export function makeReceipt(
  slots: readonly Slot[],
  configVersion: number,
  checksum: number,
  prev: Place | undefined,
  warnings: [number, Warning][],
): BatchReceipt {
  const outcomes: OffsetOutcome[] = []
  const counts = { stored: 0, duplicate: 0, dropped: 0, deadLettered: 0 }
  const cookieless: { offset: number; ids: CookielessIds }[] = []
  let hashSum = 0
  let storedRows = 0
  let last = prev
  const records = slots.filter(({ sub }) => sub === 0)
  for (const slot of records) {
    const outcome = offsetOutcome(slot)
    outcomes.push(outcome)
    counts[outcome.code === STORED ? 'stored' : COUNT_OF[slot.decision!.kind]]++
    // All rows of an event have the same ones.
    const ids = slot.ids ?? slot.more.find((row) => row.ids)?.ids
    if (outcome.code === STORED && ids) cookieless.push({ offset: slot.record.offset, ids })
  }
  for (const slot of slots) {
    if (slot.decision) continue
    storedRows++
    last = { offset: slot.record.offset, sub: slot.sub }
    hashSum += sourceHash(last)
  }
  return {
    checksum,
    outcomes: encodeOutcomes(outcomes),
    ...counts,
    storedRows,
    hashSum,
    prev,
    last,
    configVersion,
    counts: batchCounts(records),
    warnings,
    ...(cookieless.length > 0 && { cookieless: noteIds(cookieless, slots[0]!.record.offset) }),
  }
}

function offsetOutcome(slot: Slot): OffsetOutcome {
  if (slot.more.length === 0) return { code: rowCode(slot), rows: slot.decision ? 0 : 1 }
  let outcome: OffsetOutcome = { code: STORED, rows: 1 + slot.more.length }
  for (const row of [slot, ...slot.more])
    if (row.decision) outcome = withoutRow(outcome, row.sub, rowCode(row)) ?? outcome
  return outcome
}

const COUNT_OF = { drop: 'dropped', deadLetter: 'deadLettered', duplicate: 'duplicate' } as const

/** All records of the batch, state rows first: a person reaches the log before or with the events that show it. */
export function outputRecords(
  slots: readonly Slot[],
  rows: EventRows,
  stateRows: StateRows,
  lane: OutputLane,
  prev: Place | undefined,
): SendRecord[] {
  const records: SendRecord[] = []
  const first = slots[0]
  if (first) records.push(...stateRecords(stateRows, lane, first.record.offset))
  let last = prev
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i]!
    const row = rows[i]
    if (row) {
      const source = sourceOf(lane, slot)
      records.push(record(TOPICS.events, lane, slot, row, last))
      last = source
    } else {
      records.push(record(TOPICS.outcomes, lane, slot, outcomeRow(slot, lane), undefined))
      if (slot.decision?.kind === 'deadLetter') {
        records.push(record(TOPICS.deadLetters, lane, slot, deadLetterRow(slot, lane), undefined))
      }
    }
    for (const warning of slot.warnings) {
      records.push(record(TOPICS.ingestionWarnings, lane, slot, warningRow(slot, warning, lane), undefined))
    }
  }
  return records
}

/**
 * State rows of topics `persons`, `person_distinct_ids`, `groups`; idempotent by version, so the source is only a hint.
 * Properties that no record can hold, as an earlier version may have stored, are left out: the log would refuse the
 * row for ever, and with it all that comes after.
 */
export function stateRecords(stateRows: StateRows, lane: OutputLane, offset: number): SendRecord[] {
  const header = packRowHeader({
    source: { logId: lane.logId, partition: lane.partition, offset, sub: 0 },
    prev: undefined,
    teamId: 0,
    timestampMs: 0,
    restamped: false,
  })
  const toRecord = (topic: TopicName) => (value: Buffer) => ({
    topic,
    partition: lane.partition,
    header,
    value,
  })
  return [
    ...stateRows.persons
      .map((row) => fitting(row, lane, withoutPersonProperties))
      .map(toRecord(TOPICS.persons)),
    ...stateRows.personDistinctIds.map(toRecord(TOPICS.personDistinctIds)),
    ...stateRows.groups.map((row) => fitting(row, lane, withoutGroupProperties)).map(toRecord(TOPICS.groups)),
  ]
}

function fitting(row: Buffer, lane: OutputLane, without: (row: Buffer) => Buffer): Buffer {
  if (row.length + ROW_HEADER_BYTES_MAX <= lane.rowBytesMax) return row
  ingestMetrics.stateRowsEmptied.inc()
  return without(row)
}

function withoutPersonProperties(row: Buffer): Buffer {
  return PERSON.encode({ ...PERSON.decode(new ByteReader(row)), properties: '{}' })
}

function withoutGroupProperties(row: Buffer): Buffer {
  return GROUPS.encode({ ...GROUPS.decode(new ByteReader(row)), group_properties: '{}' })
}

function sourceOf(lane: OutputLane, slot: Slot): Source {
  return { logId: lane.logId, partition: lane.partition, offset: slot.record.offset, sub: slot.sub }
}

function record(
  topic: TopicName,
  lane: OutputLane,
  slot: Slot,
  value: Bytes,
  prev: Place | undefined,
): SendRecord {
  const header = packRowHeader({
    source: sourceOf(lane, slot),
    prev,
    teamId: slot.teamId,
    timestampMs: slot.header?.timestampMs ?? slot.record.appendedMs,
    restamped: false,
  })
  return {
    topic,
    partition: writerPartition(topic, 'ingest', lane.partition, lane.partitions),
    header,
    value,
  }
}

/** Columns that outcomes and dead letters share: as captured, since a replay need not know what became of it. */
function identification(slot: Slot, lane: OutputLane) {
  const { header, sub } = slot
  return {
    team_id: slot.teamId,
    uuid: header ? (sub === 0 ? header.uuid : childUuid(header.uuid, sub)) : NIL_UUID,
    event: header?.event ?? '',
    distinct_id: header?.distinctId ?? '',
    timestamp: header?.nowMs ?? slot.record.appendedMs,
    _log_id: lane.logId,
    _partition: lane.partition,
    _offset: slot.record.offset,
    _sub: slot.sub,
  }
}

function outcomeRow(slot: Slot, lane: OutputLane): Buffer {
  const decision = slot.decision!
  return OUTCOMES.encode({
    ...identification(slot, lane),
    state:
      decision.kind === 'drop' ? 'dropped' : decision.kind === 'deadLetter' ? 'dead_lettered' : 'duplicate',
    reason: decision.kind === 'duplicate' ? '' : decision.reason,
    first_source:
      decision.kind === 'duplicate'
        ? `${decision.holder.logId}/${lane.partition}/${decision.holder.offset}/0`
        : '',
  })
}

function deadLetterRow(slot: Slot, lane: OutputLane): Buffer {
  const decision = slot.decision!
  if (decision.kind !== 'deadLetter') throw new TypeError('only a dead letter has a dead-letter row')
  return DEAD_LETTERS.encode({
    ...identification(slot, lane),
    reason: decision.reason,
    detail: decision.detail,
    step: decision.step,
    raw_header: slot.record.header,
    raw_value: slot.record.value,
  })
}

function warningRow(slot: Slot, warning: { type: string; details: object }, lane: OutputLane): Buffer {
  const known = identification(slot, lane)
  return INGESTION_WARNINGS.encode({
    team_id: known.team_id,
    source: slot.header?.disposition === 'report' ? 'capture' : 'ingest',
    type: warning.type,
    details: detailsJson(warning.details),
    timestamp: known.timestamp,
    _log_id: known._log_id,
    _partition: known._partition,
    _offset: known._offset,
    _sub: known._sub,
  })
}

/** A number of the client is up to four times as long here as it was sent, and a record has its limit. */
function detailsJson(details: object): string {
  const json = JSON.stringify(details)
  if (json.length <= WARNING_DETAILS_UNITS_MAX) return json
  return JSON.stringify({ truncated: json.slice(0, WARNING_DETAILS_UNITS_MAX / 4) })
}
