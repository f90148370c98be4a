/** Whose address is stored: nobody's word counts but that of a trusted proxy. */
import { afterEach, expect, test } from 'bun:test'
import { startTestCapture, type TestCapture } from '../support/capture.ts'
import { RawConnection } from '../support/raw-http.ts'

let capture: TestCapture
afterEach(() => capture.stop())

const EVENT = '{"api_key":"t","event":"e","distinct_id":"d"}'
const CLIENT = '203.0.113.7'

/** The stored address of an event that came with these lines of headers. */
async function storedIp(trustedProxies: string, ...lines: string[]): Promise<string> {
  capture = await startTestCapture({ trustedProxies })
  const connection = await RawConnection.open(capture.url)
  const headers = lines.map((line) => `${line}\r\n`).join('')
  await connection.send(
    `POST /e/ HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: ${EVENT.length}\r\n\r\n${EVENT}`,
  )
  expect((await connection.awaitAnswers(1))[0]!.status).toBe(200)
  connection.destroy()
  return (await capture.stored())[0]!.header.ip
}

test('without trusted proxies no header is believed', async () => {
  const all = [`X-Forwarded-For: ${CLIENT}`, `Forwarded: for=${CLIENT}`, `X-Real-IP: ${CLIENT}`]
  expect(await storedIp('', ...all)).toBe('127.0.0.1')
})

test('a proxy that is not on the list is not believed', async () => {
  expect(await storedIp('private', `X-Forwarded-For: ${CLIENT}`)).toBe('127.0.0.1')
})

test('behind a trusted proxy it is the last that the proxy did not trust, over all lines of the header', async () => {
  const lines = ['X-Forwarded-For: 1.2.3.4', `X-Forwarded-For: ${CLIENT}`, 'x-forwarded-for: 10.0.0.1']
  expect(await storedIp('loopback,private', ...lines)).toBe(CLIENT)
})

test('a preflight names the methods of its path', async () => {
  capture = await startTestCapture()
  const methods = async (path: string) =>
    (await fetch(capture.url + path, { method: 'OPTIONS' })).headers.get('access-control-allow-methods')
  expect(await methods('/array/t/config')).toBe('GET, OPTIONS')
  expect(await methods('/e/')).toContain('POST')
  expect(await methods('/nowhere')).toBe('GET, POST, OPTIONS')
})
