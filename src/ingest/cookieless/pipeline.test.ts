/** Cookieless events through the whole of ingest: their ids, what is left of them, and what no failure may change. */
import { beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import { changeIngestionOptions, type IngestionOptions, publishSet, type Sql } from '../../catalog/index.ts'
import { EVENTS, type EventRow, INGESTION_WARNINGS, OUTCOMES, personUuid, TOPICS } from '../../event/index.ts'
import { type Captured, Pipeline, WITHIN_MS } from '../pipeline.fixture.ts'
import { COOKIELESS_DISTINCT_ID } from './visitor.ts'

setDefaultTimeout(WITHIN_MS * 2)

const pipeline = new Pipeline()
const NOW_MS = Date.now()
const set = (options: IngestionOptions) => changeIngestionOptions(pipeline.sql, 'default', () => options)
beforeEach(async () => {
  await set({ cookieless: 'stateful' })
})

/** A cookieless event of the visitor at `ip`; `properties` are added. */
function sent(ip: string, properties: object = {}, more: Partial<Captured> = {}): Captured {
  const all = {
    $cookieless_mode: true,
    $host: 'www.example.com',
    $raw_user_agent: 'Secret/1.0',
    $browser: 'Firefox',
    ...properties,
  }
  return {
    json: JSON.stringify({ properties: all, $set: { $raw_user_agent: 'Secret/1.0' } }),
    event: '$pageview',
    distinctId: COOKIELESS_DISTINCT_ID,
    ip,
    userAgent: 'Secret/1.0',
    cookieless: true,
    timestampMs: NOW_MS,
    nowMs: NOW_MS,
    ...more,
  }
}

function identify(ip: string, distinctId: string): Captured {
  const properties = { $anon_distinct_id: COOKIELESS_DISTINCT_ID }
  return sent(ip, properties, { event: '$identify', distinctId })
}

async function rows(): Promise<EventRow[]> {
  return (await pipeline.rowsOf(TOPICS.events)).map((row) => EVENTS.decode(row))
}

const own = (row: EventRow) => JSON.parse(row.properties)

/** All that a replay has to give again. */
const written = ({ uuid, event, properties, timestamp, distinct_id, created_at, _offset }: EventRow) => ({
  uuid,
  event,
  properties,
  timestamp,
  distinct_id,
  created_at,
  _offset,
})

const SECRETS = /Secret|198\.51\.100/

describe('stateless', () => {
  test('one id per visitor and day, also for another process; nothing that it was made of is stored', async () => {
    await set({ cookieless: 'stateless' })
    await pipeline.capture([sent('198.51.100.1'), sent('198.51.100.1', { a: 1 }), sent('198.51.100.2')])
    expect(await pipeline.ingested(3)).toEqual({ stored: 3, dead: 0 })
    await pipeline.capture([sent('198.51.100.1')], 3)
    expect(await pipeline.ingested(4)).toEqual({ stored: 4, dead: 0 })
    const all = await rows()
    const ids = all.map((row) => row.distinct_id)
    expect(ids[0]).toMatch(/^cookieless_[\w+/]{22}$/)
    expect(new Set([ids[0], ids[1], ids[3]]).size).toBe(1)
    expect(ids[2]).not.toBe(ids[0]!)
    expect(all.map((row) => own(row).$distinct_id)).toEqual(ids)
    expect(new Set(all.map((row) => own(row).$session_id)).size).toBe(2)
    expect(all.map((row) => row.properties + row.person_properties).join()).not.toMatch(SECRETS)
    expect(all.map((row) => own(row).$browser)).toEqual(Array(4).fill('Firefox'))
    expect(all[3]).toMatchObject({ person_mode: 'full', person_id: personUuid(all[0]!.team_id, ids[0]!) })
    const stored = await pipeline.sql`SELECT properties::text AS text FROM person`
    expect(JSON.stringify(stored)).not.toMatch(SECRETS)
    expect((await pipeline.sql`SELECT FROM cookieless_visitor`).length).toBe(0)
  })
})

describe('stateful', () => {
  /** Who comes after an $identify is somebody else. */
  const VISITS = [
    sent('198.51.100.1'),
    identify('198.51.100.1', 'alice'),
    sent('198.51.100.1', {}, { distinctId: 'alice' }),
    sent('198.51.100.1'),
    sent('198.51.100.2'),
  ]

  function expectVisits(all: EventRow[]): void {
    const [first, identified, known, next, other] = all as [EventRow, EventRow, EventRow, EventRow, EventRow]
    expect(own(identified).$anon_distinct_id).toBe(first.distinct_id)
    expect([identified.distinct_id, known.distinct_id]).toEqual(['alice', 'alice'])
    expect([identified.person_id, known.person_id]).toEqual([first.person_id, first.person_id])
    expect(new Set([first.distinct_id, next.distinct_id, other.distinct_id]).size).toBe(3)
    expect(new Set([first.person_id, next.person_id, other.person_id]).size).toBe(3)
    const [device, ...devices] = all.slice(0, 4).map((row) => own(row).$device_id)
    expect(device).toMatch(/^cookielessd_[\w+/]{22}$/)
    expect(devices).toEqual([device, device, device])
    const sessions = all.map((row) => own(row).$session_id)
    expect(sessions.slice(0, 3)).toEqual(Array(3).fill(sessions[0]))
    expect(new Set(sessions).size).toBe(3)
    expect(all.map((row) => row.properties + row.person_properties).join()).not.toMatch(SECRETS)
  }

  test('anonymous, identified, and anonymous again, in one batch', async () => {
    await pipeline.capture(VISITS)
    expect(await pipeline.ingested(5)).toEqual({ stored: 5, dead: 0 })
    expectVisits(await rows())
    const visitors = await pipeline.sql`SELECT identifies FROM cookieless_visitor ORDER BY identifies`
    expect(visitors.map(({ identifies }) => identifies)).toEqual([0, 1])
  })

  test('a batch for each event gives the same, by another process each time', async () => {
    for (const [i, visit] of VISITS.entries()) {
      await pipeline.capture([visit], i)
      await pipeline.ingested(i + 1)
    }
    expectVisits(await rows())
    // The one who came after alice is known again.
    await pipeline.capture([sent('198.51.100.1')], 5)
    expect(await pipeline.ingested(6)).toEqual({ stored: 6, dead: 0 })
    const all = await rows()
    expect([all[5]!.distinct_id, all[5]!.person_id]).toEqual([all[3]!.distinct_id, all[3]!.person_id])
  })

  test('what transformations make of one event is of one visit, also on a replay', async () => {
    const source = `export default (event) => event.event === '$identify' ? [event, { ...event, event: 'signed_up' }] : event`
    await publishSet(pipeline.sql, 1, { steps: [{ name: 'more', source }] })
    await pipeline.capture([identify('198.51.100.1', 'alice'), sent('198.51.100.1')])
    await pipeline.ingested(2)
    const before = (await rows()).map(written)
    expect(before.map(({ event }) => event)).toEqual(['$identify', 'signed_up', '$pageview'])
    const visitors = await pipeline.sql`SELECT identifies FROM cookieless_visitor`
    expect(visitors.map(({ identifies }) => identifies)).toEqual([1])
    await pipeline.sql`UPDATE ingest_fence SET produced_through = 0`
    await pipeline.run(() => pipeline.isProduced(2))
    expect((await rows()).slice(3).map(written)).toEqual(before)
    await pipeline.sql`TRUNCATE transformation_set, transformation_key`
  })

  test('I2: what another partition did to a visitor meanwhile counts, and nothing is lost', async () => {
    await pipeline.capture([sent('198.51.100.1')])
    await pipeline.ingested(1)
    await pipeline.capture([sent('198.51.100.1', {}, { timestampMs: NOW_MS + 2 })], 1)
    const session = '019cd50b-1800-7551-b6ea-9dba49b24a09'
    let raced = false
    const racing = new Proxy(pipeline.sql, {
      apply(target, self, args: unknown[]) {
        const query = Reflect.apply(target as never, self, args) as Promise<unknown>
        if (raced || !(args[0] as string[]).join('').includes('apply_batch(')) return query
        raced = true
        return pipeline.sql`
          UPDATE cookieless_visitor SET version = version + 1, session_id = ${session}, active_ms = ${NOW_MS + 1}`.then(
          () => query,
        )
      },
    }) as Sql
    expect(await pipeline.ingested(2, { sql: racing })).toEqual({ stored: 2, dead: 0 })
    expect(raced).toBe(true)
    expect((await rows()).map((row) => own(row).$session_id).at(-1)).toBe(session)
    const [visitor] = await pipeline.sql`SELECT version, session_id, active_ms FROM cookieless_visitor`
    expect(visitor).toEqual({ version: 3, session_id: session, active_ms: NOW_MS + 2 } as never)
  })
})

describe('I2: a batch that is produced again', () => {
  const MIXED = [
    sent('198.51.100.1'),
    sent('198.51.100.1', { $host: 7 }),
    identify('198.51.100.1', 'alice'),
    { json: '{"properties":{"n":1}}', ip: '198.51.100.9', timestampMs: NOW_MS, nowMs: NOW_MS },
    sent('198.51.100.1'),
    sent('198.51.100.3', {}, { personProcessing: 'off' }),
    sent('198.51.100.1', {}, { event: '$create_alias' }),
    sent('198.51.100.4', {}, { timestampMs: 0 }),
  ]

  async function ends(topic: string): Promise<unknown[]> {
    const decode = topic === TOPICS.outcomes ? OUTCOMES.decode : INGESTION_WARNINGS.decode
    return (await pipeline.rowsOf(topic)).map((row) => decode(row as never))
  }

  test.each(['stateless', 'stateful'] as const)(
    '%s: has the same bytes, though salt, visitors and mode are gone',
    async (mode) => {
      await set({ cookieless: mode })
      await pipeline.capture(MIXED)
      await pipeline.ingested(MIXED.length)
      const before = await rows()
      expect(before.length).toBe(mode === 'stateful' ? 5 : 4)
      const [outcomes, warnings] = [await ends(TOPICS.outcomes), await ends(TOPICS.ingestionWarnings)]
      expect(outcomes.length).toBe(MIXED.length - before.length)
      expect(warnings.length).toBeGreaterThan(1)

      await pipeline.sql`UPDATE cookieless_salt SET salt = NULL, deleted_at = now()`
      await pipeline.sql`DELETE FROM cookieless_visitor`
      await set({ cookieless: 'off' })
      // As after a crash between the commit and the acknowledgement of the rows.
      await pipeline.sql`UPDATE ingest_fence SET produced_through = 0`
      await pipeline.ingested(MIXED.length)
      const all = await rows()
      expect(all.map(written)).toEqual([...before, ...before].map(written))
      expect(all.slice(before.length).every((row) => row._restamped)).toBe(true)
      expect(await ends(TOPICS.outcomes)).toEqual([...outcomes, ...outcomes])
      expect(await ends(TOPICS.ingestionWarnings)).toEqual([...warnings, ...warnings])
      expect((await pipeline.sql`SELECT FROM cookieless_visitor`).length).toBe(0)
    },
  )
})

describe('what a deployment and a project say', () => {
  const reasons = async () =>
    (await pipeline.rowsOf(TOPICS.outcomes)).map((row) => OUTCOMES.decode(row).reason)

  test('a project without the option takes none, and no secret is made for it', async () => {
    await set({})
    await pipeline.capture([sent('198.51.100.1')])
    expect(await pipeline.ingested(1)).toEqual({ stored: 0, dead: 0 })
    expect(await reasons()).toEqual(['cookieless_project_disabled'])
    expect((await pipeline.sql`SELECT FROM cookieless_salt`).length).toBe(0)
  })

  test('a deployment that takes none drops them in all projects', async () => {
    await pipeline.capture([sent('198.51.100.1')])
    const settings = { ingestCookieless: 'off' } as const
    expect(await pipeline.ingested(1, { settings })).toEqual({ stored: 0, dead: 0 })
    expect(await reasons()).toEqual(['cookieless_globally_disabled'])
  })

  test('what is stored of closed days goes by itself, also where none are taken any more', async () => {
    await pipeline.sql`
      INSERT INTO cookieless_salt (day, salt) VALUES ('2020-01-01', decode(repeat('ab', 16), 'hex'))`
    await pipeline.run(
      async () => (await pipeline.sql`SELECT FROM cookieless_salt WHERE salt IS NOT NULL`).length === 0,
      { settings: { ingestCookieless: 'off' } },
    )
  })
})

test('I1: while Postgres is away they wait, the first of the day as well, and none is a dead letter', async () => {
  await pipeline.capture([{ json: '{}' }])
  await pipeline.run(async (ingest) => {
    if (!(await pipeline.isProduced(1))) return false
    await pipeline.withoutPostgres(async () => {
      await pipeline.capture([sent('198.51.100.1'), identify('198.51.100.1', 'alice')], 1)
      await waitFor('it to wait', async () => (await ingest.notReady()) !== undefined, WITHIN_MS)
    })
    await waitFor('the rest', () => pipeline.isProduced(3), WITHIN_MS)
    return true
  })
  expect((await rows()).map((row) => row.distinct_id.replace(/_.*/, '_…'))).toEqual([
    'd',
    'cookieless_…',
    'alice',
  ])
  expect(await pipeline.records(TOPICS.deadLetters)).toEqual([])
})
