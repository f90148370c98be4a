/** A durable writer over an embedded log that can be broken on purpose, and a look at what came into that log. */
import { fdatasync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readSettings, type Settings, type Sql } from '../../catalog/index.ts'
import { RAW_TOPICS, TOPICS } from '../../event/index.ts'
import { type EmbeddedLogOptions, type Log, type LogRecord, openEmbeddedLog } from '../../log/index.ts'
import { createLogger } from '../../observe/index.ts'
import { type DurableWriter, openWriter } from '../durable-writer.ts'

export const PARTITIONS = 3
const RECORD_BYTES_MAX = 1 << 20

/** A disk under a log: its syncs hang while it is held (and land late), and take a while when it is slow. */
export class FaultyDisk {
  private held: (() => void)[] = []
  holding = false
  broken = false
  slowMs = 0
  usedRatio = 0.1

  readonly operations = {
    fdatasync: (fd: number) =>
      new Promise<void>((resolve, reject) => {
        if (this.broken) return reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' }))
        const sync = () => fdatasync(fd, (error) => (error ? reject(error) : resolve()))
        if (this.holding) this.held.push(sync)
        else if (this.slowMs > 0) setTimeout(sync, this.slowMs)
        else sync()
      }),
    diskUsedRatio: () => this.usedRatio,
  }

  get waiting(): number {
    return this.held.length
  }

  release(): void {
    this.holding = false
    for (const sync of this.held.splice(0)) sync()
  }
}

export type Target = { log: Log; disk: FaultyDisk; close(): Promise<void> }

/** The log that capture writes to. */
export async function openTarget(dir: string, recordBytesMax = RECORD_BYTES_MAX): Promise<Target> {
  const disk = new FaultyDisk()
  const log = await openEmbeddedLog({ dir, operations: disk.operations })
  for (const name of RAW_TOPICS) await log.createTopic({ name, partitions: PARTITIONS, recordBytesMax })
  return {
    log,
    disk,
    async close() {
      disk.slowMs = 0
      disk.release()
      await log.close()
    },
  }
}

export type OpenOptions = {
  dir: string
  log: Log
  settings?: Partial<Settings>
  spoolLog?: Partial<EmbeddedLogOptions>
  checkLog?: () => Promise<void>
  sql?: Sql
  adoptEveryMs?: number
}

export type TestWriter = DurableWriter & { fatal: unknown[] }

export async function openTestWriter(options: OpenOptions): Promise<TestWriter> {
  const fatal: unknown[] = []
  const durable = await openWriter({
    settings: readSettings(
      {},
      { dataDir: options.dir, captureLogMs: 200, captureAnswerMs: 3_000, ...options.settings },
    ),
    log: options.log,
    partitions: PARTITIONS,
    logger: createLogger('capture', process.env.HEADRACE_TEST_LOG ?? 'silent'),
    onFatal: (error) => fatal.push(error),
    spool: {
      checkLog: options.checkLog ?? (async () => {}),
      adoptEveryMs: options.adoptEveryMs ?? 50,
      ...(options.spoolLog ? { log: options.spoolLog } : {}),
      ...(options.sql ? { sql: options.sql } : {}),
    },
  })
  return { ...durable, fatal }
}

/** Event number `n` of a process; its partition and lane follow from its number. */
export function event(n: number, who = 'a'): LogRecord {
  return {
    topic: n % 7 === 0 ? TOPICS.rawHistorical : TOPICS.raw,
    partition: n % PARTITIONS,
    header: Buffer.from(`${who}:${n}`),
    value: Buffer.from(`{"n":${n},"pad":"${'x'.repeat(n % 300)}"}`),
  }
}

/** The first copies of all events in the log, per lane and partition, in order: `who:n`. */
export async function firstCopies(log: Log): Promise<string[][]> {
  const places: string[][] = []
  for (const topic of RAW_TOPICS) {
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const seen = new Set<string>()
      const { start, end } = await log.bounds(topic, partition)
      for await (const records of log.read(topic, partition, start, end))
        for (const { header } of records) seen.add(Buffer.from(header).toString())
      places.push([...seen])
    }
  }
  return places
}

export type Verdict = { missing: string[]; disorder: string[] }

/** Of the acknowledged events: those that did not arrive, and those that stand behind a later one of their process. */
export async function judge(log: Log, acknowledged: readonly string[]): Promise<Verdict> {
  const places = await firstCopies(log)
  const arrived = new Set(places.flat())
  const wanted = new Set(acknowledged)
  const disorder: string[] = []
  for (const place of places) {
    const last = new Map<string, number>()
    for (const name of place) {
      if (!wanted.has(name)) continue
      const [who, n] = name.split(':') as [string, string]
      if (Number(n) < (last.get(who) ?? -1)) disorder.push(name)
      last.set(who, Number(n))
    }
  }
  return { missing: acknowledged.filter((name) => !arrived.has(name)), disorder }
}

export const CLEAN: Verdict = { missing: [], disorder: [] }

/** A temporary folder. */
export function tempDir(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'headrace-spool-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}
