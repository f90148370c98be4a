/** Bodies that are slow, stalled, cut, unwanted or too many: each is answered while its connection stands, and lets go. */
import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { fdatasync } from 'node:fs'
import type { Settings } from '../../src/catalog/index.ts'
import { startTestCapture, type TestCapture } from '../support/capture.ts'
import { type RawAnswer, RawConnection } from '../support/raw-http.ts'
import { waitFor } from '../support/wait-for.ts'

setDefaultTimeout(60_000)

const MIB = 1_048_576
const ORIGIN = 'https://shop.example'
const EVENT = '{"api_key":"t","event":"e","distinct_id":"d"}'
const START = startOf('/e/')
const CHUNKED = `${START}Transfer-Encoding: chunked\r\n\r\n`
const NEXT = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'

let capture: TestCapture
async function start(settings: Partial<Settings> = {}, options: Parameters<typeof startTestCapture>[1] = {}) {
  capture = await startTestCapture({ captureBodyMs: 1_500, captureBodyStallMs: 400, ...settings }, options)
}
afterEach(async () => {
  expect(await metric('headrace_capture_in_flight_bytes')).toBe(0)
  expect((await capture.post('/e/', EVENT)).status).toBe(200)
  expect(capture.fatal).toEqual([])
  await capture.stop()
})

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${capture.url}/metrics`)).text()
  const line = text.split('\n').find((row) => row.startsWith(`${name} `))
  return Number(line?.slice(name.length + 1) ?? 0)
}

function startOf(path: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nOrigin: ${ORIGIN}\r\n`
}

function announce(bytes: number, path = '/e/'): string {
  return `${startOf(path)}Content-Length: ${bytes}\r\n\r\n`
}

/** A chunk of `bytes`. */
function chunk(bytes: number): string {
  return `${bytes.toString(16)}\r\n${' '.repeat(bytes)}\r\n`
}

function refusal({ status, headers, body }: RawAnswer): unknown[] {
  const { code } = JSON.parse(body) as { code: string }
  return [status, code, headers.get('access-control-allow-origin'), headers.get('connection')]
}

describe('a body that does not come is answered so that every SDK sends it again', () => {
  const rows: [name: string, first: string, drip: string, everyMs: number][] = [
    ['small, nothing of it', announce(100), '', 0],
    ['small, a byte at a time', announce(100), ' ', 50],
    ['large, nothing of it', announce(1_000_000), '', 0],
    ['large, a byte at a time', announce(1_000_000), ' ', 50],
    ['large, stalled in the middle', announce(1_000_000) + ' '.repeat(200_000), '', 0],
    ['large, fast enough and too long', announce(8_000_000), ' '.repeat(20_000), 50],
    ['chunked, nothing of it', CHUNKED, '', 0],
    ['chunked, a byte at a time', CHUNKED, chunk(1), 50],
    ['chunked, a size that does not end', CHUNKED, '0', 50],
    ['chunked, fast enough and without end', CHUNKED, chunk(20_000), 50],
  ]
  test.each(rows)('%s', async (_, first, drip, everyMs) => {
    await start()
    const connection = await RawConnection.open(capture.url)
    await connection.send(first)
    const dripping = setInterval(() => void (drip && connection.send(drip)), everyMs || 1_000)
    await connection.awaitEnd()
    clearInterval(dripping)
    expect(connection.answers.map(refusal)).toEqual([[503, 'HR_CAPTURE_BODY_TIMEOUT', ORIGIN, 'close']])
    expect(connection.answers[0]!.headers.get('retry-after')).toBe('5')
  })

  test('of Segment', async () => {
    await start()
    const connection = await RawConnection.open(capture.url)
    await connection.send(announce(100, '/v1/batch'))
    await connection.awaitEnd()
    expect(connection.answers.map(refusal)).toEqual([[503, 'HR_CAPTURE_BODY_TIMEOUT', ORIGIN, 'close']])
    expect(connection.answers[0]!.headers.get('retry-after')).toBe('5')
  })

  test('and one that is slow within the limits is stored', async () => {
    await start()
    const connection = await RawConnection.open(capture.url)
    const body = EVENT.padEnd(100_000)
    await connection.send(announce(body.length))
    for (let at = 0; at < body.length; at += 20_000) {
      await connection.send(body.slice(at, at + 20_000))
      // Each piece is seen before the next comes.
      await waitFor('the piece', async () => (await metric('headrace_capture_in_flight_bytes')) >= at, 5_000)
    }
    expect((await connection.awaitAnswers(1))[0]!.status).toBe(200)
    connection.destroy()
  })
})

