/**
 * What becomes of a row that ClickHouse refuses for good, alone in its insert. A row of `events`: its raw record goes
 * to `dead_letters` and its end state to `outcomes`, both acknowledged by the log, and the receipt is amended. A
 * state row: to `dead_letters` only, since the event that caused it has an end state of its own.
 */
import type { Transaction } from '../catalog/index.ts'
import {
  ByteReader,
  DEAD_LETTERS,
  type DeadLetterRow,
  deadLetterCode,
  decodeOutcomes,
  EVENTS,
  type EventRow,
  encodeOutcomes,
  encodeRowHeader,
  NIL_UUID,
  OUTCOMES,
  RAW_TOPICS,
  type Source,
  STORED,
  sourceHash,
  TOPICS,
  withoutRow,
  writerPartition,
} from '../event/index.ts'
import type { Log, LogRecord, StoredRecord } from '../log/index.ts'
import type { BufferedRow } from './partition-input.ts'

type Deps = { log: Log; partitions: number; clock: () => number }

const SEND_DEADLINE_MS = 30_000
const REASON = 'refused_by_warehouse'

/**
 * Produces the dead letter. Resolves, after the acks, with the amendment of the receipt: to be run in the transaction
 * that settles the intent. Safe to repeat: both tables are idempotent by source and step.
 */
export async function buryRow(
  deps: Deps,
  table: string,
  row: BufferedRow,
  why: string,
): Promise<(tx: Transaction) => Promise<void>> {
  const isEvent = table === TOPICS.events
  const letter = isEvent ? await eventLetter(deps.log, row, why) : stateLetter(deps, table, row, why)
  const records = [recordOf(deps, TOPICS.deadLetters, row, DEAD_LETTERS.encode(letter), letter.timestamp)]
  if (isEvent) {
    const outcome = OUTCOMES.encode({
      team_id: letter.team_id,
      uuid: letter.uuid,
      event: letter.event,
      distinct_id: letter.distinct_id,
      state: 'dead_lettered',
      reason: REASON,
      first_source: '',
      timestamp: letter.timestamp,
      ...sourceColumns(row.source),
    })
    records.push(recordOf(deps, TOPICS.outcomes, row, outcome, letter.timestamp))
  }
  const producer = deps.log.producer({ name: 'load', deadlineMs: SEND_DEADLINE_MS })
  try {
    await producer.send(records)
  } finally {
    await producer.close()
  }
  return async (tx) => {
    if (isEvent) await amendReceipt(tx, row.source)
  }
}

function recordOf(
  deps: Deps,
  topic: typeof TOPICS.deadLetters | typeof TOPICS.outcomes,
  row: BufferedRow,
  value: Uint8Array,
  timestampMs: number,
): LogRecord {
  const { source, teamId } = row
  return {
    topic,
    partition: writerPartition(topic, 'load', source.partition, deps.partitions),
    header: encodeRowHeader({ source, prev: undefined, teamId, timestampMs, restamped: false }),
    value,
  }
}

async function eventLetter(log: Log, row: BufferedRow, why: string): Promise<DeadLetterRow> {
  const raw = await readRaw(log, row.source)
  const event = readRow(row.row)
  return {
    team_id: event?.team_id ?? row.teamId,
    uuid: event?.uuid ?? NIL_UUID,
    event: event?.event ?? '',
    distinct_id: event?.distinct_id ?? '',
    reason: REASON,
    detail: raw ? why : `${why} (the raw record is no longer in the log; the value is the refused row)`,
    step: 'load',
    timestamp: event?.created_at ?? row.appendedMs,
    raw_header: raw?.header ?? new Uint8Array(),
    raw_value: raw?.value ?? row.row,
    ...sourceColumns(row.source),
  }
}

/** A row that cannot be read back is exactly one that ClickHouse may refuse. */
function readRow(bytes: Uint8Array): EventRow | undefined {
  try {
    return EVENTS.decode(new ByteReader(bytes))
  } catch {
    return undefined
  }
}

function stateLetter(deps: Deps, table: string, row: BufferedRow, why: string): DeadLetterRow {
  return {
    team_id: row.teamId,
    uuid: NIL_UUID,
    event: '',
    distinct_id: '',
    reason: REASON,
    detail: why,
    step: `load:${table}`,
    timestamp: deps.clock(),
    raw_header: new Uint8Array(),
    raw_value: row.row,
    ...sourceColumns(row.source),
  }
}

function sourceColumns({ logId, partition, offset, sub }: Source) {
  return { _log_id: logId, _partition: partition, _offset: offset, _sub: sub }
}

async function readRaw(log: Log, source: Source): Promise<StoredRecord | undefined> {
  const topics = await log.describe([...RAW_TOPICS])
  const topic = topics.find(({ logId }) => logId === source.logId)
  if (!topic) return undefined
  const { start } = await log.bounds(topic.name, source.partition)
  if (source.offset < start) return undefined
  for await (const [record] of log.read(topic.name, source.partition, source.offset, source.offset + 1)) {
    return record
  }
  return undefined
}

/**
 * Moves one row of an event from stored to dead-lettered in the receipt of its batch, by its number, so that the audit
 * knows which one `events` lacks. May be repeated. Without a receipt the audit says so.
 */
export async function amendReceipt(tx: Transaction, source: Source): Promise<void> {
  // The last that begins at or below it, in this order: one that the ledger merges away while we wait for its lock is
  // then passed over for the one that took it in.
  const [receipt] = await tx<{ from_offset: number; to_offset: number; outcomes: Uint8Array }[]>`
    SELECT from_offset, to_offset, outcomes FROM receipt
    WHERE log_id = ${source.logId} AND partition = ${source.partition} AND from_offset <= ${source.offset}
    ORDER BY from_offset DESC LIMIT 1 FOR UPDATE`
  if (!receipt || receipt.to_offset <= source.offset) return
  const outcomes = decodeOutcomes(receipt.outcomes)
  const at = source.offset - receipt.from_offset
  const before = outcomes[at]
  const after = before && withoutRow(before, source.sub, deadLetterCode(REASON))
  if (!after) return
  outcomes[at] = after
  const events = after.code === STORED ? 0 : 1
  await tx`
    UPDATE receipt SET outcomes = ${encodeOutcomes(outcomes)}, stored = stored - ${events},
      dead_lettered = dead_lettered + ${events}, stored_rows = stored_rows - 1, hash_sum = hash_sum - ${sourceHash(source)}
    WHERE log_id = ${source.logId} AND partition = ${source.partition} AND from_offset = ${receipt.from_offset}`
}
