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

async function append(count: number, bytes = 1): Promise<void> {
  const producer = log.producer({ name: 'test', deadlineMs: 10_000 })
  const record = { topic: TOPIC, partition: 0, header: new Uint8Array(1), value: new Uint8Array(bytes) }
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
  const { records, more } = await input.take(LIMIT)
  expect(records.map(({ offset }) => offset)).toEqual([0, 1, 2])
  expect(more).toBe(false)
  expect(input.ready).toBe(false)
  expect(changes).toBe(1)
  await input.close()
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

test('a lane that is behind gives more than one piece of the log, and says when there is more', async () => {
  // Of half a kilobyte: seven MiB.
  await append(14_000, 512)
  const input = inputAt(0)
  const limit = { records: 100_000, bytes: 16 * 2 ** 20 }
  const taken: [count: number, more: boolean][] = []
  let next = 0
  while (next < 14_000) {
    input.read(limit)
    await waitFor('records', () => input.ready, WITHIN_MS)
    const { records, more } = await input.take(limit)
    expect(records[0]!.offset).toBe(next)
    next = input.nextOffset = records.at(-1)!.offset + 1
    taken.push([records.length, more])
  }
  expect(taken[0]![0]).toBeGreaterThan(6_000)
  expect(taken[0]![0]).toBeLessThanOrEqual(4 * 2 ** 11)
  expect(taken.map(([, more]) => more)).toEqual([true, false])
  await input.close()
})

test('no more records than asked for, and a lane cut by their number has more', async () => {
  await append(25)
  const input = inputAt(0)
  input.read(LIMIT)
  await waitFor('records', () => input.ready, WITHIN_MS)
  const { records, more } = await input.take(LIMIT)
  expect([records.length, more]).toEqual([10, true])
  await input.close()
})

test('a gap is refused', async () => {
  await append(5)
  const input = inputAt(2)
  input.nextOffset = 1
  input.read(LIMIT)
  await waitFor('records', () => input.ready, WITHIN_MS)
  await expect(input.take(LIMIT)).rejects.toThrow('gives offset 2 where 1 is next')
  await input.close()
})
