/** After a crash: what Postgres has taken reaches the log, with the same sources, and is no second event. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import {
  ByteReader,
  Chain,
  DEAD_LETTERS,
  deadLetterCode,
  decodeRowHeader,
  EVENTS,
  INGESTION_WARNINGS,
  OUTCOMES,
  PERSON,
  TOPICS,
} from '../event/index.ts'
import type { StoredRecord, TopicState } from '../log/index.ts'
import { refuseStateBehind } from './behind.ts'
import { openFence } from './fence.ts'
import { INGEST_GROUP } from './index.ts'
import { ingestMetrics } from './metrics.ts'
import { Pipeline, WITHIN_MS } from './pipeline.fixture.ts'
import { decisionOf } from './replay.ts'

setDefaultTimeout(WITHIN_MS * 2)

const pipeline = new Pipeline()

/** Every kind of end, and a merge that is refused. */
const MIXED = [
  { json: '{"$set":{"n":1}}' },
  { json: '{"properties":"no object"}' },
  { json: '{}', token: 'nobody' },
  { json: '{"$set":{"n":2}}', uuid: '018f4b2e-0000-7000-8000-000000000000' },
  { json: '{"properties":{"$anon_distinct_id":"null"}}', event: '$identify' },
  { json: '{"properties":{"$groups":{"company":"c"}}}' },
]
const DECIDED = 6

/** As after a crash between the commit of the last batches and the acknowledgement of their rows. */
async function forgetProduced(): Promise<void> {
  await pipeline.sql`UPDATE ingest_fence SET produced_through = 0`
}

async function rows<T>(topic: string, decode: (reader: ByteReader) => T): Promise<T[]> {
  return (await pipeline.rowsOf(topic)).map(decode)
}

/** The rows that a reader takes, in order. */
function accepted(records: StoredRecord[]): StoredRecord[] {
  const chain = new Chain()
  return records.filter((record) => {
    const { source, prev } = decodeRowHeader(record.header)
    const verdict = chain.take(source, prev)
    expect(verdict).not.toBe('gap')
    return verdict === 'accept'
  })
}

