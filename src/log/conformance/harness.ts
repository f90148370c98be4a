/** What the conformance suite needs of an implementation, and what its chapters share. */

import { expect } from 'bun:test'
import { randomBytes } from 'node:crypto'
import { HeadraceError } from '../../event/index.ts'
import type { Log, LogRecord, Position, StoredRecord, TopicSpec } from '../log.ts'
import type { Ack } from './numbered.ts'

/** Something that sends numbered records (numbered.ts) and can be killed. */
export type KillableSender = {
  /** All that was acknowledged so far. */
  readonly acks: Ack[]
  /** SIGKILLs what makes records durable (the writing process, or the broker) and lets sending go on. */
  kill(): Promise<void>
  /** Ends sending; resolves when no more acks come. */
  stop(): Promise<void>
}

export type LogHarness = {
  /** How often the crash chapter kills; `KILLS` unless said. */
  kills?: number
  /** Used for the topics of the suite. */
  recordBytesMax: number
  /** A client of the log that is independent of the others, as another process would be. */
  open(): Promise<Log>
  startSending(topic: string, partitions: number): Promise<KillableSender>
  /** Makes what may expire by now expire. Left out where that takes minutes. */
  retain?(log: Log, topic: string): Promise<void>
  close(): Promise<void>
}

/** Gives the running harness to the tests of a chapter. */
export type Context = { harness(): LogHarness }

let topics = 0

export async function freshTopic(
  context: Context,
  log: Log,
  partitions: number,
  more: Partial<TopicSpec> = {},
): Promise<string> {
  const name = `conformance-${process.pid}-${randomBytes(3).toString('hex')}-${++topics}`
  await log.createTopic({ name, partitions, recordBytesMax: context.harness().recordBytesMax, ...more })
  return name
}

/** Runs `test` with clients of its own that are closed afterwards, however it ends. */
export async function withLogs(
  context: Context,
  count: number,
  test: (...logs: Log[]) => Promise<void>,
): Promise<void> {
  const logs: Log[] = []
  try {
    for (let i = 0; i < count; i++) logs.push(await context.harness().open())
    await test(...logs)
  } finally {
    await Promise.all(logs.map((log) => log.close()))
  }
}

export function record(topic: string, partition: number, text: string): LogRecord {
  return { topic, partition, header: Buffer.from(`h:${text}`), value: Buffer.from(text) }
}

export function textOf(stored: StoredRecord): string {
  return Buffer.from(stored.value).toString()
}

/** Sends one text after the other in one batch. */
export async function sendTexts(
  log: Log,
  topic: string,
  partition: number,
  texts: string[],
): Promise<Position[]> {
  const producer = log.producer({ name: 'conformance', deadlineMs: 30_000 })
  try {
    return await producer.send(texts.map((text) => record(topic, partition, text)))
  } finally {
    await producer.close()
  }
}

/** Everything in a partition. */
export async function readAll(log: Log, topic: string, partition: number): Promise<StoredRecord[]> {
  return readTail(log, topic, partition, Number.POSITIVE_INFINITY)
}

/** At most the last `count` records of a partition. */
export async function readTail(
  log: Log,
  topic: string,
  partition: number,
  count: number,
): Promise<StoredRecord[]> {
  const { start, end } = await log.bounds(topic, partition)
  const records: StoredRecord[] = []
  for await (const batch of log.read(topic, partition, Math.max(start, end - count), end))
    records.push(...batch)
  return records
}

/** The code with which `work` fails. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(HeadraceError)
  return (error as HeadraceError).code
}

/** Waits until `holds` gives something other than false or undefined. */
export async function until<T>(
  what: string,
  holds: () => T | false | undefined | Promise<T | false | undefined>,
  deadlineMs = 60_000,
): Promise<T> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    const value = await holds()
    if (value !== undefined && value !== false) return value
    if (performance.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${what}`)
    await Bun.sleep(5)
  }
}
