/**
 * The life of one event, from any machine: Postgres, the log and ClickHouse are enough. In: a uuid. Out: for each raw
 * record that carried it (an SDK that tries again makes several) when and how it came, what ingest decided, and where
 * it is now; or, when it is nowhere, how far everything is. Cost: three look-ups by uuid in ClickHouse, a few reads of
 * single records, and at most `scanRecordsMax` raw records that are not loaded yet.
 */
import type { Sql } from '../catalog/index.ts'
import {
  canonicalUuid,
  decodeRawHeader,
  describeOutcome,
  formatSource,
  RAW_TOPICS,
  type RawHeader,
  type Source,
} from '../event/index.ts'
import type { Log, StoredRecord, TopicState } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { outcomeAt, readReceipt } from './receipts.ts'
import { scanTail, type Tail } from './scan-tail.ts'

export type TraceDeps = { sql: Sql; log: Log; warehouse: Warehouse }

/** One station of an event; `atMs` epoch ms where it is known. */
export type TraceEntry = {
  kind:
    | 'received'
    | 'raw_record_gone'
    | 'waits_for_ingest'
    | 'decided'
    | 'receipt_gone'
    | 'waits_for_load'
    | 'stored'
    | 'not_stored'
    | 'dead_lettered'
  atMs: number | undefined
  says: string
  fields: Record<string, string | number | boolean>
}

/** One raw record that carried the uuid. */
export type TracedSource = {
  /** `log id/partition/offset`, and the topic. */
  source: string
  topic: string | undefined
  entries: TraceEntry[]
}

export type Trace = {
  uuid: string
  found: boolean
  sources: TracedSource[]
  /** When nothing was found: what that means. */
  says: string
  /** Raw records that were looked through, from the newest on. */
  scanned: number
}

export type TraceOptions = {
  /** Most raw records that are looked through when ClickHouse does not know the uuid. Default 50,000. */
  scanRecordsMax?: number
}

const SCAN_RECORDS_MAX = 50_000
const NO_TAIL: Tail = { found: [], scanned: 0, pending: 0, complete: true }
/** A uuid that was sent more often is told up to here. */
const SOURCES_MAX = 100

type SourceColumns = { log_id: string; partition: number; offset: number; sub: number }
type StoredEvent = SourceColumns & {
  copies: number
  event: string
  distinct_id: string
  team_id: number
  person_id: string
  timestamp_ms: number
  inserted_ms: number
  config_version: number
  restamped: boolean
}
type StoredOutcome = SourceColumns & { state: string; reason: string; first_source: string }
type StoredLetter = SourceColumns & { reason: string; detail: string; step: string; at_ms: number }

/** Throws RangeError when `text` is no uuid; retriable errors when a part cannot be reached. */
export async function trace(deps: TraceDeps, text: string, options: TraceOptions = {}): Promise<Trace> {
  const uuid = canonicalUuid(text)
  if (!uuid) throw new RangeError(`"${text}" is not a uuid`)
  const [events, outcomes, letters] = await Promise.all([
    deps.warehouse.query<StoredEvent>(EVENTS_BY_UUID, { uuid, limit: SOURCES_MAX }),
    deps.warehouse.query<StoredOutcome>(OUTCOMES_BY_UUID, { uuid, limit: SOURCES_MAX }),
    deps.warehouse.query<StoredLetter>(LETTERS_BY_UUID, { uuid, limit: SOURCES_MAX }),
  ])
  const topics = await deps.log.describe([...RAW_TOPICS])
  const sources = new Map<string, Source>()
  for (const { log_id, partition, offset } of [...events, ...outcomes, ...letters]) {
    sources.set(`${log_id}/${partition}/${offset}`, { logId: log_id, partition, offset, sub: 0 })
  }
  const tail =
    sources.size > 0
      ? NO_TAIL
      : await scanTail(deps, topics, uuid, options.scanRecordsMax ?? SCAN_RECORDS_MAX)
  for (const source of tail.found) sources.set(`${source.logId}/${source.partition}/${source.offset}`, source)
  const told = await Promise.all(
    [...sources].map(async ([name, source]) => {
      const of = <T extends SourceColumns>(rows: T[]) => rows.filter((row) => isOf(row, source))
      return tellSource(deps, topics, name, source, {
        events: of(events),
        outcomes: of(outcomes),
        letters: of(letters),
      })
    }),
  )
  told.sort((a, b) => (a.entries[0]?.atMs ?? 0) - (b.entries[0]?.atMs ?? 0))
  return {
    uuid,
    found: told.length > 0,
    sources: told,
    says: sumUp(told.length > 0, tail),
    scanned: tail.scanned,
  }
}

function sumUp(found: boolean, tail: Tail): string {
  if (found) return ''
  const looked = `ClickHouse does not know it, and it is not among the ${tail.scanned} newest raw records`
  return tail.complete
    ? `${looked}: no event with this uuid was accepted (a spool that is not drained cannot be seen from here)`
    : `${looked} either; ${tail.pending} are not loaded yet, so it may be in front of those`
}

function isOf(row: SourceColumns, source: Source): boolean {
  return row.log_id === source.logId && row.partition === source.partition && row.offset === source.offset
}

type Stations = { events: StoredEvent[]; outcomes: StoredOutcome[]; letters: StoredLetter[] }

