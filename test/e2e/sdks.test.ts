/**
 * The whole way on one machine, from outside: unmodified public SDKs send to `headrace up`, each through a recording
 * proxy. No SDK reports an error or asks for anything more than what stands here, every event that an SDK took is sent
 * once, and ClickHouse holds exactly these, each once, with each person once.
 * `HEADRACE_TEST_EVENTS` sets the events of the three main SDKs (1,000).
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { type Product, startProduct } from '../support/product.ts'
import { missing, type Tool } from '../support/tools.ts'
import { type PageOptions, Pages } from './sdks/browser.ts'
import { type Drive, driveGo, driveLite, driveNode, drivePython, type Report } from './sdks/drive.ts'
import { exampleOf, runExample } from './sdks/examples.ts'
import {
  expectAllOnce,
  expectExactlyOnce,
  expectSame,
  freshness,
  type Sent,
  untilCount,
} from './sdks/expect.ts'
import { type SentEvent, Wire } from './sdks/wire.ts'

const EVENTS = Number(process.env.HEADRACE_TEST_EVENTS ?? 1_000)
const MANY = { events: EVENTS, users: 10 }
const FEW = { events: 200, users: 5 }
const STORED_WITHIN_MS = 30_000
const TEST_MS = 240_000
/** Of a person; capture takes no notice of it. */
const SECRET_KEY = 'phx_test'

/** Requests by kind, as `Wire.kinds` tells them. */
type Kinds = Record<string, number>

const V0 = { 'POST /batch/ 200': 1 }
const V1 = { 'POST /i/v1/analytics/events 200': 1 }
const FLAGS = 'POST /flags/ 200'
const CONFIG = 'GET /array/phc_test/config.js 200'
const DEFINITIONS = { 'GET /flags/definitions 200': 1, 'GET /flags/definitions 304': 1 }
const PAGE_EVENTS = { 'POST /e/ 200': 1, 'POST /e/ 200 (beacon)': 1 }

/** What posthog-js asks for on `users` pages: its config, and flags when a user is identified. */
const pageKinds = (users: number): Kinds => ({ ...PAGE_EVENTS, [CONFIG]: users, [FLAGS]: users })
/** Uncompressed JSON has a content type that a browser asks about first. */
const plainKinds = (users: number): Kinds => ({
  ...pageKinds(users),
  'OPTIONS /e/ 200': 1,
  'OPTIONS /flags/ 200': 1,
})

