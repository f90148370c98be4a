/**
 * What load tests stand on: a real embedded log, Postgres and engine, and a loader in a process of its own that can
 * be told to die or stop at a step. `bun src/load/load.fixture.ts <options as JSON>` is that process.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { startTestPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { createTopics, RawPartition } from '../../test/support/rows.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { openPostgres } from '../catalog/index.ts'
import { type Log, openEmbeddedLog, type Producer } from '../log/index.ts'
import type { LoadFailpoint } from '../platform/index.ts'
import { openWarehouse } from '../warehouse/index.ts'
import { type Load, type LoadDeps, startLoad } from './index.ts'

export const PARTITIONS = 2
const WITHIN_MS = 20_000

export type Servers = { postgres: TestPostgres; warehouse: TestWarehouse; stop(): Promise<void> }

export async function startServers(): Promise<Servers> {
  const [postgres, warehouse] = await Promise.all([startTestPostgres(), startTestWarehouse()])
  return {
    postgres,
    warehouse,
    async stop() {
      await Promise.all([postgres.stop(), warehouse.stop()])
    },
  }
}

/** A log with all topics and nothing in it; the state of the load in Postgres is emptied. */
export class LoadBench {
  private readonly loads: Load[] = []
  private readonly children: Bun.Subprocess[] = []

  private constructor(
    readonly servers: Servers,
    readonly dir: string,
    readonly log: Log,
    readonly producer: Producer,
    readonly ids: Map<string, string>,
    /** Per partition. */
    readonly raw: RawPartition[],
  ) {}

  static async open(servers: Servers): Promise<LoadBench> {
    const { sql } = servers.postgres
    await sql`TRUNCATE load_fence, load_intent, receipt, ingest_fence`
    const dir = await mkdtemp(join(tmpdir(), 'headrace-load-'))
    const log = await openEmbeddedLog({ dir })
    const ids = await createTopics(log, PARTITIONS)
    const producer = log.producer({ name: 'test', deadlineMs: 10_000 })
    const raw = Array.from(
      { length: PARTITIONS },
      (_, partition) => new RawPartition({ sql, producer, rawId: ids.get('raw_events')!, partition }),
    )
    return new LoadBench(servers, dir, log, producer, ids, raw)
  }

  get sql() {
    return this.servers.postgres.sql
  }

  get warehouse() {
    return this.servers.warehouse.warehouse
  }

  get rawId(): string {
    return this.ids.get('raw_events')!
  }

  deps(more: Partial<LoadDeps> = {}): LoadDeps {
    return {
      settings: { loadFlushMs: 200, loadBusyPercent: 100, loadMemoryMb: 64 },
      log: this.log,
      sql: this.sql,
      warehouse: this.warehouse,
      partitions: PARTITIONS,
      logger: pino({ level: 'silent' }),
      ...more,
    }
  }

  async load(more: Partial<LoadDeps> = {}): Promise<Load> {
    const load = await startLoad(this.deps(more))
    this.loads.push(load)
    return load
  }

  /** A loader in its own process that does `signal` to itself when it first reaches `step`. */
  spawn(step: LoadFailpoint, signal: 'SIGKILL' | 'SIGSTOP'): Bun.Subprocess {
    const options: ChildOptions = {
      dir: this.dir,
      socketDir: this.servers.postgres.url.socketDir,
      warehouseUrl: this.servers.warehouse.url,
      step,
      signal,
    }
    const child = Bun.spawn([process.execPath, import.meta.path, JSON.stringify(options)], {
      stdout: 'inherit',
      stderr: 'inherit',
    })
    this.children.push(child)
    return child
  }

  /** Rows of our raw topic in `events`, and how many of them are distinct. */
  async stored(): Promise<{ rows: number; sources: number }> {
    const [found] = await this.warehouse.query<{ rows: number; sources: number }>(
      `SELECT count() AS rows, uniqExact(_partition, _offset, _sub) AS sources FROM events WHERE _log_id = {id:UUID}`,
      { id: this.rawId },
    )
    return found!
  }

  async waitForRows(rows: number): Promise<void> {
    let last = ''
    await waitFor(
      `${rows} rows`,
      async () => {
        const found = await this.stored()
        last = JSON.stringify(found)
        return found.sources >= rows
      },
      WITHIN_MS,
      () => last,
    )
  }

  async intents(): Promise<Record<string, number>> {
    const rows = await this.sql<{ state: string; n: number }[]>`
      SELECT state, count(*) AS n FROM load_intent GROUP BY state`
    return Object.fromEntries(rows.map(({ state, n }) => [state, n]))
  }

  async waitForSettled(): Promise<void> {
    await waitFor('no open intent', async () => !(await this.intents()).open, WITHIN_MS)
  }

  async close(): Promise<void> {
    for (const child of this.children) child.kill('SIGKILL')
    await Promise.all(this.children.map((child) => child.exited))
    await Promise.all(this.loads.map((load) => load.stop()))
    await this.producer.close()
    await this.log.close()
    await rm(this.dir, { recursive: true, force: true })
  }
}

type ChildOptions = {
  dir: string
  socketDir: string
  warehouseUrl: string
  step: LoadFailpoint
  signal: 'SIGKILL' | 'SIGSTOP'
}

if (import.meta.main) {
  const options = JSON.parse(process.argv[2]!) as ChildOptions
  let hit = false
  await startLoad({
    settings: { loadFlushMs: 200, loadBusyPercent: 100, loadMemoryMb: 64 },
    log: await openEmbeddedLog({ dir: options.dir }),
    sql: openPostgres({ url: { socketDir: options.socketDir }, name: 'load', connectionsMax: 16 }),
    warehouse: openWarehouse({ url: options.warehouseUrl }),
    partitions: PARTITIONS,
    logger: pino({ level: 'silent' }),
    reached(step) {
      if (step !== options.step || hit) return
      hit = true
      process.kill(process.pid, options.signal)
    },
  })
}
