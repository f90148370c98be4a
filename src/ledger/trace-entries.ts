/** The stations of one event as lines of its timeline. Pure. */
import type { Decision } from '../deadletters/index.ts'
import { decodeRawHeader, describeOutcome, formatSource, type RawHeader } from '../event/index.ts'
import type { StoredRecord } from '../log/index.ts'
import { changesOf } from './changes.ts'
import { outcomeAt, type Receipt } from './receipts.ts'
import type { Stations, StoredEvent, StoredLetter, StoredOutcome, StoredWarning } from './trace-rows.ts'

/** One station of an event; `atMs` epoch ms where it is known. */
export type TraceEntry = {
  kind:
    | 'received'
    | 'raw_record_gone'
    | 'waits_for_ingest'
    | 'decided'
    | 'receipt_gone'
    | 'warned'
    | 'transformed'
    | 'changed'
    | 'waits_for_load'
    | 'stored'
    | 'not_stored'
    | 'dead_lettered'
    | 'replay_asked'
    | 'replayed'
    | 'replay_failed'
    | 'discarded'
  atMs: number | undefined
  says: string
  fields: Record<string, string | number | boolean>
}

export function headerOf(record: StoredRecord): RawHeader | undefined {
  try {
    return decodeRawHeader(record.header)
  } catch {
    return undefined
  }
}

export function received(record: StoredRecord, header: RawHeader | undefined): TraceEntry {
  if (!header)
    return entry(
      'received',
      'received; its header cannot be read',
      { bytes: record.value.length },
      record.appendedMs,
    )
  const again = header.replayOf ? ', sent again from the dead letters' : ''
  return entry(
    'received',
    `received${header.sdk ? ` from ${header.sdk}` : ''}${again}`,
    {
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
    // One that came back was received by capture when its letter was; what counts here is when it came back.
    header.replayOf ? record.appendedMs : header.nowMs,
  )
}

export function decided(
  receipt: Receipt,
  offset: number,
): { entry: TraceEntry; state: string; rows: number } {
  const outcome = outcomeAt(receipt, offset)
  const { state, reason } = outcome ? describeOutcome(outcome.code) : { state: 'unknown', reason: '' }
  const rows = outcome?.rows ?? 0
  const says = `ingest decided: ${state}${reason ? ` (${reason})` : ''}`
  const fields = {
    state,
    reason,
    rows,
    batch: `${receipt.from}..${receipt.to - 1}`,
    config_version: receipt.configVersion,
  }
  return { entry: entry('decided', says, fields, receipt.decidedMs), state, rows }
}

export function warned({ type, details, said_by }: StoredWarning): TraceEntry {
  return entry('warned', `${said_by} warned: ${type}`, { type, details })
}

/** What the steps made of it; nothing when they left it as it was, or when there is nothing to compare. */
export function changed(
  record: StoredRecord | undefined,
  header: RawHeader | undefined,
  rows: readonly StoredEvent[],
): TraceEntry[] {
  const [row] = rows
  if (!record || !header || !row) return []
  const changes = changesOf(header, record.value, row)
  if (!changes || Object.keys(changes).length === 0) return []
  return [entry('changed', 'the steps of ingest changed it', changes)]
}

/** Which transformations of its project changed it: each row says so of itself. */
export function transformed(rows: readonly StoredEvent[]): TraceEntry[] {
  return rows.flatMap(({ properties, sub }) => {
    const told = transformedIn(properties)
    if (!told) return []
    const steps = Object.entries(told.steps).map(([step, keys]) => [step, keys.join(', ')])
    const fields = { sub, version: told.version, ...Object.fromEntries(steps) }
    return [
      entry('transformed', `version ${told.version} of its project's transformations changed it`, fields),
    ]
  })
}

/** As ingest writes it; a client may have sent anything under that name. */
function transformedIn(properties: string): { version: number; steps: Record<string, string[]> } | undefined {
  if (!properties.includes('"$transformed"')) return undefined
  try {
    const { $transformed: told } = JSON.parse(properties)
    const isOurs =
      typeof told.version === 'number' &&
      Object.values(told.steps as object).every((keys) => Array.isArray(keys))
    return isOurs ? told : undefined
  } catch {
    return undefined
  }
}

/** Where the event is now, of what ClickHouse holds. */
export function now({ events, outcomes }: Stations): TraceEntry[] {
  return [...events.map(stored), ...outcomes.map(notStored)]
}

function stored(row: StoredEvent): TraceEntry {
  return entry(
    'stored',
    row.copies === 1 ? 'in ClickHouse, once' : `in ClickHouse, ${row.copies} times`,
    {
      table: 'events',
      copies: row.copies,
      sub: row.sub,
      event: row.event,
      distinct_id: row.distinct_id,
      team_id: row.team_id,
      person_id: row.person_id,
      person_mode: row.person_mode,
      historical: row.historical,
      timestamp: new Date(row.timestamp_ms).toISOString(),
      config_version: row.config_version,
      restamped: row.restamped,
    },
    row.inserted_ms,
  )
}

function notStored({ reason, first_source, state }: StoredOutcome): TraceEntry {
  const first = first_source ? `; the stored copy came from ${first_source}` : ''
  return entry('not_stored', `not stored: ${state}${reason ? ` (${reason})` : ''}${first}`, {
    state,
    reason,
    first_source,
  })
}

/** A letter, and what people decided about it. */
export function deadLettered(letter: StoredLetter, decision: Decision | undefined): TraceEntry[] {
  const { reason, detail, step, at_ms } = letter
  const dead = entry('dead_lettered', `in the dead letters: ${detail}`, { reason, detail, step }, at_ms)
  return decision ? [dead, ...decisionEntries(decision)] : [dead]
}

function decisionEntries({ state, by, why, atMs, jobId, sent, detail }: Decision): TraceEntry[] {
  const who = `${by}${why ? `: ${why}` : ''}`
  if (state === 'discarded') return [entry('discarded', `discarded by ${who}`, { by, why }, atMs)]
  const asked = entry(
    'replay_asked',
    `to be sent again, asked by ${who}`,
    { by, why, job: jobId ?? '' },
    atMs,
  )
  if (sent) {
    const source = `${sent.logId}/${sent.partition}/${sent.offset}/0`
    return [asked, entry('replayed', `came back as ${source}`, { source })]
  }
  if (state === 'failed') return [asked, entry('replay_failed', `could not be sent: ${detail}`, { detail })]
  return [asked]
}

export function waits(kind: TraceEntry['kind'], says: string): TraceEntry {
  return entry(kind, says, {})
}

function entry(
  kind: TraceEntry['kind'],
  says: string,
  fields: TraceEntry['fields'],
  atMs: number | undefined = undefined,
): TraceEntry {
  return { kind, atMs, says, fields }
}
