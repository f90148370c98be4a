/** Sets on their way through ingest: what they store, drop and keep aside, and that a replay runs the ones of then. */
import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { publishSet, readShadow, startShadow, stopShadow } from '../catalog/index.ts'
import {
  childUuid,
  DEAD_LETTERS,
  decodeOutcomes,
  EVENTS,
  type JsonObject,
  OUTCOMES,
  TOPICS,
} from '../event/index.ts'
import { Pipeline, WITHIN_MS } from './pipeline.fixture.ts'

setDefaultTimeout(WITHIN_MS * 2)

const pipeline = new Pipeline()
const TEAM = 1
const uuid = (number: number) => `018f4b2e-0000-7000-8000-${String(number).padStart(12, '0')}`

const publish = (...steps: object[]) => publishSet(pipeline.sql, TEAM, { steps })
const code = (source: string, policy?: string) => ({
  name: 'code',
  source: `export default (event, helpers) => { ${source}; return event }`,
  ...(policy && { policy }),
})

type Row = {
  uuid: string
  event: string
  distinct_id: string
  properties: JsonObject
  sub: number
  config: number
}

async function stored(): Promise<Row[]> {
  return (await pipeline.rowsOf(TOPICS.events)).map((reader) => {
    const row = EVENTS.decode(reader)
    return {
      uuid: row.uuid,
      event: row.event,
      distinct_id: row.distinct_id,
      properties: JSON.parse(row.properties) as JsonObject,
      sub: row._sub,
      config: row._config_version,
    }
  })
}

afterEach(async () => {
  await pipeline.sql`TRUNCATE transformation_set, transformation_key, transformation_shadow`
})

