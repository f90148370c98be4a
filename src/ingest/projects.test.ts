/** The options of a project, from the catalogue to the rows: obeyed soon, read once, and never in the way of an event. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { waitFor } from '../../test/support/wait-for.ts'
import { changeIngestionOptions, ProjectCatalog, type Sql } from '../catalog/index.ts'
import { decodeOutcomes, describeOutcome, EVENTS, TOPICS } from '../event/index.ts'
import { createLogger } from '../observe/index.ts'
import { DEFAULT_OPTIONS } from './identity/index.ts'
import { ingestMetrics } from './metrics.ts'
import { type Captured, Pipeline, TOKEN, WITHIN_MS } from './pipeline.fixture.ts'
import { identityOptionsOf } from './project-options.ts'
import { projectsOf } from './projects.ts'

setDefaultTimeout(WITHIN_MS * 2)

const pipeline = new Pipeline()
const NOW_MS = Date.UTC(2026, 0, 1)
const set = (options: object | undefined) =>
  changeIngestionOptions(pipeline.sql, 'default', () => options).then(() => undefined)

describe('options', () => {
  const OBEYED_WITHIN_MS = 5_000

  test('a change is obeyed within 5 s, known tokens cost no query, and an unknown one is always asked for', async () => {
    await set(undefined)
    let queries = 0
    const counted = new Proxy(pipeline.sql, {
      apply: (target, self, args: unknown[]) => {
        queries++
        return Reflect.apply(target, self, args)
      },
    }) as Sql
    const catalog = new ProjectCatalog(counted, { unknownMs: 0 })
    const ask = projectsOf(catalog, createLogger('test', 'silent'))
    const optionsOf = async () => (await ask(new Set([TOKEN]))).get(TOKEN)!.options
    try {
      const before = await optionsOf()
      expect(before).toMatchObject({ anonymizeIps: false, personProcessing: 'on', ageMsMax: Infinity })
      const asked = queries
      for (let batch = 0; batch < 100; batch++) expect(await optionsOf()).toBe(before)
      expect(queries - asked).toBeLessThan(3)
      await set({ anonymizeIps: true, dropEventsOlderThanSeconds: 5, suppressedProperties: ['a'] })
      await waitFor('the change', async () => (await optionsOf()).anonymizeIps, OBEYED_WITHIN_MS)
      expect(await optionsOf()).toMatchObject({ ageMsMax: 5_000, suppressedProperties: new Set(['a']) })

      const beforeUnknown = queries
      for (let batch = 0; batch < 3; batch++) expect((await ask(new Set(['nobody']))).size).toBe(0)
      expect(queries - beforeUnknown).toBeGreaterThanOrEqual(3)
    } finally {
      await catalog.close()
    }
  })

  test('a team has one set of options in a batch, also while its token is replaced', async () => {
    await set(undefined)
    const catalog = new ProjectCatalog(pipeline.sql, { refreshMs: 3_600_000 })
    const ask = projectsOf(catalog, createLogger('test', 'silent'))
    const rename = (from: string, to: string) =>
      pipeline.sql`UPDATE project SET token = ${to} WHERE token = ${from}`
    try {
      await ask(new Set([TOKEN]))
      await rename(TOKEN, 'another')
      await set({ personProcessing: 'off', propertyOrder: 'eventTime', suppressedProperties: ['a'] })
      const projects = await ask(new Set(['another', TOKEN]))
      expect(projects.size).toBe(2)
      expect(projects.get('another')).toBe(projects.get(TOKEN)!)
      const { teamId } = projects.get(TOKEN)!
      expect(identityOptionsOf(projects)(teamId)).toEqual(DEFAULT_OPTIONS)
      const alone = identityOptionsOf(await ask(new Set(['another'])))
      expect(alone(teamId)).toEqual({
        suppressed: new Set(['a']),
        propertyOrder: 'eventTime',
        optedOut: true,
      })
      expect(() => alone(teamId + 1)).toThrow(TypeError)
    } finally {
      await rename('another', TOKEN)
      await set(undefined)
      await catalog.close()
    }
  })

  test('what cannot be read keeps no event out, and is told once per change', async () => {
    await pipeline.sql`
      UPDATE project SET settings = jsonb_set(settings, '{ingestion}', '{"anonymizeIps": true, "later": 1}')`
    const before = await unread()
    const event = { json: '{"properties":{"a":1}}', ip: '203.0.113.7' }
    await pipeline.capture([event, event].map((one, i) => ({ ...one, distinctId: `d${i}` })))
    expect(await pipeline.ingested(2)).toEqual({ stored: 2, dead: 0 })
    const rows = (await pipeline.rowsOf(TOPICS.events)).map((row) => EVENTS.decode(row).properties)
    expect(rows).toEqual(['{"a":1}', '{"a":1}'])
    expect((await unread()) - before).toBe(1)
  })

  test('a running process obeys what a project says of its persons', async () => {
    await set(undefined)
    let captured = 0
    const rowOf = async (event: Captured) => {
      await pipeline.capture([{ timestampMs: NOW_MS, nowMs: NOW_MS, ...event }], captured++)
      const all = async () => (await pipeline.records(TOPICS.events)).length === captured
      await waitFor('the row', all, WITHIN_MS)
      return EVENTS.decode((await pipeline.rowsOf(TOPICS.events)).at(-1)!)
    }
    const stored = async () => {
      const [row] = await pipeline.sql`
        SELECT p.properties FROM person p JOIN person_distinct_id d ON d.person_id = p.id WHERE d.distinct_id = 'd'`
      return row!.properties
    }
    const setting = ($set: object, more: Partial<Captured> = {}) =>
      rowOf({ json: JSON.stringify({ $set }), ...more })
    /** Changes the options; a probe says when they are obeyed. */
    const obeyed = async (options: object, probe: () => Promise<boolean>) => {
      await set(options)
      await waitFor('the options', probe, OBEYED_WITHIN_MS)
    }
    const hidesAddress = async () =>
      !(await rowOf({ json: '{}', ip: '203.0.113.7', distinctId: 'probe' })).properties.includes('$ip')
    const isPersonless = async () => (await rowOf({ json: '{}', distinctId: 'probe' })).person_mode !== 'full'

    await pipeline.run(async () => {
      await setting({ plan: 'a', n: 1 })
      await setting({ plan: 'b' })
      expect(await stored()).toMatchObject({ plan: 'b', n: 1 })

      const options = { suppressedProperties: ['plan'], propertyOrder: 'eventTime', anonymizeIps: true }
      await obeyed(options, hidesAddress)
      const shown = await setting({ plan: 'c' })
      expect(JSON.parse(shown.person_properties)).toMatchObject({ plan: 'c' })
      expect(await stored()).toMatchObject({ plan: 'b' })
      await setting({ n: 2 })
      await setting({ n: 0 }, { timestampMs: NOW_MS - 1 })
      expect(await stored()).toMatchObject({ n: 2 })

      await obeyed({ personProcessing: 'off' }, isPersonless)
      const late = await setting({ n: 3 }, { timestampMs: NOW_MS + 3_600_000, nowMs: NOW_MS + 3_600_000 })
      expect(late.person_mode).toBe('propertyless')
      expect(await stored()).toMatchObject({ n: 2 })
      return true
    })
    await set(undefined)
  })

  async function unread(): Promise<number> {
    return (await ingestMetrics.optionsUnread.get()).values[0]?.value ?? 0
  }
})

