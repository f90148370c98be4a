/**
 * The audit over many offsets: receipts in Postgres and rows in ClickHouse, both made in place with the sources that
 * ingest would have given them, half a per cent of them duplicates whose rows are in `outcomes`. Then one row is taken
 * out, and the audit runs again and must name it. Prints the time of each audit and the CPU of each part; the bottleneck
 * is ClickHouse, which reads, hashes and counts every place.
 *
 * `bun bench/audit.ts [--offsets 100000000] [--partitions 8]`. Making 100 million rows takes about 15 minutes of CPU and
 * 5 GB of disk; the short form is 2 million.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { DUPLICATE, encodeRuns, STORED, sourceHash, TOPICS } from '../src/event/index.ts'
import { audit } from '../src/ledger/index.ts'
import { openEmbeddedLog } from '../src/log/index.ts'
import { openWarehouse } from '../src/warehouse/index.ts'
import { startTestPostgres } from '../test/support/postgres.ts'
import { createTopics } from '../test/support/rows.ts'
import { startTestWarehouse } from '../test/support/warehouse.ts'
import { bottleneckOf, cpuUsOf, ownCpuUs, peakMemoryMb, report } from './measure.ts'

const { values } = parseArgs({
  options: { offsets: { type: 'string', default: '2000000' }, partitions: { type: 'string', default: '8' } },
})
const partitions = Number(values.partitions)
const perPartition = Math.ceil(Number(values.offsets) / partitions)
const RECEIPT_OFFSETS = 5_000
/** The embedded engine gives a statement a minute, also on a busy machine. */
const INSERT_OFFSETS = 250_000
/** Every offset that is a multiple of it is a duplicate. */
const DUPLICATE_EVERY = 200
/** Events per second and partition: how the rows spread over days and months. */
const EVENTS_PER_S = 10

const [postgres, servers] = await Promise.all([startTestPostgres(), startTestWarehouse()])
const dir = await mkdtemp(join(tmpdir(), 'headrace-bench-audit-'))
const log = await openEmbeddedLog({ dir })
const maker = openWarehouse({ url: servers.url, queryTimeoutMs: 120_000 })
try {
  const ids = await createTopics(log, partitions)
  const logId = ids.get(TOPICS.raw)!
  for (let partition = 0; partition < partitions; partition++) {
    await makeReceipts(logId, partition)
    await makeRows(logId, partition)
  }
  const offsets = perPartition * partitions
  await run('audit, exact', offsets, 0)
  const gone = Math.floor(perPartition / 2) + 1
  await servers.warehouse.command(
    `ALTER TABLE events DELETE WHERE _partition = 0 AND _offset = {gone:UInt64} SETTINGS mutations_sync = 2`,
    { gone },
  )
  await run('audit, one row missing', offsets, 1)
} finally {
  await maker.close()
  await log.close()
  await Promise.all([postgres.stop(), servers.stop()])
  await rm(dir, { recursive: true, force: true })
}

async function run(name: string, offsets: number, findings: number): Promise<void> {
  const postgresBefore = cpuUsOf(postgres.pid)
  const engineBefore = cpuUsOf(servers.pid)
  const ownBefore = ownCpuUs()
  const started = performance.now()
  const found = await audit({ sql: postgres.sql, log, warehouse: servers.warehouse })
  const seconds = (performance.now() - started) / 1000
  const cpuUs = {
    audit: ownCpuUs() - ownBefore,
    engine: cpuUsOf(servers.pid) - engineBefore,
    postgres: cpuUsOf(postgres.pid) - postgresBefore,
  }
  const audited = found.partitions.reduce((sum, { from, through }) => sum + through - from, 0)
  const compared = found.partitions.every(({ outcomesThrough, through }) => outcomesThrough === through)
  if (audited !== offsets || !compared || found.unaccounted !== findings)
    throw new Error(`${audited} of ${offsets} offsets audited, ${found.unaccounted} findings`)
  console.log(
    `${name}: ${offsets} offsets in ${seconds.toFixed(1)} s, CPU ${Object.entries(cpuUs)
      .map(([part, us]) => `${part} ${(us / 1e6).toFixed(1)} s`)
      .join(', ')}; own memory at most ${Math.round(peakMemoryMb(process.pid))} MB`,
  )
  report({
    name,
    eventsPerSecond: offsets / seconds,
    cpuUs: Object.fromEntries(Object.entries(cpuUs).map(([part, us]) => [part, us / offsets])),
    bottleneck: bottleneckOf(cpuUs, seconds, 'one query at a time', ['engine']),
  })
}

