/** Topics while processes race or die. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { FileLock } from '../../platform/index.ts'
import { until } from '../conformance/harness.ts'
import { HeadFile } from './head-file.ts'
import { codeOf, send, TOPIC, texts, withDir, withLog } from './log.fixture.ts'

setDefaultTimeout(60_000)

describe('topics', () => {
  test('made by several at once: one topic', () =>
    withDir((dir) =>
      withLog({ dir }, (one) =>
        withLog({ dir }, async (other) => {
          const made = await Promise.all([one, other, one, other].map((log) => log.createTopic(TOPIC)))
          expect(new Set(made.map((state) => state.logId)).size).toBe(1)
        }),
      ),
    ))

  test('while a topic is being deleted its writers refuse; when the deleting process dies it lives on', () =>
    withDir((dir) =>
      withLog({ dir, pollMs: 50 }, async (log) => {
        const { logId } = await log.createTopic(TOPIC)
        await send(log, ['a'])
        const deleting = FileLock.try(join(dir, 'topics.lock'))!
        const head = HeadFile.open(join(dir, 'heads', TOPIC.name), TOPIC.partitions)!
        head.writeDeleting(logId, true)
        head.close()
        const lockPath = join(dir, 'topics', TOPIC.name, '0', 'writer.lock')
        const writer = await until('the writer lets go', () => FileLock.try(lockPath))
        writer.release()
        expect(await codeOf(send(log, ['b']))).toBe('HR_LOG_UNAVAILABLE')
        deleting.release()
        await until('sends are taken again', () => send(log, ['c']).catch(() => undefined))
        expect(await texts(log)).toEqual(['a', 'c'])
      }),
    ))

  test('a topic that a writer does not let go of stays', () =>
    withDir((dir) =>
      withLog({ dir, writerWaitMs: 50 }, async (log) => {
        await log.createTopic(TOPIC)
        await send(log, ['a'])
        await withLog({ dir, writerWaitMs: 50, pollMs: 1e6 }, async (other) => {
          await log.close()
          const stuck = FileLock.try(join(dir, 'topics', TOPIC.name, '0', 'writer.lock'))!
          expect(await codeOf(other.deleteTopic(TOPIC.name))).toBe('HR_LOG_NOT_WRITER')
          stuck.release()
          expect((await send(other, ['b']))[0]!.offset).toBe(1)
          expect(await texts(other)).toEqual(['a', 'b'])
        })
      }),
    ))

  test('what a process left half made is cleared away', () =>
    withDir((dir) =>
      withLog({ dir }, async (log) => {
        const left = join(dir, 'topics', '.half-made')
        mkdirSync(join(left, '0'), { recursive: true })
        await log.createTopic(TOPIC)
        expect(existsSync(left)).toBe(false)
      }),
    ))

  test('a topic that was made again under our feet: nothing is sent into the new one by mistake', () =>
    withDir((dir) =>
      withLog({ dir, pollMs: 50 }, (log) =>
        withLog({ dir }, async (other) => {
          const before = await log.createTopic(TOPIC)
          await send(log, ['old'])
          await other.deleteTopic(TOPIC.name)
          const after = await other.createTopic(TOPIC)
          expect(after.logId).not.toBe(before.logId)
          const [position] = await until('a send is taken', () => send(log, ['new']).catch(() => undefined))
          expect(position!.offset).toBe(0)
          expect(await texts(other)).toEqual(['new'])
        }),
      ),
    ))
})
