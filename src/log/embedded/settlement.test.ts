/** What the journal of a dead process does for its partitions, and what it never does. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { FileLock } from '../../platform/index.ts'
import { until } from '../conformance/harness.ts'
import { type Ack, decodeNumber } from '../conformance/numbered.ts'
import { SEGMENT_HEADER_BYTES } from './format.ts'
import { JOURNAL_HEADER_BYTES } from './journal-format.ts'
import { codeOf, journals, segments, send, spread, TOPIC, texts, withDir, withLog } from './log.fixture.ts'
import { PowerDisk, randomOf } from './power-disk.fixture.ts'
import { startProcess } from './start-process.fixture.ts'

setDefaultTimeout(60_000)

const PARTITIONS = 3
const SMALL = { journalHalfBytes: 65_536 }
const AFTER_POWER_CUT = { operations: { bootId: 'the start after' } }

/** The commits a to c, each over all partitions, of a process that died: durable in its journal alone. */
async function withDead(work: (dir: string, journal: string) => Promise<void>): Promise<void> {
  await withDir(async (dir) => {
    await withLog({ dir }, (log) => log.createTopic({ ...TOPIC, partitions: PARTITIONS }))
    const attached = new PowerDisk(dir, 'the first start').attach()
    await withLog({ dir, ...SMALL, operations: attached.operations }, async (log) => {
      for (const text of ['a', 'b', 'c']) await spread(log, text, PARTITIONS)
      attached.stop()
      // What its process finds out at its end is too late to be synced.
      await codeOf(spread(log, 'never', PARTITIONS))
    })
    const [name] = journals(dir)
    await work(dir, join(dir, 'journals', name!))
  })
}

/** Takes from the segments all that no sync covered there. */
function loseSegments(dir: string): void {
  for (let p = 0; p < PARTITIONS; p++)
    for (const path of segments(dir, p)) truncateSync(path, SEGMENT_HEADER_BYTES)
}

/** Takes the last entry, which nobody was told of, from the journal. */
function loseLast(journal: string): void {
  const bytes = readFileSync(journal)
  writeFileSync(journal, bytes.fill(0, JOURNAL_HEADER_BYTES + 3 * 4096))
}

/** Opens the log and gives all texts with what was told. */
async function found(dir: string): Promise<{ all: string[][]; told: string[] }> {
  const told: string[] = []
  const all: string[][] = []
  await withLog({ dir, ...AFTER_POWER_CUT, warn: (sentence) => told.push(sentence) }, async (log) => {
    for (let p = 0; p < PARTITIONS; p++) all.push(await texts(log, 0, undefined, p))
  })
  return { all, told }
}

const WHOLE = [0, 1, 2].map((p) => ['a', 'b', 'c'].map((text) => `${text}p${p}`))

