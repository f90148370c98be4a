/** What only the Kafka log does: encrypted listeners, corrupt answers, topics as code, bounds under outage. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, type Kafka, sharedKafka, skipKafka, startKafka } from '../../../test/support/kafka.ts'
import { applyPlan, checkTopics, deploymentTopics, planTopics } from '../topics.ts'
import { type KafkaLog, type KafkaLogOptions, openKafkaLog } from './index.ts'

setDefaultTimeout(120_000)
const record = (topic: string, text: string, partition = 0) => ({
  topic,
  partition,
  header: Buffer.from('h'),
  value: Buffer.from(text),
})

describe.skipIf(skipKafka())('the Kafka log', () => {
  let kafka: Kafka
  let log: KafkaLog
  let serial = 0

  beforeAll(async () => {
    kafka = await sharedKafka()
    log = await openKafkaLog({ brokers: kafka.proxiedBrokers, clientId: 'kafka-test' })
  })

  afterAll(async () => {
    await log?.close()
  })

  async function newTopic(): Promise<string> {
    const name = `kafka-${process.pid}-${serial++}`
    await log.createTopic({ name, partitions: 1, recordBytesMax: 100_000 })
    return name
  }

  /** Changes the marked byte of the next `times` answers that hold the marker. */
  function spoil(marker: string, times: number): () => number {
    let spoiled = 0
    kafka.proxies[0]!.onAnswer = (_pair, chunk) => {
      const at = chunk.indexOf(marker)
      if (at < 0 || spoiled >= times) return chunk
      spoiled++
      const copy = Buffer.from(chunk)
      copy[at] = copy[at]! ^ 1
      return copy
    }
    return () => spoiled
  }

  test('an answer that was damaged on the way is fetched again, and never served', async () => {
    const topic = await newTopic()
    const producer = log.producer({ name: 'spoil', deadlineMs: 30_000 })
    await producer.send([record(topic, 'MARK-once')])
    const spoiled = spoil('MARK-once', 1)
    const reader = log.reader({ topic, partition: 0, from: 0 })
    const [read] = await reader.next({ records: 1, bytes: 1000 })
    kafka.proxies[0]!.onAnswer = undefined
    expect(spoiled()).toBe(1)
    expect(Buffer.from(read!.value).toString()).toBe('MARK-once')
    await reader.close()
  })

  test('a record that stays damaged is HR_LOG_CORRUPT with its position; what is before it is served', async () => {
    const topic = await newTopic()
    const producer = log.producer({ name: 'spoil', deadlineMs: 30_000 })
    await producer.send([record(topic, 'good')])
    await producer.send([record(topic, 'MARK-rotten')])
    spoil('MARK-rotten', Number.POSITIVE_INFINITY)
    const reader = log.reader({ topic, partition: 0, from: 0 })
    const [read] = await reader.next({ records: 10, bytes: 1000 })
    expect(Buffer.from(read!.value).toString()).toBe('good')
    const error = await reader.next({ records: 10, bytes: 1000 }).catch((reason) => reason)
    kafka.proxies[0]!.onAnswer = undefined
    expect(error).toMatchObject({ code: 'HR_LOG_CORRUPT' })
    expect(error.message).toContain('offset 1')
    await reader.close()
  })

  test('the queue of a producer is bounded; what does not fit is refused at once', async () => {
    const topic = await newTopic()
    const small = await openKafkaLog({ brokers: kafka.brokers, clientId: 'bounded', queueBytesMax: 10_000 })
    const producer = small.producer({ name: 'bounded', deadlineMs: 30_000 })
    const sends = Array.from({ length: 20 }, () => producer.send([record(topic, 'x'.repeat(999))]))
    const results = await Promise.allSettled(sends)
    const refused = results.filter((result) => result.status === 'rejected')
    expect(refused).toHaveLength(10)
    for (const { reason } of refused)
      expect(reason).toMatchObject({ code: 'HR_LOG_UNAVAILABLE', class: 'retriable' })
    expect((await log.bounds(topic, 0)).end).toBe(10)
    // And it takes records again when the queue is empty.
    expect(await producer.send([record(topic, 'y')])).toMatchObject([{ offset: 10 }])
    await small.close()
  })

  test('without a broker every call ends in time, with what is wrong', async () => {
    const port = await freePort()
    const nowhere = await openKafkaLog({
      brokers: [`127.0.0.1:${port}`],
      clientId: 'nowhere',
      requestTimeoutMs: 400,
      connectTimeoutMs: 200,
    })
    expect(await nowhere.notReady()).toContain(`127.0.0.1:${port}`)
    const producer = nowhere.producer({ name: 'nowhere', deadlineMs: 600 })
    await expect(producer.send([record('t', 'x')])).rejects.toMatchObject({
      code: 'HR_LOG_DEADLINE',
      class: 'retriable',
    })
    await expect(nowhere.bounds('t', 0)).rejects.toMatchObject({ code: 'HR_LOG_UNAVAILABLE' })
    const reader = nowhere.reader({ topic: 't', partition: 0, from: 0 })
    for (let i = 0; i < 2; i++)
      await expect(reader.next({ records: 1, bytes: 1 })).rejects.toMatchObject({
        code: 'HR_LOG_UNAVAILABLE',
      })
    await nowhere.close()
    await expect(producer.send([record('t', 'x')])).rejects.toMatchObject({ code: 'HR_LOG_CLOSED' })
    expect(() => nowhere.producer({ name: 'late', deadlineMs: 1 })).toThrow('closed')
  })

  test('sending to a topic or partition that is not there is refused before anything is sent', async () => {
    const topic = await newTopic()
    const producer = log.producer({ name: 'no-topic', deadlineMs: 15_000 })
    await expect(producer.send([record('not-there', 'x')])).rejects.toMatchObject({ code: 'HR_LOG_NO_TOPIC' })
    await expect(producer.send([record(topic, 'x', 1)])).rejects.toMatchObject({ code: 'HR_LOG_WRONG_TOPIC' })
    expect(await producer.send([record(topic, 'x')])).toMatchObject([{ offset: 0 }])
  })

  test('a plan is applied, and made again is empty; the boot check agrees', async () => {
    const prefix = `plan-${process.pid}-`
    const deployment = { partitions: 2, replication: 1, minInsyncReplicas: 1 }
    const wanted = deploymentTopics(deployment).map((spec) => ({ ...spec, name: prefix + spec.name }))
    const names = wanted.map(({ name }) => name)
    expect(() => checkTopics(wanted, [])).toThrow('headrace kafka apply')
    const plan = planTopics(wanted, await log.describe(names))
    expect(plan.map(({ kind }) => kind)).toEqual(names.map(() => 'create'))
    await applyPlan(log, plan)
    const made = await log.describe(names)
    expect(planTopics(wanted, made)).toEqual([])
    checkTopics(wanted, made)
    const changed = wanted.map((spec, i) =>
      i === 0 ? { ...spec, retentionMs: 1_000_000, recordBytesMax: 50_000 } : spec,
    )
    await applyPlan(log, planTopics(changed, made))
    const after = await log.describe(names)
    expect(planTopics(changed, after)).toEqual([])
    expect(() => checkTopics(wanted, after)).toThrow('retention.ms is 1000000 ms and becomes 7 days')
    const more = wanted.map((spec) => ({ ...spec, partitions: spec.partitions + 1 }))
    await expect(applyPlan(log, planTopics(more, after))).rejects.toMatchObject({
      code: 'HR_LOG_WRONG_TOPIC',
    })
    for (const name of names) await log.deleteTopic(name)
  })

  test.each([
    [{ brokers: [] }, 'brokers'],
    [{ brokers: ['host:99999'] }, 'host:99999'],
    [{ brokers: ['http://host:1'] }, 'http://host:1'],
    [{ brokers: ['a'], compression: 'brotli' as 'gzip' }, 'brotli'],
    [{ brokers: ['a'], requestTimeoutMs: 0 }, 'requestTimeoutMs'],
    [{ brokers: ['a'], sasl: { mechanism: 'GSSAPI' as 'PLAIN', username: '', password: '' } }, 'GSSAPI'],
  ])('a wrong setting is refused by name: %p', async (options, named) => {
    const error = await openKafkaLog({ clientId: 'x', ...options }).catch((reason) => reason)
    expect(error).toMatchObject({ code: 'HR_LOG_SETTING', class: 'fatal' })
    expect(error.message).toContain(named)
  })
})

