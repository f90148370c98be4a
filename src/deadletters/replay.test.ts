/** Dead letters sent again through ingest: the client's bytes, once, whatever dies on the way (I1.3, I2). */
import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import pino from 'pino'
import { plainHeader } from '../../test/support/raw-header.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { publishSet } from '../catalog/index.ts'
import { DEAD_LETTERS, decodeRawHeader, EVENTS, encodeRawHeader, OUTCOMES, TOPICS } from '../event/index.ts'
import { type Captured, Pipeline, TOKEN, WITHIN_MS } from '../ingest/pipeline.fixture.ts'
import {
  discardLetters,
  jobStatus,
  type Letter,
  type LetterFilter,
  type LetterState,
  planJob,
  Replayer,
  type ReplayStep,
  selectLetters,
  showLetters,
  survey,
} from './index.ts'

setDefaultTimeout(WITHIN_MS * 2)

const pipeline = new Pipeline()
let servers: TestWarehouse
beforeAll(async () => {
  servers = await startTestWarehouse()
})
afterAll(() => servers.stop())
beforeEach(async () => {
  await pipeline.sql`TRUNCATE dead_letter_decision, dead_letter_job`
  await servers.warehouse.command('TRUNCATE TABLE dead_letters')
})

const deps = () => ({ sql: pipeline.sql, warehouse: servers.warehouse })
const ASKED = { by: 'tester', why: 'a rule was wrong' }
const PAID = { json: '{"properties":{"price":1.50, "n": 12345678901234567890}}', event: 'paid' }
const RESTRICTED = { ...PAID, disposition: 'deadLetter' } as const
const uuidAt = (i: number) => `018f4b2e-0000-7000-8000-${String(i).padStart(12, '0')}`

/** What the load does with dead letters. */
async function loadLetters(): Promise<void> {
  const rows = (await pipeline.records(TOPICS.deadLetters)).map(({ value }) => value)
  await servers.warehouse.insertRows({ table: DEAD_LETTERS, rows, token: Bun.randomUUIDv7() })
}

/** Captured, and in the table of dead letters as ingest would put them there; it comes to them when it runs. */
async function bury(bodies: Captured[]): Promise<void> {
  await pipeline.capture(bodies)
  await buryAll()
}

async function buryAll(): Promise<void> {
  const [topic] = await pipeline.log.describe([TOPICS.raw])
  const rows = (await pipeline.records(TOPICS.raw)).map(({ header, value, offset }) => {
    const known = header[0] === 99 ? undefined : decodeRawHeader(header)
    const why =
      known === undefined
        ? { reason: 'unreadable_record', step: 'header' }
        : known.disposition === 'deadLetter'
          ? { reason: 'restricted', step: 'restrict' }
          : { reason: 'unreadable_event', step: 'parse' }
    return DEAD_LETTERS.encode({
      ...{
        team_id: 1,
        uuid: known?.uuid ?? uuidAt(0),
        event: known?.event ?? '',
        distinct_id: known?.distinctId ?? '',
      },
      ...{ ...why, detail: 'x', timestamp: known?.nowMs ?? 0, raw_header: header, raw_value: value },
      ...{ _log_id: topic!.logId, _partition: 0, _offset: offset, _sub: 0 },
    })
  })
  await servers.warehouse.insertRows({ table: DEAD_LETTERS, rows, token: Bun.randomUUIDv7() })
}

async function select(states: LetterState[] = ['open'], filter: LetterFilter = {}): Promise<Letter[]> {
  const letters: Letter[] = []
  // Pages of two, so that every test turns a page.
  for await (const page of selectLetters(deps(), filter, new Set(states), 2)) letters.push(...page)
  return letters
}

function replayer(
  at?: ReplayStep,
  leaseMs = 60_000,
  stillMs = 5_000,
): { replayer: Replayer; reached: Promise<void> } {
  const reached = Promise.withResolvers<void>()
  const started = new Replayer({
    sql: pipeline.sql,
    log: pipeline.log,
    warehouse: async () => servers.warehouse,
    logger: pino({ level: 'silent' }),
    lookEveryMs: 20,
    leaseMs,
    stillMs,
    onStep: (step) => {
      if (step !== at) return
      reached.resolve()
      // As a process that died: nothing more comes of it.
      return new Promise<never>(() => {})
    },
  })
  return { replayer: started, reached: reached.promise }
}