describe('I1, I2: unmodified SDKs', () => {
  let product: Product
  let pages: Pages | undefined
  const played: Sent[] = []
  const sent: SentEvent[] = []

  beforeAll(async () => {
    product = await startProduct()
  }, TEST_MS)

  afterAll(async () => {
    await pages?.close()
    await product?.stop()
  }, TEST_MS)

  /** Runs one SDK through a wire of its own and holds what it said against what passed there. */
  async function run(
    scenario: Sent,
    drive: (target: Drive, wire: Wire) => Promise<Report>,
    kinds: Kinds,
  ): Promise<SentEvent[]> {
    const wire = new Wire(product.captureUrl)
    try {
      const report = await drive({ ...scenario, host: wire.url, token: product.token }, wire)
      expect(report.failures).toEqual([])
      expectSame(report.sent, wire.events)
      expect(wire.kinds()).toEqual(kinds)
      sent.push(...report.sent)
      return report.sent
    } finally {
      await wire.stop()
    }
  }

  /** `run` with the scenario that all drivers but the snippet's play. */
  async function play(scenario: Sent, drive: (target: Drive, wire: Wire) => Promise<Report>, kinds: Kinds) {
    await run(scenario, drive, kinds)
    played.push(scenario)
  }

  describe('on servers', () => {
    test('posthog-node', () => play({ name: 'node', ...MANY }, (target) => driveNode(target), V0), TEST_MS)

    test(
      'posthog-node, v1',
      () => play({ name: 'node-v1', ...FEW }, (target) => driveNode(target, 'v1'), V1),
      TEST_MS,
    )

    test(
      'posthog-node, flags by itself and from capture',
      () =>
        play({ name: 'node-flags', ...FEW }, (target) => driveNode(target, 'v0', SECRET_KEY), {
          ...V0,
          ...DEFINITIONS,
          [FLAGS]: 1,
        }),
      TEST_MS,
    )

    test(
      'posthog-js-lite without a browser',
      // It asks for flags when it starts, and again when its user is identified.
      () => play({ name: 'lite-node', ...FEW }, driveLite, { ...V0, [FLAGS]: 2 * FEW.users }),
      TEST_MS,
    )

    describe.skipIf(missing('python') !== undefined)('Python', () => {
      test(
        'posthog for Python',
        () =>
          play(
            { name: 'python', ...MANY },
            (target) => drivePython(target, { mode: 'v0', compression: 'gzip' }),
            V0,
          ),
        TEST_MS,
      )

      test.each(['none', 'gzip', 'deflate', 'zstd'] as const)(
        'posthog for Python, v1, %s',
        (compression) =>
          play(
            { name: `python-v1-${compression}`, ...FEW },
            (target) => drivePython(target, { mode: 'v1', compression }),
            V1,
          ),
        TEST_MS,
      )

      test(
        'posthog for Python, flags by itself and from capture',
        () =>
          play(
            { name: 'python-flags', ...FEW },
            (target) => drivePython(target, { mode: 'v0', compression: 'none' }, SECRET_KEY),
            { ...V0, ...DEFINITIONS, [FLAGS]: 1 },
          ),
        TEST_MS,
      )
    })

    test.skipIf(missing('go') !== undefined)(
      'posthog-go, flags by itself and from capture',
      () =>
        play({ name: 'go', ...FEW, unordered: true }, (target) => driveGo(target, SECRET_KEY), {
          ...V0,
          [FLAGS]: 1,
          'GET /api/feature_flag/local_evaluation 200': 2,
        }),
      TEST_MS,
    )
  })

  describe.skipIf(missing('chromium') !== undefined)('in Chromium', () => {
    beforeAll(async () => {
      pages = await Pages.start()
    }, TEST_MS)

    const rows: [name: string, events: number, users: number, options: PageOptions, kinds: Kinds][] = [
      ['browser', EVENTS, 5, { transport: 'fetch', compression: 'gzip' }, pageKinds(5)],
      ['browser-plain', 200, 2, { transport: 'fetch', compression: 'none' }, plainKinds(2)],
      ['browser-xhr', 200, 2, { transport: 'xhr', compression: 'gzip' }, pageKinds(2)],
      ['browser-leave', 200, 2, { transport: 'leave', compression: 'gzip' }, pageKinds(2)],
      // In base64. A browser lets a page leave 64 KiB behind, which is some 20 events of this SDK.
      ['browser-leave-plain', 20, 2, { transport: 'leave', compression: 'none' }, plainKinds(2)],
    ]
    test.each(rows)(
      'posthog-js: %s',
      (name, events, users, options, kinds) =>
        play({ name, events, users }, (target, wire) => pages!.driveJs(target, wire, options), kinds),
      TEST_MS,
    )

    test(
      'posthog-js by the HTML snippet, from capture',
      async () => {
        const took = await run(
          { name: 'snippet', events: 1, users: 1 },
          (target, wire) => pages!.driveSnippet(target, wire),
          { ...PAGE_EVENTS, [CONFIG]: 1, 'GET /static/array.js 200': 1 },
        )
        const names = took.map(({ event }) => event).sort()
        expect(names).toEqual(['$autocapture', '$pageleave', '$pageview', 'snippet event'])
      },
      TEST_MS,
    )

    test(
      'posthog-js-lite',
      () =>
        play({ name: 'lite', events: 200, users: 2 }, (target, wire) => pages!.driveLite(target, wire), {
          ...V0,
          [FLAGS]: 4,
          'OPTIONS /batch/ 200': 1,
          'OPTIONS /flags/ 200': 1,
        }),
      TEST_MS,
    )
  })

  describe('the examples of docs/guides/sdks.md', () => {
    const rows: [language: string, needs: Tool | undefined, events: string[]][] = [
      ['js', undefined, ['plan bought']],
      ['python', 'python', ['plan bought']],
      ['go', 'go', ['plan bought']],
      ['html', 'chromium', ['$pageview', 'plan bought']],
    ]
    for (const [language, needs, events] of rows) {
      test.skipIf(needs !== undefined && missing(needs) !== undefined)(
        language,
        async () => {
          const wire = new Wire(product.captureUrl)
          try {
            const code = exampleOf('sdks.md', language)
              .replaceAll('https://events.example', wire.url)
              .replaceAll('phc_demo', product.token)
            expect(
              language === 'html'
                ? await pages!.open(code, wire, events.length)
                : await runExample(language, code),
            ).toBe('')
            const names = wire.events.map(({ event }) => event)
            // A page that is closed may still say so.
            expect(names.filter((name) => name !== '$pageleave').sort()).toEqual(events)
          } finally {
            await wire.stop()
            sent.push(...wire.events)
          }
        },
        TEST_MS,
      )
    }
  })

  test(
    'every event is stored once, every person is one',
    async () => {
      await untilCount(product.sql, sent.length, STORED_WITHIN_MS)
      await expectAllOnce(product.sql, sent)
      for (const one of played) await expectExactlyOnce(product.sql, one)
      const { p50, p99 } = await freshness(product.sql)
      console.log(
        `${sent.length} events of ${played.length} runs; capture to queryable p50 ${p50} ms, p99 ${p99} ms`,
      )
    },
    TEST_MS,
  )
})
