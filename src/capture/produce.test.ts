/** The writer over a real detour, whose gate and disks are moved by hand. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { waitFor } from '../../test/support/wait-for.ts'
import { createLogger } from '../observe/index.ts'
import { RawWriter, type WriterOptions } from './produce.ts'
import { event, FaultyDisk, firstCopies, openTarget, type Target, tempDir } from './spool/detour.fixture.ts'
import { Detour } from './spool/index.ts'

setDefaultTimeout(60_000)

const logger = createLogger('capture', 'silent')
let dir: ReturnType<typeof tempDir>
let target: Target
let spoolDisk: FaultyDisk
let detour: Detour
let fatal: unknown[]
/** Until it resolves everything goes to the spool. */
let checked: ReturnType<typeof Promise.withResolvers<void>>

beforeEach(async () => {
  dir = tempDir()
  fatal = []
  target = await openTarget(join(dir.path, 'log'))
  spoolDisk = new FaultyDisk()
  checked = Promise.withResolvers()
  detour = await openDetour(target)
})
afterEach(async () => {
  spoolDisk.release()
  target.disk.release()
  await detour.close(performance.now())
  await target.close()
  dir.remove()
})

function openDetour({ log }: Target): Promise<Detour> {
  return Detour.open({
    dir: join(dir.path, 'spool'),
    spool: {
      bytesMax: 1 << 30,
      diskUsedRatioMax: 0.9,
      warn: () => {},
      log: { operations: spoolDisk.operations },
    },
    log,
    checkLog: () => checked.promise,
    quickMs: 100,
    sql: undefined,
    logger,
    onFatal: (error) => fatal.push(error),
  })
}

function openWriter(options: Partial<WriterOptions> = {}): RawWriter {
  return new RawWriter({
    log: target.log,
    detour,
    answerMs: 1_500,
    logMs: 200,
    recordBytesMax: 1 << 20,
    queueBytesMax: 64 << 20,
    logger,
    onFatal: (error) => fatal.push(error),
    ...options,
  })
}

describe('a gate that stays shut', () => {
  test('everybody is told in time that nothing was stored, and what comes after it is stored', async () => {
    const writer = openWriter({ answerMs: 300 })
    await detour.gate.shut()
    const requests = [writer.write([event(1)]), writer.write([event(2)])]
    for (const outcome of await Promise.allSettled(requests))
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: { code: 'HR_CAPTURE_SPOOL_UNAVAILABLE', status: 503 },
      })
    expect(detour.backlog).toBe(0)
    const later = writer.write([event(3)])
    detour.gate.open()
    await later
    expect(detour.backlog).toBe(1)
    expect(fatal).toEqual([])
  })
})

describe('a disk that hangs', () => {
  test('what was given up counts as long as it is in memory, and not any longer', async () => {
    const writer = openWriter({ answerMs: 300, queueBytesMax: 1_000_000 })
    const large = (n: number) => writer.write([{ ...event(n), value: Buffer.alloc(600_000) }])
    spoolDisk.holding = true
    await expect(large(1)).rejects.toMatchObject({ code: 'HR_CAPTURE_SPOOL_UNAVAILABLE' })
    await expect(large(2)).rejects.toMatchObject({ code: 'HR_CAPTURE_BUSY' })
    spoolDisk.release()
    await waitFor('the end of the append', () => detour.backlog === 1, 10_000)
    await large(3)
    await large(4)
    expect(detour.backlog).toBe(3)
    expect(fatal).toEqual([])
  })
})

describe('a log that takes smaller records than it did', () => {
  const tooLarge = () => ({ ...event(2), value: Buffer.alloc((1 << 20) + 1) })
  const REFUSED = { status: 'rejected', reason: { code: 'HR_CAPTURE_EVENT_TOO_LARGE' } }
  const STORED = { status: 'fulfilled' }

  /** A writer that believes the old limit, on the direct way, over a log that hangs. */
  async function openOverHungLog(logMs = 200): Promise<RawWriter> {
    checked.resolve()
    await waitFor('the direct way', () => detour.state === 'direct', 20_000)
    const writer = openWriter({ answerMs: 20_000, logMs, recordBytesMax: 2 << 20 })
    // So that its partitions are open.
    await writer.write([event(10), event(11), event(12)])
    target.disk.holding = true
    return writer
  }

  test('what was refused before the log was given up is refused, and not in the spool', async () => {
    const writer = await openOverHungLog()
    const requests = [writer.write([tooLarge()]), writer.write([event(1)]), writer.write([event(3)])]
    expect(await Promise.allSettled(requests)).toMatchObject([REFUSED, STORED, STORED])
    expect(detour.backlog).toBe(2)
    expect(fatal).toEqual([])
  })

  test('after the log was given up nothing more is sent to it, and nothing that the spool has is refused', async () => {
    const logMs = 3_000
    const writer = await openOverHungLog(logMs)
    spoolDisk.holding = true
    const from = performance.now()
    const requests = [[event(1)], [event(4)], [tooLarge()], [event(3)]].map((records) =>
      writer.write(records),
    )
    // The first one lands when half of the group's time is over, so that the send of the second one outlasts it.
    await waitFor('half of the time', () => performance.now() - from > logMs / 2, logMs)
    target.disk.release()
    target.disk.holding = true
    await waitFor('the group on its way into the spool', () => spoolDisk.waiting > 0, 10_000)
    target.disk.release()
    const landed = async () => (await firstCopies(target.log)).flat()
    await waitFor('the second one', async () => (await landed()).includes('a:4'), 10_000)
    // Goes the same way, behind whatever is sent to the log.
    await target.log.producer({ name: 'test', deadlineMs: 10_000 }).send([event(6)])
    expect(await landed()).not.toContain('a:3')
    spoolDisk.release()
    expect(await Promise.allSettled(requests)).toMatchObject([STORED, STORED, STORED, STORED])
    expect(fatal).toEqual([])
  })

  test('a spooled one is set aside, what is behind it goes on, and it is sent when the log takes it again', async () => {
    const writer = openWriter({ recordBytesMax: 2 << 20 })
    for (const records of [[event(1)], [tooLarge()], [event(3)], [event(4)]]) await writer.write(records)
    checked.resolve()
    await waitFor('the direct way', () => detour.state === 'direct', 20_000)
    const names = async (log: Target) => (await firstCopies(log.log)).flat().sort()
    expect(await names(target)).toEqual(['a:1', 'a:3', 'a:4'])
    const kept = [...new Bun.Glob('*/too-large.json').scanSync(join(dir.path, 'spool'))]
    expect(kept).toHaveLength(1)
    expect(fatal).toEqual([])
    expect(await detour.close(performance.now() + 5_000)).toBe(0)
    const mended = await openTarget(join(dir.path, 'mended'), 2 << 20)
    rmSync(join(dir.path, 'spool', kept[0]!))
    detour = await openDetour(mended)
    await waitFor('the direct way', () => detour.state === 'direct', 20_000)
    expect(await names(mended)).toEqual(['a:2'])
    await detour.close(performance.now() + 5_000)
    await mended.close()
  })
})
