/** What the embedded log refuses, and what it does when the disk fails it. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { codeOf, segments, send, TOPIC, texts, withDir, withLog } from './log.fixture.ts'
import { LIMITS, OPERATIONS } from './options.ts'

setDefaultTimeout(60_000)

describe('limits', () => {
  test('above the disk watermark sends are refused, reading and deleting go on, and below it sends work again', () =>
    withDir(async (dir) => {
      let used = 0.5
      let looks = 0
      const diskUsedRatio = () => {
        looks++
        return used
      }
      await withLog({ dir, operations: { diskUsedRatio } }, async (log) => {
        await log.createTopic(TOPIC)
        for (let i = 0; i < 50; i++) await send(log, ['a'])
        expect(looks).toBeLessThanOrEqual(2)
      })
      used = 0.901
      await withLog({ dir, operations: { diskUsedRatio } }, async (log) => {
        const before = readFileSync(segments(dir)[0]!)
        expect(await codeOf(send(log, ['refused']))).toBe('HR_LOG_DISK_FULL')
        expect(await log.notReady()).toContain('90.1 % full')
        expect(readFileSync(segments(dir)[0]!).equals(before)).toBe(true)
        expect((await texts(log)).length).toBe(50)
        await log.createTopic({ ...TOPIC, name: 'other' })
        await log.deleteTopic('other')
        expect(await log.describe(['other'])).toEqual([])
      })
      used = 0.9
      await withLog({ dir, operations: { diskUsedRatio } }, async (log) => {
        expect(await log.notReady()).toBeUndefined()
        expect((await send(log, ['taken']))[0]!.offset).toBe(50)
      })
    }))

  test('the real disk is looked at as df counts it', () =>
    withDir(async (dir) => {
      const df = Bun.spawnSync(['df', '-P', dir]).stdout.toString().split('\n')[1]!
      const percent = Number(/(\d+)%/.exec(df)![1])
      // df rounds up; other programs write meanwhile.
      expect(Math.abs(OPERATIONS.diskUsedRatio(dir) * 100 - percent)).toBeLessThan(2)
    }))

  test('a failed fdatasync: the send fails, nothing is shown, and the producer takes nothing any more', () =>
    withDir(async (dir) => {
      let broken = false
      const fdatasync = async (fd: number) => {
        if (broken) throw new Error('EIO')
        await OPERATIONS.fdatasync(fd)
      }
      await withLog({ dir, operations: { fdatasync } }, async (log) => {
        await log.createTopic({ ...TOPIC, partitions: 2 })
        await send(log, ['a'])
        await send(log, ['b'], 1)
        broken = true
        const producer = log.producer({ name: 'test', deadlineMs: 5_000 })
        const records = [0, 1].map((partition) => ({
          topic: TOPIC.name,
          partition,
          header: Buffer.alloc(0),
          value: Buffer.from('not synced'),
        }))
        const sends = [producer.send(records), producer.send(records)].map(codeOf)
        expect(await Promise.all(sends)).toEqual(['HR_LOG_SYNC_FAILED', 'HR_LOG_SYNC_FAILED'])
        broken = false
        expect(await codeOf(producer.send(records))).toBe('HR_LOG_SYNC_FAILED')
        expect(await codeOf(send(log, ['x'], 1))).toBe('HR_LOG_SYNC_FAILED')
        expect(await log.notReady()).toContain('fdatasync failed')
        expect(await log.bounds(TOPIC.name, 0)).toEqual({ start: 0, end: 1 })
        expect(await texts(log)).toEqual(['a'])
      })
      // What the failed sync left behind may be served by the next process, once it is durable.
      await withLog({ dir }, async (log) => {
        const [position] = await send(log, ['c'])
        const all = await texts(log)
        expect(all.at(0)).toBe('a')
        expect(all.at(-1)).toBe('c')
        expect(all.length).toBe(position!.offset + 1)
      })
    }))

  test('a send past its deadline before its commit never lands; one in flight lands before later ones', () =>
    withDir(async (dir) => {
      const gate = { wait: Promise.resolve() }
      const fdatasync = async (fd: number) => {
        await gate.wait
        await OPERATIONS.fdatasync(fd)
      }
      await withLog({ dir, operations: { fdatasync } }, async (log) => {
        await log.createTopic(TOPIC)
        const slow = Promise.withResolvers<void>()
        await send(log, ['a'])
        gate.wait = slow.promise
        const producer = log.producer({ name: 'test', deadlineMs: 50 })
        const record = (text: string) => ({
          topic: TOPIC.name,
          partition: 0,
          header: Buffer.alloc(0),
          value: Buffer.from(text),
        })
        const inFlight = codeOf(producer.send([record('in flight')]))
        await new Promise(setImmediate)
        await new Promise(setImmediate)
        const queued = codeOf(producer.send([record('queued')]))
        expect(await inFlight).toBe('HR_LOG_DEADLINE')
        expect(await queued).toBe('HR_LOG_DEADLINE')
        const patient = send(log, ['later'])
        slow.resolve()
        await patient
        expect(await texts(log)).toEqual(['a', 'in flight', 'later'])
      })
    }))

  test('more than the queue holds is refused at once, and what is in it is stored', () =>
    withDir(async (dir) => {
      await withLog({ dir, queueBytesMax: 10_000 }, async (log) => {
        await log.createTopic(TOPIC)
        await send(log, ['a'])
        const text = 'x'.repeat(4_000)
        const codes = await Promise.all([1, 2, 3].map(() => codeOf(send(log, [text]))))
        expect(codes).toEqual([undefined, undefined, 'HR_LOG_UNAVAILABLE'])
        expect((await texts(log)).length).toBe(3)
      })
    }))

  test('many sends at once go into few commits, and each into one', () =>
    withDir(async (dir) => {
      let syncs = 0
      const fdatasync = async (fd: number) => {
        syncs++
        await OPERATIONS.fdatasync(fd)
      }
      await withLog({ dir, operations: { fdatasync }, commitBytesMax: 50_000 }, async (log) => {
        await log.createTopic(TOPIC)
        await send(log, ['a'])
        const before = syncs
        await Promise.all(Array.from({ length: 200 }, (_, i) => send(log, [String(i).padEnd(500)])))
        // 100 kB in commits of at most 50 kB.
        expect(syncs - before).toBe(3)
        expect((await texts(log, 1)).map((text) => text.trim())).toEqual(
          Array.from({ length: 200 }, (_, i) => String(i)),
        )
      })
    }))

  test('wrong topics and names are refused with a sentence', () =>
    withDir(async (dir) => {
      await withLog({ dir }, async (log) => {
        await log.createTopic(TOPIC)
        expect(await log.createTopic(TOPIC)).toEqual((await log.describe([TOPIC.name]))[0]!)
        expect(await codeOf(log.createTopic({ ...TOPIC, partitions: 2 }))).toBe('HR_LOG_WRONG_TOPIC')
        expect(await codeOf(log.createTopic({ ...TOPIC, name: '../x' }))).toBe('HR_LOG_NO_TOPIC')
        expect(await codeOf(log.createTopic({ ...TOPIC, name: 'x', partitions: 0 }))).toBe(
          'HR_LOG_WRONG_TOPIC',
        )
        expect(await codeOf(send(log, ['a'], 1))).toBe('HR_LOG_WRONG_TOPIC')
        expect(await codeOf(send(log, ['a'], 0, 'none'))).toBe('HR_LOG_NO_TOPIC')
        expect(await codeOf(log.bounds(TOPIC.name, 7))).toBe('HR_LOG_WRONG_TOPIC')
        await log.close()
        expect(await codeOf(log.bounds(TOPIC.name, 0))).toBe('HR_LOG_CLOSED')
        expect(LIMITS.diskUsedRatioMax).toBe(0.9)
      })
    }))
})
