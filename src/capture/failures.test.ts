import { afterEach, describe, expect, test } from 'bun:test'
import { fdatasync } from 'node:fs'
import { PostHog } from 'posthog-node'
import {
  EVERY_TOKEN,
  startTestCapture,
  TEST_PARTITIONS,
  type TestCapture,
} from '../../test/support/capture.ts'
import { waitFor } from '../../test/support/wait-for.ts'
import { readSettings, type Settings } from '../catalog/index.ts'
import { createLogger } from '../observe/index.ts'
import { startCapture } from './index.ts'

const EVENT = { event: 'e', distinct_id: 'd', token: 'phc_test' }
const started: TestCapture[] = []

async function start(...args: Parameters<typeof startTestCapture>): Promise<TestCapture> {
  const capture = await startTestCapture(...args)
  started.push(capture)
  return capture
}
afterEach(async () => {
  for (const capture of started.splice(0)) await capture.stop()
})

/** A disk whose syncs wait while it is held, and fail when it is broken. */
function testDisk() {
  const held: (() => void)[] = []
  const disk = {
    holding: false,
    broken: false,
    operations: {
      fdatasync: (fd: number) =>
        new Promise<void>((resolve, reject) => {
          if (disk.broken) return reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' }))
          const sync = () => fdatasync(fd, (error) => (error ? reject(error) : resolve()))
          if (disk.holding) held.push(sync)
          else sync()
        }),
    },
    get waiting() {
      return held.length
    },
    release() {
      disk.holding = false
      for (const sync of held.splice(0)) sync()
    },
  }
  return disk
}

/** A capture on `disk` whose partitions are open already, with one event stored. */
async function startOn(
  disk: ReturnType<typeof testDisk>,
  settings: Partial<Settings> = {},
): Promise<TestCapture> {
  const capture = await start(settings, { log: { operations: disk.operations } })
  expect((await capture.post('/e/', EVENT)).status).toBe(200)
  expect((await capture.stored()).length).toBe(1)
  return capture
}

async function refusal(response: Response): Promise<unknown[]> {
  const { code, type } = (await response.json()) as { code: string; type: string }
  return [
    response.status,
    type,
    code,
    response.headers.get('retry-after'),
    response.headers.get('access-control-allow-origin'),
  ]
}

const ORIGIN = { origin: 'https://shop.example' }

describe('a full disk', () => {
  test('new events get 503 and Retry-After, the rest is served, and they are taken again when there is space', async () => {
    let usedRatio = 0.99
    const capture = await start({}, { log: { operations: { diskUsedRatio: () => usedRatio } } })
    expect(await refusal(await capture.post('/e/', EVENT, ORIGIN))).toEqual([
      503,
      'server_error',
      'HR_CAPTURE_DISK_FULL',
      '5',
      'https://shop.example',
    ])
    const readiness = await fetch(`${capture.url}/_readiness`)
    expect(readiness.status).toBe(503)
    expect(await readiness.text()).toContain('full')
    expect((await fetch(`${capture.url}/_liveness`)).status).toBe(200)
    expect((await fetch(`${capture.url}/array/phc_test/config`)).status).toBe(200)
    expect((await capture.post('/flags/?v=2', {})).status).toBe(200)
    expect((await capture.post('/e/', 'no')).status).toBe(400)
    usedRatio = 0.5
    await waitFor('space again', async () => (await capture.post('/e/', EVENT)).status === 200, 5000)
    expect(capture.fatal).toEqual([])
    expect((await capture.stored()).length).toBe(1)
  })
})

describe('a log that does not answer', () => {
  test('503 within the answer time; what was acknowledged is there, and it goes on by itself', async () => {
    const disk = testDisk()
    const answerMs = 300
    const capture = await startOn(disk, { captureAnswerMs: answerMs })
    disk.holding = true
    const from = performance.now()
    const answer = await refusal(await capture.post('/e/', EVENT, ORIGIN))
    expect(answer).toEqual([503, 'server_error', 'HR_CAPTURE_LOG_UNAVAILABLE', '5', 'https://shop.example'])
    expect(performance.now() - from).toBeLessThan(answerMs + 1000)
    disk.release()
    await waitFor('events taken again', async () => (await capture.post('/e/', EVENT)).status === 200, 5000)
    expect(capture.fatal).toEqual([])
  })

  test('no answer of success before the sync', async () => {
    const disk = testDisk()
    const capture = await startOn(disk)
    disk.holding = true
    let answered = false
    const response = capture.post('/e/', EVENT).finally(() => {
      answered = true
    })
    await waitFor('a sync that waits', () => disk.waiting > 0, 5000)
    expect(answered).toBe(false)
    expect((await capture.stored()).length).toBe(1)
    disk.release()
    expect((await response).status).toBe(200)
    expect((await capture.stored()).length).toBe(2)
  })

  test('a failed sync stops the process, and its events are refused', async () => {
    const disk = testDisk()
    const capture = await startOn(disk)
    disk.broken = true
    expect((await capture.post('/e/', EVENT)).status).toBe(500)
    expect(capture.fatal.length).toBe(1)
  })
})

