/** The HTTP door with parts behind it that break: what a request held is given back, and it is answered. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from 'bun:test'
import type { HeadraceError } from '../event/index.ts'
import { createLogger } from '../observe/index.ts'
import { InFlightBudget } from './limits.ts'
import type { CaptureRequest, Route } from './request.ts'
import { CaptureServer } from './server.ts'

setDefaultTimeout(60_000)

const REFUSED = { index: 0, field: 'event', reason: 'missing_event', message: 'no name' } as const
const TAKEN_BYTES = 10

/** Answered, though an event of it is refused. */
const PARTLY: Route = {
  methods: ['POST'],
  answer: ({ share, trail }) => {
    share.take(TAKEN_BYTES)
    trail.rejected = [REFUSED]
    return { status: 200, body: 'stored' }
  },
}
const NO_WORDS: Route = {
  methods: ['POST'],
  answer: ({ share }) => {
    share.take(TAKEN_BYTES)
    throw new Error('the route broke')
  },
  refusal: () => {
    throw new Error('so did its words')
  },
}

let server: CaptureServer
let budget: InFlightBudget
let reported: [path: string, status: number, code: string | undefined][]
beforeEach(() => {
  budget = new InFlightBudget(TAKEN_BYTES)
  reported = []
  const routes = new Map([
    ['/partly', PARTLY],
    ['/no-words', NO_WORDS],
  ])
  server = new CaptureServer({
    hostname: '127.0.0.1',
    port: 0,
    routes,
    dynamicRoute: () => undefined,
    health: { notReady: async () => undefined },
    budget,
    bodies: { bodyBytesMax: 1000, bodyMs: 1000, bodyStallMs: 1000 },
    idleSeconds: 10,
    connectionsMax: 100,
    trustedProxies: '',
    clock: Date.now,
    logger: createLogger('capture', 'silent'),
    refused: breakReport,
  })
})
/** All is given back: the whole budget can be had, and nothing is waited for. */
afterEach(async () => {
  budget.open().take(TAKEN_BYTES)
  expect(await server.stop(50)).toBe(0)
})

function breakReport({ path }: CaptureRequest, status: number, error: HeadraceError | undefined): void {
  reported.push([path, status, error?.code])
  throw new Error('the report broke')
}

const post = (path: string) => fetch(server.url + path, { method: 'POST', body: '{}' })

test('a report that breaks takes nothing from an answer that is decided', async () => {
  const response = await post('/partly')
  expect([response.status, await response.text()]).toEqual([200, 'stored'])
  expect(reported).toEqual([['/partly', 200, undefined]])
})

test('nor from a refusal', async () => {
  const response = await post('/nothing')
  expect(response.status).toBe(404)
  expect(await response.json()).toMatchObject({ code: 'HR_CAPTURE_NOT_FOUND' })
  expect(reported).toEqual([['/nothing', 404, 'HR_CAPTURE_NOT_FOUND']])
})

test('a refusal that cannot be put into words is a fault of ours', async () => {
  const response = await post('/no-words')
  expect(response.status).toBe(500)
  expect(await response.json()).toMatchObject({ code: 'HR_CAPTURE_INTERNAL' })
})
