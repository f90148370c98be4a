import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { waitFor } from '../../../test/support/wait-for.ts'
import { logError } from '../../log/index.ts'
import { metricsText } from '../../observe/index.ts'
import {
  CLEAN,
  event,
  FaultyDisk,
  firstCopies,
  judge,
  type OpenOptions,
  openTarget,
  openTestWriter,
  type Target,
  type TestWriter,
  tempDir,
} from './detour.fixture.ts'
import { HOLD_MS } from './limits.ts'

setDefaultTimeout(60_000)

let dir: ReturnType<typeof tempDir>
let target: Target
let writers: TestWriter[]
beforeEach(async () => {
  dir = tempDir()
  target = await openTarget(join(dir.path, 'log'))
  writers = []
})
afterEach(async () => {
  target.disk.slowMs = 0
  target.disk.usedRatio = 0.1
  target.disk.release()
  for (const writer of writers) await writer.close(performance.now())
  await target.close()
  dir.remove()
})

async function open(options: Partial<OpenOptions> = {}): Promise<TestWriter> {
  const writer = await openTestWriter({ dir: dir.path, log: target.log, ...options })
  writers.push(writer)
  return writer
}

async function state(): Promise<number> {
  return metric('headrace_capture_spool_state')
}

async function metric(name: string): Promise<number> {
  const line = (await metricsText()).split('\n').find((text) => text.startsWith(`${name} `))
  return Number(line?.split(' ')[1])
}

const direct = () => waitFor('the direct way', async () => (await state()) === 0, 20_000)
/** A slow disk may have sent what was written directly to the spool once more: it is judged when all of it is there. */
async function judgeAtEnd(acknowledged: string[]) {
  await direct()
  return judge(target.log, acknowledged)
}

const name = (n: number, who = 'a') => `${who}:${n}`

/** Writes events [from, to), each in a request of its own, and gives the acknowledged ones. */
async function write(writer: TestWriter, from: number, to: number, who = 'a'): Promise<string[]> {
  const acknowledged: string[] = []
  const requests: Promise<void>[] = []
  for (let n = from; n < to; n++) {
    requests.push(
      writer.writer.write([event(n, who)]).then(
        () => void acknowledged.push(name(n, who)),
        () => {},
      ),
    )
  }
  await Promise.all(requests)
  return acknowledged
}

const spoolFolders = () => {
  try {
    return readdirSync(join(dir.path, 'spool'))
  } catch {
    return []
  }
}

/** Spoils the record with this header in the one segment of a spool, whose path it gives. */
function damage(folder: string, header: string): string {
  const [segment] = [...new Bun.Glob(`${folder}/log/topics/spool/0/*.seg`).scanSync(join(dir.path, 'spool'))]
  const path = join(dir.path, 'spool', segment!)
  const at = readFileSync(path).indexOf(header)
  expect(at).toBeGreaterThan(0)
  const fd = openSync(path, 'r+')
  writeSync(fd, Buffer.from('?'), 0, 1, at)
  closeSync(fd)
  return path
}

