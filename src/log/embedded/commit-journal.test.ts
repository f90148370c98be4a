/** The commit journal as its process uses it: when there is one, what is synced, and what happens when it fails. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { join } from 'node:path'
import { FileLock } from '../../platform/index.ts'
import { until } from '../conformance/harness.ts'
import { EmbeddedLog } from './embedded-log.ts'
import { JOURNAL_HEADER_BYTES } from './journal-format.ts'
import {
  codeOf,
  journals,
  send,
  spread as spreadOver,
  TOPIC,
  texts,
  withDir,
  withLog,
} from './log.fixture.ts'
import { LOSSES, PowerDisk, randomOf } from './power-disk.fixture.ts'
import { Truth } from './truth.fixture.ts'

setDefaultTimeout(120_000)

const PARTITIONS = 4
const SMALL = { journalHalfBytes: 16_384 }

/** A send over all partitions unless said. */
const spread = (log: EmbeddedLog, text: string, partitions = PARTITIONS, bytes = 0) =>
  spreadOver(log, text, partitions, bytes)

async function withTopic(work: (dir: string) => Promise<void>): Promise<void> {
  await withDir(async (dir) => {
    await withLog({ dir }, (log) => log.createTopic({ ...TOPIC, partitions: PARTITIONS }))
    await work(dir)
  })
}

