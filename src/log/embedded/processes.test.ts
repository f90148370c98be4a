/** Several processes on one folder: one writer, readers that are woken, processes that are paused or killed. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { until } from '../conformance/harness.ts'
import { codeOf, send, TOPIC, texts, withDir, withLog } from './log.fixture.ts'
import { OPERATIONS } from './options.ts'
import { startProcess, type TestProcess } from './start-process.fixture.ts'

setDefaultTimeout(60_000)

const RECORD = { topic: TOPIC.name, partition: 0, header: Buffer.alloc(0), value: Buffer.from('x') }
const QUICK = { writerWaitMs: 100, memberPollMs: 100 }

async function withProcesses(test: (started: TestProcess[]) => Promise<void>): Promise<void> {
  const started: TestProcess[] = []
  try {
    await test(started)
  } finally {
    for (const child of started) await child.kill()
  }
}

describe('processes', () => {
  test('a second writer is refused while the first lives, and takes over when it is dead', () =>
    withDir((dir) =>
      withProcesses((started) =>
        withLog({ dir, ...QUICK }, async (log) => {
          await log.createTopic(TOPIC)
          const child = startProcess({ task: 'send', dir, topic: TOPIC.name, partitions: 1, from: 0 })
          started.push(child)
          await until('the child writes', () => child.lines.some((line) => line.acks))
          expect(await codeOf(send(log, ['refused']))).toBe('HR_LOG_NOT_WRITER')
          // A paused process still holds its partition: it might wake up and go on.
          child.signal('SIGSTOP')
          expect(await codeOf(send(log, ['refused']))).toBe('HR_LOG_NOT_WRITER')
          await child.kill()
          const [position] = await send(log, ['taken over'])
          expect((await texts(log, position!.offset)).at(0)).toBe('taken over')
        }),
      ),
    ))

  test('a successor waits for a dying predecessor', () =>
    withDir((dir) =>
      withProcesses((started) =>
        withLog({ dir }, async (log) => {
          await log.createTopic(TOPIC)
          const child = startProcess({ task: 'send', dir, topic: TOPIC.name, partitions: 1, from: 0 })
          started.push(child)
          await until('the child writes', () => child.lines.some((line) => line.acks))
          const sending = send(log, ['after'])
          await child.kill()
          expect((await sending).length).toBe(1)
        }),
      ),
    ))

  test('a partition that was opened for a send past its deadline is let go of', () =>
    withDir((dir) => {
      let recovered = 0
      const fdatasync = async (fd: number) => {
        recovered++
        await OPERATIONS.fdatasync(fd)
      }
      return withLog({ dir, operations: { fdatasync } }, (late) =>
        withLog({ dir, ...QUICK }, async (log) => {
          await log.createTopic(TOPIC)
          await withLog({ dir }, async (holder) => {
            await send(holder, ['before'])
            const producer = late.producer({ name: 'late', deadlineMs: 50 })
            expect(await codeOf(producer.send([RECORD]))).toBe('HR_LOG_DEADLINE')
            expect(recovered).toBe(0)
          })
          await until('it is opened', () => recovered === 1)
          expect((await send(log, ['after'])).map(({ offset }) => offset)).toEqual([1])
          expect(recovered).toBe(1)
        }),
      )
    }))

  test('when one partition of a send is refused, the others are let go of', () =>
    withDir((dir) =>
      withLog({ dir, ...QUICK }, (holder) =>
        withLog({ dir, ...QUICK }, async (log) => {
          await log.createTopic({ ...TOPIC, partitions: 2 })
          await send(holder, ['held'], 1)
          const producer = log.producer({ name: 'test', deadlineMs: 10_000 })
          expect(await codeOf(producer.send([RECORD, { ...RECORD, partition: 1 }]))).toBe('HR_LOG_NOT_WRITER')
          expect((await send(holder, ['free'])).map(({ offset }) => offset)).toEqual([0])
        }),
      ),
    ))

  test('a producer that closes lets go of what it wrote to; the others of its log open it again', () =>
    withDir((dir) =>
      withLog({ dir, ...QUICK }, (log) =>
        withLog({ dir, ...QUICK }, async (other) => {
          await log.createTopic(TOPIC)
          const [first, second] = ['first', 'second'].map((name) =>
            log.producer({ name, deadlineMs: 10_000 }),
          )
          await first!.send([RECORD])
          // Both wrote to it, and only the first one opened it.
          await second!.send([RECORD])
          expect(await codeOf(send(other, ['refused']))).toBe('HR_LOG_NOT_WRITER')
          await first!.close()
          expect((await second!.send([RECORD]))[0]!.offset).toBe(2)
          expect(await codeOf(send(other, ['refused']))).toBe('HR_LOG_NOT_WRITER')
          await second!.close()
          expect((await send(other, ['taken over']))[0]!.offset).toBe(3)
        }),
      ),
    ))

  test('a waiting reader in another process has the record within 20 ms', () =>
    withDir((dir) =>
      withProcesses((started) =>
        withLog({ dir }, async (log) => {
          await log.createTopic(TOPIC)
          await send(log, ['first'])
          const child = startProcess({ task: 'read', dir, topic: TOPIC.name, partition: 0, from: 0 })
          started.push(child)
          await until('the reader is there', () => child.lines.some((line) => line.offsets))
          const delays: number[] = []
          for (let i = 1; i <= 40; i++) {
            await send(log, ['x'])
            const sentMs = Date.now()
            const line = await until('the record arrives', () =>
              child.lines.find((candidate) => (candidate.offsets as number[] | undefined)?.includes(i)),
            )
            delays.push(Math.max(0, (line.atMs as number) - sentMs))
          }
          delays.sort((a, b) => a - b)
          // The machine may be busy with other work: most of them, and none by the slow poll.
          expect(delays[20]!).toBeLessThanOrEqual(20)
          expect(delays[39]!).toBeLessThan(900)
        }),
      ),
    ))

  test('a paused reader holds up nobody, and goes on where it was', () =>
    withDir((dir) =>
      withProcesses((started) =>
        withLog({ dir }, async (log) => {
          await log.createTopic(TOPIC)
          const child = startProcess({ task: 'read', dir, topic: TOPIC.name, partition: 0, from: 0 })
          started.push(child)
          const seen = () => child.lines.flatMap((line) => (line.offsets as number[] | undefined) ?? [])
          await send(log, ['x'])
          await until('the reader is there', () => seen().length === 1)
          child.signal('SIGSTOP')
          for (let i = 0; i < 100; i++) await send(log, ['x', 'y'])
          child.signal('SIGCONT')
          await until('the reader has all', () => seen().length === 201)
          expect(seen()).toEqual(Array.from({ length: 201 }, (_, i) => i))
        }),
      ),
    ))

  test('a paused member keeps its partitions; when it is killed they go to the others', () =>
    withDir((dir) =>
      withProcesses((started) =>
        withLog({ dir, ...QUICK }, async (log) => {
          await log.createTopic({ ...TOPIC, partitions: 6 })
          const child = startProcess({ task: 'join', dir, topic: TOPIC.name, group: 'g' })
          started.push(child)
          const assigned = () => child.lines.filter((line) => line.assigned !== undefined).length
          await until('the child owns all', () => assigned() === 6)
          const member = await log.join({
            group: 'g',
            topics: [TOPIC.name],
            assigned() {},
            async revoked() {},
            lost() {},
          })
          await until('they share', () => member.owned().length === 3)
          child.signal('SIGSTOP')
          const third = await log.join({
            group: 'g',
            topics: [TOPIC.name],
            assigned() {},
            async revoked() {},
            lost() {},
          })
          // Two numbers are due to it; the paused one still holds one of them.
          await until('the third has what the living gave up', () => third.owned().length === 1)
          expect(member.owned().length + third.owned().length).toBe(3)
          await child.kill()
          await until('the living share all', () => member.owned().length === 3 && third.owned().length === 3)
          expect(new Set([...member.owned(), ...third.owned()]).size).toBe(6)
        }),
      ),
    ))
})