async function plan(states: LetterState[] = ['open'], filter: LetterFilter = {}) {
  const job = await planJob(pipeline.sql, selectLetters(deps(), filter, new Set(states)), {
    ...ASKED,
    filter,
    eventsPerSecond: 10_000,
    again: ['failed', 'discarded'],
  })
  return job
}

const isDone = async (id: string) => (await jobStatus(pipeline.sql, id))[0]?.state === 'done'

async function replayAll(states?: LetterState[], filter?: LetterFilter): Promise<string> {
  const job = await plan(states, filter)
  const { replayer: worker } = replayer()
  await waitFor('the replay to end', () => isDone(job!.id), WITHIN_MS)
  await worker.stop()
  return job!.id
}

const stored = async () => (await pipeline.rowsOf(TOPICS.events)).map((row) => EVENTS.decode(row))
const outcomes = async () => (await pipeline.rowsOf(TOPICS.outcomes)).map((row) => OUTCOMES.decode(row).state)

describe('replay', () => {
  test('the original bytes come back under a header that names their letter, and are stored', async () => {
    await pipeline.capture([RESTRICTED, { json: '{"properties":{}}' }])
    await pipeline.ingested(2)
    await loadLetters()
    const id = await replayAll()
    const raw = await pipeline.records(TOPICS.raw)
    expect(raw).toHaveLength(3)
    expect(Buffer.from(raw[2]!.value).toString()).toBe(PAID.json)
    const first = decodeRawHeader(raw[0]!.header)
    const [letter] = await select(['replayed'])
    expect(decodeRawHeader(raw[2]!.header)).toEqual({
      ...first,
      disposition: 'event',
      replayOf: { logId: letter!.logId, partition: 0, offset: 0, sub: 0 },
    })
    expect(letter!.decision).toMatchObject({ ...ASKED, jobId: id, sent: { partition: 0, offset: 2 } })
    expect((await jobStatus(pipeline.sql, id))[0]).toMatchObject({ letters: 1, replayed: 1, failed: 0 })
    expect(await pipeline.ingested(3)).toEqual({ stored: 2, dead: 1 })
    expect((await stored()).map((row) => [row.event, row._offset])).toEqual([
      ['e', 1],
      ['paid', 2],
    ])
    expect(await select()).toEqual([])
  })

  test('one row of several comes not back while another is stored: all would', async () => {
    const source = 'export default (event) => [event, { ...event, event: "second" }]'
    await publishSet(pipeline.sql, 1, { steps: [{ name: 'twice', source }] })
    await pipeline.capture([{ json: '{}' }])
    await pipeline.ingested(1)
    const [, second] = await stored()
    const { team_id, uuid, event, distinct_id, timestamp, _log_id } = second!
    const [raw] = await pipeline.records(TOPICS.raw)
    const letter = DEAD_LETTERS.encode({
      ...{ team_id, uuid, event, distinct_id, timestamp, reason: 'refused_by_warehouse', step: 'load' },
      ...{ detail: 'x', raw_header: raw!.header, raw_value: raw!.value },
      ...{ _log_id, _partition: 0, _offset: 0, _sub: 1 },
    })
    await servers.warehouse.insertRows({ table: DEAD_LETTERS, rows: [letter], token: Bun.randomUUIDv7() })
    const id = await replayAll()
    expect((await jobStatus(pipeline.sql, id))[0]).toMatchObject({ letters: 1, replayed: 0, failed: 1 })
    expect(await pipeline.records(TOPICS.raw)).toHaveLength(1)
    await pipeline.sql`TRUNCATE transformation_set, transformation_key`
  })

  test('the claim moves on: what the client sends again is a copy of the replayed one', async () => {
    await pipeline.capture([RESTRICTED])
    await pipeline.ingested(1)
    await loadLetters()
    await replayAll()
    await pipeline.capture([{ ...PAID, uuid: uuidAt(0) }])
    expect(await pipeline.ingested(3)).toEqual({ stored: 1, dead: 1 })
    expect(await outcomes()).toEqual(['dead_lettered', 'duplicate'])
  })

  test('what the client sent in a readable form since is there; its letter comes back as a copy', async () => {
    await pipeline.capture([
      { json: '[]', uuid: uuidAt(7) },
      { json: '{}', uuid: uuidAt(7) },
    ])
    await pipeline.ingested(2)
    const [row] = await pipeline.rowsOf(TOPICS.deadLetters)
    // As if this version could read what the one before could not.
    const readable = DEAD_LETTERS.encode({ ...DEAD_LETTERS.decode(row!), raw_value: Buffer.from('{"a":1}') })
    await servers.warehouse.insertRows({
      table: DEAD_LETTERS,
      rows: [readable],
      token: Bun.randomUUIDv7(),
    })
    await replayAll()
    expect(await pipeline.ingested(3)).toEqual({ stored: 1, dead: 1 })
    expect(await outcomes()).toEqual(['dead_lettered', 'duplicate'])
  })

  test('a letter that came back and died again is a letter of its own', async () => {
    await pipeline.capture([{ json: '[]' }])
    await pipeline.ingested(1)
    await loadLetters()
    await replayAll()
    await pipeline.ingested(2)
    await loadLetters()
    expect((await select()).map(({ offset }) => offset)).toEqual([1])
    expect((await select(['replayed'])).map(({ offset }) => offset)).toEqual([0])
  })

  test('the order of capture is kept', async () => {
    const many = Array.from({ length: 230 }, (_, i) => ({ ...RESTRICTED, json: `{"n":${i}}` }))
    await bury(many)
    await replayAll()
    const raw = (await pipeline.records(TOPICS.raw)).slice(230)
    expect(raw.map(({ value }) => JSON.parse(Buffer.from(value).toString()).n)).toEqual(many.map((_, i) => i))
  })

  test('while ingest is behind nothing is sent', async () => {
    await bury([RESTRICTED])
    const [topic] = await pipeline.log.describe([TOPICS.raw])
    await pipeline.sql`
      INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through)
      VALUES (${topic!.logId}, 0, ${TOPICS.raw}, 1, 1)`
    const producer = pipeline.log.producer({ name: 'live', deadlineMs: 10_000 })
    const record = { topic: TOPICS.raw, partition: 0, header: Buffer.alloc(1), value: Buffer.alloc(1) }
    await producer.send(Array.from({ length: 10_001 }, () => record))
    await producer.close()
    const job = await plan()
    const { replayer: worker } = replayer()
    await waitFor(
      'the replay to wait',
      async () => /ingest is 10001 records behind/.test((await jobStatus(pipeline.sql, job!.id))[0]!.says),
      WITHIN_MS,
    )
    await worker.stop()
    expect(await pipeline.records(TOPICS.raw)).toHaveLength(10_002)
    await pipeline.sql`UPDATE ingest_fence SET next_offset = 10002`
    const { replayer: next } = replayer()
    await waitFor('the replay to go on', () => isDone(job!.id), WITHIN_MS)
    await next.stop()
    expect(await pipeline.records(TOPICS.raw)).toHaveLength(10_003)
  })

  test('an order that waits for ingest lets the next one have its turn', async () => {
    await bury([RESTRICTED, RESTRICTED])
    const producer = pipeline.log.producer({ name: 'live', deadlineMs: 10_000 })
    const record = { topic: TOPICS.raw, partition: 0, header: Buffer.alloc(1), value: Buffer.alloc(1) }
    await producer.send(Array.from({ length: 10_000 }, () => record))
    await producer.close()
    const first = await plan(['open'], { uuid: uuidAt(0) })
    const second = await plan(['open'], { uuid: uuidAt(1) })
    const { replayer: worker } = replayer(undefined, 60_000, 50)
    for (const job of [first, second, first]) {
      await pipeline.sql`UPDATE dead_letter_job SET says = '' WHERE id = ${job!.id}`
      await waitFor(
        'the order to have its turn',
        async () => /ingest is 10002 records behind/.test((await jobStatus(pipeline.sql, job!.id))[0]!.says),
        WITHIN_MS,
      )
    }
    await worker.stop()
    expect(await pipeline.records(TOPICS.raw)).toHaveLength(10_002)
  })

  test('a query that ClickHouse refuses stops no order', async () => {
    await bury([RESTRICTED])
    const job = await plan()
    const rename = (from: string, to: string) =>
      servers.warehouse.command(`ALTER TABLE dead_letters RENAME COLUMN ${from} TO ${to}`)
    await rename('raw_value', 'raw_other')
    const { replayer: worker } = replayer()
    try {
      await waitFor(
        'the order to say why it waits',
        async () => /UNKNOWN_IDENTIFIER/.test((await jobStatus(pipeline.sql, job!.id))[0]!.says),
        WITHIN_MS,
      )
    } finally {
      await rename('raw_other', 'raw_value')
    }
    await waitFor('the replay to end', () => isDone(job!.id), WITHIN_MS)
    await worker.stop()
    expect(await pipeline.records(TOPICS.raw)).toHaveLength(2)
  })
})

