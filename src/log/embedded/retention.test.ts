/** Retention: what goes, what stays, and that no offset comes back. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../conformance/harness.ts'
import { codeOf, segments, send, TOPIC, texts, withDir, withLog } from './log.fixture.ts'
import { type Closed, closesForAge, expired } from './retention.ts'

setDefaultTimeout(60_000)

const closed: Closed[] = [
  { base: 0, end: 10, bytes: 100, endedMs: 1_000 },
  { base: 10, end: 20, bytes: 100, endedMs: 2_000 },
  { base: 20, end: 30, bytes: 100, endedMs: 3_000 },
]

describe('which segments go', () => {
  for (const [rule, limits, nowMs, lowest, count] of [
    ['no limit keeps everything', {}, 1e9, undefined, 0],
    ['older than the age', { retentionMs: 1_500 }, 4_000, undefined, 2],
    ['all are older', { retentionMs: 10 }, 1e9, undefined, 3],
    ['exactly as old stays', { retentionMs: 1_000 }, 2_000, undefined, 0],
    ['more than the size', { retentionBytes: 250 }, 0, undefined, 1],
    ['just the size stays', { retentionBytes: 350 }, 0, undefined, 0],
    ['what is left is at least the size', { retentionBytes: 1 }, 0, undefined, 3],
    ['age or size, whichever takes more', { retentionMs: 2_500, retentionBytes: 150 }, 4_000, undefined, 2],
    ['never what a reader has not passed', { retentionMs: 10 }, 1e9, 19, 1],
    ['all of it once the reader has', { retentionMs: 10 }, 1e9, 30, 3],
    ['a reader at the beginning holds all', { retentionBytes: 1 }, 1e9, 0, 0],
  ] as const)
    test(rule, () => expect(expired(closed, 50, limits, nowMs, lowest)).toBe(count))

  test('a last segment with records is closed in time', () => {
    expect(closesForAge(0, 1_000, { ...TOPIC, retentionMs: 8_000 }, 1_001)).toBe(true)
    expect(closesForAge(0, 1_000, { ...TOPIC, retentionMs: 8_000 }, 999)).toBe(false)
    expect(closesForAge(0, 64, { ...TOPIC, retentionMs: 8_000 }, 1e6)).toBe(false)
    expect(closesForAge(0, 1_000, TOPIC, 1e12)).toBe(false)
  })
})

describe('retention', () => {
  test('everything expired: the partition is empty, and the next record gets the next offset, for ever', () =>
    withDir(async (dir) => {
      const options = { dir, segmentBytes: 1_000 }
      await withLog(options, async (log) => {
        await log.createTopic({ ...TOPIC, retentionMs: 1 })
        for (let i = 0; i < 30; i++) await send(log, ['x'.repeat(100)])
        await until('all is gone', async () => {
          await log.retainAll()
          return (await log.bounds(TOPIC.name, 0)).start === 30
        })
        expect(segments(dir).length).toBe(1)
        expect(await codeOf(texts(log, 29, 30))).toBe('HR_LOG_OUT_OF_RANGE')
      })
      rmSync(join(dir, 'heads', TOPIC.name))
      await withLog(options, async (log) => {
        expect(await log.bounds(TOPIC.name, 0)).toEqual({ start: 30, end: 30 })
        expect((await send(log, ['next']))[0]!.offset).toBe(30)
      })
    }))

  test('a process that died after it published the new start: the start stays, and the files go later', () =>
    withDir(async (dir) => {
      const options = { dir, segmentBytes: 1_000 }
      const kept = join(dir, 'kept')
      await withLog(options, async (log) => {
        await log.createTopic({ ...TOPIC, retentionBytes: 1 })
        for (let i = 0; i < 30; i++) await send(log, ['x'.repeat(100)])
        cpSync(join(dir, 'topics', TOPIC.name, '0'), kept, { recursive: true })
        await log.retainAll()
      })
      cpSync(kept, join(dir, 'topics', TOPIC.name, '0'), { recursive: true })
      await withLog(options, async (log) => {
        const { start } = await log.bounds(TOPIC.name, 0)
        expect(start).toBeGreaterThan(0)
        expect((await send(log, ['next']))[0]!.offset).toBe(30)
        expect((await log.bounds(TOPIC.name, 0)).start).toBe(start)
        expect(await codeOf(texts(log, start - 1, start))).toBe('HR_LOG_OUT_OF_RANGE')
        expect(segments(dir).length).toBeGreaterThan(2)
        await log.retainAll()
        expect(segments(dir).length).toBeLessThanOrEqual(2)
      })
    }))

  test('a group that committed holds its records; one that never did holds nothing', () =>
    withDir(async (dir) => {
      await withLog({ dir, segmentBytes: 1_000 }, async (log) => {
        await log.createTopic({ ...TOPIC, retentionBytes: 1 })
        const join = (group: string) =>
          log.join({ group, topics: [TOPIC.name], assigned() {}, async revoked() {}, lost() {} })
        const member = await join('slow')
        await join('never')
        await until('the member owns it', () => member.owned().length === 1)
        for (let i = 0; i < 30; i++) await send(log, ['x'.repeat(100)])
        await member.commit([{ topic: TOPIC.name, partition: 0, offset: 12 }])
        await log.retainAll()
        const { start } = await log.bounds(TOPIC.name, 0)
        expect(start).toBeGreaterThan(0)
        expect(start).toBeLessThanOrEqual(12)
        expect((await texts(log, 12)).length).toBe(18)
        await member.commit([{ topic: TOPIC.name, partition: 0, offset: 30 }])
        await member.leave()
        await log.retainAll()
        expect((await log.bounds(TOPIC.name, 0)).start).toBeGreaterThan(12)
      })
    }))

  test('a partition that nobody writes is kept short too, by a process that has a producer', () =>
    withDir(async (dir) => {
      const options = { dir, segmentBytes: 1_000, retentionEveryMs: 20 }
      await withLog({ ...options, retentionEveryMs: 1e6 }, async (log) => {
        await log.createTopic({ ...TOPIC, retentionBytes: 1 })
        for (let i = 0; i < 30; i++) await send(log, ['x'.repeat(100)])
      })
      await withLog(options, async (log) => {
        log.producer({ name: 'other', deadlineMs: 1_000 })
        expect((await log.bounds(TOPIC.name, 0)).end).toBe(30)
        await until('the old segments are gone', () => segments(dir).length === 1)
      })
    }))
})
