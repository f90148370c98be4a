import { afterEach, beforeEach, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { waitFor } from '../../test/support/wait-for.ts'
import { type Log, openEmbeddedLog } from '../log/index.ts'
import { LaneInput } from './lane-input.ts'

const TOPIC = 'raw_events'
const LIMIT = { records: 10, bytes: 1_000_000 }
const WITHIN_MS = 10_000

let dir: string
let log: Log
let logId: string
let changes: number
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'headrace-lane-'))
  log = await openEmbeddedLog({ dir })
  logId = (await log.createTopic({ name: TOPIC, partitions: 1, recordBytesMax: 1_000 })).logId
  changes = 0
})
afterEach(async () => {
  await log.close()
  await rm(dir, { recursive: true })
})

function inputAt(nextOffset: number): LaneInput {
  const reader = log.reader({ topic: TOPIC, partition: 0, from: nextOffset })
  const position = { nextOffset, producedThrough: nextOffset, last: undefined }
  return new LaneInput({ logId, topic: TOPIC, partition: 0 }, false, reader, position, () => changes++)
}

async function append(count: number): Promise<void> {
  const producer = log.producer({ name: 'test', deadlineMs: 10_000 })
  const record = { topic: TOPIC, partition: 0, header: new Uint8Array(1), value: new Uint8Array(1) }
  await producer.send(new Array(count).fill(record))
  await producer.close()
}

test('records are kept until they are taken, and asking again reads nothing more', async () => {
  const input = inputAt(0)
  input.read(LIMIT)
  input.read(LIMIT)
  expect(input.ready).toBe(false)
  await append(3)
  await waitFor('records', () => input.ready, WITHIN_MS)
  input.read(LIMIT)
  expect(input.take().map(({ offset }) => offset)).toEqual([0, 1, 2])
  expect(input.ready).toBe(false)
  expect(changes).toBe(1)
})

test('a read that fails while nobody waits for it is told at the next look', async () => {
  const input = inputAt(7)
  input.read(LIMIT)
  await waitFor('the failure', () => changes === 1, WITHIN_MS)
  expect(() => input.read(LIMIT)).toThrow('not 7')
  await input.close()
})

test('a reader that is closed gives nothing, and says so', async () => {
  const input = inputAt(0)
  input.read(LIMIT)
  await input.close()
  await waitFor('its end', () => changes === 1, WITHIN_MS)
  expect(input.ready).toBe(false)
})
