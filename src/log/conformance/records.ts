/** Chapter: records. Order, positions, durable before shown, sizes, ranges. */
import { expect, test } from 'bun:test'
import {
  type Context,
  codeOf,
  freshTopic,
  readAll,
  record,
  sendTexts,
  textOf,
  until,
  withLogs,
} from './harness.ts'

export function recordChapter(context: Context): void {
  test('order within a partition; positions dense and rising, in the order of the records', () =>
    withLogs(context, 2, async (log, other) => {
      const topic = await freshTopic(context, log, 3)
      const producer = log.producer({ name: 'order', deadlineMs: 30_000 })
      const sends = []
      for (let i = 0; i < 300; i++)
        sends.push(producer.send([0, 1, 2, 1].map((partition, j) => record(topic, partition, `${i}-${j}`))))
      const positions = (await Promise.all(sends)).flat()
      for (let partition = 0; partition < 3; partition++) {
        const offsets = positions.filter((position) => position.partition === partition)
        expect(offsets.map((position) => position.offset)).toEqual(offsets.map((_, i) => i))
        const stored = await readAll(other, topic, partition)
        expect(stored.map((one) => one.offset)).toEqual(offsets.map((_, i) => i))
        const js = [[0], [1, 3], [2]][partition]!
        expect(stored.map(textOf)).toEqual(
          Array.from({ length: 300 }, (_, i) => js.map((j) => `${i}-${j}`)).flat(),
        )
      }
      expect(positions.every((position) => position.topic === topic)).toBe(true)
    }))

  test('header, value and time come back as they were stored', () =>
    withLogs(context, 1, async (log) => {
      const topic = await freshTopic(context, log, 1)
      const before = Date.now()
      const header = Buffer.from([0, 1, 255, 128])
      const empty = new Uint8Array(0)
      const producer = log.producer({ name: 'bytes', deadlineMs: 30_000 })
      await producer.send([
        { topic, partition: 0, header, value: empty },
        { topic, partition: 0, header: empty, value: header },
      ])
      const [first, second] = await readAll(log, topic, 0)
      expect([...first!.header]).toEqual([0, 1, 255, 128])
      expect(first!.value.length).toBe(0)
      expect(second!.header.length).toBe(0)
      expect([...second!.value]).toEqual([0, 1, 255, 128])
      // Clocks of a broker on the same machine.
      expect(first!.appendedMs).toBeGreaterThanOrEqual(before - 1_000)
      expect(first!.appendedMs).toBeLessThanOrEqual(Date.now() + 1_000)
      expect(await producer.send([])).toEqual([])
    }))

  test('a reader in another client waits, is woken, and goes on; close and abort end the wait', () =>
    withLogs(context, 2, async (log, other) => {
      const topic = await freshTopic(context, log, 1)
      await sendTexts(log, topic, 0, ['a'])
      const reader = other.reader({ topic, partition: 0, from: 0 })
      const limit = { records: 10, bytes: 1e6 }
      expect((await reader.next(limit)).map(textOf)).toEqual(['a'])
      const waiting = reader.next(limit)
      await sendTexts(log, topic, 0, ['b', 'c'])
      const woken = (await waiting).map(textOf)
      while (woken.length < 2) woken.push(...(await reader.next(limit)).map(textOf))
      expect(woken).toEqual(['b', 'c'])
      const aborting = new AbortController()
      const aborted = reader.next(limit, aborting.signal)
      aborting.abort()
      expect(await aborted).toEqual([])
      await sendTexts(log, topic, 0, ['d'])
      expect((await reader.next(limit)).map(textOf)).toEqual(['d'])
      const last = reader.next(limit)
      await reader.close()
      expect(await last).toEqual([])
    }))

  test('the limits of next hold, and one record comes even when it is larger', () =>
    withLogs(context, 1, async (log) => {
      const topic = await freshTopic(context, log, 1)
      await sendTexts(log, topic, 0, ['1234567890', '2', '3', '4', '5'])
      const reader = log.reader({ topic, partition: 0, from: 0 })
      expect((await reader.next({ records: 10, bytes: 1 })).map(textOf)).toEqual(['1234567890'])
      expect((await reader.next({ records: 2, bytes: 1e6 })).map(textOf)).toEqual(['2', '3'])
    }))

  test('a record of exactly the limit is stored; one byte more is refused before anything is sent', () =>
    withLogs(context, 1, async (log) => {
      const max = context.harness().recordBytesMax
      const topic = await freshTopic(context, log, 1)
      const producer = log.producer({ name: 'limit', deadlineMs: 30_000 })
      const header = Buffer.alloc(100, 1)
      const exactly = Buffer.alloc(max - 100, 2)
      const small = record(topic, 0, 'small')
      expect(
        await codeOf(producer.send([small, { topic, partition: 0, header, value: Buffer.alloc(max - 99) }])),
      ).toBe('HR_LOG_RECORD_TOO_LARGE')
      expect((await log.bounds(topic, 0)).end).toBe(0)
      const [position] = await producer.send([{ topic, partition: 0, header, value: exactly }])
      expect(position!.offset).toBe(0)
      const [stored] = await readAll(log, topic, 0)
      expect(Buffer.from(stored!.value).equals(exactly)).toBe(true)
      expect(stored!.header.length).toBe(100)
    }))

  test('reading above the end and a range that is not there: HR_LOG_OUT_OF_RANGE; the end itself waits', () =>
    withLogs(context, 1, async (log) => {
      const topic = await freshTopic(context, log, 1)
      await sendTexts(log, topic, 0, ['a', 'b'])
      const limit = { records: 1, bytes: 1e6 }
      const above = log.reader({ topic, partition: 0, from: 3 })
      expect(await codeOf(above.next(limit))).toBe('HR_LOG_OUT_OF_RANGE')
      const collect = async (from: number, to: number) => {
        const texts: string[] = []
        for await (const batch of log.read(topic, 0, from, to)) texts.push(...batch.map(textOf))
        return texts
      }
      expect(await codeOf(collect(0, 3))).toBe('HR_LOG_OUT_OF_RANGE')
      expect(await collect(1, 2)).toEqual(['b'])
      expect(await collect(2, 2)).toEqual([])
      const atEnd = log.reader({ topic, partition: 0, from: 2 })
      const waiting = atEnd.next(limit)
      await sendTexts(log, topic, 0, ['c'])
      expect((await waiting).map(textOf)).toEqual(['c'])
    }))

  test('a slow reader holds up nobody, stays within its memory, and misses nothing', () =>
    withLogs(context, 2, async (log, other) => {
      const topic = await freshTopic(context, log, 1)
      const producer = log.producer({ name: 'slow', deadlineMs: 60_000 })
      const value = Buffer.alloc(60_000, 7)
      const header = Buffer.alloc(8)
      const slow = other.reader({ topic, partition: 0, from: 0, bufferBytesMax: 2 ** 20 })
      const fast = other.reader({ topic, partition: 0, from: 0 })
      const total = 1_200
      let seen = 0
      let sent = 0
      const expected: number[] = []
      const memory = () => {
        Bun.gc(true)
        return process.memoryUsage().arrayBuffers
      }
      const before = memory()
      while (sent < total) {
        await producer.send(Array.from({ length: 60 }, () => ({ topic, partition: 0, header, value })))
        sent += 60
        while (seen < sent) seen += (await fast.next({ records: 100, bytes: 4e6 })).length
        // One record while the other reader takes sixty.
        expected.push(...(await slow.next({ records: 1, bytes: 1 })).map((one) => one.offset))
      }
      expect(memory() - before).toBeLessThan(24 * 2 ** 20)
      while (expected.length < total)
        expected.push(...(await slow.next({ records: 50, bytes: 1e6 })).map((one) => one.offset))
      expect(expected).toEqual(Array.from({ length: total }, (_, i) => i))
    }))

  test('records are shown to no reader before their send could resolve, and then to all', () =>
    withLogs(context, 2, async (log, other) => {
      const topic = await freshTopic(context, log, 1)
      const producer = log.producer({ name: 'shown', deadlineMs: 30_000 })
      for (let i = 0; i < 50; i++) {
        const [position] = await producer.send([record(topic, 0, String(i))])
        const { end } = await until('the end follows the acknowledgement', async () => {
          const bounds = await other.bounds(topic, 0)
          return bounds.end > position!.offset && bounds
        })
        expect(end).toBe(i + 1)
      }
    }))
}