describe.skipIf(process.platform !== 'linux')('commit journal', () => {
  test('commits of one partition make none; the first of several makes one, and the end removes it', () =>
    withTopic(async (dir) => {
      await withLog({ dir, ...SMALL }, async (log) => {
        await spread(log, 'a', 1)
        expect(journals(dir)).toEqual([])
        await spread(log, 'b')
        expect(journals(dir)).toHaveLength(1)
        const path = join(dir, 'journals', journals(dir)[0]!)
        expect(statSync(path).size).toBe(JOURNAL_HEADER_BYTES + 2 * SMALL.journalHalfBytes)
        await spread(log, 'c')
        expect(journals(dir)).toHaveLength(1)
      })
      expect(journals(dir)).toEqual([])
    }))

  test('a reader makes none', () =>
    withTopic(async (dir) => {
      await withLog({ dir }, (log) => texts(log))
      expect(journals(dir)).toEqual([])
    }))

  test('one sync per commit; one per segment alone, for a large commit, and at the end', () =>
    withTopic(async (dir) => {
      const synced: string[] = []
      const disk = new PowerDisk(dir, 'one start')
      disk.onSync = (path) =>
        void synced.push(
          path
            .replace(/.*\.journal/, 'journal')
            .split('/')
            .at(-2) ?? 'journal',
        )
      await withLog({ dir, ...SMALL, operations: disk.attach().operations }, async (log) => {
        await spread(log, 'a')
        synced.length = 0
        await spread(log, 'b')
        expect(synced).toEqual(['journal'])
        synced.length = 0
        await spread(log, 'c', 1)
        expect(synced).toEqual(['0'])
        synced.length = 0
        await spread(log, 'd', PARTITIONS, 10_000)
        expect(synced.sort()).toEqual(['0', '1', '2', '3'])
        await spread(log, 'e', 2)
        synced.length = 0
      })
      // Only what the journal alone held.
      expect(synced.sort()).toEqual(['0', '1'])
    }))

  test('a power cut at every sync, whatever survives it: nothing acknowledged is lost, nothing called damaged', () =>
    withDir(async (root) => {
      let reached = 0
      for (let cutAt = 1; ; cutAt++) {
        const dir = join(root, 'log')
        mkdirSync(dir)
        await withLog({ dir }, (log) => log.createTopic({ ...TOPIC, partitions: PARTITIONS }))
        const disk = new PowerDisk(dir, 'before')
        let all = false
        disk.onSync = (_, count) => {
          if (count === cutAt) disk.stop()
        }
        const truth = new Truth()
        await withLog(
          { dir, ...SMALL, segmentBytes: 12_000, operations: disk.attach().operations },
          async (log) => {
            // Entries of two blocks: halves of four blocks turn, and segments roll.
            const work = async () => {
              for (let i = 0; i < 22; i++) {
                const partitions = i % 7 === 6 ? 1 : PARTITIONS
                const positions = await spread(log, `n${i}`, partitions, i % 3 === 0 ? 1_500 : 900)
                for (const { partition, offset } of positions)
                  truth.note(partition, offset, `n${i}p${partition}`)
              }
              all = true
            }
            await work().catch(() => {})
            disk.stop()
            for (const [i, loss] of (['nothing stays', LOSSES[cutAt % LOSSES.length]!] as const).entries()) {
              const after = join(root, `after-${i}`)
              await disk.cutPower(after, loss, randomOf(cutAt))
              const told: string[] = []
              const operations = { bootId: 'after' }
              const warn = (sentence: string) => void (/damage/.test(sentence) && told.push(sentence))
              await withLog({ dir: after, ...SMALL, warn, operations }, async (again) => {
                const copy = truth.copy()
                await copy.check(again, PARTITIONS)
                expect({ cutAt, loss, mistakes: copy.mistakes, told }).toEqual({
                  cutAt,
                  loss,
                  mistakes: [],
                  told: [],
                })
              })
              rmSync(after, { recursive: true })
            }
          },
        )
        rmSync(dir, { recursive: true })
        reached = cutAt
        if (all) break
      }
      expect(reached).toBeGreaterThan(40)
    }))

  test('a failed sync of the journal: nothing of the commit is shown, and nothing is taken any more', () =>
    withTopic(async (dir) => {
      const disk = new PowerDisk(dir, 'one start')
      disk.onSync = (path, count) => {
        if (path.endsWith('.journal') && count > PARTITIONS + 1)
          throw Object.assign(new Error('EIO'), { code: 'EIO' })
      }
      await withLog({ dir, ...SMALL, operations: disk.attach().operations }, async (log) => {
        await spread(log, 'a')
        expect(await codeOf(spread(log, 'b'))).toBe('HR_LOG_SYNC_FAILED')
        expect(await codeOf(spread(log, 'c', 1))).toBe('HR_LOG_SYNC_FAILED')
        expect(await log.notReady()).toContain('fdatasync failed')
        expect(await texts(log)).toEqual(['ap0'])
      })
      // It is left for the next process, which settles it.
      expect(journals(dir)).toHaveLength(1)
      await withLog({ dir, ...SMALL }, async (log) => {
        await spread(log, 'd')
        expect((await texts(log)).at(0)).toBe('ap0')
        expect((await texts(log)).at(-1)).toBe('dp0')
      })
      expect(journals(dir)).toEqual([])
    }))

  test('a failed sync of a segment in the background is fatal too', () =>
    withTopic(async (dir) => {
      const disk = new PowerDisk(dir, 'one start')
      let broken = false
      disk.onSync = (path) => {
        if (broken && path.endsWith('.seg')) throw Object.assign(new Error('EIO'), { code: 'EIO' })
      }
      await withLog({ dir, ...SMALL, operations: disk.attach().operations }, async (log) => {
        await spread(log, 'a')
        broken = true
        let code: string | undefined
        let sent = 0
        for (; code === undefined && sent < 50; sent++) code = await codeOf(spread(log, 'b', PARTITIONS, 900))
        expect(code).toBe('HR_LOG_SYNC_FAILED')
        // Not before a half was full.
        expect(sent).toBeGreaterThan(1)
      })
    }))

  test('an entry waits for a half that is not clean yet', () =>
    withTopic(async (dir) => {
      const gate = Promise.withResolvers<void>()
      let held = 0
      let holding = false
      const disk = new PowerDisk(dir, 'one start')
      disk.onSync = async (path) => {
        if (!holding || !path.endsWith('.seg')) return
        held++
        await gate.promise
      }
      await withLog({ dir, ...SMALL, operations: disk.attach().operations }, async (log) => {
        await spread(log, 'a')
        holding = true
        let landed = 0
        const sending = (async () => {
          for (let i = 0; i < 40; i++) {
            await spread(log, `n${i}`, PARTITIONS, 900)
            landed++
          }
        })()
        for (let before = -1; before !== landed || held === 0; ) {
          before = landed
          for (let i = 0; i < 50; i++) await new Promise(setImmediate)
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        // The rest of the first half and the second one.
        expect(landed).toBeLessThan(8)
        gate.resolve()
        await sending
        expect((await texts(log)).length).toBe(41)
      })
    }))

  test('when none can be made, segments are synced one by one, it is told, and tried again later', () =>
    withTopic(async (dir) => {
      symlinkSync('nowhere', join(dir, 'journals'))
      const told: string[] = []
      await withLog(
        { dir, ...SMALL, journalRetryMs: 0, warn: (sentence) => told.push(sentence) },
        async (log) => {
          await spread(log, 'a')
          expect(told).toHaveLength(1)
          expect(told[0]).toContain('no journal can be made')
          rmSync(join(dir, 'journals'))
          await spread(log, 'b')
          expect(journals(dir)).toHaveLength(1)
          expect(told).toHaveLength(1)
        },
      )
      await withLog({ dir }, async (log) => expect(await texts(log)).toEqual(['ap0', 'bp0']))
    }))

  test('while another process settles, commits do not wait for a journal', () =>
    withTopic(async (dir) => {
      await withLog({ dir, ...SMALL }, async (log) => {
        for (let p = 0; p < PARTITIONS; p++) await spread(log, 'open')
      })
      await withLog({ dir, ...SMALL }, async (log) => {
        mkdirSync(join(dir, 'journals'), { recursive: true })
        const settling = FileLock.try(join(dir, 'journals', 'settle.lock'))!
        await spread(log, 'a')
        expect(journals(dir)).toEqual([])
        settling.release()
        await spread(log, 'b')
        expect(journals(dir)).toHaveLength(1)
      })
    }))

  test('an entry that cannot be written: the segments are synced, and the journal goes once nobody needs it', () =>
    withTopic(async (dir) => {
      const told: string[] = []
      const disk = new PowerDisk(dir, 'one start')
      const synced: string[] = []
      disk.onSync = (path) => void synced.push(path)
      const options = { dir, ...SMALL, warn: (sentence: string) => told.push(sentence) }
      await withLog({ ...options, operations: disk.attach().operations }, async (log) => {
        await spread(log, 'a')
        // Its descriptor now is one that cannot be written, as after an error of the disk.
        const name = journals(dir)[0]!
        replaceDescriptor(join(dir, 'journals', name))
        synced.length = 0
        await spread(log, 'b')
        expect(told[0]).toContain('the journal cannot be written')
        expect(new Set(synced.map((path) => path.split('/')[0]))).toEqual(new Set(['topics']))
        await spread(log, 'c', 1)
        expect(await texts(log)).toEqual(['ap0', 'bp0', 'cp0'])
      })
      expect(journals(dir)).toEqual([])
    }))

  /** The kernel tells of a write that failed once, and calls the bytes clean from then on. */
  describe('a segment whose sync fails once, while its half is cleaned', () => {
    type Ill = { dir: string; partition: number; fail: () => void; told: string[] }
    const withFailure = (work: (log: EmbeddedLog, ill: Ill) => Promise<void>) =>
      withTopic(async (dir) => {
        const gate = Promise.withResolvers<void>()
        let armed = false
        let partition: number | undefined
        const told: string[] = []
        const disk = new PowerDisk(dir, 'one start')
        disk.onSync = async (path) => {
          if (!armed || partition !== undefined || !path.endsWith('.seg')) return
          partition = Number(path.split('/').at(-2))
          await gate.promise
          throw Object.assign(new Error('the disk is ill'), { code: 'EIO' })
        }
        const { operations } = disk.attach()
        const options = { dir, ...SMALL, warn: (sentence: string) => told.push(sentence), operations }
        await withLog(options, async (log) => {
          await spread(log, 'a')
          armed = true
          while (partition === undefined) await spread(log, 'b', PARTITIONS, 900)
          await work(log, { dir, partition, fail: () => gate.resolve(), told })
        })
        // What nobody made durable elsewhere is still in it.
        expect(journals(dir)).toHaveLength(1)
      })

    test('no commit of its partition alone is acknowledged, though its own sync would succeed', () =>
      withFailure(async (log, { partition, fail }) => {
        const late = codeOf(send(log, ['late'], partition))
        await new Promise((resolve) => setTimeout(resolve, 50))
        fail()
        expect(await late).toBe('HR_LOG_SYNC_FAILED')
      }))

    test('a journal that was given up meanwhile stays', () =>
      withFailure(async (log, { dir, fail, told }) => {
        replaceDescriptor(join(dir, 'journals', journals(dir).find((name) => name.endsWith('.journal'))!))
        const given = codeOf(spread(log, 'c'))
        await until('the journal is given up', () => told.length > 0)
        fail()
        expect(await given).toBe('HR_LOG_SYNC_FAILED')
        // What waits for the failed cleaning must have had its turn before the log is closed.
        await new Promise((resolve) => setTimeout(resolve, 100))
      }))
  })

  test('halves that are not whole blocks are refused', () =>
    withDir(async (dir) => {
      expect(() => new EmbeddedLog({ dir, journalHalfBytes: 10_000 })).toThrow(
        'whole blocks of 4096 bytes, not 10000',
      )
    }))
})

/** Closes the writable descriptor of `path` and opens it again under the same number, only to be read. */
function replaceDescriptor(path: string): void {
  const numbers = readdirSync('/proc/self/fd').map(Number)
  for (const fd of numbers.sort((a, b) => a - b)) {
    let target: string | undefined
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      continue
    }
    if (target !== path) continue
    // The lower of the two is the one that entries are written to; the other holds the lock and came first, while the
    // settle lock had that number.
    closeSync(fd)
    const again = openSync(path, 'r')
    if (again !== fd) throw new Error(`descriptor ${fd} came back as ${again}`)
    return
  }
  throw new Error('no descriptor of the journal')
}