describe('the detour', () => {
  test('with the log at hand nothing goes to the spool', async () => {
    const writer = await open()
    await direct()
    const spooled = await metric('headrace_capture_spooled_total')
    const acknowledged = await write(writer, 0, 100)
    expect(acknowledged).toHaveLength(100)
    expect(await metric('headrace_capture_spooled_total')).toBe(spooled)
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
    expect(await writer.close(performance.now() + 5_000)).toEqual({ unanswered: 0, spooled: 0 })
    expect(spoolFolders()).toEqual([])
  })

  test('a log that hangs: acknowledged from the spool, drained in order when it answers, then direct again', async () => {
    const writer = await open()
    await direct()
    const before = await write(writer, 0, 50)
    target.disk.holding = true
    const meanwhile = await write(writer, 50, 150)
    expect(meanwhile).toHaveLength(100)
    expect(await state()).toBe(1)
    meanwhile.push(...(await write(writer, 150, 200)))
    target.disk.release()
    await direct()
    const after = await write(writer, 200, 250)
    const acknowledged = [...before, ...meanwhile, ...after]
    expect(acknowledged).toHaveLength(250)
    expect(await judgeAtEnd(acknowledged)).toEqual(CLEAN)
    expect(writer.fatal).toEqual([])
    expect(await writer.close(performance.now() + 5_000)).toEqual({ unanswered: 0, spooled: 0 })
  })

  test('under steady load the way back to the log is found', async () => {
    const writer = await open()
    await direct()
    target.disk.holding = true
    const acknowledged: string[] = []
    let n = 0
    let loading = true
    const load = async () => {
      while (loading) {
        n += 40
        acknowledged.push(...(await write(writer, n - 40, n)))
      }
    }
    const running = load()
    await waitFor('a spool with events', () => acknowledged.length > 400, 20_000)
    target.disk.release()
    await direct()
    const then = acknowledged.length
    await waitFor('direct sends', () => acknowledged.length > then + 400, 20_000)
    loading = false
    await running
    expect(acknowledged).toHaveLength(n)
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
  })

  test('a log that is slower than its budget stays behind the spool, and everything arrives', async () => {
    const writer = await open()
    await direct()
    target.disk.slowMs = 600
    const acknowledged = await write(writer, 0, 30)
    await waitFor('draining', async () => (await state()) === 2, 20_000)
    const from = performance.now()
    for (let n = 30; n < 60; n += 5) acknowledged.push(...(await write(writer, n, n + 5)))
    // No request waited for the slow log again.
    expect(performance.now() - from).toBeLessThan(6 * 600)
    expect(await state()).toBe(2)
    target.disk.slowMs = 0
    await direct()
    expect(acknowledged).toHaveLength(60)
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
  })

  test('starts into the spool while the log is not checked, and is ready', async () => {
    let isUp = false
    const writer = await open({
      checkLog: async () => {
        if (!isUp) throw logError('HR_LOG_UNAVAILABLE', 'no broker answers')
      },
    })
    const acknowledged = await write(writer, 0, 40)
    expect(acknowledged).toHaveLength(40)
    expect(await writer.notReady()).toBeUndefined()
    expect((await firstCopies(target.log)).flat()).toEqual([])
    isUp = true
    await direct()
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
  })

  test('topics that are wrong stop the process, and nothing is sent', async () => {
    const writer = await open({
      checkLog: async () => {
        throw logError('HR_LOG_WRONG_TOPIC', 'topic raw_events has 3 partitions')
      },
    })
    await waitFor('the end', () => writer.fatal.length > 0, 5_000)
    expect(await write(writer, 0, 3)).toHaveLength(3)
    expect((await firstCopies(target.log)).flat()).toEqual([])
  })

  test('an event that is too large is refused alone', async () => {
    const writer = await open()
    await direct()
    const huge = { ...event(1), value: Buffer.alloc(1_048_577) }
    const [refused, ...others] = await Promise.allSettled([
      writer.writer.write([huge]),
      writer.writer.write([event(2)]),
      writer.writer.write([event(3)]),
    ])
    expect(refused).toMatchObject({ status: 'rejected', reason: { code: 'HR_CAPTURE_EVENT_TOO_LARGE' } })
    expect(others.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled'])
    expect(writer.fatal).toEqual([])
  })
})

describe('a spool that cannot take more', () => {
  test('at its limit: 503 with a code of its own, and taken again when it was drained', async () => {
    const writer = await open({ settings: { spoolBytesMax: 1_048_576 } })
    await direct()
    target.disk.holding = true
    const acknowledged: string[] = []
    let refused: unknown
    for (let n = 0; !refused && n < 50; n++) {
      const large = { ...event(n), value: Buffer.alloc(100_000) }
      await writer.writer.write([large]).then(
        () => acknowledged.push(name(n)),
        (error) => {
          refused = error
        },
      )
    }
    expect(refused).toMatchObject({ code: 'HR_CAPTURE_SPOOL_FULL', status: 503 })
    expect(acknowledged.length).toBeGreaterThan(5)
    target.disk.release()
    await direct()
    acknowledged.push(...(await write(writer, 100, 110)))
    expect(acknowledged).toContain(name(109))
    expect(await judgeAtEnd(acknowledged)).toEqual(CLEAN)
  })

  test('on a full disk: refused, not ready while the log is away, and the log alone is enough', async () => {
    const spoolDisk = new FaultyDisk()
    const writer = await open({ spoolLog: { operations: spoolDisk.operations } })
    await direct()
    spoolDisk.usedRatio = 0.99
    target.disk.holding = true
    const refused = (n: number) =>
      writer.writer.write([event(n)]).then(
        () => false,
        (error) => error.code === 'HR_CAPTURE_SPOOL_FULL',
      )
    await waitFor('a refusal', () => refused(0), 10_000)
    expect(await writer.notReady()).toContain('full')
    target.disk.release()
    await direct()
    expect(await writer.notReady()).toBeUndefined()
    expect(await write(writer, 1, 6)).toHaveLength(5)
    target.disk.holding = true
    await waitFor('another refusal', () => refused(6), 10_000)
    spoolDisk.usedRatio = 0.1
    await waitFor('space', async () => (await write(writer, 7, 8)).length === 1, 10_000)
  })

  test('whose disk hangs: an answer within the answer time', async () => {
    const spoolDisk = new FaultyDisk()
    const answerMs = 1_500
    const writer = await open({
      spoolLog: { operations: spoolDisk.operations },
      settings: { captureAnswerMs: answerMs },
    })
    await direct()
    target.disk.holding = true
    spoolDisk.holding = true
    const from = performance.now()
    await expect(writer.writer.write([event(1)])).rejects.toMatchObject({
      code: 'HR_CAPTURE_SPOOL_UNAVAILABLE',
      status: 503,
    })
    expect(performance.now() - from).toBeLessThan(answerMs + 1_000)
    spoolDisk.release()
    target.disk.release()
    await direct()
    const acknowledged = await write(writer, 2, 20)
    expect(acknowledged).toHaveLength(18)
    expect(await judgeAtEnd(acknowledged)).toEqual(CLEAN)
  })

  test('whose sync takes longer than groups are held for the way back: the way back is found later', async () => {
    const spoolDisk = new FaultyDisk()
    const { operations } = spoolDisk
    const checked = Promise.withResolvers<void>()
    let isOpen = false
    const writer = await open({
      checkLog: () => checked.promise,
      spoolLog: {
        operations: {
          ...operations,
          fdatasync(fd) {
            // The log is there while the first group is on its way to the disk.
            if (isOpen) checked.resolve()
            return operations.fdatasync(fd)
          },
        },
      },
    })
    isOpen = true
    spoolDisk.slowMs = HOLD_MS + 200
    const acknowledged = await write(writer, 0, 1)
    spoolDisk.slowMs = 0
    await direct()
    acknowledged.push(...(await write(writer, 1, 20)))
    expect(acknowledged).toHaveLength(20)
    expect(await judgeAtEnd(acknowledged)).toEqual(CLEAN)
  })

  test('whose sync fails stops the process', async () => {
    const spoolDisk = new FaultyDisk()
    const writer = await open({ spoolLog: { operations: spoolDisk.operations } })
    await direct()
    target.disk.holding = true
    expect(await write(writer, 0, 1)).toHaveLength(1)
    spoolDisk.broken = true
    await expect(writer.writer.write([event(1)])).rejects.toMatchObject({ code: 'HR_CAPTURE_INTERNAL' })
    expect(writer.fatal).toHaveLength(1)
  })
})

describe('spools of earlier processes', () => {
  test('a full one is drained first, in order, before the new events', async () => {
    target.disk.holding = true
    const first = await open()
    const acknowledged = await write(first, 0, 60)
    expect(await first.close(performance.now())).toEqual({ unanswered: 0, spooled: 60 })
    expect(spoolFolders()).toHaveLength(1)
    const second = await open()
    acknowledged.push(...(await write(second, 60, 90)))
    expect(spoolFolders()).toHaveLength(1)
    target.disk.release()
    await direct()
    expect(acknowledged).toHaveLength(90)
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
  })

  test('two processes have one each; one that nobody takes over is adopted, drained and removed', async () => {
    target.disk.holding = true
    const a = await open({ adoptEveryMs: 60_000 })
    const b = await open({ adoptEveryMs: 60_000 })
    const acknowledged = [...(await write(a, 0, 30, 'a')), ...(await write(b, 0, 30, 'b'))]
    expect(acknowledged).toHaveLength(60)
    expect(spoolFolders()).toHaveLength(2)
    expect((await a.close(performance.now())).spooled).toBe(30)
    expect((await b.close(performance.now())).spooled).toBe(30)
    const heir = await open({ adoptEveryMs: 50 })
    acknowledged.push(...(await write(heir, 0, 10, 'c')))
    expect(spoolFolders()).toHaveLength(2)
    target.disk.release()
    await waitFor('one folder', () => spoolFolders().length === 1, 20_000)
    await direct()
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
    expect(await heir.close(performance.now() + 5_000)).toEqual({ unanswered: 0, spooled: 0 })
    expect(spoolFolders()).toEqual([])
  })

  test('one that cannot be opened does not keep those behind it waiting', async () => {
    const heir = await open()
    const other = await open({ adoptEveryMs: 60_000 })
    const sick = join(dir.path, 'spool', '00000000-0000-7000-8000-000000000000')
    target.disk.holding = true
    const acknowledged = await write(other, 0, 20)
    mkdirSync(sick)
    // A file where a folder must be: every open fails, as on a disk that gives errors.
    writeFileSync(join(sick, 'log'), '')
    writeFileSync(join(sick, 'spool.json'), '{}')
    expect(await other.close(performance.now())).toEqual({ unanswered: 0, spooled: 20 })
    target.disk.release()
    await waitFor('the heir and the sick one alone', () => spoolFolders().length === 2, 20_000)
    expect(await judge(target.log, acknowledged)).toEqual(CLEAN)
    expect(existsSync(join(sick, 'damaged.json'))).toBe(false)
    expect(heir.fatal).toEqual([])
  })

  test('what a crash left of a folder without events is cleared away', async () => {
    const writer = await open()
    const left = join(dir.path, 'spool', Bun.randomUUIDv7())
    mkdirSync(join(left, 'log'), { recursive: true })
    await waitFor('its end', () => !existsSync(left), 5_000)
    expect(writer.fatal).toEqual([])
  })

  test('one that is damaged is left as it is, and a new one takes its place', async () => {
    const writer = await open()
    await direct()
    target.disk.holding = true
    const before = await write(writer, 0, 20)
    const [folder] = spoolFolders()
    // After the group that was taken directly has failed, each request is an append of its own.
    for (let n = 20; n < 40; n++) before.push(...(await write(writer, n, n + 1)))
    const path = damage(folder!, 'a:30')
    const bytes = readFileSync(path)
    target.disk.release()
    await waitFor(
      'a note of the damage',
      () => existsSync(join(dir.path, 'spool', folder!, 'damaged.json')),
      20_000,
    )
    await direct()
    const after = await write(writer, 100, 120)
    expect(after).toHaveLength(20)
    const readable = before.filter((text) => Number(text.slice(2)) < 30)
    expect(await judgeAtEnd([...readable, ...after])).toEqual(CLEAN)
    await waitFor('the metric', async () => (await metric('headrace_capture_spool_damaged')) === 1, 5_000)
    expect(writer.fatal).toEqual([])
    // Nobody takes it over, and nothing of it is removed.
    const next = await open()
    await direct()
    expect(readFileSync(path).length).toBe(bytes.length)
    await next.close(performance.now() + 5_000)
    expect(spoolFolders()).toContain(folder!)
  })

  test('one that is replaced while the process stops: the new one is closed and removed, too', async () => {
    const writer = await open({ adoptEveryMs: 60_000 })
    await direct()
    target.disk.holding = true
    await write(writer, 0, 20)
    const [folder] = spoolFolders()
    for (let n = 20; n < 40; n++) await write(writer, n, n + 1)
    damage(folder!, 'a:30')
    const closed = writer.close(performance.now() + 20_000)
    target.disk.release()
    expect(await closed).toEqual({ unanswered: 0, spooled: 0 })
    expect(spoolFolders()).toEqual([folder!])
    expect(existsSync(join(dir.path, 'spool', folder!, 'damaged.json'))).toBe(true)
    expect(writer.fatal).toEqual([])
  })

  test('when the log is still away a stop does not wait for it for long', async () => {
    target.disk.holding = true
    const writer = await open()
    expect(await write(writer, 0, 5)).toHaveLength(5)
    const from = performance.now()
    expect(await writer.close(from + 60_000)).toEqual({ unanswered: 0, spooled: 5 })
    expect(performance.now() - from).toBeLessThan(20_000)
  })
})
