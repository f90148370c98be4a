/**
 * Postgres away, killed in the middle of a transaction, out of connections, in deadlock, on a full disk: while ingest
 * works. Lag grows and is worked off; no process ends; `prove` shows that nothing was lost and no event blamed.
 */
import { chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { openPostgres } from '../../../src/catalog/index.ts'
import { partitionOf } from '../../../src/event/index.ts'
import { mountSmallDisk, smallDiskMissing, unmountSmallDisk } from '../../support/small-disk.ts'
import type { Load } from './load.ts'
import type { Proven } from './proof.ts'
import { PARTITIONS, type Rig } from './rig.ts'
import { TOKEN } from './story.ts'

export type Report = Proven & { lagMax: number; recoveredMs: number }

export type Scenario = {
  name: string
  about: string
  /** Undefined, or one sentence why it cannot be run here. */
  missing?: () => string | undefined
  /** The short form is for every day, the long one is what a bad night looks like. */
  run(rig: Rig, form: 'short' | 'long'): Promise<Report>
}

const SOME = 300
/** I5: healthy again within 10 s when a dependency comes back. */
const RECOVERED_MS_MAX = 10_000
const WAIT_MS_MAX = 60_000
/** More than there are. */
const CONNECTIONS = 110
const SERVER_CONNECTIONS = 100
/** What is left on the small disk when it is full of anything else. */
const DISK_ROOM_MB = 8
const DEADLOCK_TRIES_MAX = 20

export const POSTGRES_SCENARIOS: readonly Scenario[] = [
  {
    name: 'postgres-stopped',
    about: 'Postgres is stopped for a minute, 3 s in the short form',
    run: (rig, form) =>
      away(rig, form === 'long' ? 60_000 : 3_000, {
        fall: () => rig.postgres.stop(),
        rise: () => rig.postgres.start(),
      }),
  },
  {
    name: 'postgres-killed',
    about: 'Postgres is killed while a batch waits in its transaction, and started again',
    run: killed,
  },
  {
    name: 'postgres-failover',
    about: 'Postgres dies while a batch waits in its transaction, and a synchronous standby takes over',
    run: failedOver,
  },
  {
    name: 'postgres-connections',
    about: 'others have all connections of Postgres',
    run: (rig, form) => outOfConnections(rig, form === 'long' ? 30_000 : 3_000),
  },
  { name: 'postgres-deadlock', about: 'a session locks persons in the other order', run: deadlocks },
  {
    name: 'postgres-disk-full',
    about: 'the disk under the persons has no room',
    missing: smallDiskMissing,
    run: (rig, form) => diskFull(rig, form === 'long' ? 30_000 : 2_000),
  },
]

type Outage = { fall: () => Promise<unknown>; rise: () => Promise<unknown> }

/** Under load for `ms`; lag must grow, and ingest must be at work again soon after. */
async function away(rig: Rig, ms: number, { fall, rise }: Outage): Promise<Report> {
  const load = await flowing(rig)
  load.ruthless = true
  const before = rig.lag
  await fall()
  const until = performance.now() + ms
  await rig.until('lag that grows', () => rig.lag > before + SOME, WAIT_MS_MAX)
  await delay(Math.max(0, until - performance.now()))
  const lagMax = rig.lag
  await rise()
  const recoveredMs = await recovered(rig)
  load.ruthless = false
  return { ...(await rig.prove()), lagMax, recoveredMs }
}

async function flowing(rig: Rig): Promise<Load> {
  const load = rig.startLoad()
  await rig.moved(SOME, WAIT_MS_MAX)
  return load
}

/** From now until something is decided, which Postgres is asked itself. */
async function recovered(rig: Rig): Promise<number> {
  const from = performance.now()
  const before = await rig.decided()
  await rig.until('batch that is decided', async () => (await rig.decided()) > before, RECOVERED_MS_MAX)
  return Math.round(performance.now() - from)
}

/** A session of somebody else. A pool that never connected has none to reserve. */
async function hold(rig: Rig) {
  const holder = openPostgres({ url: rig.postgres.url, name: 'holder', connectionsMax: 1 })
  await holder`SELECT 1`
  return { holder, session: await holder.reserve() }
}

/** Ends when a batch of ingest waits for a person, which somebody else has locked. */
async function untilBlocked(rig: Rig): Promise<void> {
  await rig.until(
    'a batch that waits for a person',
    async () => {
      const rows = await rig.sql`
        SELECT pid FROM pg_stat_activity
        WHERE application_name LIKE 'ingest%' AND wait_event_type = 'Lock' AND query LIKE '%apply_batch%'`
      return rows.length > 0
    },
    WAIT_MS_MAX,
  )
}

/** Until each of `ids` has a person; gives the key of each. */
async function personsOf(rig: Rig, ids: readonly string[]): Promise<number[]> {
  let rows: { distinct_id: string; person_id: number }[] = []
  await rig.until(
    `persons of ${ids.join(' and ')}`,
    async () => {
      rows =
        await rig.sql`SELECT distinct_id, person_id FROM person_distinct_id WHERE distinct_id IN ${rig.sql(ids)}`
      return rows.length === ids.length
    },
    WAIT_MS_MAX,
  )
  return ids.map((id) => rows.find((row) => row.distinct_id === id)!.person_id)
}

async function killed(rig: Rig, form: 'short' | 'long'): Promise<Report> {
  return inTransaction(rig, form === 'long' ? 20 : 2, async () => {
    await rig.postgres.kill()
    await rig.postgres.start()
  })
}

/** A standby has taken over for good then. */
async function failedOver(rig: Rig, form: 'short' | 'long'): Promise<Report> {
  return inTransaction(
    rig,
    form === 'long' ? 3 : 1,
    () => rig.postgres.failOver(),
    () => rig.postgres.replicate(),
  )
}

/** `fall` comes when a batch of ingest waits in its transaction, every time. */
async function inTransaction(
  rig: Rig,
  times: number,
  fall: () => Promise<void>,
  prepare = async () => {},
): Promise<Report> {
  const load = await flowing(rig)
  const id = `victim-${rig.options.seed}`
  let lagMax = 0
  let recoveredMs = 0
  for (let round = 0; round < times; round++) {
    await prepare()
    await load.send([rig.story.set(id, { [`${id}:seq`]: round })])
    const [person] = await personsOf(rig, [id])
    const { holder, session } = await hold(rig)
    await session`BEGIN`
    await session`SELECT FROM person WHERE id = ${person!} FOR UPDATE`
    await load.send([rig.story.set(id, { [`${id}:k0`]: round })])
    await untilBlocked(rig)
    await fall()
    lagMax = Math.max(lagMax, rig.lag)
    await holder.end({ timeout: 0 })
    recoveredMs = Math.max(recoveredMs, await recovered(rig))
  }
  return { ...(await rig.prove()), lagMax, recoveredMs }
}

async function outOfConnections(rig: Rig, ms: number): Promise<Report> {
  const hogs = openPostgres({ url: rig.postgres.url, name: 'hog', connectionsMax: CONNECTIONS })
  let hogging: Promise<void> | undefined
  const hog = async (until: number) => {
    while (performance.now() < until) {
      const seconds = Math.max(0.1, (until - performance.now()) / 1000)
      const [row] = await rig.sql<{ ours: number; all: number }[]>`
        SELECT count(*) FILTER (WHERE application_name LIKE 'ingest%' AND pg_terminate_backend(pid))::int AS ours,
          count(*)::int AS all
        FROM pg_stat_activity WHERE backend_type = 'client backend'`
      const free = SERVER_CONNECTIONS - row!.all + row!.ours
      for (let i = 0; i < free; i++) hogs`SELECT pg_sleep(${seconds})`.catch(() => {})
      await delay(20)
    }
  }
  const report = await away(rig, ms, {
    fall: async () => {
      hogging = hog(performance.now() + ms)
    },
    rise: async () => {
      await hogging
      await hogs.end({ timeout: 0 })
    },
  })
  return report
}

async function deadlocks(rig: Rig, form: 'short' | 'long'): Promise<Report> {
  const load = await flowing(rig)
  const ids = twoOfOnePartition(`dead-${rig.options.seed}`)
  const records = (key: string, value: number) =>
    ids.map((id) => rig.story.set(id, { [`${id}:${key}`]: value }))
  await load.send(records('seq', 0))
  const persons = (await personsOf(rig, ids)).toSorted((a, b) => a - b)
  const wanted = (await deadlocksSoFar(rig)) + (form === 'long' ? 10 : 2)
  const { holder, session } = await hold(rig)
  // The other side looks for a deadlock long before, so the batch is the victim.
  await session`SET deadlock_timeout = '20s'`
  let lagMax = 0
  for (let round = 0; (await deadlocksSoFar(rig)) < wanted; round++) {
    if (round > DEADLOCK_TRIES_MAX) throw new Error('the two persons never came into one batch')
    await session`BEGIN`
    await session`SELECT FROM person WHERE id = ${persons[1]!} FOR UPDATE`
    await load.send(records('k0', round))
    await untilBlocked(rig)
    await session`SELECT FROM person WHERE id = ${persons[0]!} FOR UPDATE`
    lagMax = Math.max(lagMax, rig.lag)
    await session`COMMIT`
    await rig.moved(1, WAIT_MS_MAX)
  }
  session.release()
  await holder.end({ timeout: 1 })
  const recoveredMs = await recovered(rig)
  return { ...(await rig.prove()), lagMax, recoveredMs }
}

function twoOfOnePartition(name: string): string[] {
  const partition = (id: string) =>
    partitionOf({ kind: 'distinctId', token: TOKEN, distinctId: id }, PARTITIONS)
  const ids = Array.from({ length: 2 * PARTITIONS }, (_, i) => `${name}-${i}`)
  const first = ids.find((id) => ids.some((other) => other !== id && partition(other) === partition(id)))!
  return [first, ids.find((id) => id !== first && partition(id) === partition(first))!]
}

/** The statistics of a session appear a moment later. */
async function deadlocksSoFar(rig: Rig): Promise<number> {
  const [row] = await rig.sql<{ deadlocks: number }[]>`
    SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`
  return row!.deadlocks
}

/** Table `person` on a disk of its own, which a file of nobody's fills up. */
async function diskFull(rig: Rig, ms: number): Promise<Report> {
  const { sql, postgres } = rig
  const disk = mkdtempSync(join(tmpdir(), 'headrace-small-disk-'))
  const filler = join(disk, 'filler')
  const [size] = await sql<{ mb: number }[]>`
    SELECT ceil(pg_total_relation_size('person') / 1048576.0)::int AS mb`
  mountSmallDisk(disk, `${size!.mb + DISK_ROOM_MB}m`)
  try {
    chownSync(disk, postgres.uid, postgres.uid)
    await sql.unsafe(`CREATE TABLESPACE small LOCATION '${disk}'`)
    await sql`ALTER TABLE person SET TABLESPACE small`
    const report = await away(rig, ms, {
      fall: async () => fillUp(filler),
      rise: async () => rmSync(filler),
    })
    await sql`ALTER TABLE person SET TABLESPACE pg_default`
    await sql`DROP TABLESPACE small`
    return report
  } finally {
    unmountSmallDisk(disk)
    rmSync(disk, { recursive: true, force: true })
  }
}

function fillUp(path: string): void {
  const piece = Buffer.alloc(65_536)
  try {
    for (;;) writeFileSync(path, piece, { flag: 'a' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
}
