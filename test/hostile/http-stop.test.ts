/** How capture stops: it fails its readiness first, finishes what it has begun, and says what it could not finish. */
import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { fdatasync } from 'node:fs'
import type { Settings } from '../../src/catalog/index.ts'
import { startTestCapture, type TestCapture } from '../support/capture.ts'
import { RawConnection } from '../support/raw-http.ts'
import { waitFor } from '../support/wait-for.ts'

setDefaultTimeout(60_000)

const EVENT = '{"api_key":"t","event":"e","distinct_id":"d"}'
const START = 'POST /e/ HTTP/1.1\r\nHost: x\r\n'
const REQUEST = `${START}Content-Length: ${EVENT.length}\r\n\r\n${EVENT}`

const captures: TestCapture[] = []
const letGo: (() => void)[] = []
afterEach(async () => {
  for (const release of letGo.splice(0)) release()
  for (const capture of captures.splice(0)) await capture.stop()
})

/** A capture with one event stored, on a disk whose syncs wait while it is held. */
async function start(settings: Partial<Settings> = {}) {
  const disk = { holding: false, waiting: [] as (() => void)[], release: () => {} }
  disk.release = () => {
    disk.holding = false
    for (const sync of disk.waiting.splice(0)) sync()
  }
  letGo.push(disk.release)
  const operations = {
    fdatasync: (fd: number) =>
      new Promise<void>((resolve, reject) => {
        const sync = () => fdatasync(fd, (error) => (error ? reject(error) : resolve()))
        if (disk.holding) disk.waiting.push(sync)
        else sync()
      }),
  }
  const capture = await startTestCapture(settings, { log: { operations } })
  captures.push(capture)
  expect((await capture.post('/e/', EVENT)).status).toBe(200)
  return { capture, disk }
}

async function inFlight(capture: TestCapture): Promise<number> {
  const text = await (await fetch(`${capture.url}/metrics`, { keepalive: false })).text()
  return Number(/^headrace_capture_in_flight_requests (\d+)$/m.exec(text)?.[1])
}

async function isRefused(url: string): Promise<boolean> {
  return RawConnection.open(url).then(
    (connection) => {
      connection.destroy()
      return false
    },
    () => true,
  )
}

test('a request in flight is answered, with the end of its connection; idle ones and new ones are refused', async () => {
  const { capture, disk } = await start()
  const idle = await RawConnection.open(capture.url)
  await idle.send(REQUEST)
  await idle.awaitAnswers(1)
  disk.holding = true
  const busy = await RawConnection.open(capture.url)
  await busy.send(REQUEST)
  await waitFor('a sync that waits', () => disk.waiting.length > 0, 5_000)
  const stopped = capture.capture.stop()
  expect(await capture.capture.notReady()).toBe('capture is stopping')
  await idle.awaitEnd()
  await waitFor('no new connections', () => isRefused(capture.url), 5_000)
  disk.release()
  const [answer] = await busy.awaitEnd()
  expect([answer!.status, answer!.headers.get('connection')]).toEqual([200, 'close'])
  expect(await stopped).toMatchObject({ unanswered: 0 })
  expect((await capture.stored()).length).toBe(3)
  expect(capture.fatal).toEqual([])
})

test('during the grace readiness fails and new connections are served', async () => {
  const graceMs = 1_500
  const { capture } = await start({ captureStopGraceMs: graceMs, captureAnswerMs: 1_000 })
  const from = performance.now()
  const stopped = capture.capture.stop(15_000)
  const readiness = await fetch(`${capture.url}/_readiness`, { keepalive: false })
  expect([readiness.status, await readiness.text()]).toEqual([503, 'capture is stopping\n'])
  expect((await fetch(`${capture.url}/_liveness`, { keepalive: false })).status).toBe(200)
  const fresh = await RawConnection.open(capture.url)
  await fresh.send(REQUEST)
  const [answer] = await fresh.awaitAnswers(1)
  expect([answer!.status, await isRefused(capture.url)]).toEqual([200, false])
  await stopped
  expect(performance.now() - from).toBeGreaterThanOrEqual(graceMs)
  expect(await isRefused(capture.url)).toBe(true)
  expect((await capture.stored()).length).toBe(2)
})

test('a body that does not come while it stops is answered with 503', async () => {
  const { capture } = await start({ captureAnswerMs: 500 })
  const uploads = await Promise.all([RawConnection.open(capture.url), RawConnection.open(capture.url)])
  await uploads[0]!.send(`${START}Content-Length: 100\r\n\r\n{`)
  await uploads[1]!.send(`${START}Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n`)
  await waitFor('both', async () => (await inFlight(capture)) === 2, 5_000)
  expect(await capture.capture.stop()).toMatchObject({ unanswered: 0 })
  for (const upload of uploads) {
    const [answer] = await upload.awaitEnd()
    expect([answer!.status, JSON.parse(answer!.body).code, answer!.headers.get('connection')]).toEqual([
      503,
      'HR_CAPTURE_STOPPING',
      'close',
    ])
  }
  expect((await capture.stored()).length).toBe(1)
})

describe('what cannot be finished', () => {
  test('is counted, and is no failure of the log', async () => {
    const { capture, disk } = await start({ captureAnswerMs: 9_000 })
    disk.holding = true
    const busy = await RawConnection.open(capture.url)
    await busy.send(REQUEST)
    await waitFor('a sync that waits', () => disk.waiting.length > 0, 5_000)
    const left = await capture.capture.stop(2_500)
    expect(left.unanswered).toBe(1)
    await busy.awaitEnd()
    expect(busy.answers).toEqual([])
    disk.release()
    await capture.stop()
    captures.length = 0
    expect(capture.fatal).toEqual([])
  })
})
