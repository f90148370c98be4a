/** Events that are allowed but made to hurt: none may stop a partition, and each reaches its end state. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { createTopics } from '../../test/support/rows.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { ensureDefaultProject, ProjectCatalog, readSettings } from '../catalog/index.ts'
import { ByteReader, encodeRawHeader, INGESTION_WARNINGS, PERSON, TOPICS } from '../event/index.ts'
import { type Log, openEmbeddedLog } from '../log/index.ts'
import { startIngest } from './index.ts'

setDefaultTimeout(60_000)

const TOKEN = 'hostile'
const WITHIN_MS = 30_000
/** Less than what the rows of these batches come to. */
const QUEUE_BYTES_MAX = 16 * 2 ** 20

let postgres: TestPostgres
let dir: string
let log: Log
beforeAll(async () => {
  postgres = await startTestPostgres()
  await ensureDefaultProject(postgres.sql, TOKEN)
})
afterAll(() => postgres.stop())
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'headrace-hostile-'))
  log = await openEmbeddedLog({ dir, queueBytesMax: QUEUE_BYTES_MAX })
  await postgres.sql`TRUNCATE ingest_fence, receipt, person_distinct_id, person, group_type, group_state CASCADE`
  await createTopics(log, 1)
})
afterEach(async () => {
  await log.close()
  await rm(dir, { recursive: true })
})

/** `before`: how many were captured before these. */
async function capture(bodies: { event?: string; json: string }[], before = 0): Promise<void> {
  const producer = log.producer({ name: 'capture', deadlineMs: 10_000 })
  for (const [i, { event = 'e', json }] of bodies.entries()) {
    const header = encodeRawHeader({
      token: TOKEN,
      distinctId: 'd',
      event,
      uuid: `018f4b2e-0000-7000-8000-${String(before + i).padStart(12, '0')}`,
      timestampMs: Date.UTC(2026, 0, 1) + i,
      timeRule: 'client',
      nowMs: Date.UTC(2026, 0, 1) + i,
      sentAtMs: undefined,
      ip: '',
      userAgent: '',
      sdk: '',
      personProcessing: 'on',
      cookieless: false,
      requestId: '',
      replayOf: undefined,
    })
    await producer.send([{ topic: TOPICS.raw, partition: 0, header, value: Buffer.from(json) }])
  }
  await producer.close()
}

/** Runs ingest until all that was captured is produced, and gives the totals of the receipts. */
async function ingested(offsets: number): Promise<{ stored: number; dead: number }> {
  const { sql } = postgres
  const projects = new ProjectCatalog(sql)
  let fatal: unknown
  const ingest = await startIngest({
    settings: readSettings({ HEADRACE_DATA_DIR: dir }),
    log,
    sql,
    projects,
    partitions: 1,
    logger: pino({ level: 'silent' }),
    fatal: (error) => {
      fatal ??= error
    },
  })
  try {
    await waitFor(
      'everything to be produced',
      async () => {
        const [fence] = await sql`SELECT produced_through FROM ingest_fence WHERE topic = ${TOPICS.raw}`
        return fatal !== undefined || fence?.produced_through === offsets
      },
      WITHIN_MS,
    )
  } finally {
    await ingest.stop()
    await projects.close()
  }
  expect(fatal).toBeUndefined()
  const [sums] = await sql`SELECT sum(stored)::int AS stored, sum(dead_lettered)::int AS dead FROM receipt`
  return { stored: sums!.stored, dead: sums!.dead }
}

async function rowsOf(topic: string): Promise<ByteReader[]> {
  const rows: ByteReader[] = []
  const { end } = await log.bounds(topic, 0)
  for await (const records of log.read(topic, 0, 0, end))
    for (const { value } of records) rows.push(new ByteReader(value))
  return rows
}

test('a person that is made larger and larger stays sendable, and so do its events', async () => {
  const set = (key: string) => JSON.stringify({ $set: { [key]: 'x'.repeat(450_000), [`small${key}`]: 1 } })
  await capture(Array.from({ length: 40 }, (_, i) => ({ json: set(`k${i}`) })))
  expect(await ingested(40)).toEqual({ stored: 40, dead: 0 })
  const persons = (await rowsOf(TOPICS.persons)).map((row) => PERSON.decode(row))
  expect(Object.keys(JSON.parse(persons.at(-1)!.properties))).toContain('smallk39')
})

test('a number that Postgres writes out with 300 digits', async () => {
  const json = JSON.stringify({ $set: { n: new Array(60_000).fill(1e300) } })
  await capture([{ json }])
  expect(await ingested(1)).toEqual({ stored: 1, dead: 0 })
  // From here on the person is as Postgres spells it.
  await capture([{ json: '{}' }, { event: '$set', json: '{"$set":{"b":1}}' }], 1)
  expect(await ingested(3)).toEqual({ stored: 3, dead: 0 })
})

test('what a warning quotes is far longer than it was sent', async () => {
  const json = `{"properties":{"$process_person_profile":[${new Array(190_000).fill('1e20').join()}]}}`
  await capture([{ json }])
  const { stored, dead } = await ingested(1)
  expect(stored + dead).toBe(1)
  const warnings = (await rowsOf(TOPICS.ingestionWarnings)).map((row) => INGESTION_WARNINGS.decode(row))
  expect(warnings.map(({ type }) => type)).toEqual(['invalid_process_person_profile'])
  expect(warnings[0]!.details.length).toBeLessThan(100_000)
})

test('an event of a hundred thousand groups costs a few warnings', async () => {
  const groups = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`g${i}`, 'k']))
  await capture([{ json: JSON.stringify({ properties: { $groups: groups } }) }])
  expect(await ingested(1)).toEqual({ stored: 1, dead: 0 })
  expect((await rowsOf(TOPICS.ingestionWarnings)).length).toBeLessThan(50)
})
