/** Chapter: groups. One owner at a time, in order, whatever members come and go; commits only by the owner. */
import { expect, test } from 'bun:test'
import type { Log, Member } from '../log.ts'
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

const PARTITIONS = 6

/** What stands for the positions that a stage keeps in its database. */
type Ledger = { processed: string[][]; owners: (string | undefined)[]; clashes: string[] }

/** A member that processes its partitions as a stage would. */
async function startStage(
  log: Log,
  name: string,
  group: string,
  topic: string,
  ledger: Ledger,
): Promise<Member> {
  const running = new Map<number, { stop: AbortController; done: Promise<void> }>()
  const work = async (partition: number, stop: AbortSignal) => {
    if (ledger.owners[partition] !== undefined)
      ledger.clashes.push(`${partition} of ${ledger.owners[partition]} came to ${name}`)
    ledger.owners[partition] = name
    const processed = ledger.processed[partition]!
    const reader = log.reader({ topic, partition, from: processed.length })
    try {
      while (!stop.aborted) {
        const batch = await reader.next({ records: 20, bytes: 1e6 }, stop)
        for (const stored of batch) {
          if (stored.offset !== processed.length)
            ledger.clashes.push(`${partition}: ${stored.offset} by ${name}`)
          processed.push(textOf(stored))
        }
        if (batch.length > 0) await member.commit([{ topic, partition, offset: processed.length }])
      }
    } finally {
      await reader.close()
      ledger.owners[partition] = undefined
    }
  }
  const member: Member = await log.join({
    group,
    topics: [topic],
    assigned(partition) {
      const stop = new AbortController()
      running.set(partition, { stop, done: work(partition, stop.signal) })
    },
    async revoked(partition) {
      const { stop, done } = running.get(partition)!
      stop.abort()
      await done
      running.delete(partition)
    },
    lost(partition) {
      running.get(partition)?.stop.abort()
      ledger.clashes.push(`${partition} was lost by ${name}, but nobody was cut off`)
    },
  })
  return member
}

