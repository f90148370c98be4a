import { afterEach, beforeEach, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTopics } from '../../../test/support/rows.ts'
import { TOPICS } from '../../event/index.ts'
import { type Log, openEmbeddedLog, type StoredRecord } from '../../log/index.ts'
import { LaneTimes } from './lane-times.ts'

const LIVE = '11111111-1111-4111-8111-111111111111'
const HISTORICAL = '22222222-2222-4222-8222-222222222222'
const EMPTY = new Uint8Array()
const MINUTE = 60_000

let dir: string
let log: Log
let nowMs: number
let times: LaneTimes

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'headrace-lanes-'))
  log = await openEmbeddedLog({ dir })
  await createTopics(log, 1)
  nowMs = 0
  const lane = (logId: string, topic: string) => ({ id: { logId, topic, partition: 0 }, nextOffset: 0 })
  times = new LaneTimes(log, [lane(LIVE, TOPICS.raw), lane(HISTORICAL, TOPICS.rawHistorical)], () => nowMs)
})

afterEach(async () => {
  await log.close()
  await rm(dir, { recursive: true })
})

async function appendHistorical(count: number): Promise<void> {
  const producer = log.producer({ name: 'test', deadlineMs: 10_000 })
  await producer.send(
    Array.from({ length: count }, () => ({
      topic: TOPICS.rawHistorical,
      partition: 0,
      header: EMPTY,
      value: EMPTY,
    })),
  )
  await producer.close()
}

const record = (offset: number, appendedMs: number): StoredRecord => ({
  offset,
  appendedMs,
  header: EMPTY,
  value: EMPTY,
})

test('a lane that has unread records holds the time back, also before any of them was read', async () => {
  await appendHistorical(2)
  expect(await times.after(LIVE, [record(0, 5_000)])).toBe(0)
  expect(await times.after(HISTORICAL, [record(0, 1_000)])).toBe(1_000)
  nowMs += MINUTE
  expect(await times.after(LIVE, [record(1, 9_000)])).toBe(1_000)
})

test('a lane that is read to its end goes with the other, from when the log is next asked', async () => {
  expect(await times.after(LIVE, [record(0, 5_000)])).toBe(5_000)
  expect(await times.after(LIVE, [record(1, 6_000)])).toBe(5_000)
  nowMs += MINUTE
  expect(await times.after(LIVE, [record(2, 7_000)])).toBe(7_000)
  await appendHistorical(1)
  nowMs += MINUTE
  expect(await times.after(LIVE, [record(3, 8_000)])).toBe(7_000)
  expect(await times.after(HISTORICAL, [record(0, 7_500)])).toBe(7_500)
  nowMs += MINUTE
  expect(await times.after(LIVE, [record(4, 9_000)])).toBe(9_000)
})

test('one record with a clock that leaps ahead moves nothing, and a lone one only until the next', async () => {
  expect(await times.after(LIVE, [record(0, 5_000), record(1, 9e12), record(2, 5_001)])).toBe(5_000)
  nowMs += MINUTE
  await times.after(LIVE, [record(3, 9e12)])
  expect(await times.after(LIVE, [record(4, 5_002)])).toBe(5_002)
})