describe('transformations in ingest', () => {
  test('what a step changes is stored, with what changed it; what none changes is as it was', async () => {
    await publish(
      { name: 'ip', use: 'anonymise-ip' },
      code(
        'if (event.properties.a) { event.properties.b = 2; event.distinct_id = "other"; delete event.properties.$set.mail }',
      ),
    )
    await pipeline.capture([
      { json: '{"properties":{"a":1},"$set":{"mail":"x","plan":"y"}}', ip: '203.0.113.7' },
      { json: '{"properties":{"z":1}}', ip: '' },
    ])
    expect(await pipeline.ingested(2)).toEqual({ stored: 2, dead: 0 })
    const [first, second] = await stored()
    expect(first).toMatchObject({ uuid: uuid(0), distinct_id: 'other', sub: 0 })
    expect(first!.properties).toMatchObject({
      a: 1,
      b: 2,
      $ip: '203.0.113.0',
      $set: { plan: 'y' },
      $transformed: { version: 1, steps: { ip: ['$ip'], code: ['(distinct_id)', '$set', 'b'] } },
    })
    expect(second!.properties).toEqual({ z: 1 })
    const [person] =
      await pipeline.sql`SELECT properties FROM person JOIN person_distinct_id USING (team_id) WHERE distinct_id = 'other' AND person.id = person_id`
    expect(person!.properties).toMatchObject({ plan: 'y' })
    expect(person!.properties).not.toHaveProperty('mail')
  })

  test('an address that is taken away does not come back', async () => {
    await publish({ name: 'remove', use: 'remove-properties', options: { properties: ['$ip'] } })
    await pipeline.capture([{ json: '{"properties":{"a":1}}', ip: '203.0.113.7' }])
    await pipeline.ingested(1)
    const [row] = await stored()
    expect(row!.properties).not.toHaveProperty('$ip')
  })

  test('each failed or dropped event ends in one place, and its neighbours go on', async () => {
    await publish(code('if (event.event === "bad") throw new Error("no good")'), {
      name: 'filter',
      use: 'filter',
      options: { conditions: [{ event: 'gone' }] },
    })
    await pipeline.capture(['one', 'bad', 'gone', 'two'].map((event) => ({ json: '{}', event })))
    expect(await pipeline.ingested(4)).toEqual({ stored: 2, dead: 1 })
    expect((await stored()).map((row) => row.event)).toEqual(['one', 'two'])
    const letters = (await pipeline.rowsOf(TOPICS.deadLetters)).map((reader) => DEAD_LETTERS.decode(reader))
    expect(letters).toMatchObject([
      {
        reason: 'transformation_failed',
        step: 'transform',
        detail: 'code@1 (exception, line 1): Error: no good',
      },
    ])
    const outcomes = (await pipeline.rowsOf(TOPICS.outcomes)).map((reader) => OUTCOMES.decode(reader))
    expect(outcomes.map(({ state, reason }) => [state, reason])).toEqual([
      ['dead_lettered', 'transformation_failed'],
      ['dropped', 'dropped_by_transformation'],
    ])
  })

  test('one event becomes several rows of one source', async () => {
    await publish(code('return [event, { ...event, event: "second" }, { ...event, event: "third" }]'))
    await pipeline.capture([{ json: '{"properties":{"a":1}}' }, { json: '{}' }])
    expect(await pipeline.ingested(2)).toEqual({ stored: 2, dead: 0 })
    expect((await stored()).map((row) => [row.uuid, row.event, row.sub])).toEqual([
      [uuid(0), 'e', 0],
      [childUuid(uuid(0), 1), 'second', 1],
      [childUuid(uuid(0), 2), 'third', 2],
      [uuid(1), 'e', 0],
      [childUuid(uuid(1), 1), 'second', 1],
      [childUuid(uuid(1), 2), 'third', 2],
    ])
    const receipts =
      await pipeline.sql`SELECT outcomes, stored_rows, config_version FROM receipt ORDER BY from_offset`
    expect(receipts.flatMap((row) => decodeOutcomes(row.outcomes))).toEqual([
      { code: 0, rows: 3 },
      { code: 0, rows: 3 },
    ])
    expect(receipts.reduce((sum, row) => sum + row.stored_rows, 0)).toBe(6)
  })

  test('a replay runs the set of then, whatever was published since', async () => {
    await publish(
      code('event.properties.by = "old"; return event.event === "twice" ? [event, event] : event'),
    )
    await pipeline.capture([{ json: '{}' }, { json: '{}', event: 'twice' }])
    await pipeline.ingested(2)
    const before = await pipeline.records(TOPICS.events)
    await publish({ name: 'all', use: 'filter', options: { conditions: [{ event: ['e', 'twice'] }] } })
    await pipeline.sql`UPDATE ingest_fence SET produced_through = 0`
    await pipeline.run(() => pipeline.isProduced(2))
    const after = (await pipeline.records(TOPICS.events)).slice(before.length)
    expect(after.map(({ header }) => Buffer.from(header).toString('hex'))).toEqual(
      before.map(({ header }) => Buffer.from(header).toString('hex')),
    )
    const rows = await stored()
    expect(rows.slice(3)).toEqual(rows.slice(0, 3))
    expect(rows.map((row) => row.properties.by)).toEqual(Array(6).fill('old'))
    await pipeline.capture([{ json: '{}' }], 2)
    await pipeline.ingested(3)
    expect(await stored()).toHaveLength(6)
  })

  test('an event of which no row, or only a later one, was stored is replayed so', async () => {
    const refused = '{ ...event, event: "$identify" }'
    await publish(code(`return event.event === "none" ? [${refused}, ${refused}] : [${refused}, event]`))
    await pipeline.capture([
      { json: '{}', personProcessing: 'off' },
      { json: '{}', personProcessing: 'off', event: 'none' },
    ])
    expect(await pipeline.ingested(2)).toEqual({ stored: 1, dead: 0 })
    const produced = async () => ({
      events: (await stored()).map(({ event, sub }) => [event, sub]),
      outcomes: (await pipeline.rowsOf(TOPICS.outcomes)).map((reader) => {
        const { _offset, _sub, uuid, reason } = OUTCOMES.decode(reader)
        return [_offset, _sub, uuid, reason]
      }),
    })
    const before = await produced()
    const why = 'identify_without_person_processing'
    expect(before).toEqual({
      events: [['e', 1]],
      outcomes: [
        [0, 0, uuid(0), why],
        [1, 0, uuid(1), why],
        [1, 1, childUuid(uuid(1), 1), why],
      ],
    })
    await pipeline.sql`UPDATE ingest_fence SET produced_through = 0`
    await pipeline.run(() => pipeline.isProduced(2))
    const { events, outcomes } = await produced()
    expect(events.slice(1)).toEqual(before.events)
    expect(outcomes.slice(3)).toEqual(before.outcomes)
  })

  test('what was stored is never stored as it came in, when its set does not let it through any more', async () => {
    await publish(code('event.properties.mail = "hidden"'))
    await pipeline.capture([{ json: '{"properties":{"mail":"ada@example.com"}}' }])
    await pipeline.ingested(1)
    // Sets never change, but what their helpers say of a place may.
    const definition = { steps: [code('throw new Error("no place")')] }
    await pipeline.sql`UPDATE transformation_set SET definition = ${JSON.stringify(definition)}::text::jsonb`
    await pipeline.sql`UPDATE ingest_fence SET produced_through = 0`
    await pipeline.run(async (ingest) => {
      const sentence = "was stored, but its project's transformations fail on it today"
      return (await ingest.notReady())?.includes(sentence) === true
    })
    expect((await stored()).map((row) => row.properties.mail)).toEqual(['hidden'])
  })

  test('generations follow the clock, so that those of sets that are gone are not given again', async () => {
    const [first, second] = [await publish(code('')), await publish(code(''))]
    expect(second.generation).toBeGreaterThan(first.generation)
    const seconds = (Date.now() - Date.UTC(2026, 0, 1)) / 1000
    expect(Math.abs(first.generation - seconds)).toBeLessThan(60)
  })

  test('a batch that becomes too many rows is cut up, and all of it is stored', async () => {
    await publish(code('return Array(100).fill(event)'))
    await pipeline.capture(Array.from({ length: 250 }, () => ({ json: '{}' })))
    expect(await pipeline.ingested(250)).toEqual({ stored: 250, dead: 0 })
    const receipts = await pipeline.sql`SELECT stored_rows FROM receipt`
    expect(receipts.length).toBeGreaterThan(1)
    expect(receipts.reduce((sum, row) => sum + row.stored_rows, 0)).toBe(25_000)
  })

  test('a set that cannot be opened keeps the events aside', async () => {
    await publish({ name: 'broken', source: 'this is no code' })
    await pipeline.capture([{ json: '{}' }])
    expect(await pipeline.ingested(1)).toEqual({ stored: 0, dead: 1 })
  })

  test('a personless $identify does not come in under another name', async () => {
    await publish({ name: 'rename', use: 'rename-events', options: { names: { sneaky: '$identify' } } })
    await pipeline.capture([{ json: '{}', event: 'sneaky', personProcessing: 'off' }])
    expect(await pipeline.ingested(1)).toEqual({ stored: 0, dead: 0 })
  })
})

