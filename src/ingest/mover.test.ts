import { afterEach, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { createTopics } from '../../test/support/rows.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { personUuid, TOPICS } from '../event/index.ts'
import { type Log, openEmbeddedLog } from '../log/index.ts'
import { startMover } from './mover.ts'

setDefaultTimeout(60_000)

const WITHIN_MS = 20_000
const LANE = {
  logId: '11111111-1111-4111-8111-111111111111',
  partition: 0,
  partitions: 1,
  historical: false,
  configVersion: 1,
  rowBytesMax: 1_000_000,
}

let postgres: TestPostgres
let dir: string
/** Ours, and that of another process on the same folder. */
let log: Log
let other: Log
beforeEach(async () => {
  postgres = await startTestPostgres()
  dir = await mkdtemp(join(tmpdir(), 'headrace-mover-'))
  log = await openEmbeddedLog({ dir })
  other = await openEmbeddedLog({ dir })
  await createTopics(log, 1)
})
afterEach(async () => {
  await Promise.all([log.close(), other.close(), postgres.stop()])
  await rm(dir, { recursive: true })
})

/** A merge whose ids were moved, but whose override rows are not known to be in the log. */
async function pendingMove(): Promise<void> {
  const { sql } = postgres
  const [person] = await sql`
    INSERT INTO person (team_id, uuid, created_at, version) VALUES (1, ${personUuid(1, 'a')}, now(), 1) RETURNING id`
  await sql`INSERT INTO person_distinct_id (team_id, distinct_id, person_id, version) VALUES (1, 'b', ${person!.id}, 5)`
  await sql`INSERT INTO pending_move (person_id, team_id, outbox) VALUES (${person!.id}, 1, '[[1, "b"]]')`
}

test('a partition is released only when what is written to it is durable', async () => {
  await pendingMove()
  // Somebody else holds the partition, so that the write waits.
  const holder = other.producer({ name: 'other', deadlineMs: 10_000 })
  const record = { topic: TOPICS.personDistinctIds, partition: 0 }
  await holder.send([{ ...record, header: new Uint8Array(1), value: new Uint8Array(1) }])
  const producer = log.producer({ name: 'ingest', deadlineMs: 10_000 })
  const mover = startMover({
    sql: postgres.sql,
    producer,
    logger: pino({ level: 'silent' }),
    lane: () => LANE,
    fatal: (error) => {
      throw error
    },
    lookMs: 10,
  })
  await waitFor('a write', () => mover.writing() === 0, WITHIN_MS)
  await mover.released(1)
  const endAtRelease = mover.released(0).then(() => log.bounds(TOPICS.personDistinctIds, 0))
  await holder.close()
  await other.close()
  expect((await endAtRelease).end).toBe(2)
  await waitFor(
    'the acknowledgement',
    async () => (await postgres.sql`SELECT FROM pending_move WHERE outbox IS NOT NULL`).length === 0,
    WITHIN_MS,
  )
  await mover.stop()
  await mover.released(0)
  await producer.close()
})

test('another process is slow to let go of the partition: the chunk waits and is sent', async () => {
  await pendingMove()
  const holder = other.producer({ name: 'other', deadlineMs: 10_000 })
  const record = { topic: TOPICS.personDistinctIds, partition: 0 }
  await holder.send([{ ...record, header: new Uint8Array(1), value: new Uint8Array(1) }])
  const impatient = await openEmbeddedLog({ dir, writerWaitMs: 50 })
  const producer = impatient.producer({ name: 'ingest', deadlineMs: 10_000 })
  const told: string[] = []
  let fatal: unknown
  const mover = startMover({
    sql: postgres.sql,
    producer,
    logger: pino({ level: 'warn' }, { write: (line: string) => void told.push(line) }),
    lane: () => LANE,
    fatal: (error) => {
      fatal = error
    },
    lookMs: 10,
  })
  try {
    await waitFor(
      'a warning',
      async () => told.some((line) => line.includes('another live process writes')),
      WITHIN_MS,
    )
    await holder.close()
    await waitFor(
      'the acknowledgement',
      async () => (await postgres.sql`SELECT FROM pending_move WHERE outbox IS NOT NULL`).length === 0,
      WITHIN_MS,
    )
    expect(fatal).toBeUndefined()
  } finally {
    await mover.stop()
    await impatient.close()
  }
})
