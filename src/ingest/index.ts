/**
 * Ingest: raw events in, enriched rows out, exactly one end state for each raw offset.
 *
 * In: `raw_events` and `raw_events_historical`. Out: rows for ClickHouse on `events` and the state topics. The way
 * of a batch is one readable list: `steps/index.ts`; what changes persons and groups is `identity/`; who
 * works on which partition is `partition-worker.ts`, with its states drawn there.
 * What must hold: I2 (once), I3 (order) and I4 (a receipt for every offset).
 * Costs per event of 1.2 kB: about 25 µs here and 25 µs in Postgres; two round trips to Postgres per batch.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { ProjectCatalog, Settings, Sql } from '../catalog/index.ts'
import { RAW_TOPICS, TOPICS } from '../event/index.ts'
import { type Log, logError, type Member, type Position } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { factsFrom, Salts, startPurge } from './cookieless/index.ts'
import { Claims } from './dedup/claims.ts'
import { DedupMemory } from './dedup/dedup-memory.ts'
import { dedupFolder } from './dedup/snapshot.ts'
import { windowBeyondLog } from './dedup/window.ts'
import { Gate } from './gate.ts'
import { createIdentity } from './identity/index.ts'
import { identityHooks } from './metrics.ts'
import { startMover } from './mover.ts'
import { PartitionWorker, type WorkerDeps } from './partition-worker.ts'
import { projectsOf } from './projects.ts'
import { openGeoipOf, Transformations } from './transformations.ts'

export { stretchesSince } from './behind.ts'
export { rangeChecksum } from './checksum.ts'
export { restoreDedup, snapshotDedup } from './dedup/snapshot.ts'
export { windowBeyondLog } from './dedup/window.ts'
export { otherRecords } from './fence.ts'
export type { Outbox, StateRows } from './identity/index.ts'
export { readStateRows } from './identity/state-rows.ts'
export { lastCaptured } from './last-captured.ts'
export { UNDECIDED } from './redo.ts'
export { type RemakeDeps, remakeRows, type Unmakeable } from './remake.ts'

export type IngestDeps = {
  settings: Settings
  log: Log
  sql: Sql
  projects: ProjectCatalog
  partitions: number
  logger: Logger
  /** Ends the process with one sentence: we are at fault. */
  fatal(error: unknown): void
  /** How often it looks for state rows to send beside the batches (mover.ts). */
  lookMs?: number
}

export const INGEST_GROUP = 'headrace-ingest'

/** Batches in work at once over all partitions. Each holds up to 16 MiB of raw bytes and about four times that while it is worked on. */
const BATCHES_AT_ONCE = 4
/** Positions for lag displays and retention. */
const COMMIT_MS = 2_000
/** Beyond this the producer is retired and the send repeated. */
const PRODUCE_DEADLINE_MS = 10_000

export type Ingest = { stop(): Promise<void>; notReady(): Promise<string | undefined> }

/** Joins the group and works on what it is assigned, until `stop`. */
export async function startIngest(deps: IngestDeps): Promise<Ingest> {
  const { settings, log, sql, logger, partitions } = deps
  const beyond = windowBeyondLog(settings.dedupWindowHours, await log.describe([...RAW_TOPICS]))
  if (beyond) logger.warn({ docs: 'docs/guides/ingestion.md' }, beyond)
  const salts = new Salts(sql)
  const now = () => Date.now()
  const transformations = new Transformations({ sql, logger, geoip: openGeoipOf(settings.geoipDatabase) })
  const workerDeps: WorkerDeps = {
    ...deps,
    lanes: await rawLanes(log),
    rowBytesMax: await rowLimit(log),
    identity: createIdentity(sql, identityHooks),
    producer: log.producer({ name: 'ingest', deadlineMs: PRODUCE_DEADLINE_MS }),
    projectsOf: projectsOf(deps.projects, logger),
    transformations,
    cookielessFacts: factsFrom({ enabled: settings.ingestCookieless === 'on', salts, now }),
    openClaims: claimsIn(settings),
    stands: (position) => void joining.then((member) => show(member, [position])).catch(() => {}),
    gate: new Gate(BATCHES_AT_ONCE),
    partitions,
  }
  const show = async (member: Member, positions: Position[]): Promise<void> => {
    await member
      .commit(positions)
      .catch((error) => logger.debug({ code: error.code }, `positions not shown: ${error.message}`))
  }
  const owned = new Set<number>()
  const workers = new Map<number, PartitionWorker>()
  const start = (partition: number): void => {
    if (!owned.has(partition)) return
    const before = workers.get(partition)
    if (before) void end(partition, before).then(() => start(partition))
    else workers.set(partition, new PartitionWorker(partition, workerDeps))
  }
  const end = async (partition: number, worker = workers.get(partition)): Promise<void> => {
    await worker?.stop()
    if (workers.get(partition) === worker) workers.delete(partition)
  }
  const mover = startMover({
    ...deps,
    producer: workerDeps.producer,
    lane: () => [...workers.values()][0]?.outputLane(),
  })
  // Also where no cookieless events are taken any more: what was stored of them must go.
  const purge = startPurge({ ...deps, salts, now })
  const joining = log.join({
    group: INGEST_GROUP,
    topics: [...RAW_TOPICS],
    assigned(partition) {
      logger.info({ partition }, 'partition assigned')
      owned.add(partition)
      start(partition)
    },
    async revoked(partition) {
      owned.delete(partition)
      await end(partition)
      await mover.released(partition)
      logger.info({ partition }, 'partition handed over')
    },
    lost(partition) {
      logger.warn({ partition }, 'partition lost')
      owned.delete(partition)
      void end(partition)
    },
  })
  const member = await joining.catch(async (error: unknown) => {
    // The caller may try again: nothing of this try may stay.
    await Promise.all([mover.stop(), purge.stop(), transformations.close()])
    await workerDeps.producer.close()
    throw error
  })
  const commits = setInterval(() => {
    void show(
      member,
      [...workers.values()].flatMap((worker) => worker.positions()),
    )
  }, COMMIT_MS)
  return {
    async stop() {
      clearInterval(commits)
      await Promise.all([mover.stop(), purge.stop()])
      await member.leave()
      await Promise.all([transformations.close(), workerDeps.producer.close()])
    },
    async notReady() {
      for (const worker of workers.values()) if (worker.trouble) return worker.trouble
      return undefined
    },
  }
}

async function rawLanes(log: Log): Promise<WorkerDeps['lanes']> {
  const states = await log.describe([...RAW_TOPICS])
  return RAW_TOPICS.map((topic) => {
    const state = states.find((s) => s.name === topic)
    if (!state)
      throw logError(
        'HR_LOG_NO_TOPIC',
        `topic ${topic} does not exist; create it with \`headrace kafka apply\``,
      )
    return { topic, logId: state.logId }
  })
}

async function rowLimit(log: Log): Promise<number> {
  const [events] = await log.describe([TOPICS.events])
  if (!events)
    throw logError(
      'HR_LOG_NO_TOPIC',
      `topic ${TOPICS.events} does not exist; create it with \`headrace kafka apply\``,
    )
  return events.recordBytesMax
}

function claimsIn(settings: Settings): (partition: number) => Claims {
  const folder = dedupFolder(settings.dataDir)
  mkdirSync(folder, { recursive: true })
  const windowMs = settings.dedupWindowHours * 3_600_000
  const memory = new DedupMemory(settings.dedupMemoryMb * 2 ** 20)
  return (partition) => Claims.open(join(folder, `${partition}.sqlite`), windowMs, { memory })
}