describe('a draft in shadow', () => {
  const begin = (...steps: object[]) =>
    startShadow(pipeline.sql, TEAM, { steps }, { hours: 1, fallbackKey: 'key' })

  test('what it would do differently is told, and not done', async () => {
    await publish(code('event.properties.a = 1'))
    await begin(
      code(
        'event.properties.a = event.event === "same" ? 1 : 2; if (event.event === "bad") throw new Error("no")',
      ),
      { name: 'filter', use: 'filter', options: { conditions: [{ event: 'gone' }] } },
    )
    await pipeline.capture(['same', 'other', 'bad', 'gone'].map((event) => ({ json: '{}', event })))
    expect(await pipeline.ingested(4)).toEqual({ stored: 4, dead: 0 })
    expect((await stored()).map((row) => row.properties.a)).toEqual([1, 1, 1, 1])
    const report = await readShadow(pipeline.sql, TEAM)
    expect(report).toMatchObject({
      trouble: '',
      counts: { same: 1, differs: 1, 'kept → quarantined': 1, 'kept → dropped': 1 },
      fields: { 'properties.a': 1 },
    })
    expect(report!.samples.map(({ event, differences }) => [event, differences])).toEqual([
      ['other', ['properties.a: 1 → 2']],
      ['bad', ['code: Error: no']],
      ['gone', []],
    ])
    expect(await stopShadow(pipeline.sql, TEAM)).toBe(true)
    expect(await readShadow(pipeline.sql, TEAM)).toBeUndefined()
  })

  test('one that never ends is ended, and costs no event', async () => {
    await begin(code('for (;;);'))
    await pipeline.capture(Array.from({ length: 10 }, () => ({ json: '{"properties":{"a":1}}' })))
    expect(await pipeline.ingested(10)).toEqual({ stored: 10, dead: 0 })
    expect((await stored())[0]!.properties).toEqual({ a: 1 })
    const report = await readShadow(pipeline.sql, TEAM)
    expect(report!.trouble).toContain('too long')
  })

  test('one that cannot be opened says so', async () => {
    await begin({ name: 'broken', source: 'no code' })
    await pipeline.capture([{ json: '{}' }])
    await pipeline.ingested(1)
    expect((await readShadow(pipeline.sql, TEAM))!.trouble).toContain('it cannot be opened')
  })
})