describe.skipIf(process.platform !== 'linux')('settlement', () => {
  test('after a power cut everything is written from the journal, which goes then', () =>
    withDead(async (dir, journal) => {
      loseSegments(dir)
      loseLast(journal)
      expect(await found(dir)).toEqual({ all: WHOLE, told: [] })
      expect(journals(dir)).toEqual([])
    }))

  test('a journal that comes back is written again, and changes nothing', () =>
    withDead(async (dir, journal) => {
      loseSegments(dir)
      loseLast(journal)
      const kept = join(dir, 'kept')
      copyFileSync(journal, kept)
      await withLog({ dir, ...AFTER_POWER_CUT }, (log) => send(log, ['next'], 1))
      const before = readFileSync(segments(dir, 1)[0]!)
      renameSync(kept, journal)
      const { all, told } = await found(dir)
      expect(all[1]).toEqual([...WHOLE[1]!, 'next'])
      expect(told).toEqual([])
      expect(readFileSync(segments(dir, 1)[0]!).equals(before)).toBe(true)
    }))

  test('what the kernel lost of what was published is written again, without a power cut', () =>
    withDead(async (dir) => {
      const path = segments(dir, 1)[0]!
      const bytes = readFileSync(path)
      writeFileSync(path, Buffer.from(bytes).fill(0, SEGMENT_HEADER_BYTES))
      await withLog({ dir, operations: { bootId: 'the first start' } }, async (log) => {
        await send(log, ['next'], 1)
        expect((await texts(log, 0, 3, 1)).slice(0, 3)).toEqual(WHOLE[1]!)
      })
    }))

  test('a torn last entry is left out in silence; any other damage is told, and the rest is written', () =>
    withDead(async (dir, journal) => {
      loseLast(journal)
      const whole = readFileSync(journal)
      const entry = (number: number) => JOURNAL_HEADER_BYTES + (number - 1) * 4096
      for (const [flipped, lost, sentence] of [
        // In the last entry: its header, and a record.
        [entry(3) + 40, 'c', undefined],
        [whole.indexOf('cp0'), 'c0', undefined],
        [entry(2) + 40, 'b', '1 commits of 3, the first is number 2'],
        [whole.indexOf('bp0'), 'b0', 'topic/0, byte 119 of segment 0: the commit in the journal is damaged'],
        [8, '', 'its header'],
      ] as const) {
        const copy = join(dir, '..', `${dir.split('/').at(-1)}-copy`)
        try {
          cpSync(dir, copy, { recursive: true })
          const bytes = Buffer.from(whole)
          bytes[flipped]! ^= 1
          writeFileSync(journal.replace(dir, copy), bytes)
          loseSegments(copy)
          // No head file: nothing says what was there.
          rmSync(join(copy, 'heads', TOPIC.name))
          const told: string[] = []
          await withLog({ dir: copy, ...AFTER_POWER_CUT, warn: (what) => told.push(what) }, async (log) => {
            for (let p = 0; p < PARTITIONS; p++) {
              const gone = (text: string) =>
                lost !== '' && text[0] === lost[0] && (lost[1] ?? `${p}`) === `${p}`
              const { end } = await log.bounds(TOPIC.name, p)
              expect(end).toBe(gone('c') ? 2 : 3)
              for (const [offset, text] of ['a', 'b', 'c'].slice(0, end).entries()) {
                const read = texts(log, offset, offset + 1, p)
                if (gone(text)) expect(await codeOf(read)).toBe('HR_LOG_CORRUPT')
                else expect(await read).toEqual([`${text}p${p}`])
              }
            }
          })
          const aboutJournal = told.filter((what) => what.startsWith('commit journal'))
          expect(aboutJournal).toHaveLength(sentence ? 1 : 0)
          if (sentence) expect(aboutJournal[0]).toContain(sentence)
          expect(journals(copy)).toEqual(sentence ? [expect.stringMatching(/^[0-9a-f-]{36}\.damaged$/)] : [])
        } finally {
          rmSync(copy, { recursive: true, force: true })
        }
      }
    }))

  test('a torn last entry with a whole record of an older entry in the place of its own is torn all the same', () =>
    withDead(async (dir, journal) => {
      loseLast(journal)
      const bytes = readFileSync(journal)
      // The record of partition 0: 12 bytes and its text, in entries that are laid out alike.
      const at = (text: string) => bytes.indexOf(text) - 12
      expect(at('cp0') - at('bp0')).toBe(4096)
      bytes.copy(bytes, at('cp0'), at('bp0'), at('bp0') + 15)
      writeFileSync(journal, bytes)
      loseSegments(dir)
      rmSync(join(dir, 'heads', TOPIC.name))
      expect(await found(dir)).toEqual({ all: [['ap0', 'bp0'], WHOLE[1]!, WHOLE[2]!], told: [] })
    }))

  test('nothing is written over another commit, nor where a segment is gone', () =>
    withDead(async (dir, journal) => {
      loseLast(journal)
      const kept = join(dir, 'kept')
      copyFileSync(journal, kept)
      await found(dir)
      // Offset 0 of partition 0 is another commit, whole: as the journal says it cannot be.
      rmSync(segments(dir, 0)[0]!)
      rmSync(segments(dir, 1)[0]!)
      rmSync(join(dir, 'heads', TOPIC.name))
      await withLog({ dir, ...AFTER_POWER_CUT }, (log) => send(log, ['other'], 0))
      const other = readFileSync(segments(dir, 0)[0]!).subarray(0, SEGMENT_HEADER_BYTES + 40)
      renameSync(kept, journal)
      const told: string[] = []
      const again = { operations: { bootId: 'and after that' }, warn: (what: string) => told.push(what) }
      await withLog({ dir, ...again }, async (log) => {
        expect(await texts(log)).toEqual(['other'])
        expect(await texts(log, 0, undefined, 1)).toEqual([])
        expect(await texts(log, 0, 3, 2)).toEqual(WHOLE[2]!)
      })
      expect(readFileSync(segments(dir, 0)[0]!).subarray(0, other.length).equals(other)).toBe(true)
      expect(told[0]).toContain('topic/0, byte 64 of segment 0: another commit is in its place')
    }))

  test('a topic that was deleted and made again gets nothing of the old one', () =>
    withDead(async (dir, journal) => {
      const kept = join(dir, 'kept')
      copyFileSync(journal, kept)
      await withLog({ dir, ...AFTER_POWER_CUT }, async (log) => {
        await log.deleteTopic(TOPIC.name)
        await log.createTopic({ ...TOPIC, partitions: PARTITIONS })
        await send(log, ['new'], 1)
      })
      // Deleting needs no partition recovered, so the journal may be there still.
      renameSync(kept, journal)
      expect(await found(dir)).toEqual({ all: [[], ['new'], []], told: [] })
      expect(journals(dir)).toEqual([])
    }))

  test('leftovers of journals that were never finished go', () =>
    withDead(async (dir, journal) => {
      const id = '11111111-2222-4333-8444-555555555555'
      writeFileSync(join(dir, 'journals', `${id}.new`), 'half')
      writeFileSync(journal.replace(/[^/]*$/, `${id}.journal`), '')
      expect((await found(dir)).told).toEqual([])
      expect(journals(dir)).toEqual([])
    }))

  test('the journal of a live process is left alone, and a partition that depends on it is waited for', () =>
    withDead(async (dir, journal) => {
      const before = readFileSync(journal)
      const alive = FileLock.try(journal)!
      await withLog({ dir, operations: { bootId: 'the first start' }, writerWaitMs: 100 }, async (log) => {
        expect(await codeOf(send(log, ['too early'], 1))).toBe('HR_LOG_UNAVAILABLE')
        expect(readFileSync(journal).equals(before)).toBe(true)
      })
      await withLog({ dir, operations: { bootId: 'the first start' } }, async (log) => {
        const sending = send(log, ['after'], 1)
        await new Promise((resolve) => setTimeout(resolve, 60))
        expect(statSync(journal).size).toBe(before.length)
        alive.release()
        await sending
        expect(journals(dir)).toEqual([])
        expect((await texts(log, 0, 3, 1)).slice(0, 3)).toEqual(WHOLE[1]!)
      })
    }))

  test('two live processes have a journal each; a power cut takes nothing of either', () =>
    withDir(async (root) => {
      const dir = join(root, 'log')
      mkdirSync(dir)
      await withLog({ dir }, (log) => log.createTopic({ ...TOPIC, partitions: 4 }))
      const disk = new PowerDisk(dir, 'the first start')
      const next = join(root, 'next')
      const options = { dir, ...SMALL, operations: disk.attach().operations }
      await withLog(options, (one) =>
        withLog(options, async (two) => {
          for (let i = 0; i < 5; i++)
            for (const [log, partitions] of [
              [one, [0, 1]],
              [two, [2, 3]],
            ] as const)
              await log.producer({ name: 'test', deadlineMs: 5_000 }).send(
                partitions.map((partition) => ({
                  topic: TOPIC.name,
                  partition,
                  header: Buffer.alloc(0),
                  value: Buffer.from(`${i}p${partition}`),
                })),
              )
          expect(journals(dir)).toHaveLength(2)
          await disk.cutPower(next, 'nothing stays', randomOf(1))
        }),
      )
      for (let p = 0; p < 4; p++) expect(statSync(segments(next, p)[0]!).size).toBe(SEGMENT_HEADER_BYTES)
      await withLog({ dir: next, ...AFTER_POWER_CUT }, async (log) => {
        for (let p = 0; p < 4; p++)
          expect(await texts(log, 0, undefined, p)).toEqual([0, 1, 2, 3, 4].map((i) => `${i}p${p}`))
      })
      expect(journals(next)).toEqual([])
    }))

  test('killed, taken over, and then the power goes: every acknowledged record is there once', () =>
    withDir(async (root) => {
      const dir = join(root, 'log')
      mkdirSync(dir)
      await withLog({ dir }, (log) => log.createTopic({ ...TOPIC, partitions: PARTITIONS }))
      const acks: Ack[] = []
      const child = startProcess(
        { task: 'send', dir, topic: TOPIC.name, partitions: PARTITIONS, from: 0 },
        (line) => acks.push(...((line.acks as Ack[] | undefined) ?? [])),
      )
      try {
        await until('the child writes', () => acks.length > 500)
      } finally {
        await child.kill()
      }
      expect(journals(dir)).toHaveLength(1)
      // It never left its first half: nothing but the journal is known to be on the disk.
      const atKill = join(root, 'at-kill')
      cpSync(dir, atKill, { recursive: true })
      loseSegments(atKill)
      await withLog({ dir: atKill, ...AFTER_POWER_CUT }, (log) => checkAcks(log, acks))

      // Another process takes one partition over and writes on, and then the power goes.
      const disk = new PowerDisk(dir, (await Bun.file('/proc/sys/kernel/random/boot_id').text()).trim())
      const next = join(root, 'next')
      await withLog({ dir, operations: disk.attach().operations }, async (log) => {
        await send(log, ['taken over'], 1)
        expect(journals(dir)).toEqual([])
        await disk.cutPower(next, 'nothing stays', randomOf(1))
      })
      await withLog({ dir: next, ...AFTER_POWER_CUT }, (log) => checkAcks(log, acks, 'taken over'))
    }))
})

async function checkAcks(log: Parameters<typeof texts>[0], acks: Ack[], last?: string): Promise<void> {
  const seen = new Set<number>()
  const found = new Map<string, number>()
  for (let p = 0; p < PARTITIONS; p++) {
    const { end } = await log.bounds(TOPIC.name, p)
    let next = 0
    for await (const batch of log.read(TOPIC.name, p, 0, end))
      for (const record of batch) {
        expect(record.offset).toBe(next++)
        if (p === 1 && record.offset === end - 1 && last !== undefined) {
          expect(Buffer.from(record.value).toString()).toBe(last)
          continue
        }
        const number = decodeNumber(record.value)
        expect(seen.has(number)).toBe(false)
        seen.add(number)
        found.set(`${p}:${record.offset}`, number)
      }
  }
  for (const { number, partition, offset } of acks) expect(found.get(`${partition}:${offset}`)).toBe(number)
}