describe('a sender that dies', () => {
  const letters = [RESTRICTED, { ...RESTRICTED, json: '{"n":2}' }]

  test.each(['marked', 'appended', 'noted'] as const)('when it has %s: each is sent once', async (step) => {
    await bury(letters)
    const job = await plan()
    const { reached } = replayer(step)
    await reached
    const { replayer: heir } = replayer(undefined, 0)
    await waitFor('the heir to end it', () => isDone(job!.id), WITHIN_MS)
    await heir.stop()
    expect(await pipeline.records(TOPICS.raw)).toHaveLength(4)
    expect(await pipeline.ingested(4)).toEqual({ stored: 2, dead: 2 })
    const back = await select(['replayed'])
    expect(back.map(({ decision }) => decision!.sent!.offset)).toEqual([2, 3])
  })

  test('and whose append lands behind the look of its heir: dedup knows the copy', async () => {
    await bury([RESTRICTED])
    const job = await plan()
    const { reached } = replayer('marked')
    await reached
    const { replayer: heir } = replayer(undefined, 0)
    await waitFor('the heir to end it', () => isDone(job!.id), WITHIN_MS)
    await heir.stop()
    const [, sent] = await pipeline.records(TOPICS.raw)
    const producer = pipeline.log.producer({ name: 'late', deadlineMs: 10_000 })
    await producer.send([{ topic: TOPICS.raw, partition: 0, header: sent!.header, value: sent!.value }])
    await producer.close()
    expect(await pipeline.ingested(3)).toEqual({ stored: 1, dead: 1 })
    expect(await outcomes()).toEqual(['dead_lettered', 'duplicate'])
  })

  test('and whose raw log is gone: nobody guesses', async () => {
    await bury([RESTRICTED])
    const job = await plan()
    const { reached } = replayer('marked')
    await reached
    await pipeline.sql`UPDATE dead_letter_decision SET sent_log_id = '018f4b2e-0000-7000-8000-0000000000ff'`
    const { replayer: heir } = replayer(undefined, 0)
    await waitFor('the heir to end it', () => isDone(job!.id), WITHIN_MS)
    await heir.stop()
    const [letter] = await select(['failed'])
    expect(letter!.decision!.detail).toContain('whether it was sent is not known')
    expect(await pipeline.records(TOPICS.raw)).toHaveLength(1)
  })
})

