/** The writer over a real detour, whose gate and disks are moved by hand. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { join } from 'node:path'
import { createLogger } from '../observe/index.ts'
import { RawWriter, type WriterOptions } from './produce.ts'
import { event, FaultyDisk, openTarget, type Target, tempDir } from './spool/detour.fixture.ts'
import { Detour } from './spool/index.ts'

setDefaultTimeout(60_000)

const logger = createLogger('capture', 'silent')
let dir: ReturnType<typeof tempDir>
let target: Target
let spoolDisk: FaultyDisk
let detour: Detour
let fatal: unknown[]

beforeEach(async () => {
  dir = tempDir()
  fatal = []
  target = await openTarget(join(dir.path, 'log'))
  spoolDisk = new FaultyDisk()
  detour = await Detour.open({
    dir: join(dir.path, 'spool'),
    spool: {
      bytesMax: 1 << 30,
      diskUsedRatioMax: 0.9,
      warn: () => {},
      log: { operations: spoolDisk.operations },
    },
    log: target.log,
    // Never checked, so that everything goes to the spool.
    checkLog: () => new Promise(() => {}),
    quickMs: 100,
    sql: undefined,
    logger,
    onFatal: (error) => fatal.push(error),
  })
})
afterEach(async () => {
  spoolDisk.release()
  await detour.close(performance.now())
  await target.close()
  dir.remove()
})

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
