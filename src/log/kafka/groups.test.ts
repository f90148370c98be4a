/** Ownership when processes stop and wake up again: nobody works on a partition that another one owns. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { type ChildProcess, spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { type Kafka, sharedKafka, skipKafka } from '../../../test/support/kafka.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { type KafkaLog, openKafkaLog } from './index.ts'

const SESSION_MS = 4_000
setDefaultTimeout(120_000)

type Told = { event: string; partition?: number }

describe.skipIf(skipKafka())('group members that stop and wake up', () => {
  let kafka: Kafka
  let log: KafkaLog
  const children: ChildProcess[] = []

  beforeAll(async () => {
    kafka = await sharedKafka()
    log = await openKafkaLog({ brokers: kafka.brokers, clientId: 'groups', sessionTimeoutMs: SESSION_MS })
  })

  afterAll(async () => {
    for (const child of children) child.kill('SIGKILL')
    await log?.close()
  })

  function startChild(group: string, topic: string): { child: ChildProcess; told: Told[] } {
    const script = resolve(import.meta.dir, '../../../test/support/log-member.ts')
    const child = spawn(process.execPath, [script, kafka.bootstrap, group, topic, String(SESSION_MS)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    children.push(child)
    const told: Told[] = []
    createInterface({ input: child.stdout! }).on('line', (line) => told.push(JSON.parse(line)))
    return { child, told }
  }

  /** What the child owns by what it told. */
  function ownedBy(told: Told[]): Set<number> {
    const owned = new Set<number>()
    for (const { event, partition } of told) {
      if (event === 'assigned') owned.add(partition!)
      if (event === 'revoked' || event === 'lost') owned.delete(partition!)
    }
    return owned
  }

  const partitions = 4
  let serial = 0
  async function newTopic(): Promise<string> {
    const name = `groups-${process.pid}-${serial++}`
    await log.createTopic({ name, partitions, recordBytesMax: 10_000 })
    return name
  }

  const options = (group: string, topics: string[]) => ({
    group,
    topics,
    assigned: () => {},
    revoked: async () => {},
    lost: () => {},
  })

  test('a paused process loses its partitions to the others, and wakes up knowing it', async () => {
    const topic = await newTopic()
    const group = `zombie-${topic}`
    const { child, told } = startChild(group, topic)
    await waitFor('the child owns all', () => ownedBy(told).size === partitions, 60_000)
    const ours = await log.join(options(group, [topic]))
    await waitFor('two each', () => ours.owned().length === 2 && ownedBy(told).size === 2, 60_000)
    const theirs = [...ownedBy(told)]
    child.kill('SIGSTOP')
    await waitFor('we own all', () => ours.owned().length === partitions, SESSION_MS + 60_000)
    await ours.commit([{ topic, partition: theirs[0]!, offset: 5 }])
    const before = told.length
    child.kill('SIGCONT')
    child.stdin!.write(`${theirs[0]} 1\n`)
    await waitFor('the child answers', () => told.some(({ event }) => event.startsWith('HR_LOG')), 60_000)
    const after = told.slice(before)
    // It is told that both are lost, and its late commit is refused, before it gets anything new.
    const news = after.findIndex(({ event }) => event === 'assigned')
    const early = news === -1 ? after : after.slice(0, news)
    for (const partition of theirs) expect(early).toContainEqual({ event: 'lost', partition })
    expect(after).toContainEqual({ event: 'HR_LOG_NOT_OWNER', partition: theirs[0]! })
    expect(after.some(({ event }) => event === 'revoked')).toBe(false)
    expect(await log.committed(group, topic, theirs[0]!)).toBe(5)
    // And it takes part again.
    await waitFor('two each again', () => ours.owned().length === 2 && ownedBy(told).size === 2, 60_000)
    child.stdin!.write('leave\n')
    await waitFor('we own all', () => ours.owned().length === partitions, 60_000)
    await ours.leave()
  })

  test('a killed member’s partitions come to the others after its session', async () => {
    const topic = await newTopic()
    const group = `killed-${topic}`
    const ours = await log.join(options(group, [topic]))
    const { child, told } = startChild(group, topic)
    await waitFor('two each', () => ours.owned().length === 2 && ownedBy(told).size === 2, 60_000)
    child.kill('SIGKILL')
    await waitFor('we own all', () => ours.owned().length === partitions, SESSION_MS + 60_000)
    await ours.leave()
  })

  test('a partition number has one owner for all topics of the group', async () => {
    const [one, two] = [await newTopic(), await newTopic()]
    const group = `lanes-${one}`
    const other = await openKafkaLog({
      brokers: kafka.brokers,
      clientId: 'lanes',
      sessionTimeoutMs: SESSION_MS,
    })
    const first = await log.join(options(group, [one, two]))
    const second = await other.join(options(group, [one, two]))
    await waitFor('two each', () => first.owned().length === 2 && second.owned().length === 2, 60_000)
    for (const member of [first, second])
      for (const partition of member.owned())
        await member.commit([one, two].map((topic) => ({ topic, partition, offset: 1 })))
    expect([...first.owned(), ...second.owned()].sort()).toEqual([0, 1, 2, 3])
    await other.close()
    await waitFor('one owns all', () => first.owned().length === 4, 60_000)
    await first.leave()
  })

  test('topics with different numbers of partitions cannot be shared out together', async () => {
    const topic = await newTopic()
    const odd = `${topic}-odd`
    await log.createTopic({ name: odd, partitions: 3, recordBytesMax: 10_000 })
    await expect(log.join(options(`odd-${topic}`, [topic, odd]))).rejects.toMatchObject({
      code: 'HR_LOG_WRONG_TOPIC',
    })
    await expect(log.join(options(`no-${topic}`, ['not-there']))).rejects.toMatchObject({
      code: 'HR_LOG_NO_TOPIC',
    })
  })

  test('an owner that does not let go in time is overruled, and told', async () => {
    const topic = await newTopic()
    const group = `stubborn-${topic}`
    const stubborn = await openKafkaLog({
      brokers: kafka.brokers,
      clientId: 'stubborn',
      sessionTimeoutMs: SESSION_MS,
      revokeTimeoutMs: 500,
    })
    const lost: number[] = []
    const never = new Promise<void>(() => {})
    const first = await stubborn.join({
      ...options(group, [topic]),
      revoked: () => never,
      lost: (partition) => lost.push(partition),
    })
    await waitFor('all are owned', () => first.owned().length === partitions, 60_000)
    const second = await log.join(options(group, [topic]))
    await waitFor('two each', () => second.owned().length === 2, 60_000)
    expect(lost).toHaveLength(2)
    expect(second.owned().sort()).toEqual(lost.sort())
    await second.leave()
    await stubborn.close()
  })
})
