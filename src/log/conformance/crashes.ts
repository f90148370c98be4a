/** Chapter: crashes. What was acknowledged is there once, at its position, whatever was killed meanwhile. */
import { expect, test } from 'bun:test'
import { type Context, freshTopic, readAll, readTail, until, withLogs } from './harness.ts'
import { decodeNumber } from './numbered.ts'

const KILLS = 20
const PARTITIONS = 3
/** Acknowledged records between two kills. */
const ACKS_BETWEEN = 40
/** Records of each partition that a reader is shown between two kills. */
const SHOWN = 20

export function crashChapter(context: Context, timeoutMs: number): void {
  test(
    'no acknowledged record is lost, copied or moved over many kills',
    () =>
      withLogs(context, 1, async (log) => {
        const { kills = KILLS } = context.harness()
        const topic = await freshTopic(context, log, PARTITIONS)
        const sender = await context.harness().startSending(topic, PARTITIONS)
        const shown = new Map<string, number>()
        for (let kill = 0; kill < kills; kill++) {
          const before = sender.acks.length
          await until(
            `records are acknowledged after kill ${kill}`,
            () => sender.acks.length > before + ACKS_BETWEEN,
          )
          // What a reader is shown now must never change.
          for (let p = 0; p < PARTITIONS; p++)
            for (const stored of await readTail(log, topic, p, SHOWN))
              shown.set(`${p}:${stored.offset}`, decodeNumber(stored.value))
          await sender.kill()
        }
        const before = sender.acks.length
        await until('sending goes on', () => sender.acks.length > before + ACKS_BETWEEN)
        await sender.stop()
        const at = new Map<string, number>()
        for (let p = 0; p < PARTITIONS; p++) {
          const stored = await readAll(log, topic, p)
          expect(stored.map((one) => one.offset)).toEqual(stored.map((_, i) => i))
          let last = -1
          for (const one of stored) {
            const number = decodeNumber(one.value)
            expect(number).toBeGreaterThan(last)
            last = number
            at.set(`${p}:${one.offset}`, number)
          }
        }
        expect(sender.acks.length).toBeGreaterThan(kills * ACKS_BETWEEN)
        for (const ack of sender.acks) expect(at.get(`${ack.partition}:${ack.offset}`)).toBe(ack.number)
        for (const [position, number] of shown) expect(at.get(position)).toBe(number)
      }),
    timeoutMs,
  )
}