describe('too many bytes in flight', () => {
  test('503 before the body is read, and all is given back', async () => {
    const disk = testDisk()
    const capture = await startOn(disk, { captureInFlightBytesMax: 1_048_576 })
    disk.holding = true
    const large = { ...EVENT, properties: { p: 'x'.repeat(600_000) } }
    const first = capture.post('/e/', large)
    await waitFor('the first one in the log', () => disk.waiting > 0, 5000)
    expect(await refusal(await capture.post('/e/', large, ORIGIN))).toEqual([
      503,
      'server_error',
      'HR_CAPTURE_BUSY',
      '5',
      'https://shop.example',
    ])
    disk.release()
    expect((await first).status).toBe(200)
    expect((await capture.post('/e/', large)).status).toBe(200)
  })
})

test('an address that is taken stops the start with one sentence', async () => {
  const first = await start()
  const captureAddress = new URL(first.url).host
  await expect(
    startCapture({
      settings: readSettings({}, { captureAddress }),
      log: first.log,
      projects: EVERY_TOKEN,
      partitions: TEST_PARTITIONS,
      logger: createLogger('capture', 'silent'),
      onFatal: () => undefined,
    }),
  ).rejects.toMatchObject({ code: 'HR_CAPTURE_ADDRESS', message: expect.stringContaining(captureAddress) })
})

describe('stopping', () => {
  test('not ready at once; a request in flight is stored and answered', async () => {
    const disk = testDisk()
    const capture = await startOn(disk)
    disk.holding = true
    const inFlight = capture.post('/e/', EVENT)
    await waitFor('a sync that waits', () => disk.waiting > 0, 5000)
    const stopped = capture.capture.stop()
    expect(await capture.capture.notReady()).toBe('capture is stopping')
    disk.release()
    expect((await inFlight).status).toBe(200)
    await stopped
    expect((await capture.stored()).length).toBe(2)
    await expect(fetch(`${capture.url}/_liveness`)).rejects.toThrow()
  })
})

describe('posthog-node, as published', () => {
  test('every event is stored once, with identify, alias and groups', async () => {
    const capture = await start()
    const client = new PostHog('phc_node', { host: capture.url, flushAt: 50, flushInterval: 100 })
    const errors: unknown[] = []
    client.on('error', (error: unknown) => errors.push(error))
    const events = 1000
    for (let i = 0; i < events; i++) {
      client.capture({
        distinctId: `user-${i % 10}`,
        event: 'node event',
        properties: { i },
        groups: { company: 'acme' },
      })
    }
    client.identify({ distinctId: 'user-1', properties: { plan: 'free' } })
    client.alias({ distinctId: 'user-1', alias: 'alias-1' })
    client.groupIdentify({ groupType: 'company', groupKey: 'acme', properties: { size: 3 } })
    await client.shutdown()
    expect(errors).toEqual([])
    const stored = await capture.stored()
    const named = (name: string) => stored.filter(({ header }) => header.event === name)
    expect(named('node event').length).toBe(events)
    expect(new Set(stored.map(({ header }) => header.uuid)).size).toBe(stored.length)
    expect(['$identify', '$create_alias', '$groupidentify'].map((name) => named(name).length)).toEqual([
      1, 1, 1,
    ])
    expect(stored.every(({ header }) => header.sdk.startsWith('posthog-node/'))).toBe(true)
    expect(stored.every(({ header }) => header.timeRule === 'client')).toBe(true)
    // Events of one distinct id are in one partition, in the order in which they were captured.
    for (let user = 0; user < 10; user++) {
      const own = named('node event').filter(({ header }) => header.distinctId === `user-${user}`)
      expect(new Set(own.map(({ partition }) => partition)).size).toBe(1)
      const order = own.map(({ value }) => (JSON.parse(value) as { properties: { i: number } }).properties.i)
      expect(order).toEqual(order.toSorted((a, b) => a - b))
    }
  })
})
