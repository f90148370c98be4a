/** What capture says is to be done with a record: dead letters, reports, forced-off persons; and warnings of SDKs. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import {
  type CaptureReport,
  DEAD_LETTERS,
  decodeOutcomes,
  describeOutcome,
  EVENTS,
  INGESTION_WARNINGS,
  OUTCOMES,
  PERSON,
  REPORT_EVENT,
  TOPICS,
} from '../event/index.ts'
import { Pipeline, WITHIN_MS } from './pipeline.fixture.ts'

setDefaultTimeout(WITHIN_MS * 2)

const pipeline = new Pipeline()

const REPORT: CaptureReport = {
  type: 'events_rejected',
  reason: 'invalid_uuid',
  count: 3,
  fromMs: 1,
  toMs: 2,
  sample: {
    message: '`uuid` is not a UUID.',
    path: '/batch',
    requestId: 'r1',
    sdk: 'web/1',
    index: 0,
    field: 'uuid',
  },
}
const CLIENT_WARNING = {
  event: '$$client_ingestion_warning',
  distinctId: 'warner',
  sdk: 'web/1.2',
  json: '{"properties":{"$$client_ingestion_warning_message":"dropped by the rate limit"}}',
}
const RESTRICTED = {
  json: '{"properties":{"a":1}}',
  disposition: 'deadLetter',
  distinctId: 'restricted',
} as const
const RECORDS = [
  { json: '{"$set":{"n":1}}', distinctId: 'usual' },
  RESTRICTED,
  { json: JSON.stringify(REPORT), disposition: 'report', event: REPORT_EVENT, distinctId: '' } as const,
  CLIENT_WARNING,
  { json: '{"$set":{"n":2}}', distinctId: 'forced', personProcessing: 'forcedOff' } as const,
  // A second copy of the restricted one, and a report that is none.
  { ...RESTRICTED, uuid: '018f4b2e-0000-7000-8000-000000000001' },
  { json: '{"type":"other"}', disposition: 'report', event: REPORT_EVENT, distinctId: '' } as const,
]

async function outcomes() {
  const receipts = await pipeline.sql<
    { outcomes: Buffer }[]
  >`SELECT outcomes FROM receipt ORDER BY from_offset`
  return receipts.flatMap((receipt) =>
    decodeOutcomes(receipt.outcomes).map(({ code, rows }) => ({ ...describeOutcome(code), rows })),
  )
}

const rows = async <T>(topic: string, decode: (reader: never) => T) =>
  (await pipeline.rowsOf(topic)).map((row) => decode(row as never))

async function expectEnds(times: number): Promise<void> {
  const repeated = <T>(list: T[]): T[] => Array.from({ length: times }, () => list).flat()
  const events = await rows(TOPICS.events, EVENTS.decode)
  expect(
    events.map((row) => [row.distinct_id, row.person_mode, JSON.parse(row.person_properties).n]),
  ).toEqual(
    repeated([
      ['usual', 'full', 1],
      ['forced', 'propertyless', undefined],
    ]),
  )
  const dead = await rows(TOPICS.deadLetters, DEAD_LETTERS.decode)
  expect(dead.map((row) => [row._offset, row.reason, Buffer.from(row.raw_value).toString()])).toEqual(
    repeated([
      [1, 'restricted', RESTRICTED.json],
      [6, 'unreadable_event', '{"type":"other"}'],
    ]),
  )
  const warnings = await rows(TOPICS.ingestionWarnings, INGESTION_WARNINGS.decode)
  const { type, ...details } = REPORT
  expect(warnings.map((row) => [row._offset, row.source, row.type, JSON.parse(row.details)])).toEqual(
    repeated([
      [2, 'capture', type, details],
      [
        3,
        'ingest',
        'client_ingestion_warning',
        {
          eventUuid: '018f4b2e-0000-7000-8000-000000000003',
          event: CLIENT_WARNING.event,
          distinctId: 'warner',
          message: 'dropped by the rate limit',
          sdk: 'web/1.2',
        },
      ],
    ]),
  )
  const ended = await rows(TOPICS.outcomes, OUTCOMES.decode)
  expect(ended.map((row) => [row._offset, row.state, row.reason])).toEqual(
    repeated([
      [1, 'dead_lettered', 'restricted'],
      [2, 'dropped', 'capture_report'],
      [3, 'dropped', 'client_warning'],
      [5, 'duplicate', ''],
      [6, 'dead_lettered', 'unreadable_event'],
    ]),
  )
}

describe('I4: each disposition has one end state', () => {
  test('and a batch that is produced again gives the same', async () => {
    await pipeline.capture(RECORDS)
    expect(await pipeline.ingested(RECORDS.length)).toEqual({ stored: 2, dead: 2 })
    await expectEnds(1)
    // As after a crash between the commit and the acknowledgement of the rows.
    await pipeline.sql`UPDATE ingest_fence SET produced_through = 0`
    await pipeline.ingested(RECORDS.length)
    await expectEnds(2)
    expect((await outcomes()).filter(({ rows }) => rows > 0)).toHaveLength(2)
  })

  test('only the usual event has a person', async () => {
    await pipeline.capture(RECORDS)
    await pipeline.ingested(RECORDS.length)
    const persons = await rows(TOPICS.persons, PERSON.decode)
    expect(persons.map((row) => JSON.parse(row.properties).n)).toEqual([1])
    const ids = await pipeline.sql`SELECT distinct_id FROM person_distinct_id`
    expect(ids.map(({ distinct_id }) => distinct_id)).toEqual(['usual'])
  })

  test('an index that is built anew knows the restricted event, and no report', async () => {
    await pipeline.capture(RECORDS)
    await pipeline.ingested(RECORDS.length)
    pipeline.forgetIndex()
    const again = { ...RESTRICTED, uuid: '018f4b2e-0000-7000-8000-000000000001' }
    const report = { ...RECORDS[2]!, uuid: '018f4b2e-0000-7000-8000-000000000002' }
    await pipeline.capture([again, report], RECORDS.length)
    await pipeline.ingested(RECORDS.length + 2)
    expect((await outcomes()).slice(RECORDS.length).map(({ state, reason }) => [state, reason])).toEqual([
      ['duplicate', ''],
      ['dropped', 'capture_report'],
    ])
  })
})