describe('I2: a batch that is produced again', () => {
  test('has the same sources in the same chain, and no reader takes a row of it twice', async () => {
    await pipeline.capture(MIXED)
    expect(await pipeline.ingested(DECIDED)).toEqual({ stored: 3, dead: 1 })
    const before = await pipeline.records(TOPICS.events)
    await forgetProduced()
    await pipeline.ingested(DECIDED)
    const all = await pipeline.records(TOPICS.events)
    expect(all).toHaveLength(before.length * 2)
    expect(accepted(all).map(({ offset }) => offset)).toEqual(before.map(({ offset }) => offset))
    const copies = all.slice(before.length).map(({ value }) => EVENTS.decode(new ByteReader(value)))
    expect(copies.map((row) => [row._offset, row._restamped])).toEqual([
      [0, true],
      [4, true],
      [5, true],
    ])
  })

  test('reaches readers whole when nothing of it had landed', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    for (const topic of [
      TOPICS.events,
      TOPICS.persons,
      TOPICS.outcomes,
      TOPICS.deadLetters,
      TOPICS.ingestionWarnings,
    ]) {
      const [state] = await pipeline.log.describe([topic])
      await pipeline.log.deleteTopic(topic)
      await pipeline.log.createTopic({
        name: topic,
        partitions: state!.partitions,
        recordBytesMax: state!.recordBytesMax,
      })
    }
    await forgetProduced()
    await pipeline.ingested(DECIDED)
    expect(accepted(await pipeline.records(TOPICS.events))).toHaveLength(3)
    expect((await rows(TOPICS.persons, PERSON.decode)).map((row) => JSON.parse(row.properties).n)).toContain(
      1,
    )
    const outcomes = await rows(TOPICS.outcomes, OUTCOMES.decode)
    expect(outcomes.map((row) => [row._offset, row.state, row.reason])).toEqual([
      [1, 'dead_lettered', 'unreadable_event'],
      [2, 'dropped', 'unknown_token'],
      [3, 'duplicate', ''],
    ])
    expect(outcomes[2]!.first_source).toEndWith('/0/0/0')
    const dead = await rows(TOPICS.deadLetters, DEAD_LETTERS.decode)
    expect(dead.map((row) => Buffer.from(row.raw_value).toString())).toEqual([MIXED[1]!.json])
    const warnings = await rows(TOPICS.ingestionWarnings, INGESTION_WARNINGS.decode)
    expect(warnings.map((row) => [row._offset, row.type])).toEqual([
      [4, 'cannot_merge_with_illegal_distinct_id'],
    ])
  })

  test('takes the place of its dead letters and outcomes, and adds none', async () => {
    const [state] = await pipeline.log.describe([TOPICS.events])
    await pipeline.log.deleteTopic(TOPICS.events)
    await pipeline.log.createTopic({
      name: TOPICS.events,
      partitions: state!.partitions,
      recordBytesMax: 5_000,
    })
    await pipeline.capture([
      { json: `{"properties":{"filler":"${'x'.repeat(5_000)}"}}` },
      { json: '{}', token: 'known-later' },
      { json: '[]' },
      { json: '{}' },
    ])
    await pipeline.ingested(4)
    await pipeline.sql`INSERT INTO project (name, token) VALUES ('later', 'known-later')`
    await forgetProduced()
    await pipeline.ingested(4)
    await pipeline.sql`DELETE FROM project WHERE token = 'known-later'`
    // As the sort keys of these tables have it.
    const letters = (await rows(TOPICS.deadLetters, DEAD_LETTERS.decode)).map(
      (row) => `${row.team_id} ${row.timestamp} ${row._offset} ${row.step}`,
    )
    const outcomes = (await rows(TOPICS.outcomes, OUTCOMES.decode)).map(
      (row) => `${row.team_id} ${row.timestamp} ${row._offset} ${row.state}`,
    )
    expect([letters.length, outcomes.length]).toEqual([4, 6])
    expect([new Set(letters).size, new Set(outcomes).size]).toEqual([2, 3])
  })

  test('is what it was when its project was closed since; what comes then is nobody’s', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    await pipeline.sql`UPDATE project SET state = 'closed'`
    try {
      await forgetProduced()
      await pipeline.capture(
        [{ json: '{"$set":{"n":3}}', uuid: '018f4b2e-0000-7000-8000-0000000000ff' }],
        DECIDED,
      )
      expect(await pipeline.ingested(DECIDED + 1)).toEqual({ stored: 3, dead: 1 })
    } finally {
      await pipeline.sql`UPDATE project SET state = 'open'`
    }
    const events = await pipeline.records(TOPICS.events)
    expect(events).toHaveLength(6)
    expect(accepted(events)).toHaveLength(3)
    const outcomes = (await rows(TOPICS.outcomes, OUTCOMES.decode)).map(
      (row) => `${row.team_id > 0} ${row._offset} ${row.reason || row.state}`,
    )
    const before = ['true 1 unreadable_event', 'false 2 unknown_token', 'true 3 duplicate']
    expect(outcomes).toEqual([...before, ...before, 'false 6 unknown_token'])
  })

  test('changes no person', async () => {
    const persons = () => pipeline.sql`SELECT uuid, version, properties FROM person ORDER BY id`
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    const before = await persons()
    await forgetProduced()
    await pipeline.ingested(DECIDED)
    expect([...(await persons())]).toEqual([...before])
  })
})

