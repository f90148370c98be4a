/**
 * The whole way on one machine, from outside: unmodified public SDKs send to `headrace up`, and ClickHouse holds
 * each event once, each person once. `HEADRACE_TEST_EVENTS` sets the events per SDK (1,000).
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { type Product, startProduct } from '../support/product.ts'
import { missing } from '../support/tools.ts'
import { driveBrowser, driveNode, drivePython } from './sdks/drive.ts'
import { expectExactlyOnce, freshness, type Sent, untilStored } from './sdks/expect.ts'

const EVENTS = Number(process.env.HEADRACE_TEST_EVENTS ?? 1_000)
const STORED_WITHIN_MS = 30_000
const TEST_MS = 240_000

describe('I1, I2: unmodified SDKs', () => {
  let product: Product
  const sent: Sent[] = []

  beforeAll(async () => {
    product = await startProduct()
  }, TEST_MS)

  afterAll(async () => {
    await product?.stop()
  }, TEST_MS)

  const target = (users: number) => ({
    host: product.captureUrl,
    token: product.token,
    events: EVENTS,
    users,
  })

  test(
    'posthog-node reports no error',
    async () => {
      expect(await driveNode(target(10))).toEqual([])
      sent.push({ name: 'node', events: EVENTS, users: 10 })
    },
    TEST_MS,
  )

  test.skipIf(missing('python') !== undefined)(
    'posthog for Python reports no error',
    async () => {
      expect(await drivePython(target(10))).toEqual([])
      sent.push({ name: 'python', events: EVENTS, users: 10 })
    },
    TEST_MS,
  )

  test.skipIf(missing('chromium') !== undefined)(
    'posthog-js in Chromium reports no error',
    async () => {
      expect(await driveBrowser(target(5))).toEqual([])
      sent.push({ name: 'browser', events: EVENTS, users: 5 })
    },
    TEST_MS,
  )

  test(
    'every event is stored once, every person is one',
    async () => {
      await untilStored(product.sql, sent, STORED_WITHIN_MS)
      for (const one of sent) await expectExactlyOnce(product.sql, one)
      const { p50, p99 } = await freshness(product.sql)
      console.log(
        `${sent.length * EVENTS} events of ${sent.length} SDKs; capture to queryable p50 ${p50} ms, p99 ${p99} ms`,
      )
    },
    TEST_MS,
  )
})
