/**
 * I1 at the edge of the network: what was acknowledged is in the log at its position, whatever happens to requests and
 * answers on the way; and what was given up never lands behind what follows. Each trap is first shown on a client that
 * walks into it, so that the test is known to be able to fail.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { initProducerIdV4 } from '@platformatic/kafka'
import { type Kafka, sharedKafka, skipKafka } from '../../../test/support/kafka.ts'
import type { ProxyPair, TcpProxy } from '../../../test/support/tcp-proxy.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { type KafkaLog, openKafkaLog } from './index.ts'
import { Link } from './link.ts'
import { kafkaSettings } from './options.ts'
import { ProduceRequest, produceAnswers } from './produce-request.ts'
import { type ProducerIdentity, packBatch } from './record-batch.ts'

// All waits below have deadlines of their own; this one must not be the first to pass on a busy machine.
setDefaultTimeout(300_000)
/** For what is sure to happen unless something is broken. */
const SURELY_MS = 60_000
/** For sends that are meant to fail: long enough for the other sends of their producer on a busy machine. */
const GIVEN_UP_MS = 2_500
const PRODUCE = 0
const isProduce = (chunk: Buffer) => chunk.length > 8 && chunk.readInt16BE(4) === PRODUCE

describe.skipIf(skipKafka())('answers and requests that get lost on the way', () => {
  let kafka: Kafka
  let proxy: TcpProxy
  let log: KafkaLog
  /** Asks again well before a send is given up, so that several copies of it are on their way. */
  let impatient: KafkaLog
  let serial = 0

  beforeAll(async () => {
    kafka = await sharedKafka()
    proxy = kafka.proxies[0]!
    const brokers = kafka.proxiedBrokers
    log = await openKafkaLog({ brokers, clientId: 'lost-answers' })
    impatient = await openKafkaLog({ brokers, clientId: 'impatient', requestTimeoutMs: 800 })
  })

  afterAll(async () => {
    if (proxy) proxy.onRequest = undefined
    await impatient?.close()
    await log?.close()
  })

  async function newTopic(): Promise<string> {
    const name = `lost-${process.pid}-${serial++}`
    await log.createTopic({ name, partitions: 1, recordBytesMax: 100_000 })
    return name
  }

  const record = (topic: string, text: string) => ({
    topic,
    partition: 0,
    header: Buffer.from('h'),
    value: Buffer.from(text),
  })

  async function contents(topic: string): Promise<string[]> {
    const { start, end } = await log.bounds(topic, 0)
    const found: string[] = []
    for await (const batch of log.read(topic, 0, start, end))
      for (const { value } of batch) found.push(Buffer.from(value).toString())
    return found
  }

  /** Does something to the next produce request only. */
  function onNextProduce(act: (pair: ProxyPair, chunk: Buffer) => void): Promise<ProxyPair> {
    return new Promise((caught) => {
      proxy.onRequest = (pair, chunk) => {
        if (!isProduce(chunk)) return
        proxy.onRequest = undefined
        act(pair, chunk)
        caught(pair)
      }
    })
  }

  /** A client without our precautions: sends what it is told with the identity it is told. */
  async function naiveSend(
    link: Link,
    topic: string,
    text: string,
    identity: ProducerIdentity,
    timeoutMs = SURELY_MS,
  ) {
    const batch = packBatch({ records: [record(topic, text)], identity, nowMs: Date.now() }, 'none')
    const part = {
      topic,
      partition: 0,
      bytes: batch.length,
      write: (out: Buffer, at: number) => void batch.copy(out, at),
    }
    const frame = new ProduceRequest('naive').write([part], timeoutMs)
    const answers = await link.exchange(frame, produceAnswers, timeoutMs)
    return answers.get(`${topic}/0`)!
  }

  async function producerId(link: Link): Promise<bigint> {
    const answer = await link.ask<initProducerIdV4.InitProducerIdResponse>((connection, done) =>
      initProducerIdV4.api(connection, null, 0, undefined, undefined, done),
    )
    return answer.producerId
  }

  function naiveLink(): Link {
    const settings = kafkaSettings({ brokers: kafka.proxiedBrokers, clientId: 'naive' })
    return new Link(settings.seeds[0]!, settings)
  }

  test('an answer that is cut is asked for again; the records are in the log once, where the positions say', async () => {
    const topic = await newTopic()
    const producer = log.producer({ name: 'cut', deadlineMs: SURELY_MS })
    const expected: string[] = []
    for (let i = 0; i < 12; i++) {
      const cut = onNextProduce((pair) => pair.swallowAnswers()).then(async (pair) => {
        await waitFor('answer of the broker', () => pair.swallowedBytes > 0, SURELY_MS)
        pair.cut()
      })
      const texts = [`${i}a`, `${i}b`]
      const positions = await producer.send(texts.map((text) => record(topic, text)))
      await cut
      expect(positions.map(({ offset }) => offset)).toEqual([expected.length, expected.length + 1])
      expected.push(...texts)
    }
    expect(await contents(topic)).toEqual(expected)
    await producer.close()
  })

  test('the trap of the false acknowledgement is real: a reused sequence number is confirmed and not stored', async () => {
    const topic = await newTopic()
    const link = naiveLink()
    const identity = { producerId: await producerId(link), epoch: 0, sequence: 0 }
    const landed = onNextProduce((pair) => pair.swallowAnswers())
    await expect(naiveSend(link, topic, 'A', identity, 1_500)).rejects.toMatchObject({
      code: 'HR_LOG_UNAVAILABLE',
    })
    await landed
    const answer = await naiveSend(link, topic, 'B', identity)
    expect(answer.code).toBe(0)
    expect(await contents(topic)).toEqual(['A'])
    link.destroy()
  })

  test('after a send whose answer never came, the next one is acknowledged only when it is in the log', async () => {
    const topic = await newTopic()
    const producer = impatient.producer({ name: 'swallowed', deadlineMs: GIVEN_UP_MS })
    await producer.send([record(topic, 'first')])
    const swallowing = new Set<ProxyPair>()
    proxy.onRequest = (pair, chunk) => {
      if (!isProduce(chunk)) return
      pair.swallowAnswers()
      swallowing.add(pair)
    }
    await expect(producer.send([record(topic, 'A')])).rejects.toMatchObject({ code: 'HR_LOG_DEADLINE' })
    expect(swallowing.size).toBeGreaterThan(1)
    proxy.onRequest = undefined
    for (let i = 0; i < 5; i++) {
      const [position] = await producer.send([record(topic, `B${i}`)])
      const stored = await contents(topic)
      expect(stored[position!.offset]).toBe(`B${i}`)
    }
    const stored = await contents(topic)
    expect(stored).toEqual(['first', 'A', 'B0', 'B1', 'B2', 'B3', 'B4'])
    await producer.close()
  })

  test('the trap of the late landing is real: a new producer id alone lets the old send land behind the new one', async () => {
    const topic = await newTopic()
    const old = naiveLink()
    const oldIdentity = { producerId: await producerId(old), epoch: 0, sequence: 0 }
    const caught = onNextProduce((pair) => pair.hold())
    await expect(naiveSend(old, topic, 'A', oldIdentity, 1_500)).rejects.toMatchObject({
      code: 'HR_LOG_UNAVAILABLE',
    })
    const held = await caught
    old.destroy()
    await waitFor('cut by the client', () => !held.clientOpen, SURELY_MS)
    const fresh = naiveLink()
    const answer = await naiveSend(fresh, topic, 'B', {
      producerId: await producerId(fresh),
      epoch: 0,
      sequence: 0,
    })
    expect(answer).toMatchObject({ code: 0, baseOffset: 0 })
    held.release()
    await waitFor('answer of the broker to the late request', () => held.swallowedBytes > 0, SURELY_MS)
    expect(await contents(topic)).toEqual(['B', 'A'])
    fresh.destroy()
  })

  test('a send that was given up and lands late is refused by the broker: nothing appears behind what followed', async () => {
    const topic = await newTopic()
    const producer = impatient.producer({ name: 'late', deadlineMs: GIVEN_UP_MS })
    await producer.send([record(topic, 'first')])
    const held: ProxyPair[] = []
    proxy.onRequest = (pair, chunk) => {
      if (!isProduce(chunk) || held.includes(pair)) return
      pair.hold()
      held.push(pair)
    }
    await expect(producer.send([record(topic, 'A')])).rejects.toMatchObject({ code: 'HR_LOG_DEADLINE' })
    proxy.onRequest = undefined
    expect(held.length).toBeGreaterThan(1)
    await waitFor('cut by the client', () => held.every((pair) => !pair.clientOpen), SURELY_MS)
    const [b] = await producer.send([record(topic, 'B')])
    expect(b!.offset).toBe(1)
    for (const pair of held) pair.release()
    await waitFor(
      'answer of the broker to the late request',
      () => held.every((pair) => pair.swallowedBytes > 0),
      SURELY_MS,
    )
    const [c] = await producer.send([record(topic, 'C')])
    expect(c!.offset).toBe(2)
    expect(await contents(topic)).toEqual(['first', 'B', 'C'])
    await producer.close()
  })

  test('given up before anything followed, it may land, and then lies in front of what follows', async () => {
    const topic = await newTopic()
    const producer = log.producer({ name: 'early', deadlineMs: GIVEN_UP_MS })
    const caught = onNextProduce((pair) => pair.hold())
    await expect(producer.send([record(topic, 'A')])).rejects.toMatchObject({ code: 'HR_LOG_DEADLINE' })
    const held = await caught
    await waitFor('cut by the client', () => !held.clientOpen, SURELY_MS)
    held.release()
    await waitFor('answer of the broker to the late request', () => held.swallowedBytes > 0, SURELY_MS)
    const [b] = await producer.send([record(topic, 'B')])
    expect(b!.offset).toBe(1)
    expect(await contents(topic)).toEqual(['A', 'B'])
    await producer.close()
  })

  test('records that wait while the limits of their topic are forgotten are sent all the same', async () => {
    const topic = await newTopic()
    const producer = log.producer({ name: 'forgotten', deadlineMs: SURELY_MS })
    const caught = onNextProduce((pair) => pair.hold())
    const first = producer.send([record(topic, 'first')])
    const held = await caught
    const second = producer.send([record(topic, 'second')])
    await log.alterTopic(topic, { recordBytesMax: 50_000 })
    held.release()
    expect(await first).toMatchObject([{ offset: 0 }])
    expect(await second).toMatchObject([{ offset: 1 }])
    await producer.close()
  })

  test('a network that cuts and swallows at random loses nothing acknowledged and doubles nothing', async () => {
    const topic = await newTopic()
    const producer = impatient.producer({ name: 'random', deadlineMs: 1_000 })
    let chance = 1
    const random = () => {
      chance = (chance * 48_271) % 2_147_483_647
      return chance / 2_147_483_647
    }
    const late: ProxyPair[] = []
    proxy.onRequest = (pair, chunk) => {
      if (!isProduce(chunk)) return
      const draw = random()
      if (draw < 0.03) pair.swallowAnswers()
      else if (draw < 0.06) pair.cut()
      else if (draw < 0.09) {
        pair.hold()
        late.push(pair)
      } else if (draw < 0.12) for (const old of late.splice(0)) old.release()
    }
    const acknowledged = new Map<string, number>()
    const failed = new Set<string>()
    const pending: Promise<void>[] = []
    for (let i = 0; i < 400; i++) {
      const texts = [`${i}.0`, `${i}.1`, `${i}.2`]
      pending.push(
        producer.send(texts.map((text) => record(topic, text))).then(
          (positions) => texts.forEach((text, n) => void acknowledged.set(text, positions[n]!.offset)),
          (error) => {
            expect(error).toMatchObject({ class: 'retriable' })
            for (const text of texts) failed.add(text)
          },
        ),
      )
      if (i % 4 === 3) await pending[i - 3]
    }
    await Promise.all(pending)
    proxy.onRequest = undefined
    for (const old of late.splice(0)) old.release()
    const [last] = await producer.send([record(topic, 'last')])
    acknowledged.set('last', last!.offset)
    const stored = await contents(topic)
    expect(new Set(stored).size).toBe(stored.length)
    for (const [text, offset] of acknowledged) expect(stored[offset]).toBe(text)
    const order = stored.filter((text) => text !== 'last').map((text) => Number(text.split('.')[0]))
    expect(order).toEqual([...order].sort((a, b) => a - b))
    expect(acknowledged.size).toBeGreaterThan(100)
    for (const text of stored) expect(acknowledged.has(text) || failed.has(text)).toBe(true)
    await producer.close()
  })
})
