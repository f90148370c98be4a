/** The detour around a real Kafka whose network is cut, swallows, or is slow. */
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test'
import { type Kafka, QUICK_TO_NOTICE, skipKafka, startKafka } from '../../../test/support/kafka.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { RAW_TOPICS } from '../../event/index.ts'
import { type Log, openKafkaLog } from '../../log/index.ts'
import { metricsText } from '../../observe/index.ts'
import {
  CLEAN,
  event,
  judge,
  openTestWriter,
  PARTITIONS,
  type TestWriter,
  tempDir,
} from './detour.fixture.ts'

setDefaultTimeout(180_000)

const ANSWER_MS = 7_000
const SLOW_MS = 5_000

describe.skipIf(skipKafka())('the detour around Kafka', () => {
  let kafka: Kafka
  let log: Log
  let dir: ReturnType<typeof tempDir>
  let writer: TestWriter
  let loading = false
  let load: Promise<void>
  let acknowledged: string[]
  let refused: unknown[]
  let slowestMs = 0

  beforeAll(async () => {
    kafka = await startKafka({ brokers: 1, proxied: true, settings: QUICK_TO_NOTICE })
    const plain = await openKafkaLog({ brokers: kafka.brokers, clientId: 'test' })
    for (const name of RAW_TOPICS)
      await plain.createTopic({ name, partitions: PARTITIONS, recordBytesMax: 1 << 20 })
    await plain.close()
  })
  afterAll(() => kafka.stop())

  let first = 0
  /** Requests of one to three events, one after the other in six chains, until `loading` is false. */
  async function run(): Promise<void> {
    let n = first
    const chain = async () => {
      while (loading) {
        const from = performance.now()
        const records = [event(n), event(n + 1)]
        const names = [`a:${n}`, `a:${n + 1}`]
        n += 2
        await writer.writer.write(records).then(
          () => acknowledged.push(...names),
          (error) => refused.push(error),
        )
        slowestMs = Math.max(slowestMs, performance.now() - from)
        await Bun.sleep(1)
      }
    }
    await Promise.all(Array.from({ length: 6 }, chain))
    first = n
  }

  beforeEach(async () => {
    dir = tempDir()
    acknowledged = []
    refused = []
    slowestMs = 0
    log = await openKafkaLog({ brokers: kafka.proxiedBrokers, clientId: 'capture' })
    writer = await openTestWriter({
      dir: dir.path,
      log,
      settings: { captureLogMs: 3_000, captureAnswerMs: ANSWER_MS },
      checkLog: async () => void (await log.describe([...RAW_TOPICS])),
    })
    await direct()
    loading = true
    load = run()
    await more(100)
  })
  afterEach(async () => {
    loading = false
    heal()
    await load
    await writer.close(performance.now() + 1_000)
    await log.close()
    dir.remove()
  })

  function heal(): void {
    for (const proxy of kafka.proxies) {
      proxy.onRequest = undefined
      proxy.refusing = false
      for (const pair of proxy.pairs) pair.release()
    }
  }

  async function metric(name: string): Promise<number> {
    const line = (await metricsText()).split('\n').find((text) => text.startsWith(`${name} `))
    return Number(line?.split(' ')[1])
  }
  const state = () => metric('headrace_capture_spool_state')
  const direct = () => waitFor('the direct way', async () => (await state()) === 0, 60_000)
  const more = (events: number) => {
    const until = acknowledged.length + events
    return waitFor(`${events} more events`, () => acknowledged.length >= until, 30_000)
  }

  /** Ends the load, and looks at everything that came into Kafka. */
  async function verdict() {
    loading = false
    await load
    expect(await writer.close(performance.now() + 30_000)).toEqual({ unanswered: 0, spooled: 0 })
    expect(writer.fatal).toEqual([])
    const plain = await openKafkaLog({ brokers: kafka.brokers, clientId: 'test' })
    try {
      return await judge(plain, acknowledged)
    } finally {
      await plain.close()
    }
  }

  test('cut off: every request is answered with success, and all of it arrives in order', async () => {
    const [proxy] = kafka.proxies
    proxy!.refusing = true
    proxy!.cutAll()
    await waitFor('spooling', async () => (await state()) === 1, 20_000)
    await more(300)
    heal()
    await direct()
    await more(100)
    expect(await verdict()).toEqual(CLEAN)
    expect(refused).toEqual([])
    expect(slowestMs).toBeLessThan(8_000)
  })

  test('a network that holds everything back, and lets it land late', async () => {
    const [proxy] = kafka.proxies
    proxy!.onRequest = (pair) => pair.hold()
    for (const pair of proxy!.pairs) pair.hold()
    await waitFor('spooling', async () => (await state()) === 1, 20_000)
    await more(300)
    heal()
    await direct()
    await more(100)
    expect(await verdict()).toEqual(CLEAN)
    expect(refused).toEqual([])
    expect(slowestMs).toBeLessThan(8_000)
  })

  test('slow by 5 s: one request pays, the spool goes between, no way back while it lasts', async () => {
    const [proxy] = kafka.proxies
    proxy!.onRequest = (pair) => {
      pair.hold()
      setTimeout(() => pair.release(), SLOW_MS)
    }
    await waitFor('draining', async () => (await state()) === 2, 60_000)
    slowestMs = 0
    await more(300)
    expect(await state()).toBe(2)
    expect(slowestMs).toBeLessThan(SLOW_MS / 2)
    heal()
    await direct()
    await more(100)
    expect(await verdict()).toEqual(CLEAN)
    expect(refused).toEqual([])
  })
})
