/**
 * Power loss: at a random moment under load, everything that no fdatasync had covered is thrown away (or part of it
 * stays, or rubbish), the head file is as old as it may be, and the machine starts anew. What was acknowledged or
 * shown to a reader must be there, at the same position.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { appendFileSync, fstatSync, readlinkSync, rmSync, statSync, truncateSync, utimesSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../conformance/harness.ts'
import type { StoredRecord } from '../log.ts'
import { EmbeddedLog } from './embedded-log.ts'
import { SEGMENT_HEADER_BYTES } from './format.ts'
import { codeOf, segments, send, TOPIC, withDir, withLog } from './log.fixture.ts'
import { OPERATIONS } from './options.ts'

setDefaultTimeout(60_000)

const PARTITIONS = 3
const CUTS = 12

/** Small deterministic numbers, so that a failing run can be repeated. */
function randomOf(seed: number): () => number {
  let state = seed * 2654435761
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** A disk that knows which bytes an fdatasync covered, and can be stopped. */
class Disk {
  readonly durable = new Map<string, number>()
  private stopped = false

  readonly operations = {
    bootId: '',
    fdatasync: async (fd: number): Promise<void> => {
      const path = readlinkSync(`/proc/self/fd/${fd}`)
      const { size } = fstatSync(fd)
      if (this.stopped) throw new Error('no power')
      await OPERATIONS.fdatasync(fd)
      if (this.stopped) throw new Error('no power')
      this.durable.set(path, size)
    },
  }

  /** What is on disk when the machine starts is durable; a segment is made durable with its header. */
  start(dir: string): void {
    for (let p = 0; p < PARTITIONS; p++)
      for (const path of segments(dir, p)) this.durable.set(path, statSync(path).size)
  }

  stop(): void {
    this.stopped = true
  }
}

// Which bytes a sync covered is asked of the kernel by the path of the descriptor, which only Linux tells.
describe.skipIf(process.platform !== 'linux')('power loss', () => {
  test(
    `${CUTS} cuts: what was acknowledged or shown survives at its position`,
    () =>
      withDir(async (root) => {
        const truth = new Map<string, string>()
        const mistakes: string[] = []
        let dir = join(root, 'boot-0')
        let number = 0
        await withLog({ dir, operations: { bootId: 'boot 0' } }, async (log) => {
          await log.createTopic({ ...TOPIC, partitions: PARTITIONS })
        })
        for (let boot = 1; boot <= CUTS; boot++) {
          const random = randomOf(boot)
          const disk = new Disk()
          disk.operations.bootId = `boot ${boot}`
          disk.start(dir)
          const log = new EmbeddedLog({ dir, segmentBytes: 20_000, operations: disk.operations })
          await checkTruth(log, truth)
          // A head file from any time since the machine started may be what the disk has.
          const oldHead = join(root, 'old-head')
          await cp(join(dir, 'heads', TOPIC.name), oldHead)
          const producer = log.producer({ name: 'power', deadlineMs: 20_000 })
          const note = (partition: number, records: { offset: number; text: string }[]) => {
            for (const { offset, text } of records) {
              const key = `${partition}:${offset}`
              if ((truth.get(key) ?? text) !== text)
                mistakes.push(`${key}: ${truth.get(key)} and then ${text}`)
              truth.set(key, text)
            }
          }
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
                note(partition, [{ offset, text: texts[i]! }])
              })
            }
          }
          const reader = log.reader({ topic: TOPIC.name, partition: 0, from: 0 })
          const watching = (async () => {
            for (;;) {
              const records = await reader.next({ records: 100, bytes: 1e6 })
              if (records.length === 0) return
              note(
                0,
                records.map((record) => ({ offset: record.offset, text: textOf(record) })),
              )
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
          await cp(dir, next, { recursive: true })
          await log.close()
          losePower(dir, next, disk, random)
          if (random() < 0.7) await cp(oldHead, join(next, 'heads', TOPIC.name))
          else if (random() < 0.5) rmSync(join(next, 'heads', TOPIC.name))
          rmSync(dir, { recursive: true })
          dir = next
        }
        const last = { dir, operations: { bootId: 'the last one' } }
        await withLog(last, (log) => checkTruth(log, truth))
        expect(truth.size).toBeGreaterThan(CUTS * 50)
        expect(mistakes).toEqual([])
      }),
    60_000,
  )

  test('what a failed sync left behind is written and synced again before anybody is shown it', () =>
    withDir(async (dir) => {
      const disk = new Disk()
      disk.operations.bootId = 'one start'
      await withLog({ dir, operations: disk.operations }, async (log) => {
        await log.createTopic(TOPIC)
        await send(log, ['a'])
        disk.stop()
        expect(await codeOf(send(log, ['b']))).toBe('HR_LOG_SYNC_FAILED')
      })
      const [path] = segments(dir)
      const { size } = statSync(path!)
      expect(disk.durable.get(path!)).toBeLessThan(size)
      // The kernel may call the bytes clean though they never reached the disk: only writing them helps.
      const longAgo = new Date(1_000_000_000_000)
      utimesSync(path!, longAgo, longAgo)
      rmSync(join(dir, 'heads', TOPIC.name))
      const next = new Disk()
      next.operations.bootId = 'one start'
      await withLog({ dir, operations: next.operations }, async (log) => {
        expect(await log.bounds(TOPIC.name, 0)).toEqual({ start: 0, end: 2 })
        expect(next.durable.get(path!)).toBe(size)
        expect(statSync(path!).mtimeMs).toBeGreaterThan(longAgo.getTime())
      })
    }))
})

function textOf(record: StoredRecord): string {
  return Buffer.from(record.value).toString().replaceAll('.', '')
}

/** Takes from the copy what no sync covered: all of it, or a part of it, or it became rubbish. */
function losePower(from: string, to: string, disk: Disk, random: () => number): void {
  for (let p = 0; p < PARTITIONS; p++) {
    const all = segments(to, p)
    for (const path of all) {
      const { size } = statSync(path)
      const kept = Math.min(size, disk.durable.get(path.replace(to, from)) ?? SEGMENT_HEADER_BYTES)
      const chance = random()
      truncateSync(path, chance < 0.4 ? kept : kept + Math.floor(random() * (size - kept + 1)))
      // A segment gets a successor only when all of it is durable, so only the last one has an end to lose.
      if (chance > 0.7 && path === all.at(-1))
        appendFileSync(path, Buffer.alloc(Math.floor(random() * 500), random() * 256))
    }
  }
}

async function checkTruth(log: EmbeddedLog, truth: Map<string, string>): Promise<void> {
  const found = new Map<string, string>()
  for (let p = 0; p < PARTITIONS; p++) {
    const { start, end } = await log.bounds(TOPIC.name, p)
    expect(start).toBe(0)
    let next = 0
    for await (const batch of log.read(TOPIC.name, p, 0, end))
      for (const record of batch) {
        expect(record.offset).toBe(next++)
        found.set(`${p}:${record.offset}`, textOf(record))
      }
  }
  for (const [key, text] of truth) expect(found.get(key)).toBe(text)
  // What survived though nobody was told is shown from now on.
  for (const [key, text] of found) truth.set(key, text)
}