describe('what cannot be sent', () => {
  test('a header of another version fails with its reason, and its neighbours go on', async () => {
    await pipeline.capture([RESTRICTED])
    const producer = pipeline.log.producer({ name: 'capture', deadlineMs: 10_000 })
    const header = Buffer.from(
      encodeRawHeader(
        plainHeader({ token: TOKEN, distinctId: 'd', event: 'e', uuid: uuidAt(9), timestampMs: 1 }),
      ) as Uint8Array,
    )
    header[0] = 99
    await producer.send([{ topic: TOPICS.raw, partition: 0, header, value: Buffer.from('{}') }])
    await producer.close()
    await buryAll()
    await replayAll()
    const [failed] = await select(['failed'])
    expect(failed).toMatchObject({ reason: 'unreadable_record', state: 'failed' })
    expect(failed!.decision!.detail).toContain('raw header version 99 is not known')
    expect(await select(['replayed'])).toHaveLength(1)
    // Asked for again after an upgrade: planned anew, and what was before is kept.
    await replayAll(['failed'])
    expect((await select(['failed']))[0]!.decision!.history).toMatchObject([
      { state: 'failed', by: 'tester' },
    ])
  })

  test('a row without a raw record is told apart, and is no part of a plan', async () => {
    const row = {
      team_id: 1,
      uuid: uuidAt(0),
      event: '',
      distinct_id: '',
      reason: 'refused_by_warehouse',
      detail: 'x',
      step: 'load:persons',
      timestamp: 1,
      raw_header: new Uint8Array(),
      raw_value: Buffer.from('row'),
      _log_id: uuidAt(1),
      _partition: 0,
      _offset: 0,
      _sub: 0,
    }
    await servers.warehouse.insertRows({
      table: DEAD_LETTERS,
      rows: [DEAD_LETTERS.encode(row)],
      token: Bun.randomUUIDv7(),
    })
    expect((await survey(selectLetters(deps(), {}, new Set(['open'])), 5)).groups).toMatchObject([
      { count: 1, withoutRecord: 1 },
    ])
    expect(await plan()).toBeUndefined()
    const [shown] = await showLetters(deps(), { uuid: uuidAt(0) })
    expect(shown!.advice).toContain('cannot be sent again')
  })
})

