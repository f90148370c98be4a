/** The end of a partition after a crash: what was acknowledged stays, what was cut off goes, damage is told apart. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { copyFileSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { FRAME_HEADER_BYTES, RECORD_HEADER_BYTES } from './format.ts'
import { codeOf, segments, send, TOPIC, texts, withDir, withLog } from './log.fixture.ts'

setDefaultTimeout(60_000)

const AFTER_POWER_CUT = { operations: { bootId: 'the start after' } }
const head = (dir: string) => join(dir, 'heads', TOPIC.name)

/** A log with two acknowledged commits and, in a copy of its files, a third that nobody was told of. */
async function withUnfinished(test: (dir: string, wholeBytes: number, allBytes: number) => Promise<void>) {
  await withDir(async (dir) => {
    await withLog({ dir }, async (log) => {
      await log.createTopic(TOPIC)
      await send(log, ['a', 'b'])
      await send(log, ['c'])
      const [path] = segments(dir)
      const wholeBytes = statSync(path!).size
      copyFileSync(head(dir), join(dir, 'head-before'))
      await send(log, ['unfinished 1', 'unfinished 2'])
      const allBytes = statSync(path!).size
      await log.close()
      copyFileSync(join(dir, 'head-before'), head(dir))
      rmSync(join(dir, 'head-before'))
      await test(dir, wholeBytes, allBytes)
    })
  })
}

describe('recovery', () => {
  for (const [name, headIs] of [
    ['the process died', 'kept'],
    ['the machine stopped', 'of the start before'],
    ['the machine stopped and the head file is empty', 'empty'],
  ] as const)
    test(`${name}: a commit cut at any byte is gone, or there as a whole`, () =>
      withUnfinished(async (dir, wholeBytes, allBytes) => {
        const operations = headIs === 'kept' ? {} : AFTER_POWER_CUT
        for (let length = wholeBytes; length <= allBytes; length++)
          await withDir(async (parent) => {
            const copy = join(parent, 'log')
            await cp(dir, copy, { recursive: true })
            truncateSync(segments(copy)[0]!, length)
            if (headIs === 'empty') writeFileSync(head(copy), '')
            await withLog({ dir: copy, ...operations }, async (log) => {
              const whole = length === allBytes
              const [position] = await send(log, ['next'])
              expect(position!.offset).toBe(whole ? 5 : 3)
              // Nothing of what was cut lies behind the next frame: header, record header, and 1 + 4 bytes.
              const size = FRAME_HEADER_BYTES + RECORD_HEADER_BYTES + 5
              expect(statSync(segments(copy)[0]!).size).toBe((whole ? allBytes : wholeBytes) + size)
              expect(await texts(log)).toEqual([
                'a',
                'b',
                'c',
                ...(whole ? ['unfinished 1', 'unfinished 2'] : []),
                'next',
              ])
            })
          })
      }))

  test('zeros where a commit should be are cut', () =>
    withUnfinished(async (dir, wholeBytes, allBytes) => {
      const bytes = readFileSync(segments(dir)[0]!)
      writeFileSync(segments(dir)[0]!, bytes.fill(0, wholeBytes, allBytes))
      await withLog({ dir, ...AFTER_POWER_CUT }, async (log) => {
        expect(await texts(log)).toEqual(['a', 'b', 'c'])
        expect((await send(log, ['next']))[0]!.offset).toBe(3)
      })
    }))

  test('damage before the last commit is kept and reported, never cut, also when the head file is gone', () =>
    withUnfinished(async (dir) => {
      const path = segments(dir)[0]!
      const before = readFileSync(path)
      const damaged = Buffer.from(before)
      damaged[damaged.indexOf('c', 64 + 40)]! ^= 1
      writeFileSync(path, damaged)
      rmSync(head(dir))
      await withLog({ dir, ...AFTER_POWER_CUT }, async (log) => {
        expect((await send(log, ['next']))[0]!.offset).toBe(5)
        expect(await texts(log, 0, 2)).toEqual(['a', 'b'])
        expect(await codeOf(texts(log))).toBe('HR_LOG_CORRUPT')
        expect(await codeOf(texts(log, 2, 3))).toBe('HR_LOG_CORRUPT')
        expect(await texts(log, 3)).toEqual(['unfinished 1', 'unfinished 2', 'next'])
      })
      expect(readFileSync(path).subarray(0, damaged.length).equals(damaged)).toBe(true)
    }))

  test('published records that are missing: writing goes on behind them, no offset is given twice', () =>
    withDir(async (dir) => {
      await withLog({ dir }, async (log) => {
        await log.createTopic(TOPIC)
        await send(log, ['a'])
        await send(log, ['b'])
      })
      const path = segments(dir)[0]!
      truncateSync(path, statSync(path).size - 10)
      await withLog({ dir }, async (log) => {
        expect((await send(log, ['c']))[0]!.offset).toBe(2)
        expect(await codeOf(texts(log))).toBe('HR_LOG_CORRUPT')
        expect(await texts(log, 0, 1)).toEqual(['a'])
        expect(await texts(log, 2)).toEqual(['c'])
      })
      rmSync(segments(dir)[1]!)
      await withLog({ dir }, async (log) => {
        expect((await send(log, ['d']))[0]!.offset).toBe(3)
        expect(await texts(log, 3)).toEqual(['d'])
      })
    }))

  test('a reader alone finds all that is durable after a power cut, though the head file is old', () =>
    withDir(async (dir) => {
      await withLog({ dir }, async (log) => {
        await log.createTopic(TOPIC)
        await send(log, ['a'])
        copyFileSync(head(dir), join(dir, 'old'))
        for (const text of ['b', 'c', 'd']) await send(log, [text])
      })
      copyFileSync(join(dir, 'old'), head(dir))
      await withLog({ dir, ...AFTER_POWER_CUT }, async (log) => {
        const reader = log.reader({ topic: TOPIC.name, partition: 0, from: 3 })
        const [record] = await reader.next({ records: 1, bytes: 100 })
        expect(Buffer.from(record!.value).toString()).toBe('d')
        expect(await log.bounds(TOPIC.name, 0)).toEqual({ start: 0, end: 4 })
      })
    }))
})