/** Receipts of full batches, the fence behind the last and the load progress at its end. */
async function makeReceipts(logId: string, partition: number): Promise<void> {
  const { sql } = postgres
  let prev: number | null = null
  for (let from = 0; from < perPartition; ) {
    const rows: Record<string, unknown>[] = []
    for (; from < perPartition && rows.length < 1_000; from += RECEIPT_OFFSETS) {
      const to = Math.min(from + RECEIPT_OFFSETS, perPartition)
      const runs: { code: number; rows: number; length: number }[] = []
      let stored = 0
      let hashSum = 0
      const before = prev
      for (let offset = from; offset < to; offset++) {
        const code = offset % DUPLICATE_EVERY === 0 ? DUPLICATE : STORED
        runs.push({ code, rows: code === STORED ? 1 : 0, length: 1 })
        if (code !== STORED) continue
        stored++
        hashSum += sourceHash({ offset, sub: 0 })
        prev = offset
      }
      rows.push({
        from_offset: from,
        to_offset: to,
        outcomes: encodeRuns(runs).toString('hex'),
        stored,
        duplicate: to - from - stored,
        hash_sum: hashSum,
        prev_offset: before,
      })
    }
    await sql`
      INSERT INTO receipt (log_id, partition, from_offset, to_offset, checksum, outcomes, stored, duplicate, dropped,
        dead_lettered, stored_rows, hash_sum, prev_offset, prev_sub, config_version)
      SELECT ${logId}::uuid, ${partition}::int, from_offset, to_offset, 0, decode(outcomes, 'hex'), stored, duplicate, 0, 0,
        stored, hash_sum, prev_offset, prev_offset - prev_offset, 1
      FROM jsonb_to_recordset(${JSON.stringify(rows)}::text::jsonb) AS r(from_offset bigint, to_offset bigint,
        outcomes text, stored int, duplicate int, hash_sum numeric, prev_offset bigint)`
  }
  await sql`
    INSERT INTO ingest_fence (log_id, partition, topic, next_offset, produced_through, last_offset, last_sub)
    VALUES (${logId}, ${partition}, ${TOPICS.raw}, ${perPartition}, ${perPartition}, ${prev}, 0)`
  await sql`
    INSERT INTO load_fence (log_id, partition, topic, next_offset, last)
    VALUES (gen_random_uuid(), ${partition}, ${TOPICS.events}, 0, ${JSON.stringify({ [logId]: [prev, 0] })}::text::jsonb)`
}

async function makeRows(logId: string, partition: number): Promise<void> {
  for (let from = 0; from < perPartition; from += INSERT_OFFSETS) {
    const count = Math.min(INSERT_OFFSETS, perPartition - from)
    const parameters = { logId, partition, from, count, rate: EVENTS_PER_S, every: DUPLICATE_EVERY }
    const time = "toDateTime64('2026-06-01 00:00:00', 6, 'UTC') + number / {rate:UInt32}"
    await maker.command(
      `INSERT INTO events (uuid, event, properties, timestamp, team_id, distinct_id, created_at, person_id, _log_id,
         _partition, _offset, _sub)
       SELECT reinterpretAsUUID(sipHash128({partition:UInt16}, number)), '$pageview', '{}', ${time}, 1,
         concat('user-', toString(number % 1000)), ${time}, {logId:UUID}, {logId:UUID}, {partition:UInt16}, number, 0
       FROM numbers({from:UInt64}, {count:UInt64}) WHERE number % {every:UInt32} != 0`,
      parameters,
    )
    await maker.command(
      `INSERT INTO outcomes (team_id, uuid, state, timestamp, _log_id, _partition, _offset, _sub)
       SELECT 1, reinterpretAsUUID(sipHash128({partition:UInt16}, number)), 'duplicate', ${time}, {logId:UUID},
         {partition:UInt16}, number, 0
       FROM numbers({from:UInt64}, {count:UInt64}) WHERE number % {every:UInt32} = 0`,
      parameters,
    )
  }
}
