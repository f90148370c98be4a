/**
 * The life of one event, from any machine: Postgres, the log and ClickHouse are enough. In: a uuid. Out: for each raw
 * record that carried it (an SDK that tries again makes several, a dead letter that came back one more) when and how it
 * came, what ingest decided and changed, and where it is now; or, when it is nowhere, how far everything is. Cost: three
 * look-ups by uuid in ClickHouse, a few reads of single records, and at most `scanRecordsMax` raw records that are not
 * loaded yet.
 */
import type { Sql } from '../catalog/index.ts'
import { readDecisions } from '../deadletters/index.ts'
import { canonicalUuid, RAW_TOPICS, type Source } from '../event/index.ts'
import type { Log, StoredRecord, TopicState } from '../log/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { readReceipt } from './receipts.ts'
import { scanTail, type Tail } from './scan-tail.ts'
import {
  changed,
  deadLettered,
  decided,
  headerOf,
  now,
  received,
  type TraceEntry,
  transformed,
  waits,
  warned,
} from './trace-entries.ts'
import { rowsOfSource, rowsOfUuid, type Stations, type StoredLetter, warningsOf } from './trace-rows.ts'

export type TraceDeps = { sql: Sql; log: Log; warehouse: Warehouse }

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

/** Throws RangeError when `text` is no uuid; retriable errors when a part cannot be reached. */
export async function trace(deps: TraceDeps, text: string, options: TraceOptions = {}): Promise<Trace> {
  const uuid = canonicalUuid(text)
  if (!uuid) throw new RangeError(`"${text}" is not a uuid`)
  const [rows, topics] = await Promise.all([
    rowsOfUuid(deps.warehouse, uuid),
    deps.log.describe([...RAW_TOPICS]),
  ])
  const sources = new Map<string, Source>()
  const add = (source: Source) =>
    sources.set(`${source.logId}/${source.partition}/${source.offset}`, { ...source, sub: 0 })
  for (const { log_id, partition, offset } of [...rows.events, ...rows.outcomes, ...rows.letters])
    add({ logId: log_id, partition, offset, sub: 0 })
  const decisions = await letterDecisions(deps, rows.letters)
  // Where a letter came back to may not be in ClickHouse yet.
  for (const decision of decisions.values()) if (decision?.sent) add({ ...decision.sent, sub: 0 })
  const tail =
    sources.size > 0
      ? NO_TAIL
      : await scanTail(deps, topics, uuid, options.scanRecordsMax ?? SCAN_RECORDS_MAX)
  for (const source of tail.found) add(source)
  const told = await Promise.all(
    [...sources].map(([name, source]) =>
      tellSource(deps, topics, name, source, rowsOfSource(rows, source), decisions),
    ),
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

type Decisions = Map<StoredLetter, Awaited<ReturnType<typeof readDecisions>>[number]>

async function letterDecisions(deps: TraceDeps, letters: readonly StoredLetter[]): Promise<Decisions> {
  const found = await readDecisions(
    deps.sql,
    letters.map(({ log_id, partition, offset, sub, step }) => ({
      logId: log_id,
      partition,
      offset,
      sub,
      step,
    })),
  )
  return new Map(letters.map((letter, i) => [letter, found[i]]))
}

async function tellSource(
  deps: TraceDeps,
  topics: TopicState[],
  name: string,
  source: Source,
  at: Stations,
  decisions: Decisions,
): Promise<TracedSource> {
  const topic = topics.find(({ logId }) => logId === source.logId)?.name
  const [raw, receipt] = await Promise.all([
    topic === undefined ? undefined : readRecord(deps.log, topic, source),
    readReceipt(deps.sql, source.logId, source.partition, source.offset),
  ])
  const header = raw && headerOf(raw)
  const entries = [
    raw ? received(raw, header) : waits('raw_record_gone', 'its raw record is no longer in the log'),
  ]
  const where = [
    ...transformed(at.events),
    ...changed(raw, header, at.events),
    ...(header ? (await warningsOf(deps.warehouse, source, header.nowMs)).map(warned) : []),
    ...now(at),
    ...at.letters.flatMap((letter) => deadLettered(letter, decisions.get(letter))),
  ]
  if (receipt) {
    const { entry, state, rows } = decided(receipt, source.offset)
    const there = state === 'stored' ? at.events.length >= rows : at.outcomes.length > 0
    // What was given up as lost has a row nowhere.
    const comes = there || state === 'lost'
    entries.push(entry, ...where, ...(comes ? [] : [waits('waits_for_load', 'not in ClickHouse yet')]))
  } else if (where.length === 0) entries.push(waits('waits_for_ingest', 'ingest has not come to it yet'))
  else entries.push(waits('receipt_gone', 'its receipt is not there'), ...where)
  return { source: name, topic, entries }
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