describe('a body that is too large is answered with 413', () => {
  const limit = 100_000
  const tooLarge = [413, 'HR_CAPTURE_BODY_TOO_LARGE', ORIGIN]

  test('announced: at once, and the connection goes on when the body has come', async () => {
    await start({ captureBodyBytesMax: limit })
    const connection = await RawConnection.open(capture.url)
    await connection.send(announce(2 * limit))
    expect((await connection.awaitAnswers(1)).map(refusal)).toEqual([[...tooLarge, null]])
    await connection.send(' '.repeat(2 * limit) + NEXT)
    expect((await connection.awaitAnswers(2))[1]!.body).toBe('capture')
    connection.destroy()
  })

  test('announced, more than twice the limit: the connection is closed', async () => {
    await start({ captureBodyBytesMax: limit })
    const connection = await RawConnection.open(capture.url)
    await connection.send(announce(2 * limit + 1))
    await connection.awaitEnd()
    expect(connection.answers.map(refusal)).toEqual([[...tooLarge, 'close']])
  })

  test('chunked: when all has come, and the connection goes on', async () => {
    await start({ captureBodyBytesMax: limit })
    const connection = await RawConnection.open(capture.url)
    await connection.send(CHUNKED + chunk(limit) + chunk(limit / 2))
    await connection.send('0\r\n\r\n')
    expect((await connection.awaitAnswers(1)).map(refusal)).toEqual([[...tooLarge, null]])
    await connection.send(NEXT)
    expect((await connection.awaitAnswers(2))[1]!.body).toBe('capture')
    connection.destroy()
  })

  test('chunked without end: after twice the limit, and the connection is closed', async () => {
    await start({ captureBodyBytesMax: limit })
    const connection = await RawConnection.open(capture.url)
    await connection.send(CHUNKED)
    while (!connection.closed) await connection.send(chunk(20_000))
    expect(connection.answers.map(refusal)).toEqual([[...tooLarge, 'close']])
  })

  test('a client that sends all before it looks sees the answer', async () => {
    await start({ captureBodyBytesMax: limit })
    for (let i = 0; i < 20; i++) {
      const response = await fetch(`${capture.url}/e/`, { method: 'POST', body: ' '.repeat(2 * limit) })
      expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([
        413,
        'HR_CAPTURE_BODY_TOO_LARGE',
      ])
    }
  })
})

describe('bytes in flight', () => {
  test('two equal lengths are one length', async () => {
    await start()
    const connection = await RawConnection.open(capture.url)
    const length = `Content-Length: ${EVENT.length}\r\n`
    await connection.send(`${START}${length}${length}\r\n${EVENT}`)
    expect((await connection.awaitAnswers(1))[0]!.status).toBe(200)
    expect(await metric('headrace_capture_in_flight_bytes')).toBe(0)
    connection.destroy()
  })

  test('what is announced and does not come keeps nobody out for long', async () => {
    await start({ captureInFlightBytesMax: MIB, captureBodyStallMs: 20_000, captureBodyMs: 20_000 })
    const silent = await Promise.all(Array.from({ length: 16 }, () => RawConnection.open(capture.url)))
    for (const connection of silent) await connection.send(announce(65_536))
    await waitFor(
      'a full budget',
      async () => (await metric('headrace_capture_in_flight_bytes')) === MIB,
      5_000,
    )
    const from = performance.now()
    const refused = await capture.post('/e/', EVENT, { origin: ORIGIN })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5'])
    await waitFor('room', async () => (await capture.post('/e/', EVENT)).status === 200, 10_000)
    expect(performance.now() - from).toBeLessThan(10_000)
    const ended = await Promise.all(silent.map((connection) => connection.awaitEnd()))
    for (const answers of ended)
      expect(answers.map(refusal)).toEqual([[503, 'HR_CAPTURE_BUSY', ORIGIN, 'close']])
  })

  test('a large body counts as it comes', async () => {
    await start({ captureInFlightBytesMax: MIB })
    const silent = await Promise.all(Array.from({ length: 20 }, () => RawConnection.open(capture.url)))
    for (const connection of silent) await connection.send(`${announce(1_000_000)}{`)
    await waitFor(
      'a byte of each',
      async () => (await metric('headrace_capture_in_flight_bytes')) === 20,
      5_000,
    )
    expect((await capture.post('/e/', EVENT)).status).toBe(200)
    await Promise.all(silent.map((connection) => connection.awaitEnd()))
  })

  test('503 before the body is read leaves a connection that can be used again', async () => {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    let holding = false
    const operations = {
      fdatasync: async (fd: number) => {
        if (holding) await held
        await new Promise<void>((resolve, reject) =>
          fdatasync(fd, (error) => (error ? reject(error) : resolve())),
        )
      },
    }
    await start({ captureInFlightBytesMax: MIB }, { log: { operations } })
    await capture.post('/e/', EVENT)
    holding = true
    const first = capture.post('/e/', EVENT.padEnd(1_020_000))
    await waitFor(
      'a full budget',
      async () => (await metric('headrace_capture_in_flight_bytes')) > 1_000_000,
      5_000,
    )
    const connection = await RawConnection.open(capture.url)
    await connection.send(announce(60_000))
    expect((await connection.awaitAnswers(1)).map(refusal)).toEqual([[503, 'HR_CAPTURE_BUSY', ORIGIN, null]])
    holding = false
    release()
    expect((await first).status).toBe(200)
    await connection.send(' '.repeat(60_000) + announce(EVENT.length) + EVENT)
    expect((await connection.awaitAnswers(2))[1]!.status).toBe(200)
    connection.destroy()
  })

  test('1,000 aborted uploads give all back', async () => {
    await start({ captureBodyStallMs: 20_000, captureBodyMs: 20_000 })
    for (let round = 0; round < 10; round++) {
      const uploads = await Promise.all(Array.from({ length: 100 }, () => RawConnection.open(capture.url)))
      await Promise.all(
        uploads.map((connection, i) => {
          if (i % 4 === 0) return connection.send(`${announce(1_000_000)}${' '.repeat(100_000)}`)
          if (i % 4 === 1) return connection.send(`${announce(50_000)}{`)
          if (i % 4 === 2) return connection.send(CHUNKED + chunk(1_000))
          return connection.send(START)
        }),
      )
      await waitFor('their bytes', async () => (await metric('headrace_capture_in_flight_bytes')) > 0, 5_000)
      for (const connection of uploads) connection.destroy()
      await waitFor('no bytes', async () => (await metric('headrace_capture_in_flight_bytes')) === 0, 5_000)
    }
    await waitFor(
      'no requests',
      async () => (await metric('headrace_capture_in_flight_requests')) === 0,
      5_000,
    )
  })
})
