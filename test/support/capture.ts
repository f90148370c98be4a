/** A capture on an embedded log of its own in a temporary folder, and a look at what it stored. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Account, type Capture, type Projects, startCapture } from '../../src/capture/index.ts'
import { readSettings, type Settings } from '../../src/catalog/index.ts'
import {
  type CaptureReport,
  decodeRawHeader,
  parseReport,
  RAW_TOPICS,
  type RawHeader,
  type RawTopic,
} from '../../src/event/index.ts'
import { type EmbeddedLogOptions, type Log, openEmbeddedLog } from '../../src/log/index.ts'
import { createLogger } from '../../src/observe/index.ts'

export const TEST_PARTITIONS = 4
const RECORD_BYTES_MAX = 1_048_576

/** A catalogue in which each token is that of a project without settings. */
export const EVERY_TOKEN: Projects = {
  known: () => ({ teamId: 1, settings: {} }),
  find: async () => ({ teamId: 1, settings: {} }),
}

export type StoredEvent = {
  topic: RawTopic
  partition: number
  offset: number
  header: RawHeader
  /** The record's value, as text. */
  value: string
}

export type TestCapture = {
  capture: Capture
  log: Log
  url: string
  /** Errors that would have stopped the process. */
  fatal: unknown[]
  /** Every event stored so far, by topic, partition and offset. */
  stored(): Promise<StoredEvent[]>
  /** What capture had to tell of refused and changed events so far. */
  reports(): Promise<CaptureReport[]>
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>
  stop(): Promise<void>
}

/** `body` of `post` is sent as it is when it is text or bytes, else as JSON. */
export async function startTestCapture(
  settings: Partial<Settings> = {},
  options: {
    log?: Partial<EmbeddedLogOptions>
    clock?: () => number
    projects?: Projects
    account?: Account
  } = {},
): Promise<TestCapture> {
  const dir = await mkdtemp(join(tmpdir(), 'headrace-capture-'))
  const log = await openEmbeddedLog({ dir: join(dir, 'log'), ...options.log })
  for (const name of RAW_TOPICS) {
    await log.createTopic({ name, partitions: TEST_PARTITIONS, recordBytesMax: RECORD_BYTES_MAX })
  }
  const fatal: unknown[] = []
  const capture = await startCapture({
    settings: readSettings({}, { captureAddress: '127.0.0.1:0', ...settings }),
    log,
    projects: options.projects ?? EVERY_TOKEN,
    partitions: TEST_PARTITIONS,
    logger: createLogger('capture', 'silent'),
    onFatal: (error) => fatal.push(error),
    ...(options.clock ? { clock: options.clock } : {}),
    ...(options.account ? { account: options.account } : {}),
  })
  const records = async () => {
    const events: StoredEvent[] = []
    for (const topic of RAW_TOPICS) {
      for (let partition = 0; partition < TEST_PARTITIONS; partition++) {
        const { start, end } = await log.bounds(topic, partition)
        for await (const records of log.read(topic, partition, start, end)) {
          for (const { offset, header, value } of records) {
            const text = Buffer.from(value).toString('utf8')
            events.push({ topic, partition, offset, header: decodeRawHeader(header), value: text })
          }
        }
      }
    }
    return events
  }
  return {
    capture,
    log,
    url: capture.url,
    fatal,
    stored: async () => (await records()).filter(({ header }) => header.disposition !== 'report'),
    reports: async () =>
      (await records()).flatMap(({ header, value }) =>
        header.disposition === 'report' ? [parseReport(value)] : [],
      ),
    post: (path, body, headers = {}) =>
      fetch(capture.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body:
          body instanceof Uint8Array
            ? new Uint8Array(body)
            : typeof body === 'string'
              ? body
              : JSON.stringify(body),
      }),
    async stop() {
      await capture.stop()
      await log.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