describe('I2, I4: a replay under other options', () => {
  const old = { timestampMs: NOW_MS - 3_600_000, nowMs: NOW_MS }
  const young = { timestampMs: NOW_MS, nowMs: NOW_MS }
  const identify = { event: '$identify', json: '{"properties":{"$anon_distinct_id":"a"}}' }
  const RECORDS = [
    { json: '{"properties":{"n":0}}', ...young },
    { json: '{"properties":{"n":1}}', ...old },
    { ...identify, ...young },
    { ...identify, ...young, personProcessing: 'off' } as const,
    { json: '{"properties":{"n":4}}', ...old, ip: '203.0.113.7' },
  ]
  const LIMIT = { dropEventsOlderThanSeconds: 60 }
  const STRICT = { ...LIMIT, anonymizeIps: true, personProcessing: 'off' }

  test.each([
    ['stricter ones', undefined, STRICT, ['stored', 'stored', 'stored', 'dropped', 'stored']],
    ['looser ones', LIMIT, undefined, ['stored', 'dropped', 'stored', 'dropped', 'dropped']],
  ])('%s: the receipt stands', async (_, first, then, states) => {
    await set(first)
    await pipeline.capture(RECORDS)
    await pipeline.ingested(RECORDS.length)
    const outcomes = await receiptOutcomes()
    expect(outcomes.map(({ code }) => describeOutcome(code).state as string)).toEqual(states)
    const before = await placesOf()
    const endsBefore = await pipeline.records(TOPICS.outcomes)

    await set(then)
    // As after a crash between the commit and the acknowledgement of the rows.
    await pipeline.sql`UPDATE ingest_fence SET produced_through = 0`
    await pipeline.ingested(RECORDS.length)
    expect(await receiptOutcomes()).toEqual(outcomes)
    expect(await placesOf()).toEqual([...before, ...before])
    const ends = await pipeline.records(TOPICS.outcomes)
    expect(ends.slice(endsBefore.length).map(({ value }) => Buffer.from(value).toString('hex'))).toEqual(
      endsBefore.map(({ value }) => Buffer.from(value).toString('hex')),
    )
    await set(undefined)
  })

  async function receiptOutcomes() {
    const receipts = await pipeline.sql<
      { outcomes: Buffer }[]
    >`SELECT outcomes FROM receipt ORDER BY from_offset`
    return receipts.flatMap(({ outcomes }) => decodeOutcomes(outcomes))
  }

  async function placesOf(): Promise<[offset: number, uuid: string][]> {
    return (await pipeline.rowsOf(TOPICS.events)).map((row) => {
      const { _offset, uuid } = EVENTS.decode(row)
      return [_offset, uuid]
    })
  }
})
