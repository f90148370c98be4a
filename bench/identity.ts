/**
 * Benchmark of the identity step alone: 100,000 persons of 1.1 kB in the embedded Postgres, batches of 1,000 events of
 * random persons; 30 % change a property, 1 % merge an anonymous person into a known one, every event with `--set`
 * carries a `$set` that mostly says what is known. With `--personless` events of people whom nobody knows, two of each;
 * with `--event-time` in a project that orders properties so. Prints events per second and CPU µs per event, ours and
 * Postgres's.
 *
 *   bun bench/identity.ts [--seconds 10] [--lanes 1] [--set] [--personless] [--event-time] [--persons 100000]
 */
import { randomUUID } from 'node:crypto'
import { openPostgres, type Sql } from '../src/catalog/index.ts'
import { encodeOutcomes, personUuid } from '../src/event/index.ts'
import {
  createIdentity,
  DEFAULT_OPTIONS,
  type IdentityEvent,
  type IdentityOptions,
} from '../src/ingest/identity/index.ts'
import { startTestPostgres } from '../test/support/postgres.ts'
import { bottleneckOf, cpuUsOf, ownCpuUs, quantile, report } from './measure.ts'

const BATCH = 1_000
const TEAM = 1

const option = (name: string, fallback: number) => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const persons = option('persons', 100_000)
const seconds = option('seconds', 10)
const lanes = option('lanes', 1)
const everySet = process.argv.includes('--set')
const personless = process.argv.includes('--personless')
const eventTime = process.argv.includes('--event-time')
const variant = [
  everySet && ', $set on every event',
  personless && ', personless',
  eventTime && ', by event time',
].filter(Boolean)

const filler = Object.fromEntries(
  Array.from({ length: 24 }, (_, i) => [`property_${i}`, `value ${i} of some length, xxxxxx`]),
)

async function seed(sql: Sql): Promise<void> {
  for (let from = 0; from < persons; from += 5_000) {
    const rows = Array.from({ length: Math.min(5_000, persons - from) }, (_, i) => {
      const id = `user-${from + i}`
      return {
        t: TEAM,
        d: id,
        u: personUuid(TEAM, id),
        p: { ...filler, n: from + i },
        f: (from + i) % 2 === 0,
      }
    })
    const json = JSON.stringify(rows)
    await sql`
      WITH r AS (
        SELECT * FROM jsonb_to_recordset(${json}::text::jsonb) AS r(t int, d text, u uuid, p jsonb, f boolean)
      ), born AS (
        INSERT INTO person (team_id, uuid, properties, created_at, is_identified, version)
        SELECT t, u, p, now(), f, 1 FROM r RETURNING id, uuid
      )
      INSERT INTO person_distinct_id (team_id, distinct_id, person_id)
      SELECT r.t, r.d, born.id FROM r JOIN born ON born.uuid = r.u`
  }
  await sql`VACUUM ANALYZE person`
  await sql`VACUUM ANALYZE person_distinct_id`
}

let serial = 0
function makeEvent(): IdentityEvent {
  const who = Math.floor(Math.random() * persons)
  const dice = Math.random()
  const nowMs = Date.now()
  serial++
  const event: IdentityEvent = {
    teamId: TEAM,
    distinctId: `user-${who}`,
    name: '$pageview',
    uuid: randomUUID(),
    timestampMs: nowMs,
    nowMs,
    personProcessing: 'on',
    set: everySet ? { property_1: filler.property_1!, property_2: filler.property_2! } : undefined,
    setOnce: everySet ? { $initial_referrer: 'x', property_3: 'first' } : undefined,
    unset: undefined,
    merge: undefined,
    groups: undefined,
    groupIdentify: undefined,
  }
  if (personless) {
    return { ...event, distinctId: `anonymous-${serial >> 1}`, personProcessing: 'off', set: undefined }
  }
  if (dice < 0.3) event.set = { ...event.set, plan: `plan ${serial}` }
  if (dice < 0.01) {
    event.name = '$identify'
    event.merge = { kind: 'identify', otherId: `user-${Math.floor(Math.random() * (persons / 2)) * 2 + 1}` }
  }
  return event
}

const postgres = await startTestPostgres()
const sql = openPostgres({ url: postgres.url, name: 'bench', connectionsMax: lanes * 2 })
try {
  await seed(sql)
  let attempts = 0
  let batches = 0
  let generateMs = 0
  const latencies: number[] = []
  const hooks = { attempt: () => attempts++ }
  const identity = createIdentity(sql, hooks)
  const options: IdentityOptions = eventTime
    ? { ...DEFAULT_OPTIONS, propertyOrder: 'eventTime' }
    : DEFAULT_OPTIONS
  const run = async (partition: number, untilMs: number) => {
    const logId = randomUUID()
    await sql`INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through)
      VALUES (${logId}, ${partition}, 'raw_events', 0, 0)`
    const outcomes = encodeOutcomes(Array.from({ length: BATCH }, () => ({ code: 0, rows: 1 })))
    for (let offset = 0; performance.now() < untilMs; offset += BATCH) {
      const generating = performance.now()
      const events = Array.from({ length: BATCH }, makeEvent)
      const started = performance.now()
      generateMs += started - generating
      await identity.commit(
        events,
        {
          logId,
          partition,
          topic: 'raw_events',
          fromOffset: offset,
          toOffset: offset + BATCH,
          producedThrough: offset,
        },
        () => ({
          checksum: 1,
          outcomes,
          stored: BATCH,
          duplicate: 0,
          dropped: 0,
          deadLettered: 0,
          storedRows: BATCH,
          hashSum: 1,
          prev: undefined,
          last: { offset, sub: 0 },
          configVersion: 1,
          warnings: [],
        }),
        { optionsOf: () => options },
      )
      latencies.push(performance.now() - started)
      batches++
    }
  }
  await run(999, performance.now() + 2_000)
  batches = attempts = generateMs = 0
  latencies.length = 0
  const before = { identity: ownCpuUs(), postgres: cpuUsOf(postgres.pid) }
  const started = performance.now()
  await Promise.all(Array.from({ length: lanes }, (_, i) => run(i, started + seconds * 1_000)))
  const wallS = (performance.now() - started) / 1_000
  const events = batches * BATCH
  const used = {
    // Making the events is not part of it.
    identity: ownCpuUs() - before.identity - generateMs * 1_000,
    postgres: cpuUsOf(postgres.pid) - before.postgres,
  }
  console.log(`${attempts - batches} conflicts in ${batches} batches`)
  report({
    name: `identity, ${lanes} lane${lanes > 1 ? 's' : ''}${variant.join('')}`,
    eventsPerSecond: events / wallS,
    cpuUs: { identity: used.identity / events, postgres: used.postgres / events },
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    bottleneck: bottleneckOf(used, wallS, 'the answers of Postgres', ['postgres']),
  })
} finally {
  await sql.end({ timeout: 1 })
  await postgres.stop()
}