export function groupChapter(context: Context, timeoutMs: number): void {
  test(
    'two, three, one member under load: every record once, in order, by one owner at a time',
    () =>
      withLogs(context, 4, async (sending, ...logs) => {
        const topic = await freshTopic(context, sending, PARTITIONS)
        const ledger: Ledger = {
          processed: Array.from({ length: PARTITIONS }, () => []),
          owners: new Array<string | undefined>(PARTITIONS).fill(undefined),
          clashes: [],
        }
        let loading = true
        let sent = 0
        const load = (async () => {
          const producer = sending.producer({ name: 'load', deadlineMs: 30_000 })
          while (loading) {
            const n = sent
            await producer.send(Array.from({ length: PARTITIONS }, (_, p) => record(topic, p, String(n))))
            sent = n + 1
          }
        })()
        const members: Member[] = []
        const share = async (counts: number[]) => {
          await until(`the members own ${counts}`, () => {
            const owned = members.map((member) => member.owned().length)
            return (
              owned.join() === counts.join() &&
              new Set(members.flatMap((member) => member.owned())).size === PARTITIONS
            )
          })
          // And each partition moves on under its new owner.
          const before = ledger.processed.map((texts) => texts.length)
          await until('every partition goes on', () =>
            ledger.processed.every((texts, p) => texts.length > before[p]!),
          )
        }
        members.push(await startStage(logs[0]!, 'a', 'stages', topic, ledger))
        members.push(await startStage(logs[1]!, 'b', 'stages', topic, ledger))
        await share([3, 3])
        members.push(await startStage(logs[2]!, 'c', 'stages', topic, ledger))
        await share([2, 2, 2])
        await members.shift()!.leave()
        await members.shift()!.leave()
        await share([6])
        loading = false
        await load
        await until('all is processed', () => ledger.processed.every((texts) => texts.length === sent))
        for (const texts of ledger.processed)
          expect(texts).toEqual(Array.from({ length: sent }, (_, i) => String(i)))
        expect(ledger.clashes).toEqual([])
        await until('all is committed', async () => {
          const committed = await Promise.all(
            ledger.processed.map((_, p) => sending.committed('stages', topic, p)),
          )
          return committed.every((offset) => offset === sent)
        })
        await members[0]!.leave()
      }),
    timeoutMs,
  )

  test(
    'a late commit is refused and changes nothing',
    () =>
      withLogs(context, 2, async (log, other) => {
        const topic = await freshTopic(context, log, 1)
        await sendTexts(log, topic, 0, ['a', 'b', 'c'])
        const options = {
          group: 'late',
          topics: [topic],
          assigned: () => {},
          revoked: async () => {},
          lost: () => {},
        }
        const first = await log.join(options)
        await until('the first member owns it', () => first.owned().length === 1)
        expect(await other.committed('late', topic, 0)).toBeUndefined()
        await first.commit([{ topic, partition: 0, offset: 2 }])
        const second = await other.join(options)
        expect(await codeOf(second.commit([{ topic, partition: 0, offset: 1 }]))).toBe('HR_LOG_NOT_OWNER')
        await first.leave()
        await until('the second member owns it', () => second.owned().length === 1)
        expect(await codeOf(first.commit([{ topic, partition: 0, offset: 1 }]))).toBe('HR_LOG_NOT_OWNER')
        expect(await other.committed('late', topic, 0)).toBe(2)
        await second.commit([{ topic, partition: 0, offset: 3 }])
        expect(await log.committed('late', topic, 0)).toBe(3)
        await second.leave()
      }),
    timeoutMs,
  )

  test(
    'the new owner of a number writes where the old one wrote, while the old one lives',
    () =>
      withLogs(context, 2, async (log, other) => {
        const topic = await freshTopic(context, log, 2)
        const out = await freshTopic(context, log, 2)
        const member = (by: Log) =>
          by.join({ group: 'handover', topics: [topic], assigned() {}, async revoked() {}, lost() {} })
        const first = await member(log)
        await until('the first member owns both', () => first.owned().length === 2)
        await sendTexts(log, out, 0, ['first'])
        await sendTexts(log, out, 1, ['first'])
        const second = await member(other)
        const partition = await until('the second member owns one', () =>
          second.owned().length === 1 ? String(second.owned()[0]) : undefined,
        )
        await sendTexts(other, out, Number(partition), ['second'])
        await sendTexts(log, out, 1 - Number(partition), ['first again'])
        expect((await readAll(log, out, Number(partition))).map(textOf)).toEqual(['first', 'second'])
        await Promise.all([first.leave(), second.leave()])
      }),
    timeoutMs,
  )

  test(
    'a partition stays with its owner until revoked resolves, and commits of that time count',
    () =>
      withLogs(context, 2, async (log, other) => {
        const topic = await freshTopic(context, log, 2)
        await sendTexts(log, topic, 0, ['a'])
        await sendTexts(log, topic, 1, ['a'])
        const finish = Promise.withResolvers<void>()
        const revoked: number[] = []
        const group = 'held'
        const lost = () => {}
        const first = await log.join({
          group,
          topics: [topic],
          assigned: () => {},
          revoked: async (partition) => {
            revoked.push(partition)
            await finish.promise
            await first.commit([{ topic, partition, offset: 1 }])
          },
          lost,
        })
        await until('the first member owns both', () => first.owned().length === 2)
        const second = await other.join({
          group,
          topics: [topic],
          assigned: () => {},
          revoked: async () => {},
          lost,
        })
        await until('one is revoked', () => revoked.length === 1)
        expect(second.owned()).toEqual([])
        finish.resolve()
        await until('the second member owns it', () => second.owned().length === 1)
        expect(second.owned()).toEqual(revoked)
        expect(await other.committed(group, topic, revoked[0]!)).toBe(1)
        await Promise.all([first.leave(), second.leave()])
      }),
    timeoutMs,
  )
}
