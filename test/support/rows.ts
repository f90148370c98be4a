/**
 * Rows as ingest makes them, for tests of what comes after it: topics in a log, chains of `events` records whose
 * sources and `prev` are right, and receipts that agree with them.
 */

import type { Sql } from '../../src/catalog/index.ts'
import {
  codeOfRow,
  describeOutcome,
  EVENTS,
  type EventRow,
  encodeOutcomes,
  encodeRawHeader,
  encodeRowHeader,
  endedSubs,
  type OffsetOutcome,
  OUTCOMES,
  type Place,
  partitionsOf,
  personUuid,
  RAW_TOPICS,
  ROW_TOPICS,
  type RowHeader,
  type Source,
  sourceHash,
  storedSubs,
  TOPICS,
} from '../../src/event/index.ts'
import type { Log, LogRecord, Producer } from '../../src/log/index.ts'
import { plainEventRow } from './event-row.ts'
import { plainHeader } from './raw-header.ts'

/** Makes every topic of the event path; gives their ids by name. */
export async function createTopics(log: Log, partitions: number): Promise<Map<string, string>> {
  const ids = new Map<string, string>()
  for (const name of [...RAW_TOPICS, ...ROW_TOPICS]) {
    const topic = await log.createTopic({
      name,
      partitions: partitionsOf(name, partitions),
      recordBytesMax: 4 * 1024 * 1024,
    })
    ids.set(name, topic.logId)
  }
  return ids
}

export const EVENT_TIME_MS = Date.UTC(2026, 4, 17, 12)

/** The uuid of the test event at a raw offset. */
export function uuidAt(logId: string, partition: number, offset: number): string {
  return personUuid(partition, `${logId}/${offset}`)
}

function eventRow(
  logId: string,
  partition: number,
  place: Place,
  timestampMs = EVENT_TIME_MS,
  note = '',
): EventRow {
  const distinctId = `user-${place.offset % 7}`
  return plainEventRow({
    uuid: uuidAt(logId, partition, place.offset),
    properties: note === '' ? `{"n":${place.offset}}` : JSON.stringify({ n: place.offset, note }),
    timestamp: timestampMs,
    distinct_id: distinctId,
    created_at: EVENT_TIME_MS,
    person_id: personUuid(1, distinctId),
    person_created_at: EVENT_TIME_MS,
    _log_id: logId,
    _partition: partition,
    _offset: place.offset,
    _sub: place.sub,
  })
}

/** One raw partition, as ingest would carry it on: raw records, rows, outcomes and receipts. */
export class RawPartition {
  private nextOffset = 0
  private last: Place | undefined

  constructor(private readonly deps: { sql: Sql; producer: Producer; rawId: string; partition: number }) {}

  get offset(): number {
    return this.nextOffset
  }

  /** What one batch with these outcomes sends to `events`; moves on. `note` makes the rows as large as it is. */
  rows(
    outcomes: readonly OffsetOutcome[],
    timestampMs: (offset: number) => number = () => EVENT_TIME_MS,
    note = '',
  ): LogRecord[] {
    const { rawId, partition } = this.deps
    const records: LogRecord[] = []
    for (const outcome of outcomes) {
      const offset = this.nextOffset++
      for (const sub of storedSubs(outcome)) {
        const header: RowHeader = {
          source: { logId: rawId, partition, offset, sub },
          prev: this.last,
          teamId: 1,
          timestampMs: timestampMs(offset),
          restamped: false,
        }
        this.last = { offset, sub }
        const row = eventRow(rawId, partition, this.last, timestampMs(offset), note)
        records.push({
          topic: TOPICS.events,
          partition,
          header: encodeRowHeader(header),
          value: EVENTS.encode(row),
        })
      }
    }
    return records
  }

  /** A whole batch: raw records, rows, outcomes of the rest, receipt and fence. */
  async batch(
    outcomes: readonly OffsetOutcome[],
    timestampMs?: (offset: number) => number,
    note?: string,
  ): Promise<void> {
    const { sql, producer, rawId, partition } = this.deps
    const from = this.nextOffset
    const prev = this.last
    const raw = outcomes.map((_, i) => rawRecord(rawId, partition, from + i))
    const rows = this.rows(outcomes, timestampMs, note)
    const rest = outcomes.flatMap((outcome, i) =>
      endedSubs(outcome).map((sub) =>
        outcomeRecord({ logId: rawId, partition, offset: from + i, sub }, codeOfRow(outcome, sub)),
      ),
    )
    await producer.send([...raw, ...rows, ...rest])
    const counts = { stored: 0, duplicate: 0, dropped: 0, dead_lettered: 0, erased: 0, expired: 0, lost: 0 }
    let storedRows = 0
    let hashSum = 0
    outcomes.forEach((outcome, i) => {
      counts[describeOutcome(outcome.code).state]++
      for (const sub of storedSubs(outcome)) {
        storedRows++
        hashSum += sourceHash({ offset: from + i, sub })
      }
    })
    await sql`
      INSERT INTO receipt (log_id, partition, from_offset, to_offset, checksum, outcomes, stored, duplicate, dropped,
        dead_lettered, stored_rows, hash_sum, prev_offset, prev_sub, config_version)
      VALUES (${rawId}, ${partition}, ${from}, ${this.nextOffset}, 0, ${encodeOutcomes(outcomes)}, ${counts.stored},
        ${counts.duplicate}, ${counts.dropped}, ${counts.dead_lettered}, ${storedRows}, ${hashSum},
        ${prev?.offset ?? null}, ${prev?.sub ?? null}, 1)`
    await sql`
      INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through, last_offset, last_sub)
      VALUES (${rawId}, ${partition}, ${TOPICS.raw}, ${this.nextOffset}, ${this.nextOffset}, ${this.last?.offset ?? null}, ${this.last?.sub ?? null})
      ON CONFLICT (log_id, partition) DO UPDATE SET next_offset = excluded.next_offset,
        produced_through = excluded.produced_through, last_offset = excluded.last_offset, last_sub = excluded.last_sub`
  }
}

export function rawRecord(rawId: string, partition: number, offset: number): LogRecord {
  const header = encodeRawHeader(
    plainHeader({
      token: 'phc_test',
      distinctId: `user-${offset % 7}`,
      event: '$pageview',
      uuid: uuidAt(rawId, partition, offset),
      timestampMs: EVENT_TIME_MS,
      ip: '192.0.2.1',
      userAgent: 'test',
      sdk: 'test-sdk/1.2.3',
      requestId: 'r',
    }),
  )
  return { topic: TOPICS.raw, partition, header, value: Buffer.from(`{"event":"$pageview","n":${offset}}`) }
}

function outcomeRecord(source: Source, code: number): LogRecord {
  const { logId, partition, offset, sub } = source
  const { state, reason } = describeOutcome(code)
  return {
    topic: TOPICS.outcomes,
    partition,
    header: encodeRowHeader({
      source,
      prev: undefined,
      teamId: 1,
      timestampMs: EVENT_TIME_MS,
      restamped: false,
    }),
    value: OUTCOMES.encode({
      team_id: 1,
      uuid: uuidAt(logId, partition, offset),
      event: '$pageview',
      distinct_id: `user-${offset % 7}`,
      state,
      reason,
      first_source: state === 'duplicate' ? `${logId}/${partition}/0/0` : '',
      timestamp: EVENT_TIME_MS,
      _log_id: logId,
      _partition: partition,
      _offset: offset,
      _sub: sub,
    }),
  }
}