async function tellSource(
  deps: TraceDeps,
  topics: TopicState[],
  name: string,
  source: Source,
  at: Stations,
): Promise<TracedSource> {
  const topic = topics.find(({ logId }) => logId === source.logId)?.name
  const raw = topic === undefined ? undefined : await readRecord(deps.log, topic, source)
  const entries: TraceEntry[] = [raw ? received(raw) : rawRecordGone()]
  const receipt = await readReceipt(deps.sql, source.logId, source.partition, source.offset)
  if (receipt) {
    const outcome = outcomeAt(receipt, source.offset)
    const { state, reason } = outcome ? describeOutcome(outcome.code) : { state: 'unknown', reason: '' }
    entries.push({
      kind: 'decided',
      atMs: receipt.decidedMs,
      says: `ingest decided: ${state}${reason ? ` (${reason})` : ''}`,
      fields: {
        state,
        reason,
        rows: outcome?.rows ?? 0,
        batch: `${receipt.from}..${receipt.to - 1}`,
        config_version: receipt.configVersion,
      },
    })
    entries.push(...now(at))
    const there = state === 'stored' ? at.events.length >= (outcome?.rows ?? 0) : at.outcomes.length > 0
    if (!there) entries.push(waits('waits_for_load', 'not in ClickHouse yet'))
  } else {
    const known = now(at)
    if (known.length === 0) entries.push(waits('waits_for_ingest', 'ingest has not come to it yet'))
    else entries.push(waits('receipt_gone', 'its receipt is not there'), ...known)
  }
  return { source: name, topic, entries }
}

function received(record: StoredRecord): TraceEntry {
  const header = readHeader(record)
  if (!header) {
    return {
      kind: 'received',
      atMs: record.appendedMs,
      says: 'received; its header cannot be read',
      fields: {},
    }
  }
  return {
    kind: 'received',
    atMs: header.nowMs,
    says: `received${header.sdk ? ` from ${header.sdk}` : ''}`,
    fields: {
      sdk: header.sdk,
      event: header.event,
      distinct_id: header.distinctId,
      ip: header.ip,
      user_agent: header.userAgent,
      request_id: header.requestId,
      event_time: new Date(header.timestampMs).toISOString(),
      time_rule: header.timeRule,
      person_processing: header.personProcessing,
      bytes: record.value.length,
      ...(header.replayOf ? { replay_of: formatSource(header.replayOf) } : {}),
    },
  }
}

function readHeader(record: StoredRecord): RawHeader | undefined {
  try {
    return decodeRawHeader(record.header)
  } catch {
    return undefined
  }
}

function rawRecordGone(): TraceEntry {
  return {
    kind: 'raw_record_gone',
    atMs: undefined,
    says: 'its raw record is no longer in the log',
    fields: {},
  }
}

function waits(kind: TraceEntry['kind'], says: string): TraceEntry {
  return { kind, atMs: undefined, says, fields: {} }
}

/** Where the event is now, of what ClickHouse holds. */
function now({ events, outcomes, letters }: Stations): TraceEntry[] {
  const entries: TraceEntry[] = []
  for (const row of events) {
    entries.push({
      kind: 'stored',
      atMs: row.inserted_ms,
      says: row.copies === 1 ? 'in ClickHouse, once' : `in ClickHouse, ${row.copies} times`,
      fields: {
        table: 'events',
        copies: row.copies,
        sub: row.sub,
        event: row.event,
        distinct_id: row.distinct_id,
        team_id: row.team_id,
        person_id: row.person_id,
        timestamp: new Date(row.timestamp_ms).toISOString(),
        config_version: row.config_version,
        restamped: row.restamped,
      },
    })
  }
  for (const { reason, first_source, state: said } of outcomes) {
    const first = first_source ? `; the stored copy came from ${first_source}` : ''
    entries.push({
      kind: 'not_stored',
      atMs: undefined,
      says: `not stored: ${said}${reason ? ` (${reason})` : ''}${first}`,
      fields: { state: said, reason, first_source },
    })
  }
  for (const { reason, detail, step, at_ms } of letters) {
    entries.push({
      kind: 'dead_lettered',
      atMs: at_ms,
      says: `in the dead letters: ${detail}`,
      fields: { reason, detail, step },
    })
  }
  return entries
}

async function readRecord(
  log: Log,
  topic: string,
  { partition, offset }: Source,
): Promise<StoredRecord | undefined> {
  const { start, end } = await log.bounds(topic, partition)
  if (offset < start || offset >= end) return undefined
  for await (const [record] of log.read(topic, partition, offset, offset + 1)) return record
  return undefined
}

const SOURCE = '_log_id AS log_id, _partition AS partition, _offset AS offset, _sub AS sub'
const BY_SOURCE = 'GROUP BY _log_id, _partition, _offset, _sub'

const EVENTS_BY_UUID = `
  SELECT ${SOURCE}, count() AS copies, any(event) AS event, any(distinct_id) AS distinct_id, any(team_id) AS team_id,
    any(person_id) AS person_id, toUnixTimestamp64Milli(any(timestamp)) AS timestamp_ms,
    toUnixTimestamp64Milli(min(inserted_at)) AS inserted_ms, any(_config_version) AS config_version,
    any(_restamped) AS restamped
  FROM events WHERE uuid = {uuid:UUID} ${BY_SOURCE} ORDER BY _offset, _sub LIMIT {limit:UInt32}`

const OUTCOMES_BY_UUID = `
  SELECT ${SOURCE}, any(state) AS state, any(reason) AS reason, any(first_source) AS first_source
  FROM outcomes WHERE uuid = {uuid:UUID} ${BY_SOURCE} ORDER BY _offset LIMIT {limit:UInt32}`

const LETTERS_BY_UUID = `
  SELECT ${SOURCE}, step, any(reason) AS reason, any(detail) AS detail,
    toUnixTimestamp64Milli(any(timestamp)) AS at_ms
  FROM dead_letters WHERE uuid = {uuid:UUID} ${BY_SOURCE}, step ORDER BY _offset LIMIT {limit:UInt32}`
