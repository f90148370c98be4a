/** What the tests of the embedded log share: a folder that goes away, and looks at its files. */
import { existsSync, readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Log, Position } from '../log.ts'
import { EmbeddedLog } from './embedded-log.ts'
import type { EmbeddedLogOptions } from './options.ts'

export async function withDir<T>(test: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'headrace-log-'))
  try {
    return await test(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** Opens the log, runs `work`, closes it. */
export async function withLog<T>(
  options: EmbeddedLogOptions,
  work: (log: EmbeddedLog) => Promise<T>,
): Promise<T> {
  const log = new EmbeddedLog(options)
  try {
    return await work(log)
  } finally {
    await log.close()
  }
}

export const TOPIC = { name: 'topic', partitions: 1, recordBytesMax: 100_000 }

/** Sends one text per record in one batch. */
export async function send(
  log: Log,
  texts: string[],
  partition = 0,
  topic = TOPIC.name,
): Promise<Position[]> {
  const producer = log.producer({ name: 'test', deadlineMs: 20_000 })
  return await producer.send(
    texts.map((text) => ({ topic, partition, header: Buffer.from('h'), value: Buffer.from(text) })),
  )
}

/** One send over the partitions below `partitions`, a record for each: a commit for the journal when they are open. */
export async function spread(log: Log, text: string, partitions: number, bytes = 0): Promise<Position[]> {
  const producer = log.producer({ name: 'test', deadlineMs: 20_000 })
  return await producer.send(
    Array.from({ length: partitions }, (_, partition) => ({
      topic: TOPIC.name,
      partition,
      header: Buffer.alloc(0),
      value: Buffer.from(`${text}p${partition}`.padEnd(bytes, '.')),
    })),
  )
}

/** Names of what is in the folder of the commit journals, but for the lock. */
export function journals(dir: string): string[] {
  const folder = join(dir, 'journals')
  return existsSync(folder) ? readdirSync(folder).filter((name) => name !== 'settle.lock') : []
}

/** Texts in [from, to), or up to the end. */
export async function texts(log: Log, from = 0, to?: number, partition = 0): Promise<string[]> {
  const all: string[] = []
  const end = to ?? (await log.bounds(TOPIC.name, partition)).end
  for await (const batch of log.read(TOPIC.name, partition, from, end))
    for (const record of batch) all.push(Buffer.from(record.value).toString())
  return all
}

/** Paths of the segments of a partition, oldest first. */
export function segments(dir: string, partition = 0, topic = TOPIC.name): string[] {
  const folder = join(dir, 'topics', topic, String(partition))
  return readdirSync(folder)
    .filter((name) => name.endsWith('.seg'))
    .sort()
    .map((name) => join(folder, name))
}

export async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return await work.then(
    () => undefined,
    (error) => (error as { code?: string }).code ?? String(error),
  )
}
