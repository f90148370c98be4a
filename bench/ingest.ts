/**
 * Ingest alone: from `raw_events` to acknowledged rows on `events`, embedded log or a real Kafka and a real Postgres with
 * persons of 1 kB, one process for ingest. Prints events/s and CPU µs per event of this process (the log's writes or its
 * client included) and of Postgres. Mixes:
 *
 *   usual        95 % known persons, 5 % new ids, 30 % of events change a property, 1 % identify, 20 % personless
 *   personless   all events personless
 *   merges       as usual, but each identify joins a person that was there to another
 *   hot          as usual, but every other event is of one person, over 1,000 distinct ids
 *
 *   bun bench/ingest.ts [--events 200000] [--persons 50000] [--mix usual] [--log embedded|kafka]
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ensureDefaultProject, ProjectCatalog, readSettings } from '../src/catalog/index.ts'
import { encodeRawHeader, partitionOf, partitionsOf, TOPICS, uuidV7 } from '../src/event/index.ts'
import { startIngest } from '../src/ingest/index.ts'
import { type LogRecord, openEmbeddedLog, openKafkaLog } from '../src/log/index.ts'
import { createLogger } from '../src/observe/index.ts'
import { kafkaMissing, startKafka } from '../test/support/kafka.ts'
import { startTestPostgres } from '../test/support/postgres.ts'
import { plainHeader } from '../test/support/raw-header.ts'
import { waitFor } from '../test/support/wait-for.ts'
import { bottleneckOf, cpuUsOf, ownCpuUs, report } from './measure.ts'

const MIXES = ['usual', 'personless', 'merges', 'hot'] as const
type Mix = (typeof MIXES)[number]

const { values: options } = parseArgs({
  options: {
    events: { type: 'string', default: '200000' },
    persons: { type: 'string', default: '50000' },
    mix: { type: 'string', default: 'usual' },
    log: { type: 'string', default: 'embedded' },
  },
})
const EVENTS = Number(options.events)
const PERSONS = Number(options.persons)
const MIX = options.mix as Mix
const wrong =
  !MIXES.includes(MIX) || !['embedded', 'kafka'].includes(options.log)
    ? `--mix is one of ${MIXES.join(', ')}, --log is embedded or kafka`
    : options.log === 'kafka'
      ? kafkaMissing()
      : undefined
if (wrong !== undefined) {
  console.error(wrong)
  process.exit(2)
}
const HOT_IDS = 1_000
const PARTITIONS = 8
const EVENT_BYTES = 1_200
const SEND_RECORDS = 2_000
const WITHIN_MS = 600_000

const dir = mkdtempSync(join(tmpdir(), 'headrace-bench-'))
const postgres = await startTestPostgres()
const kafka = options.log === 'kafka' ? await startKafka({ brokers: 1 }) : undefined
const log = kafka
  ? await openKafkaLog({ brokers: kafka.brokers, clientId: 'bench' })
  : await openEmbeddedLog({ dir: join(dir, 'log') })
try {
  for (const name of Object.values(TOPICS)) {
    await log.createTopic({ name, partitions: partitionsOf(name, PARTITIONS), recordBytesMax: 4 * 1_048_576 })
  }
  const project = await ensureDefaultProject(postgres.sql, 'bench')
  const settings = readSettings({ HEADRACE_DATA_DIR: dir })
  const fill = log.producer({ name: 'fill', deadlineMs: 60_000 })
  await seedPersons()
  await fillRaw()
  const projects = new ProjectCatalog(postgres.sql)
  const before = { ingest: ownCpuUs(), postgres: cpuUsOf(postgres.pid) }
  const started = performance.now()
  const ingest = await startIngest({
    settings,
    log,
    sql: postgres.sql,
    projects,
    partitions: PARTITIONS,
    logger: createLogger('bench', 'warn'),
    fatal: (error) => {
      console.error(error)
      process.exit(1)
    },
  })
  await untilProduced()
  const seconds = (performance.now() - started) / 1000
  const used = { ingest: ownCpuUs() - before.ingest, postgres: cpuUsOf(postgres.pid) - before.postgres }
  console.log(`${EVENTS} events (${MIX}), ${PERSONS} persons, ${PARTITIONS} partitions, ${options.log} log`)
  report({
    name: MIX === 'usual' ? 'ingest' : `ingest, ${MIX}`,
    eventsPerSecond: EVENTS / seconds,
    cpuUs: { ingest: used.ingest / EVENTS, postgres: used.postgres / EVENTS },
    bottleneck: bottleneckOf(used, seconds, 'the answers of Postgres and the log', ['postgres']),
  })
  await ingest.stop()
  await projects.close()

  async function seedPersons(): Promise<void> {
    await postgres.sql`
      INSERT INTO person (team_id, uuid, properties, properties_bytes, created_at, version)
      SELECT ${project.teamId}, gen_random_uuid(), jsonb_build_object('n', i, 'filler', repeat('x', 1000)), 1030, now(), 1
      FROM generate_series(0, ${PERSONS - 1}) i`
    await postgres.sql`
      INSERT INTO person_distinct_id (team_id, distinct_id, person_id)
      SELECT team_id, 'known-' || (properties->>'n'), id FROM person`
    await postgres.sql`
      INSERT INTO person_distinct_id (team_id, distinct_id, person_id)
      SELECT m.team_id, 'hot-' || i, m.person_id
      FROM person_distinct_id m, generate_series(0, ${HOT_IDS - 1}) i WHERE m.distinct_id = 'known-0'`
    // Else both come in the middle of the measurement.
    await postgres.sql`VACUUM ANALYZE`
    await postgres.sql`CHECKPOINT`
  }

  async function fillRaw(): Promise<void> {
    for (let first = 0; first < EVENTS; first += SEND_RECORDS) {
      await fill.send(
        Array.from({ length: Math.min(SEND_RECORDS, EVENTS - first) }, (_, i) => rawRecord(first + i)),
      )
    }
    await fill.close()
  }

  async function untilProduced(): Promise<void> {
    const isProduced = async () => {
      const [row] = await postgres.sql`
        SELECT coalesce(sum(next_offset), 0)::bigint AS n FROM ingest_fence WHERE topic = ${TOPICS.raw}`
      return row!.n >= EVENTS
    }
    await waitFor('end of ingest', isProduced, WITHIN_MS)
  }
} finally {
  await log.close()
  await kafka?.stop()
  await postgres.stop()
  rmSync(dir, { recursive: true, force: true })
}

function rawRecord(index: number): LogRecord {
  const now = Date.now()
  const uuid = uuidV7(now)
  const personless = MIX === 'personless' || index % 5 === 0
  const identify = MIX !== 'personless' && index % 100 === 1
  const known =
    MIX === 'hot' && index % 2 === 0 ? `hot-${index % HOT_IDS}` : `known-${(index * 7919) % PERSONS}`
  const distinctId = index % 20 === 3 ? `new-${index}` : known
  const properties: Record<string, unknown> = {
    index,
    $current_url: 'https://example.com/pricing',
    $lib: 'web',
    filler: '',
  }
  if (index % 10 < 3) properties.$set = { visits: index }
  // 98 events ago somebody came who was not known before.
  if (identify) properties.$anon_distinct_id = MIX === 'merges' ? `new-${index - 98}` : `anon-${index}`
  if (personless && !identify) properties.$process_person_profile = false
  const body = { uuid, event: identify ? '$identify' : '$pageview', distinct_id: distinctId, properties }
  properties.filler = 'x'.repeat(Math.max(0, EVENT_BYTES - JSON.stringify(body).length))
  const off = personless && !identify
  const key = off
    ? ({ kind: 'personless', token: 'bench', uuid } as const)
    : ({ kind: 'distinctId', token: 'bench', distinctId } as const)
  const header = encodeRawHeader(
    plainHeader({
      token: 'bench',
      distinctId,
      event: body.event,
      uuid,
      timestampMs: now,
      sentAtMs: now,
      ip: '127.0.0.1',
      userAgent: 'bench',
      sdk: 'web/1',
      personProcessing: off ? 'off' : 'on',
    }),
  )
  return {
    topic: TOPICS.raw,
    partition: partitionOf(key, PARTITIONS),
    header,
    value: Buffer.from(JSON.stringify(body)),
  }
}