/** The broker ends a connection that has not logged in again after this. */
const SESSION_MS = 1_500

describe.skipIf(skipKafka())('an encrypted listener with a password', () => {
  let kafka: Kafka
  let folder: string
  const pem = (name: string) => readFileSync(join(folder, name), 'utf8')
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  const user = { mechanism: 'PLAIN', username: 'headrace', password: 'spring-water' } as const

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'headrace-tls-'))
    for (const ca of ['ca', 'stranger'])
      openssl(
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-days',
        '2',
        '-subj',
        `/CN=${ca}`,
        '-keyout',
        `${ca}.key`,
        '-out',
        `${ca}.pem`,
      )
    writeFileSync(join(folder, 'san'), 'subjectAltName=DNS:kafka.test\n')
    openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=kafka.test',
      '-keyout',
      'broker.key',
      '-out',
      'broker.csr',
    )
    openssl(
      'x509',
      '-req',
      '-in',
      'broker.csr',
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      'san',
      '-out',
      'broker.pem',
    )
    openssl('pkcs8', '-topk8', '-nocrypt', '-in', 'broker.key', '-out', 'broker.pk8')
    const { username, password } = user
    kafka = await startKafka({
      brokers: 1,
      secure: { certificate: pem('broker.pem'), key: pem('broker.pk8'), username, password },
      settings: { 'connections.max.reauth.ms': String(SESSION_MS) },
    })
  })

  afterAll(async () => {
    await kafka?.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  const open = (options: Partial<KafkaLogOptions>) =>
    openKafkaLog({
      brokers: kafka.secureBrokers,
      clientId: 'tls',
      ...options,
    })

  test('the authority we named and the right password: it works', async () => {
    const log = await open({ tls: { ca: pem('ca.pem'), serverName: 'kafka.test' }, sasl: user })
    expect(await log.notReady()).toBeUndefined()
    await log.createTopic({ name: 'secret', partitions: 1, recordBytesMax: 10_000 })
    const producer = log.producer({ name: 'tls', deadlineMs: 30_000 })
    expect(await producer.send([record('secret', 'x')])).toMatchObject([{ offset: 0 }])
    const [read] = await log
      .reader({ topic: 'secret', partition: 0, from: 0 })
      .next({ records: 1, bytes: 100 })
    expect(Buffer.from(read!.value).toString()).toBe('x')
    await log.close()
  })

  test('sends that go on while sessions end are all acknowledged, in order', async () => {
    const log = await open({ tls: { ca: pem('ca.pem'), serverName: 'kafka.test' }, sasl: user })
    await log.createTopic({ name: 'sessions', partitions: 1, recordBytesMax: 1 << 20 })
    const producer = log.producer({ name: 'sessions', deadlineMs: 30_000 })
    // Of more than one part each, so that a login could come in the middle of one.
    const large = 'x'.repeat(900_000)
    const until = performance.now() + 3 * SESSION_MS
    let next = 0
    while (performance.now() < until) {
      const positions = await producer.send([record('sessions', large), record('sessions', `${next + 1}`)])
      expect(positions.map(({ offset }) => offset)).toEqual([next, next + 1])
      next += 2
    }
    const [last] = await log
      .reader({ topic: 'sessions', partition: 0, from: next - 1 })
      .next({ records: 1, bytes: 100 })
    expect(Buffer.from(last!.value).toString()).toBe(`${next - 1}`)
    await log.close()
  })

  const refusals: [string, () => Partial<KafkaLogOptions>][] = [
    ['another authority', () => ({ tls: { ca: pem('stranger.pem'), serverName: 'kafka.test' }, sasl: user })],
    [
      'no authority named: a self-made one is not trusted',
      () => ({ tls: { serverName: 'kafka.test' }, sasl: user }),
    ],
    [
      'a certificate for another name',
      () => ({ tls: { ca: pem('ca.pem'), serverName: 'other.test' }, sasl: user }),
    ],
    ['a certificate that does not name the address', () => ({ tls: { ca: pem('ca.pem') }, sasl: user })],
    [
      'a wrong password',
      () => ({
        tls: { ca: pem('ca.pem'), serverName: 'kafka.test' },
        sasl: { ...user, password: 'tap-water' },
      }),
    ],
    ['no encryption', () => ({ sasl: user })],
  ]
  test.each(refusals)('%s: refused', async (_what, options) => {
    const log = await open(options())
    expect(await log.notReady()).toContain(kafka.secureBrokers[0]!)
    await log.close()
  })
})
