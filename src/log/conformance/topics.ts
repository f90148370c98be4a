/** Chapter: topics. Made, described, deleted and made again; bounds and retention. */
import { expect, test } from 'bun:test'
import { type Context, codeOf, freshTopic, readAll, sendTexts, textOf, until, withLogs } from './harness.ts'

const LIMIT = { records: 10, bytes: 1e6 }

export function topicChapter(context: Context, timeoutMs: number): void {
  test('describe tells of the topics that exist, bounds of what is in them', () =>
    withLogs(context, 2, async (log, other) => {
      const topic = await freshTopic(context, log, 2, { retentionMs: 86_400_000, retentionBytes: 1_000_000 })
      const [state, ...others] = await other.describe([topic, `${topic}-not`])
      expect(others).toEqual([])
      expect(state).toMatchObject({
        name: topic,
        partitions: 2,
        retentionMs: 86_400_000,
        retentionBytes: 1_000_000,
        recordBytesMax: context.harness().recordBytesMax,
      })
      expect(state!.logId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/)
      expect(await log.bounds(topic, 1)).toEqual({ start: 0, end: 0 })
      await sendTexts(log, topic, 1, ['a', 'b'])
      expect(await other.bounds(topic, 1)).toEqual({ start: 0, end: 2 })
      expect(await other.bounds(topic, 0)).toEqual({ start: 0, end: 0 })
      expect(await codeOf(other.bounds(`${topic}-not`, 0))).toBe('HR_LOG_NO_TOPIC')
      expect(await other.notReady()).toBeUndefined()
    }))

  test(
    'a topic made again has another log id and begins at 0; its old readers are told',
    () =>
      withLogs(context, 2, async (log, other) => {
        const topic = await freshTopic(context, log, 1)
        const [before] = await log.describe([topic])
        await sendTexts(log, topic, 0, ['a', 'b', 'c'])
        const reader = other.reader({ topic, partition: 0, from: 2 })
        expect((await reader.next(LIMIT)).map(textOf)).toEqual(['c'])
        const waiting = codeOf(reader.next(LIMIT))
        await other.deleteTopic(topic)
        const { name, partitions, recordBytesMax } = before!
        await until('the topic can be made again', async () => {
          if ((await log.describe([topic])).length > 0) return false
          await log.createTopic({ name, partitions, recordBytesMax })
          return true
        })
        expect(['HR_LOG_OUT_OF_RANGE', 'HR_LOG_NO_TOPIC']).toContain(await waiting)
        const [after] = await other.describe([topic])
        expect(after!.logId).not.toBe(before!.logId)
        await until('the new topic takes records', () =>
          sendTexts(log, topic, 0, ['x']).then(
            () => true,
            () => false,
          ),
        )
        expect((await readAll(other, topic, 0)).map(textOf)[0]).toBe('x')
        const late = other.reader({ topic, partition: 0, from: 3 })
        expect(await codeOf(late.next(LIMIT))).toBe('HR_LOG_OUT_OF_RANGE')
      }),
    timeoutMs,
  )

  test(
    'retention removes the oldest records; reading them is HR_LOG_OUT_OF_RANGE; offsets go on',
    () =>
      withLogs(context, 2, async (log, other) => {
        const { retain } = context.harness()
        if (!retain) return
        const topic = await freshTopic(context, log, 1, { retentionBytes: 100_000 })
        const text = 'r'.repeat(10_000)
        for (let i = 0; i < 40; i++) await sendTexts(log, topic, 0, [text])
        const slow = other.reader({ topic, partition: 0, from: 0 })
        await retain(log, topic)
        const { start, end } = await other.bounds(topic, 0)
        expect(end).toBe(40)
        expect(start).toBeGreaterThan(0)
        expect(start).toBeLessThan(40)
        expect(await codeOf(slow.next(LIMIT))).toBe('HR_LOG_OUT_OF_RANGE')
        expect((await readAll(other, topic, 0)).map((one) => one.offset)[0]).toBe(start)
        const [position] = await sendTexts(log, topic, 0, ['next'])
        expect(position!.offset).toBe(40)
      }),
    timeoutMs,
  )
}
