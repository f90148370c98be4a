/**
 * Benchmark of the identity step alone: 100,000 persons of 1.1 kB in the embedded Postgres, batches of 1,000 events of
 * random persons; 30 % change a property, 1 % merge an anonymous person into a known one, every event with `--set`
 * carries a `$set` that mostly says what is known. Prints events per second and CPU µs per event, ours and Postgres's.
 *
 *   bun bench/identity.ts [--seconds 10] [--lanes 1] [--set] [--persons 100000]
 */
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { migrateState, openPostgres, type Sql, startEmbeddedPostgres } from '../src/catalog/index.ts'
import { encodeOutcomes, personUuid } from '../src/event/index.ts'
import { createIdentity, type IdentityEvent } from '../src/ingest/identity/index.ts'

const BATCH = 1_000
const CLOCK_TICKS_PER_S = 100
const TEAM = 1

const option = (name: string, fallback: number) => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const persons = option('persons', 100_000)
const seconds = option('seconds', 10)
const lanes = option('lanes', 1)
const everySet = process.argv.includes('--set')

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
  if (dice < 0.3) event.set = { ...event.set, plan: `plan ${serial}` }
  if (dice < 0.01) {
    event.name = '$identify'
    event.merge = { kind: 'identify', otherId: `user-${Math.floor(Math.random() * (persons / 2)) * 2 + 1}` }
  }
  return event
}

/** CPU seconds of the server and its children, from /proc; 0 where there is none. */
function serverCpuSeconds(postmaster: number): number {
  let ticks = 0
  try {
    for (const pid of readdirSync('/proc')) {
      if (!/^\d+$/.test(pid)) continue
      const fields = statOf(pid)
      if (fields && (Number(pid) === postmaster || Number(fields[1]) === postmaster)) {
        ticks += Number(fields[11]) + Number(fields[12])
      }
    }
  } catch {
    return 0
  }
  return ticks / CLOCK_TICKS_PER_S
}

/** Fields of /proc/<pid>/stat from the state on; the name before it may hold spaces. */
function statOf(pid: string): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

const dataDir = await mkdtemp(join(tmpdir(), 'headrace-bench-identity-'))
const server = await startEmbeddedPostgres({ dataDir })
const sql = openPostgres({ url: { socketDir: server.socketDir }, name: 'bench', connectionsMax: lanes * 2 })
try {
  await migrateState(sql)
  await seed(sql)
  let attempts = 0
  let batches = 0
  let generateMs = 0
  const latencies: number[] = []
  const identity = createIdentity(sql, {
    attempt: () => {
      attempts++
    },
  })
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
      )
      latencies.push(performance.now() - started)
      batches++
    }
  }
  await run(999, performance.now() + 2_000)
  batches = attempts = generateMs = 0
  latencies.length = 0
  const cpu = process.cpuUsage()
  const serverCpu = serverCpuSeconds(server.pid)
  const started = performance.now()
  await Promise.all(Array.from({ length: lanes }, (_, i) => run(i, started + seconds * 1_000)))
  const wallS = (performance.now() - started) / 1_000
  const used = process.cpuUsage(cpu)
  const events = batches * BATCH
  const ours = (used.user + used.system - generateMs * 1_000) / events
  const theirs = ((serverCpuSeconds(server.pid) - serverCpu) * 1e6) / events
  latencies.sort((a, b) => a - b)
  const at = (q: number) => latencies[Math.floor(latencies.length * q)]!.toFixed(1)
  console.log(
    `identity: ${Math.round(events / wallS)} events/s over ${lanes} lane(s); CPU per event ${ours.toFixed(1)} µs ours + ${theirs.toFixed(1)} µs Postgres; batch p50 ${at(0.5)} ms, p99 ${at(0.99)} ms; ${attempts - batches} conflicts in ${batches} batches`,
  )
} finally {
  await sql.end({ timeout: 1 })
  await server.stop()
  await rm(dataDir, { recursive: true, force: true })
}
