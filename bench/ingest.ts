/**
 * Ingest alone: from `raw_events` to acknowledged rows on `events`, embedded log or a real Kafka and a real Postgres with
 * persons of 1 kB, one process for ingest. Prints events/s and CPU µs per event of this process (the log's writes or its
 * client included) and of Postgres. Mixes:
 *
 *   usual        95 % known persons, 5 % new ids, 30 % of events change a property, 1 % identify, 20 % personless
 *   personless   all events personless, but of ids that have a person, whom they show: the dear case
 *   anonymous    all events personless, of ids that have none
 *   merges       as usual, but each identify joins a person that was there to another
 *   hot          as usual, but every other event is of one person, over 1,000 distinct ids
 *   one          as usual, but all that is not personless is of one distinct id
 *
 * With `--live` the last partition gets 500 events/s by the clock instead of its part, and it is told how long they take
 * from the send to a reader of `events` while the other partitions are behind.
 *
 * It is also told how often batches were refused because of others, how many took locks, and what a batch waited for: the
 * gate (batches at once), its turn (others with the same persons) and the log. With `--members 2` the partitions are shared
 * out to two ingests that know nothing of each other, as in two processes, but on one core.
 *
 *   bun bench/ingest.ts [--events 200000] [--persons 50000] [--mix usual] [--log embedded|kafka] [--live] [--members 1]
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import {
  ensureDefaultProject,
  ProjectCatalog,
  postgresBuffersMb,
  readSettings,
} from '../src/catalog/index.ts'
import { decodeRowHeader, partitionsOf, TOPICS } from '../src/event/index.ts'
import { type Ingest, startIngest } from '../src/ingest/index.ts'
import { openEmbeddedLog, openKafkaLog } from '../src/log/index.ts'
import { createLogger, metricsText } from '../src/observe/index.ts'
import { kafkaMissing, startKafka } from '../test/support/kafka.ts'
import { startTestPostgres } from '../test/support/postgres.ts'
import { waitFor } from '../test/support/wait-for.ts'
import { HOT_IDS, MIXES, type Mix, rawRecord } from './ingest-mix.ts'
import { bottleneckOf, cpuUsOf, ownCpuUs, quantile, report } from './measure.ts'

const { values: options } = parseArgs({
  options: {
    events: { type: 'string', default: '200000' },
    persons: { type: 'string', default: '50000' },
    mix: { type: 'string', default: 'usual' },
    log: { type: 'string', default: 'embedded' },
    live: { type: 'boolean', default: false },
    members: { type: 'string', default: '1' },
  },
})
const EVENTS = Number(options.events)
const PERSONS = Number(options.persons)
const MIX = options.mix as Mix
const MEMBERS = Number(options.members)
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
const PARTITIONS = 8
const LIVE_PARTITION = PARTITIONS - 1
const LIVE_EVERY_MS = 50
const LIVE_AT_ONCE = 25
const READ_LIMIT = { records: 5_000, bytes: 16_777_216 }
const SEND_RECORDS = 2_000
const WITHIN_MS = 600_000
const mixOptions = { mix: MIX, persons: PERSONS, partitions: PARTITIONS, run: Date.now().toString(36) }

const dir = mkdtempSync(join(tmpdir(), 'headrace-bench-'))
const postgres = await startTestPostgres({ buffersMb: postgresBuffersMb(0) })
const kafka = options.log === 'kafka' ? await startKafka({ brokers: 1 }) : undefined
const log = kafka
  ? await openKafkaLog({ brokers: kafka.brokers, clientId: 'bench' })
  : await openEmbeddedLog({ dir: join(dir, 'log') })
try {
  for (const name of Object.values(TOPICS)) {
    await log.createTopic({ name, partitions: partitionsOf(name, PARTITIONS), recordBytesMax: 4 * 1_048_576 })
  }
  const project = await ensureDefaultProject(postgres.sql, 'bench')
  const producer = log.producer({ name: 'fill', deadlineMs: 60_000 })
  await seedPersons()
  await fillRaw()
  const projects = new ProjectCatalog(postgres.sql)
  const before = { ingest: ownCpuUs(), postgres: cpuUsOf(postgres.pid) }
  const started = performance.now()
  const members = await Promise.all(Array.from({ length: MEMBERS }, (_, member) => startMember(member)))
  const live = options.live ? startLive() : undefined
  await untilProduced()
  const seconds = (performance.now() - started) / 1000
  const used = { ingest: ownCpuUs() - before.ingest, postgres: cpuUsOf(postgres.pid) - before.postgres }
  const freshness = await live?.stop()
  const events = EVENTS + (freshness?.length ?? 0)
  console.log(
    `${EVENTS} events (${MIX}), ${PERSONS} persons, ${PARTITIONS} partitions, ${options.log} log, ${MEMBERS} members`,
  )
  const variant = `${MIX === 'usual' ? '' : `, ${MIX}`}${MEMBERS > 1 ? `, ${MEMBERS} members` : ''}${freshness ? ', behind, p50 and p99 of live events' : ''}`
  console.log(await meetings())
  report({
    name: `ingest${variant}`,
    eventsPerSecond: events / seconds,
    cpuUs: { ingest: used.ingest / events, postgres: used.postgres / events },
    ...(freshness && { p50Ms: quantile(freshness, 0.5), p99Ms: quantile(freshness, 0.99) }),
    bottleneck: bottleneckOf(used, seconds, 'the answers of Postgres and the log', ['postgres']),
  })
  await Promise.all(members.map((member) => member.stop()))
  await projects.close()
  await producer.close()

  function startMember(member: number): Promise<Ingest> {
    return startIngest({
      settings: readSettings({ HEADRACE_DATA_DIR: join(dir, `member-${member}`) }),
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
  }

  /** How often batches were in each other's way, and what one waits for. */
  async function meetings(): Promise<string> {
    const sums = new Map<string, number>()
    for (const line of (await metricsText()).split('\n')) {
      const [, name, value] = /^headrace_ingest_(\S+) (\S+)$/.exec(line) ?? []
      if (name) sums.set(name, Number(value))
    }
    const of = (name: string) => sums.get(name) ?? 0
    const batches = of('batch_seconds_count')
    const ms = (seconds: number) => `${((1000 * seconds) / batches).toFixed(1)} ms`
    const waits = ['gate', 'turn', 'log'].map(
      (what) => `${what} ${ms(of(`wait_seconds_total{what="${what}"}`))}`,
    )
    return `${batches} batches, ${of('conflicts_total')} conflicts, ${of('tries_total{path="locked"}')} locked; a batch takes ${ms(
      of('batch_seconds_sum'),
    )} (${waits.slice(1).join(', ')} of it) after the ${waits[0]}`
  }

  /** Properties as a product has them, the page among them that the SDK sends with each event: it changes no person. */
  async function seedPersons(): Promise<void> {
    await postgres.sql`
      WITH filler AS (
        SELECT jsonb_object_agg('property_' || k, 'value ' || k || ' of some length, xxxxxx') AS properties
        FROM generate_series(1, 18) k
      )
      INSERT INTO person (team_id, uuid, properties, properties_bytes, created_at, version)
      SELECT ${project.teamId}, gen_random_uuid(), p, octet_length(p::text), now(), 1
      FROM generate_series(0, ${PERSONS - 1}) i, filler, LATERAL (SELECT filler.properties || jsonb_build_object(
        'n', i, '$current_url', 'https://example.com/', '$initial_current_url', 'https://example.com/') AS p) q`
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
      await producer.send(
        Array.from({ length: Math.min(SEND_RECORDS, EVENTS - first) }, (_, i) => {
          const record = rawRecord(mixOptions, first + i)
          const isTaken = options.live && record.partition === LIVE_PARTITION
          return isTaken ? { ...record, partition: first % LIVE_PARTITION } : record
        }),
      )
    }
  }

  async function untilProduced(): Promise<void> {
    const partitions = options.live ? LIVE_PARTITION : PARTITIONS
    const isProduced = async () => {
      let produced = 0
      for (let partition = 0; partition < partitions; partition++)
        produced += (await log.bounds(TOPICS.events, partition)).end
      return produced >= EVENTS
    }
    await waitFor('end of ingest', isProduced, WITHIN_MS)
  }

  /** `stop` answers with the ms that each event took from the send to a reader. */
  function startLive(): { stop(): Promise<number[]> } {
    const ending = new AbortController()
    const tookMs: number[] = []
    const reader = log.reader({ topic: TOPICS.events, partition: LIVE_PARTITION, from: 0 })
    const send = async () => {
      for (let index = EVENTS; !ending.signal.aborted; index += LIVE_AT_ONCE) {
        const records = Array.from({ length: LIVE_AT_ONCE }, (_, i) => rawRecord(mixOptions, index + i))
        await producer.send(records.map((record) => ({ ...record, partition: LIVE_PARTITION })))
        await delay(LIVE_EVERY_MS)
      }
    }
    const receive = async () => {
      while (!ending.signal.aborted) {
        for (const { header } of await reader.next(READ_LIMIT, ending.signal))
          tookMs.push(Date.now() - decodeRowHeader(header).timestampMs)
      }
    }
    const done = Promise.all([send(), receive()])
    return {
      async stop() {
        ending.abort()
        await done
        await reader.close()
        return tookMs
      },
    }
  }
} finally {
  await log.close()
  await kafka?.stop()
  await postgres.stop()
  rmSync(dir, { recursive: true, force: true })
}
