/**
 * Power loss: at a random moment under load, everything that no fdatasync had covered is thrown away (or part of it
 * stays, or rubbish), the head file is as old as it may be, and the machine starts anew. What was acknowledged or
 * shown to a reader must be there, at the same position.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { rmSync, statSync, utimesSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../conformance/harness.ts'
import { EmbeddedLog } from './embedded-log.ts'
import { codeOf, segments, send, TOPIC, withDir, withLog } from './log.fixture.ts'
import { LOSSES, PowerDisk, randomOf } from './power-disk.fixture.ts'
import { Truth, textOf } from './truth.fixture.ts'

setDefaultTimeout(60_000)

const PARTITIONS = 3
const CUTS = 12
/** Small, so that the cuts meet rolled segments and halves of the journal that are used again. */
const SMALL = { segmentBytes: 20_000, journalHalfBytes: 32_768 }

// Which bytes a sync covered is asked of the kernel by the path of the descriptor, which only Linux tells.
describe.skipIf(process.platform !== 'linux')('power loss', () => {
  test(
    `${CUTS} cuts: what was acknowledged or shown survives at its position`,
    () =>
      withDir(async (root) => {
        const truth = new Truth()
        let dir = join(root, 'boot-0')
        let number = 0
        await withLog({ dir, operations: { bootId: 'boot 0' } }, async (log) => {
          await log.createTopic({ ...TOPIC, partitions: PARTITIONS })
        })
        for (let boot = 1; boot <= CUTS; boot++) {
          const random = randomOf(boot)
          const disk = new PowerDisk(dir, `boot ${boot}`)
          const log = new EmbeddedLog({
            dir,
            ...SMALL,
            warn: (sentence) => {
              if (/damage/.test(sentence)) truth.mistakes.push(sentence)
            },
            operations: disk.attach().operations,
          })
          await truth.check(log, PARTITIONS)
          // A head file from any time since the machine started may be what the disk has.
          const oldHead = join(root, 'old-head')
          await cp(join(dir, 'heads', TOPIC.name), oldHead)
          const producer = log.producer({ name: 'power', deadlineMs: 20_000 })
          const sender = async () => {
            for (;;) {
              const texts = Array.from({ length: 1 + Math.floor(random() * 8) }, () => `${number++}`)
              const positions = await producer.send(
                texts.map((text, i) => ({
                  topic: TOPIC.name,
                  partition: i % PARTITIONS,
                  header: Buffer.alloc(0),
                  value: Buffer.from(text.padEnd(Math.floor(random() * 400), '.')),
                })),
              )
              positions.forEach(({ partition, offset }, i) => {
                truth.note(partition, offset, texts[i]!)
              })
            }
          }
          const reader = log.reader({ topic: TOPIC.name, partition: 0, from: 0 })
          const watching = (async () => {
            for (;;) {
              const records = await reader.next({ records: 100, bytes: 1e6 })
              if (records.length === 0) return
              for (const record of records) truth.note(0, record.offset, textOf(record))
            }
          })()
          const ends = Array.from({ length: 4 }, () => codeOf(sender()))
          const cutAt = truth.size + 50 + Math.floor(random() * 300)
          await until('enough is acknowledged', () => truth.size >= cutAt)
          disk.stop()
          expect(await Promise.all(ends)).toEqual(new Array(4).fill('HR_LOG_SYNC_FAILED'))
          await reader.close()
          await watching
          const next = join(root, `boot-${boot}`)
          await disk.cutPower(next, () => LOSSES[Math.floor(random() * LOSSES.length)]!, random)
          await log.close()
          if (random() < 0.7) await cp(oldHead, join(next, 'heads', TOPIC.name))
          else if (random() < 0.5) rmSync(join(next, 'heads', TOPIC.name))
          rmSync(dir, { recursive: true })
          dir = next
        }
        const last = { dir, operations: { bootId: 'the last one' } }
        await withLog(last, (log) => truth.check(log, PARTITIONS))
        expect(truth.size).toBeGreaterThan(CUTS * 50)
        expect(truth.mistakes).toEqual([])
      }),
    60_000,
  )

  test('what a failed sync left behind is written and synced again before anybody is shown it', () =>
    withDir(async (dir) => {
      await withLog({ dir }, (log) => log.createTopic(TOPIC))
      const disk = new PowerDisk(dir, 'one start')
      const first = disk.attach()
      await withLog({ dir, operations: first.operations }, async (log) => {
        await send(log, ['a'])
        first.stop()
        expect(await codeOf(send(log, ['b']))).toBe('HR_LOG_SYNC_FAILED')
      })
      const path = segments(dir)[0]!
      const within = path.slice(dir.length + 1)
      const { size } = statSync(path)
      expect(disk.durableBytes(within)).toBeLessThan(size)
      // The kernel may call the bytes clean though they never reached the disk: only writing them helps.
      const longAgo = new Date(1_000_000_000_000)
      utimesSync(path, longAgo, longAgo)
      rmSync(join(dir, 'heads', TOPIC.name))
      await withLog({ dir, operations: disk.attach().operations }, async (log) => {
        expect(await log.bounds(TOPIC.name, 0)).toEqual({ start: 0, end: 2 })
        expect(disk.durableBytes(within)).toBe(size)
        expect(statSync(path).mtimeMs).toBeGreaterThan(longAgo.getTime())
      })
    }))
})