describe('what stops a partition, with one sentence', () => {
  const halts = (sentence: string) =>
    pipeline.run(async (ingest) => (await ingest.notReady())?.includes(sentence) === true)

  test('other bytes than the receipt was made of', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    await forgetProduced()
    await pipeline.sql`UPDATE receipt SET checksum = checksum + 1`
    await halts('hold other bytes than when they were processed')
  })

  test('a receipt that is missing below the fence', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    await forgetProduced()
    await pipeline.sql`DELETE FROM receipt`
    await halts('has no receipt that begins at offset 0')
  })

  test('an index that is ahead of Postgres halts nothing while the row topics show that nothing was produced', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    const [live] = await pipeline.log.describe([TOPICS.raw])
    const lanes = [{ logId: live!.logId, topic: TOPICS.raw }]
    await refuseStateBehind({ sql: pipeline.sql, log: pipeline.log }, lanes, 0, () => 99)
  })

  test('a topic that was recreated, and a log that went back in time', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    await pipeline.sql`UPDATE ingest_fence SET next_offset = 100, produced_through = 100 WHERE topic = ${TOPICS.raw}`
    await halts('the log lost records')
    await pipeline.sql`UPDATE ingest_fence SET log_id = gen_random_uuid()`
    await halts('was recreated')
  })

  test('a topic that was recreated under a running process, whatever it holds by now', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    const [{ logId }] = (await pipeline.log.describe([TOPICS.raw])) as [TopicState]
    await pipeline.log.deleteTopic(TOPICS.raw)
    await pipeline.log.createTopic({ name: TOPICS.raw, partitions: 1, recordBytesMax: 4 * 2 ** 20 })
    await pipeline.capture([...MIXED, ...MIXED])
    const opening = openFence(pipeline.sql, pipeline.log, { logId, topic: TOPICS.raw, partition: 0 })
    await expect(opening).rejects.toMatchObject({ code: 'HR_INGEST_GAP' })
  })

  test('it goes on by itself when it is mended', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    await pipeline.sql`UPDATE ingest_fence SET next_offset = 100, produced_through = 100 WHERE topic = ${TOPICS.raw}`
    await pipeline.run(async (ingest) => {
      if ((await ingest.notReady())?.includes('the log lost records')) {
        await pipeline.sql`
          UPDATE ingest_fence SET next_offset = ${DECIDED}, produced_through = ${DECIDED} WHERE topic = ${TOPICS.raw}`
      }
      const [fence] = await pipeline.sql`SELECT next_offset FROM ingest_fence WHERE topic = ${TOPICS.raw}`
      return fence!.next_offset === DECIDED && (await ingest.notReady()) === undefined
    })
  })
})

describe('another process is slow to let go of a partition that we write', () => {
  test('it waits and goes on, and retention keeps from the first moment what it still needs', async () => {
    await pipeline.capture(MIXED)
    await pipeline.ingested(DECIDED)
    const committed = () => pipeline.log.committed(INGEST_GROUP, TOPICS.raw, 0)
    await pipeline.run(async () => (await committed()) === DECIDED)
    await forgetProduced()
    const holder = await pipeline.openLog()
    try {
      const producer = holder.producer({ name: 'holder', deadlineMs: WITHIN_MS })
      await producer.send([
        { topic: TOPICS.outcomes, partition: 0, header: new Uint8Array(1), value: new Uint8Array(1) },
      ])
      await pipeline.run(async (ingest) => {
        if ((await ingest.notReady())?.includes('another live process writes outcomes/0')) {
          expect(await committed()).toBe(0)
          await holder.close()
        }
        const [fence] =
          await pipeline.sql`SELECT produced_through FROM ingest_fence WHERE topic = ${TOPICS.raw}`
        return fence!.produced_through === DECIDED && (await ingest.notReady()) === undefined
      })
      const { values } = await ingestMetrics.retries.get()
      expect(values.find(({ labels }) => labels.code === 'HR_LOG_NOT_WRITER')?.value).toBeGreaterThan(0)
    } finally {
      await holder.close()
    }
  })
})

test('I2: an index that is gone is built anew from the raw log: a second send is still a duplicate', async () => {
  await pipeline.capture(MIXED)
  await pipeline.ingested(DECIDED)
  pipeline.forgetIndex()
  await pipeline.capture([MIXED[0]!], 0)
  expect(await pipeline.ingested(DECIDED + 1)).toEqual({ stored: 3, dead: 1 })
  const outcomes = await rows(TOPICS.outcomes, OUTCOMES.decode)
  expect(outcomes.at(-1)).toMatchObject({ _offset: DECIDED, state: 'duplicate' })
})

test.each([
  ['refused_by_warehouse', 'load'],
  ['event_too_large', 'stamp'],
] as const)(
  'a dead letter %s that is made again has the step %s, which is part of its key',
  (reason, step) => {
    expect(decisionOf(deadLetterCode(reason))).toMatchObject({ kind: 'deadLetter', reason, step })
  },
)
