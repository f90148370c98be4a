/**
 * The published SDKs of Segment and RudderStack, unmodified, send to `headrace up`, and ClickHouse holds each event
 * once, each person once, with its group; also when answers are lost and the SDK sends again.
 * `HEADRACE_TEST_EVENTS` sets the events per SDK (300).
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type Product, startProduct } from '../support/product.ts'
import { missing } from '../support/tools.ts'
import { waitFor } from '../support/wait-for.ts'
import { argumentsOf, runSdk } from './sdks/drive.ts'
import { expectExactlyOnce, type Sent, untilStored } from './sdks/expect.ts'
import { driveSegmentBrowser, isBatching } from './segment/browser.ts'

const EVENTS = Number(process.env.HEADRACE_TEST_EVENTS ?? 300)
const STORED_WITHIN_MS = 30_000
const TEST_MS = 240_000
/** Of the proxy that loses answers: every third request is stored and answered with 503. */
const LOSES_EVERY = 3

const script = (name: string) => join(import.meta.dirname, 'segment', name)

describe('I1, I2: unmodified SDKs of Segment and RudderStack', () => {
  let product: Product
  const sent: Sent[] = []

  beforeAll(async () => {
    product = await startProduct()
  }, TEST_MS)

  afterAll(async () => {
    await product?.stop()
  }, TEST_MS)

  const target = (name: string, users: number, host = product.captureUrl) => {
    sent.push({ name, events: EVENTS, users })
    return { host, token: product.token, events: EVENTS, users, name }
  }

  test(
    '@segment/analytics-node reports no error',
    async () => {
      const drive = target('segment-node', 10)
      const { failures } = await runSdk([process.execPath, script('segment-node.ts'), ...argumentsOf(drive)])
      expect(failures).toEqual([])
    },
    TEST_MS,
  )

  test(
    '@rudderstack/rudder-sdk-node reports no error',
    async () => {
      const drive = target('rudder-node', 10)
      const { failures } = await runSdk([process.execPath, script('rudder-node.ts'), ...argumentsOf(drive)])
      expect(failures).toEqual([])
    },
    TEST_MS,
  )

  test.skipIf(missing('chromium') !== undefined)(
    '@segment/analytics-next in Chromium reports no error, knowing no more than cdnURL',
    async () => {
      expect(await driveSegmentBrowser(target('segment-browser', 6))).toEqual([])
    },
    TEST_MS,
  )

  test(
    '@segment/analytics-node sends again what was stored, and reports no error',
    async () => {
      let requests = 0
      let again = 0
      const proxy = Bun.serve({
        hostname: '127.0.0.1',
        port: 0,
        async fetch(request) {
          if (request.headers.has('x-retry-count')) again++
          const { pathname } = new URL(request.url)
          const answer = await fetch(product.captureUrl + pathname, {
            method: request.method,
            headers: [...request.headers],
            body: await request.arrayBuffer(),
          })
          const text = await answer.text()
          if (requests++ % LOSES_EVERY === 0 && answer.ok) return new Response('lost', { status: 503 })
          return new Response(text, { status: answer.status })
        },
      })
      try {
        const drive = target('segment-again', 10, proxy.url.origin)
        const { failures } = await runSdk([
          process.execPath,
          script('segment-node.ts'),
          ...argumentsOf(drive),
        ])
        expect(failures).toEqual([])
        expect(again).toBeGreaterThan(2)
      } finally {
        await proxy.stop(true)
      }
    },
    TEST_MS,
  )

  test(
    'every event is stored once, every person is one, every event knows its company',
    async () => {
      await untilStored(product.sql, sent, STORED_WITHIN_MS)
      for (const one of sent) await expectExactlyOnce(product.sql, one)
    },
    TEST_MS,
  )

  test(
    'pages, screens, groups and what was sent twice are what they should be',
    async () => {
      const names = sent.map(({ name }) => name)
      const onLeave = async () => {
        const [row] = await product.sql<{ n: number }>(
          `SELECT count() AS n FROM events WHERE event = 'segment-browser on leave'`,
        )
        return Number(row!.n) === [0, 1, 2, 3, 4, 5].filter(isBatching).length
      }
      const perUser = (event: string, name: string) =>
        `countIf(event = '${event}' AND startsWith(distinct_id, '${name}-'))`
      for (const { name, users } of sent.filter(({ name }) => name !== 'segment-browser')) {
        const [row] = await product.sql(
          `SELECT ${perUser('$identify', name)} AS identifies, ${perUser('$groupidentify', name)} AS groups,
             ${perUser('$pageview', name)} AS pages, ${perUser('$screen', name)} AS screens FROM events`,
        )
        const screens = name === 'rudder-node' ? 0 : users
        expect<object>({ name, ...row }).toEqual({
          name,
          identifies: users,
          groups: users,
          pages: users,
          screens,
        })
      }
      if (names.includes('segment-browser')) {
        const [row] = await product.sql(
          `SELECT count() AS pages, countIf(JSONExtractString(properties, 'title') = 'Shop'
               AND JSONExtractString(properties, '$pathname') = '/' AND JSONExtractString(properties, '$raw_user_agent') LIKE '%Chrome/%'
               AND startsWith(JSONExtractString(properties, '$host'), '127.0.0.1:')) AS complete
           FROM events WHERE event = '$pageview' AND JSONExtractString(properties, '$lib') = 'analytics.js'`,
        )
        expect(row!).toEqual({ pages: 6, complete: 6 })
        await waitFor('what was sent when pages were left', onLeave, STORED_WITHIN_MS)
      }
      const duplicates = async () => {
        const [row] = await product.sql<{ n: number }>(
          `SELECT count() AS n FROM outcomes WHERE state = 'duplicate'`,
        )
        return Number(row!.n) > 0
      }
      await waitFor('a duplicate in the outcomes', duplicates, STORED_WITHIN_MS)
    },
    TEST_MS,
  )
})