describe('looking and discarding', () => {
  test('counts by reason with the first sample, and the newest', async () => {
    await bury([
      { ...RESTRICTED, nowMs: 2 },
      { ...RESTRICTED, nowMs: 1 },
      { json: '[]', nowMs: 3 },
    ])
    const found = await survey(selectLetters(deps(), {}, new Set(['open'])), 2)
    expect(found).toMatchObject({
      total: 3,
      replayable: 3,
      groups: [
        { reason: 'restricted', step: 'restrict', count: 2, firstMs: 1, lastMs: 2, sample: { offset: 1 } },
        { reason: 'unreadable_event', step: 'parse', count: 1 },
      ],
      newest: [{ offset: 2 }, { offset: 0 }],
    })
    const rows: [LetterFilter, number[]][] = [
      [{ reason: 'restricted' }, [0, 1]],
      [{ step: 'parse' }, [2]],
      [{ fromMs: 2, toMs: 3 }, [0]],
      [{ event: 'paid' }, [0, 1]],
      [{ distinctId: 'nobody' }, []],
      [{ uuid: uuidAt(1) }, [1]],
      [{ teamId: 1 }, [0, 1, 2]],
      [{ teamId: 2 }, []],
      [{ source: { logId: found.newest[0]!.logId, partition: 0, offset: 2, sub: 0 } }, [2]],
    ]
    for (const [filter, offsets] of rows) {
      expect((await select(['open'], filter)).map(({ offset }) => offset).sort()).toEqual(offsets)
    }
  })

  test('one letter whole: header, the bytes as sent, what to do', async () => {
    await bury([RESTRICTED])
    const [shown] = await showLetters(deps(), { uuid: uuidAt(0) })
    expect(shown!.rawValue.toString()).toBe(PAID.json)
    expect(shown!.header).toMatchObject({ event: 'paid', distinctId: 'd' })
    expect(shown!.advice).toContain('headrace project policy')
  })

  test('a discarded one is hidden, and says who and why; it can still be sent', async () => {
    await bury([RESTRICTED, RESTRICTED])
    const [first] = await select(['open'], { uuid: uuidAt(0) })
    expect(await discardLetters(pipeline.sql, [first!], { by: 'me', why: 'noise' })).toBe(1)
    expect(await discardLetters(pipeline.sql, [first!], { by: 'you', why: 'too late' })).toBe(0)
    expect((await select()).map(({ offset }) => offset)).toEqual([1])
    expect((await select(['discarded']))[0]!.decision).toMatchObject({ by: 'me', why: 'noise' })
    await replayAll(['discarded'])
    const [sent] = await select(['replayed'])
    expect(sent!.decision!.history).toMatchObject([{ state: 'discarded', by: 'me', why: 'noise' }])
    expect(await pipeline.ingested(3)).toEqual({ stored: 1, dead: 2 })
  })

  test('two plans at once: each letter is in one of them', async () => {
    await bury([RESTRICTED, RESTRICTED])
    const plans = await Promise.all([plan(), plan()])
    const planned = plans.map((one) => one?.letters ?? 0)
    expect(planned.reduce((sum, count) => sum + count)).toBe(2)
  })
})
